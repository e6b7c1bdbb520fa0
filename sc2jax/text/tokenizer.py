"""Tokenizers: pieces to ids and back, lossless, with special tokens that no text can forge.

Two kinds of files have one class: a SentencePiece model (`.model`, as `train_tokenizer` writes it) and a
byte-level BPE in the format of the library `tokenizers` (`.json`, as StarCoder2 is released).
"""

import codecs
import dataclasses
import hashlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.text.byte_pairs import fast_encoder
from sc2jax.text.sentencepiece_words import SPACE_SYMBOL, word_encoder
from sc2jax.text.special_tokens import Piece, Special
from sc2jax.text.tokenizer_files import read_sentencepiece, read_tokenizer_json

if TYPE_CHECKING:
    import sentencepiece

# A character for each byte that UTF-8 has, but F1, with which only U+40000 to U+7FFFF begin.
_TWO_BYTES, _THREE_BYTES = range(0xC0, 0x800, 0x40), (0x800, *range(0x1000, 0xD800, 0x1000), 0xE000, 0xF000)
_FOUR_BYTES = (0x10000, *range(0x80000, 0x110000, 0x40000))
_ALL_BYTES = "".join(map(chr, (*range(0xC0), *_TWO_BYTES, *_THREE_BYTES, *_FOUR_BYTES)))
_PROBES = (
    "a",
    " a",
    "  a\tb\r\n\n  ",
    "Az \u00e9 e\u0301 \ufb01 \uff21 \u00a0\u3000\u200b\ufeff\x00\x7f\u4e2d \U0001f600",
    "1234 ..  ''",
    _ALL_BYTES,
)
"""Texts that a tokenizer changes if it normalizes text, or adds or removes spaces; such a tokenizer is refused."""

UNKNOWN_ID = len(Special)
"""The id of the unknown token, which SentencePiece demands; with byte fallback no text encodes to it."""

_SPECIALS = {int(token): token for token in Special}

