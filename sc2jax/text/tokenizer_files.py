"""Reading the files of tokenizers: each format in one function, which ends in a tokenizer or in one message.

The libraries are written in C++ and Rust. Whatever they raise on a damaged file, a panic included, becomes a
`UserError`; what they let pass and would stumble over later is looked for here.
"""

from typing import TYPE_CHECKING, Any, TypedDict

from sc2jax.errors import UserError
from sc2jax.json_files import decode_json

if TYPE_CHECKING:
    import sentencepiece
    import tokenizers

_REMEDY = "delete it and train or download it again"


class AddedToken(TypedDict):
    """A token that is found in a text before it is cut into words."""

    id: int
    content: str
    special: bool


class BytePairs(TypedDict, total=False):
    """The model of a tokenizer.json, with the variants that some have."""

    type: str
    vocab: dict[str, int]
    merges: list[str | tuple[str, str]]
    dropout: float | None
    unk_token: str | None
    byte_fallback: bool
    continuing_subword_prefix: str | None
    end_of_word_suffix: str | None


class TokenizerFile(TypedDict, total=False):
    """What is read of a tokenizer.json beside what its library reads."""

    normalizer: dict[str, Any] | None
    pre_tokenizer: dict[str, Any] | None
    added_tokens: list[AddedToken]
    model: BytePairs


def read_sentencepiece(content: bytes, path: str) -> "sentencepiece.SentencePieceProcessor":
    """A SentencePiece model; `path` names it in the message.

    Raises:
        UserError: it is none, or damaged.
    """
    import sentencepiece

    if not content:
        raise damaged(path, "it is empty")  # which would be a valid protocol buffer
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=content)
    except (RuntimeError, UnicodeDecodeError) as error:
        raise damaged(path, str(error)) from error
    for token in range(processor.vocab_size()):
        try:
            processor.id_to_piece(token)
        except UnicodeDecodeError as error:
            raise damaged(path, f"its token {token} is no UTF-8") from error
    return processor


def read_tokenizer_json(content: bytes, path: str) -> "tuple[tokenizers.Tokenizer, TokenizerFile]":
    """A tokenizer.json, as its library opens it and what else is asked of it; `path` names it in the message.

    Raises:
        UserError: it is none, or damaged, or ids are missing in its vocabulary.
    """
    fields = decode_json(content, TokenizerFile, f"the tokenizer {path}", _REMEDY)
    model = open_tokenizer_json(content, path)
    vocabulary = fields.get("model", {}).get("vocab", {})
    ids = {**vocabulary, **{token["content"]: token["id"] for token in fields.get("added_tokens", [])}}
    if sorted(ids.values()) != list(range(model.get_vocab_size(with_added_tokens=True))):
        raise damaged(path, "the ids of its vocabulary and added tokens are not 0, 1, 2 and so on, each once")
    return model, fields


def open_tokenizer_json(content: bytes, path: str) -> "tokenizers.Tokenizer":
    """A tokenizer.json of any kind, as its library opens it.

    Raises:
        UserError: it does not.
    """
    import tokenizers

    try:
        return tokenizers.Tokenizer.from_str(content.decode())
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # a plain Exception, or that of a panic, which is none
        raise damaged(path, str(error)) from error


def damaged(path: str, what: str) -> UserError:
    """The error of a tokenizer that cannot be used as it is."""
    return UserError(f"the tokenizer {path} is damaged: {what}; {_REMEDY}")
