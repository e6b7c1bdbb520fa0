"""Held-out bits per byte of a model, beside two baselines on the same text.

Each file is scored as a document of its own in the training format without metadata: `<file_sep>`, its text, and
`<|endoftext|>`. The tokens of the text are counted and no others: the separator before it is given, and the end after
it is not asked for. Bits per byte is the sum of -log2 p over the counted tokens of all files, over the UTF-8 bytes of
their texts; so every byte weighs the same, and the figure can be compared between tokenizers.

unigram: the same tokens coded by their frequency alone, p(t) = (count(t) + 1) / (tokens + text vocabulary), with the
    counts of the training split under the same tokenizer and the special tokens left out of both. What a model has
    below this rate, it has from context.
gzip: each file compressed by itself, as the raw deflate stream of zlib at level 9, that is gzip without the 18 bytes
    of its header and trailer. It sees no other file, as the model sees no other file while it scores this one, but
    it has not been trained.
"""

import dataclasses
import math
import zlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from tqdm import tqdm

from sc2jax.errors import UserError
from sc2jax.evaluation.config import EvaluationConfig
from sc2jax.evaluation.heldout import CodeFile, choose_files
from sc2jax.evaluation.results import BitsPerByte, NotMeasured, Rates
from sc2jax.text.formats import repository_document
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer

Score = Callable[[list[list[int]]], Sequence[np.ndarray]]
"""For each row of token ids, the natural-log likelihood of `ids[1:]` given the ids before."""

_BELOW_UNIGRAM = 0.8  # a model that does not save a fifth of a context-free code has learnt little from context


@dataclasses.dataclass(frozen=True)
class _FileBits:
    language: str
    bytes: int
    tokens: int
    model: float
    unigram: float
    gzip: float


def bits_per_byte(
    score: Score,
    tokenizer: Tokenizer,
    heldout_files: Iterable[CodeFile],
    train_files: Iterable[CodeFile],
    config: EvaluationConfig,
    seed: int,
) -> BitsPerByte | NotMeasured:
    """Scores a seeded choice of held-out files; see the module for what is counted.

    Raises:
        UserError: the model's likelihoods are not finite.
    """
    if not config.max_bytes:
        return NotMeasured(measured=False, reason="switched off (evaluation.max_bytes is 0)")
    files = choose_files(
        heldout_files,
        max_files=config.max_files,
        max_bytes=config.max_bytes,
        max_file_bytes=config.max_file_bytes,
        seed=seed,
    )
    if not files:
        return NotMeasured(measured=False, reason="no repository with text is held out")
    sample = choose_files(train_files, max_files=0, max_bytes=config.unigram_bytes, seed=seed)
    counts = text_token_counts(tokenizer, sample)
    bits = _file_bits(score, tokenizer, files, unigram_bits(counts))
    total = _rates(bits)
    ratio = total["model"] / total["unigram"]
    return BitsPerByte(
        measured=True,
        total=total,
        ratio_to_unigram=ratio,
        at_least_20_percent_below_unigram=ratio <= _BELOW_UNIGRAM,
        by_language={
            language: _rates([file for file in bits if file.language == language])
            for language in sorted({file.language for file in bits})
        },
        unigram={
            "files": len(sample),
            "bytes": sum(file.bytes for file in sample),
            "tokens": int(counts.sum()),
        },
    )


def text_token_counts(tokenizer: Tokenizer, files: Iterable[CodeFile]) -> np.ndarray:
    """How often each token of the vocabulary occurs in the texts, as int64; special tokens never do."""
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    for file in tqdm(files, desc="unigram", unit="file", disable=None):
        ids = np.asarray(tokenizer.encode_text(file.text), np.int64)
        counts += np.bincount(ids, minlength=tokenizer.vocab_size)
    return counts


def unigram_bits(counts: np.ndarray) -> np.ndarray:
    """The bits that each text token costs under add-one smoothed frequencies; infinite for special tokens."""
    smoothed = counts[len(Special) :].astype(np.float64) + 1
    bits = np.full(len(counts), np.inf)
    bits[len(Special) :] = np.log2(smoothed.sum()) - np.log2(smoothed)
    return bits


def gzip_bits(text: str) -> int:
    """The bits of a text's raw deflate stream at level 9."""
    deflate = zlib.compressobj(level=9, wbits=-zlib.MAX_WBITS)
    return 8 * len(deflate.compress(text.encode()) + deflate.flush())


def _file_bits(
    score: Score, tokenizer: Tokenizer, files: Sequence[CodeFile], token_bits: np.ndarray
) -> list[_FileBits]:
    rows = [
        tokenizer.encode(repository_document(file.repository, [(file.path, file.text)], with_metadata=False))
        for file in files
    ]
    return [
        _measure(file, np.asarray(row), np.asarray(likelihoods, np.float64), token_bits)
        for file, row, likelihoods in zip(files, rows, score(rows), strict=True)
    ]


def _measure(file: CodeFile, row: np.ndarray, likelihoods: np.ndarray, token_bits: np.ndarray) -> _FileBits:
    if likelihoods.shape != (len(row) - 1,):
        raise ValueError(f"the scorer returned shape {likelihoods.shape} for a row of {len(row)} tokens")
    is_text = row >= len(Special)  # text can never become a special token
    model_nats = -likelihoods[is_text[1:]]
    if not np.isfinite(model_nats).all():
        raise UserError(
            f"the model's likelihood of {file.repository}/{file.path} is not finite: its training has diverged; "
            "train again with a lower learning rate, or evaluate an earlier checkpoint"
        )
    return _FileBits(
        language=file.language,
        bytes=file.bytes,
        tokens=int(is_text.sum()),
        model=math.fsum(model_nats) / math.log(2),
        unigram=math.fsum(token_bits[row[is_text]]),
        gzip=gzip_bits(file.text),
    )


def _rates(files: Sequence[_FileBits]) -> Rates:
    size = sum(file.bytes for file in files)
    return Rates(
        files=len(files),
        bytes=size,
        tokens=sum(file.tokens for file in files),
        model=math.fsum(file.model for file in files) / size,
        unigram=math.fsum(file.unigram for file in files) / size,
        gzip=math.fsum(file.gzip for file in files) / size,
    )