_STRETCH = 2**18
"""Characters of a long text that are encoded at a time, about."""
_SINGLE_SPACE = re.compile(r"\S(?= \S)")


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A vocabulary of `vocab_size` ids, of which those of `Special` stand for special tokens and the others for text.

    Text is any string of Unicode scalar values; `decode` gives it back unchanged.
    """

    vocab_size: int
    digest: str  # sha256 of the file
    _encode: Callable[[str], list[int]]
    _token_bytes: Sequence[bytes]  # what each id stands for
    _escapes: bool  # whether text is escaped before it is encoded
    _cuts_at_spaces: bool = False  # whether no token crosses from a character that is no space to a space
    _file: tuple[bytes, str] = (b"", "")  # what it was opened from

    def __reduce__(self) -> tuple[Callable[..., "Tokenizer"], tuple[bytes, str]]:
        """Another process opens it again."""
        return _open, self._file

    def encode_text(self, text: str) -> list[int]:
        """The ids of text, none of which is a special token's, whatever the text spells.

        Raises:
            UserError: the string holds lone surrogates, which are not text.
        """
        try:
            return self._encode(text)
        except UnicodeEncodeError as error:
            raise UserError(
                f"a text cannot be encoded: {error.object[error.start]!r} at character {error.start} is half of "
                "a surrogate pair and no character; decode the file with errors='replace'"
            ) from error

    def encode(self, pieces: Sequence[Piece]) -> list[int]:
        """The ids of a document; every text piece is encoded on its own."""
        ids: list[int] = []
        for piece in pieces:
            if isinstance(piece, Special):
                ids.append(int(piece))
            else:
                ids.extend(self.encode_text(piece))
        return ids

    def encode_array(self, pieces: Sequence[Piece]) -> np.ndarray:
        """The same as int32, a long text bit by bit, so that its ids are never all in memory as Python's integers."""
        ids = [
            np.array([int(part)] if isinstance(part, Special) else self.encode_text(part), np.int32)
            for piece in pieces
            for part in ([piece] if isinstance(piece, Special) else self._stretches(piece))
        ]
        return np.concatenate([np.empty(0, np.int32), *ids])

    def _stretches(self, text: str) -> Iterator[str]:
        """A text in stretches that can be encoded one at a time: cut before a single space between other characters.

        No more than that is looked at around a cut, so a text without such a place is one stretch, however long.
        """
        start = 0
        while self._cuts_at_spaces and len(text) - start > _STRETCH:
            cut = _SINGLE_SPACE.search(text, start + _STRETCH)
            if cut is None:
                break
            yield text[start : cut.start() + 1]
            start = cut.start() + 1
        yield text[start:]

    def pieces(self, ids: Sequence[int] | np.ndarray) -> list[Piece]:
        """The inverse of `encode`; consecutive texts come back as one.

        A character of which only some bytes are left, as at the edge of a window, becomes U+FFFD.

        Raises:
            ValueError: an id lies outside of the vocabulary.
        """
        return list(self._pieces(ids))

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of `ids`, special tokens written as their literals: for people to read, not to be encoded again."""
        return "".join(piece.literal if isinstance(piece, Special) else piece for piece in self._pieces(ids))

    def _pieces(self, ids: Sequence[int] | np.ndarray) -> Iterator[Piece]:
        array = np.asarray(ids, np.int64)
        if array.size and not 0 <= array.min() <= array.max() < self.vocab_size:
            outside = array[(array < 0) | (array >= self.vocab_size)][0]
            raise ValueError(f"token {outside} is outside of the vocabulary of {self.vocab_size}")
        start = 0
        for place in np.flatnonzero(array < len(Special)).tolist():
            if start < place:
                yield self._text(array[start:place].tolist())
            yield _SPECIALS[int(array[place])]
            start = place + 1
        if start < len(array):
            yield self._text(array[start:].tolist())

    def bytes_of(self, ids: Sequence[int]) -> bytes:
        """The UTF-8 that ids stand for; at the edges of a window it may hold a part of a character."""
        return b"".join(map(self._token_bytes.__getitem__, ids))

    def sizes(self) -> np.ndarray:
        """How many bytes of text each id stands for, int64 (vocabulary,); special tokens stand for none."""
        sizes = np.array([len(text) for text in self._token_bytes], np.int64)
        sizes[[int(special) for special in Special]] = 0
        return sizes

    def _text(self, run: Sequence[int]) -> str:
        text = self.bytes_of(run).decode(errors="replace")
        return unescape(text) if self._escapes else text

    def stream(self) -> "TextStream":
        """A decoder of ids one at a time: its texts, joined, are what `decode` makes of all the ids."""
        return TextStream(self)


class TextStream:
    """The text of ids that arrive one by one; a character is returned once its last byte is there, never in part."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""  # half of an escaped character

    def push(self, token: int) -> str:
        """The text that one more id makes certain, which may be empty.

        Raises:
            ValueError: the id lies outside of the vocabulary.
        """
        special = _SPECIALS.get(token)
        if special is not None:
            return self.finish() + special.literal
        if not 0 <= token < self._tokenizer.vocab_size:
            raise ValueError(f"token {token} is outside of the vocabulary of {self._tokenizer.vocab_size}")
        return self._unescaped(self._decoder.decode(self._tokenizer._token_bytes[token]), at_end=False)

    def finish(self) -> str:
        """What was held back; a character that was never completed becomes U+FFFD."""
        text = self._unescaped(self._decoder.decode(b"", final=True), at_end=True)
        self._decoder.reset()
        return text

    def _unescaped(self, text: str, *, at_end: bool) -> str:
        if not self._tokenizer._escapes:
            return text
        text, self._held = self._held + text, ""
        if text.endswith(_ESCAPE) and not at_end:
            text, self._held = text[:-1], text[-1]
        return unescape(text)


def load_tokenizer(path: str) -> Tokenizer:
    """Opens a tokenizer: `.model` for SentencePiece, `.json` for byte-level BPE; a local path or a URL.

    StarCoder2's own vocabulary lacks 14 byte symbols, so it loses U+40000 to U+7FFFF, where Unicode has no characters
    yet.

    Raises:
        UserError: there is no such file, it is damaged, its special tokens are not StarCoder2's or can be forged, or
            it changes text.
    """
    try:
        content = storage.read_bytes(path)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(f"there is no tokenizer at {path}; train one with `sc2jax tokenizer`") from error
    return _open(content, path)


def _open(content: bytes, path: str) -> Tokenizer:
    """A tokenizer from the content of its file; the path's end says of which kind it is, and messages name it."""
    if path.endswith(".model"):
        tokenizer = _sentencepiece(content, path)
    elif path.endswith(".json"):
        tokenizer = _byte_level(content, path)
    else:
        raise UserError(
            f"{path} is no tokenizer: its name should end in .model (SentencePiece) or .json (byte-level BPE)"
        )
    for text in _PROBES:
        back = tokenizer.decode(tokenizer.encode_text(text))
        if back != text:
            same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(text, back, strict=False))
            at = sum(1 for _ in same)
            raise _lossy(path, f"{text[at : at + 8]!r} comes back as {back[at : at + 8]!r}")
    return tokenizer


