"""Training of the SentencePiece BPE tokenizer."""

import hashlib
import heapq
import io
import itertools
import re
from collections.abc import Iterable

from sc2jax.errors import UserError
from sc2jax.text.config import TokenizerConfig
from sc2jax.text.sentencepiece_words import SPACE_SYMBOL
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import UNKNOWN_ID, escape

# Stored in the model file, so the same on every machine, however many cores it has.
_THREADS = 4
# The largest value that the library accepts; it would skip a longer text.
_MAX_SENTENCE_BYTES = 1 << 30


def train_tokenizer(texts: Iterable[str], config: TokenizerConfig, seed: int) -> bytes:
    """Trains a tokenizer and returns the model file: the same bytes for the same set of texts, in any order.

    Lossless by construction: identity normalisation, a token for every byte, no space added or removed. Each digit is a
    token of its own, as in StarCoder2's tokenizer. The special tokens are control symbols, which text can never match
    (user-defined symbols can be forged).

    Raises:
        UserError: there is no text, or too little of it for the vocabulary.
    """
    import sentencepiece

    sample = sample_texts(texts, config.max_training_bytes, seed)
    if not any(sample):
        raise UserError("there is no text to train a tokenizer on; is the corpus empty?")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            # The library wants a text of more than line ends and NULs; a space more or less changes nothing else.
            sentence_iterator=itertools.chain([" "], map(escape, sample)),
            model_writer=model,
            model_type="bpe",
            vocab_size=config.vocab_size,
            character_coverage=config.character_coverage,
            # Without a token of its own a space would come back as the bytes of this symbol.
            required_chars=SPACE_SYMBOL,
            control_symbols=[token.literal for token in Special],
            unk_id=UNKNOWN_ID,
            unk_surface="\ufffd",
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            max_sentence_length=_MAX_SENTENCE_BYTES,
            num_threads=_THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise _explained(error, config) from error
    return model.getvalue()


def sample_texts(texts: Iterable[str], max_bytes: int, seed: int) -> list[str]:
    """Distinct whole texts of at most `max_bytes` in total, chosen by a keyed hash of their content.

    No more than that is held in memory, and the sample depends neither on the order of the texts nor on how they are
    stored. A text longer than the limit is left out.

    Raises:
        UserError: every text is longer than the limit.
    """
    key = seed.to_bytes(8, "little", signed=True)
    heap: list[tuple[int, bytes]] = []  # the highest hash first, so hashes are negated
    seen: set[int] = set()
    total = 0
    refused = 0
    limit = 1 << 128
    for text in texts:
        content = text.encode("utf-8", "replace")
        rank = int.from_bytes(hashlib.blake2b(content, key=key, digest_size=16).digest(), "little")
        if len(content) > max_bytes:
            refused = len(content)
            continue
        if rank >= limit or rank in seen:
            continue
        seen.add(rank)
        heapq.heappush(heap, (-rank, content))
        total += len(content)
        while total > max_bytes:
            # No text that ranks after a dropped one may come in, or the sample would depend on the order.
            limit = -heap[0][0]
            seen.discard(limit)
            total -= len(heapq.heappop(heap)[1])
    if refused and not heap:
        raise UserError(
            f"tokenizer.max_training_bytes {max_bytes} is less than any text, such as one of {refused} bytes; raise it"
        )
    return [content.decode() for _, content in sorted(heap, reverse=True)]


def _explained(error: RuntimeError, config: TokenizerConfig) -> UserError:
    message = str(error)
    if found := re.search(r"Please set it to a value <= (\d+)", message):
        return UserError(
            f"the corpus is too small for a vocabulary of {config.vocab_size} tokens: {found[1]} is the greatest "
            f"possible; set tokenizer.vocab_size to at most {found[1]}, or add source code"
        )
    if found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return UserError(
            f"a vocabulary of {config.vocab_size} tokens is too small for the characters of the corpus, which need "
            f"{found[1]}; raise tokenizer.vocab_size or lower tokenizer.character_coverage"
        )
    return UserError(f"no tokenizer can be trained on the corpus with these settings: {error}; change tokenizer.*")
