"""A SentencePiece tokenizer in the format of the library `tokenizers`, which transformers can read."""

import json
from typing import Any

import sentencepiece

from sc2jax.errors import UserError
from sc2jax.text.sentencepiece_words import SPACE_SYMBOL
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import ESCAPED, load_tokenizer
from sc2jax.text.tokenizer_files import open_tokenizer_json, read_sentencepiece


def tokenizer_json(path: str, model: bytes) -> bytes:
    """A tokenizer.json that gives text the same ids as the SentencePiece model of a file, and decodes them again.

    Both libraries merge the best pair of neighbours, the leftmost among equals, until none is left. SentencePiece ranks
    a pair by the piece that it makes, wherever that piece is split, and `tokenizers` by the pair itself: so all splits
    of a piece are listed one after the other, in the order of the pieces' scores. The order of a piece's splits matters
    only where two of them overlap in a text: (a, b) and (b, c) in a b c with ab = bc. SentencePiece takes the left one.
    Its left part is the longer one if b is less than half of the piece, so splits with long left parts come first. A
    longer b is possible only in a piece that repeats itself, such as a run of one character; no text is known to tell
    the two apart.

    Raises:
        UserError: the model is damaged, or it is not a BPE of the kind that `sc2jax tokenizer` trains.
    """
    tokenizer = load_tokenizer(path)
    processor = read_sentencepiece(model, path)
    vocabulary = {processor.id_to_piece(token): token for token in range(processor.vocab_size())}
    content = json.dumps(_fields(processor, vocabulary), ensure_ascii=False, indent=1).encode()
    written = open_tokenizer_json(content, f"{path}, written as tokenizer.json,")
    # A model of another kind, such as a unigram model, splits its own pieces in other places.
    text = "".join(f" {piece}" for piece in vocabulary) + "\u2581\x10\U0001f600"
    written.encode_special_tokens = True
    if written.encode(text, add_special_tokens=False).ids != tokenizer.encode_text(text):
        raise UserError(
            f"the tokenizer {path} cannot be written as tokenizer.json: it is no BPE model as `sc2jax tokenizer` "
            "trains it; name another with --config.paths.tokenizer"
        )
    return content


def tokenizer_config_json() -> bytes:
    """The tokenizer_config.json beside it: without it transformers uses StarCoder2's own class, which splits words."""
    values = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": Special.END_OF_TEXT.literal,
        "eos_token": Special.END_OF_TEXT.literal,
        "clean_up_tokenization_spaces": False,
    }
    return (json.dumps(values, indent=1) + "\n").encode()


def _fields(processor: sentencepiece.SentencePieceProcessor, vocabulary: dict[str, int]) -> dict[str, Any]:
    escaping = [_replace(character, pair) for character, pair in reversed(ESCAPED.items())]
    unescaping = [_replace(pair, character) for character, pair in ESCAPED.items()]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": int(token), "content": token.literal, "special": True, "normalized": False}
            | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
            for token in Special
        ],
        "normalizer": {"type": "Sequence", "normalizers": [*escaping, _replace(" ", SPACE_SYMBOL)]},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [_replace(SPACE_SYMBOL, " "), {"type": "ByteFallback"}, {"type": "Fuse"}, *unescaping],
        },
        "model": {
            "type": "BPE",
            "unk_token": processor.id_to_piece(processor.unk_id()),
            "byte_fallback": True,
            "vocab": vocabulary,
            "merges": _merges(processor),
        },
    }


def _replace(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def _merges(processor: sentencepiece.SentencePieceProcessor) -> list[tuple[str, str]]:
    """Every way to make a piece of text out of two others, the best piece first."""
    tokens = [
        token
        for token in range(processor.vocab_size())
        if not (processor.is_control(token) or processor.is_unknown(token) or processor.is_byte(token))
    ]
    tokens.sort(key=lambda token: -processor.get_score(token))
    pieces = [processor.id_to_piece(token) for token in tokens]
    texts = set(pieces)
    return [
        (piece[:cut], piece[cut:])
        for piece in pieces
        for cut in range(len(piece) - 1, 0, -1)
        if piece[:cut] in texts and piece[cut:] in texts
    ]