def _sentencepiece(content: bytes, path: str) -> Tokenizer:
    processor = read_sentencepiece(content, path)
    size = processor.vocab_size()
    for token in Special:
        if size <= token or processor.id_to_piece(int(token)) != token.literal or not processor.is_control(int(token)):
            raise _foreign(path, token)

    encode_words = word_encoder(processor)

    def encode(text: str) -> list[int]:
        text.encode()  # The library's own error about surrogates does not say what is wrong.
        return encode_words(escape(text))

    return Tokenizer(
        vocab_size=size,
        digest=hashlib.sha256(content).hexdigest(),
        _encode=encode,
        _token_bytes=[_piece_bytes(processor, token) for token in range(size)],
        _escapes=True,
        _cuts_at_spaces=encode_words != processor.encode,  # a bound method, made anew each time
        _file=(content, path),
    )


def _piece_bytes(processor: "sentencepiece.SentencePieceProcessor", token: int) -> bytes:
    if processor.is_byte(token):
        return bytes([int(processor.id_to_piece(token)[3:5], 16)])  # written <0x41>
    if processor.is_unknown(token):
        return " \u2047 ".encode()  # as the library shows it
    return processor.id_to_piece(token).replace(SPACE_SYMBOL, " ").encode()


def _byte_level(content: bytes, path: str) -> Tokenizer:
    model, fields = read_tokenizer_json(content, path)
    for token in Special:
        if model.token_to_id(token.literal) != int(token):
            raise _foreign(path, token)
    if model.normalizer is not None:
        raise _lossy(path, f"it has a normalizer, {model.normalizer}")
    for entry in model.get_added_tokens_decoder().values():
        if not entry.special and (entry.lstrip or entry.rstrip):
            raise _lossy(path, f"its token {entry.content!r} swallows the spaces beside it")
    # Without this, a source file that spells a special token would become one.
    model.encode_special_tokens = True
    model.no_padding()
    model.no_truncation()

    def encode(text: str) -> list[int]:
        text.encode()
        return model.encode(text, add_special_tokens=False).ids

    for token in Special:
        if min(encode(token.literal), default=len(Special)) < len(Special):
            raise UserError(
                f"the tokenizer {path} makes a special token of text that spells {token.literal}; mark it as special "
                "among the file's added_tokens"
            )
    added = {token: entry.content for token, entry in model.get_added_tokens_decoder().items()}
    byte_of = _bytes_of_characters()

    def token_bytes(token: int) -> bytes:
        if token in added:
            return added[token].encode()
        return bytes(byte_of[character] for character in model.id_to_token(token) or "")

    size = model.get_vocab_size(with_added_tokens=True)
    try:
        table = [token_bytes(token) for token in range(size)]
    except KeyError as error:
        raise UserError(
            f"the tokenizer {path} is no byte-level BPE: the character {error.args[0]!r} of a token stands for no byte"
        ) from error
    fastest = fast_encoder(fields, lambda token: bytes(map(byte_of.__getitem__, token)), encode)
    return Tokenizer(
        vocab_size=size,
        digest=hashlib.sha256(content).hexdigest(),
        _encode=fastest,
        _token_bytes=table,
        _escapes=False,
        _cuts_at_spaces=fastest is not encode,
        _file=(content, path),
    )


def _bytes_of_characters() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for.

    Printable bytes of Latin-1 stand for themselves, the others, in order, are the characters from U+0100 on (GPT-2).
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


def _lossy(path: str, how: str) -> UserError:
    return UserError(f"the tokenizer {path} changes text: {how}; use one that gives every text back as it was")


def _foreign(path: str, token: Special) -> UserError:
    return UserError(
        f"the tokenizer {path} was not made for StarCoder2: its id {int(token)} is not {token.literal}; "
        "train one with `sc2jax tokenizer`"
    )


# SentencePiece writes a space as U+2581 and reads every U+2581 back as a space. A U+2581 in the text itself is
# therefore escaped as two control characters that source code does not use, and so is the first of these if it occurs.
# The second is never the same as the first, so that half of a pair at the edge of a window leaves what follows intact.
_ESCAPE = "\x10"
ESCAPED = {SPACE_SYMBOL: _ESCAPE + "\x11", _ESCAPE: _ESCAPE + "\x12"}
_UNESCAPED = {pair: character for character, pair in ESCAPED.items()}
_TO_ESCAPE = re.compile(f"[{SPACE_SYMBOL}{_ESCAPE}]")
_TO_UNESCAPE = re.compile(f"{_ESCAPE}[\x11\x12]")


def escape(text: str) -> str:
    """Text without U+2581, for SentencePiece; `unescape` gives it back."""
    return _TO_ESCAPE.sub(lambda match: ESCAPED[match[0]], text)


def unescape(text: str) -> str:
    """The inverse of `escape`."""
    return _TO_UNESCAPE.sub(lambda match: _UNESCAPED[match[0]], text)
