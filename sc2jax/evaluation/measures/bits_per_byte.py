"""Held-out bits per byte of a model, beside two baselines on the same text.

Each file is scored as a document of its own in the training format without metadata: `<file_sep>`, its text, and
`<|endoftext|>`. Only the tokens of the text count, not the special tokens around it. Bits per byte is the sum of
-log2 p over these tokens of all files, divided by the UTF-8 bytes of the texts; so every byte weighs the same, and the
figure can be compared between tokenizers.

unigram: the same tokens coded by their frequency alone, p(t) = (count(t) + 1) / (tokens + text vocabulary). The counts
    are those of the training split under the same tokenizer; special tokens count in neither sum. What a model saves
    beyond this rate, it owes to context.
gzip: each file compressed by itself, as the raw deflate stream of zlib at level 9, which is gzip without the 18 bytes
    of its header and trailer. Like the model, it sees one file at a time; unlike the model, it was not trained.
"""

import dataclasses
import math
import zlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np

from sc2jax.evaluation.config import BitsPerByteConfig
from sc2jax.evaluation.heldout import CodeFile, Splits, choose_files
from sc2jax.evaluation.not_measured import NotMeasured
from sc2jax.json_files import Amount, Count, Positive
from sc2jax.progress import progress
from sc2jax.text.formats import repository_document
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from sc2jax.inference.loaded_model import LoadedModel

VERSION = 1
"""Raised when a change to this measure changes its results."""

Config = BitsPerByteConfig


class Rates(TypedDict):
    """Bits per byte of the model and of the two baselines on the same text."""

    files: Count
    bytes: Count
    tokens: Count
    model: Amount
    unigram: Positive
    gzip: Positive


class UnigramCounts(TypedDict):
    """The training text behind the unigram baseline."""

    files: Count
    bytes: Count
    tokens: Count


class BitsPerByte(TypedDict):
    """Held-out bits per byte: in total (every byte weighs the same) and by language.

    `ratio_to_unigram` is the model's rate over that of the unigram baseline.
    """

    measured: Literal[True]
    total: Rates
    ratio_to_unigram: Amount
    by_language: dict[str, Rates]
    unigram: UnigramCounts


Result = BitsPerByte


@dataclasses.dataclass(frozen=True)
class _FileBits:
    language: str
    bytes: int
    tokens: int
    model: float
    unigram: float
    gzip: float


def measure(model: "LoadedModel", splits: Splits, config: BitsPerByteConfig, seed: int) -> BitsPerByte | NotMeasured:
    """Scores a seeded choice of held-out files; the module's docstring says what is counted.

    Raises:
        UserError: a likelihood is not finite.
    """
    if not config.max_bytes:
        return NotMeasured(measured=False, reason="switched off (evaluation.max_bytes is 0)")
    files = choose_files(
        splits("heldout"),
        max_files=config.max_files,
        max_bytes=config.max_bytes,
        max_file_bytes=config.max_file_bytes,
        seed=seed,
    )
    if not files:
        return NotMeasured(measured=False, reason="no repository with text is held out")
    sample = choose_files(splits("train"), max_files=0, max_bytes=config.unigram_bytes, seed=seed)
    counts = text_token_counts(model.tokenizer, sample)
    bits = _file_bits(model, files, unigram_bits(counts), config.score_batch)
    total = _rates(bits)
    return BitsPerByte(
        measured=True,
        total=total,
        ratio_to_unigram=total["model"] / total["unigram"],
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


def summary(result: BitsPerByte | NotMeasured) -> str:
    """The result in a sentence."""
    if result["measured"] is False:
        return f"held-out bits per byte: not measured, {result['reason']}"
    total, ratio = result["total"], result["ratio_to_unigram"]
    return (
        f"held-out bits per byte: model {total['model']:.3f}, unigram tokens {total['unigram']:.3f}, "
        f"gzip {total['gzip']:.3f} ({abs(1 - ratio):.0%} {'below' if ratio <= 1 else 'above'} unigram)"
    )


def text_token_counts(tokenizer: Tokenizer, files: Iterable[CodeFile]) -> np.ndarray:
    """How often each token of the vocabulary occurs in the texts, int64; special tokens never do."""
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    for file in progress(files, desc="unigram", unit="file"):
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
    model: "LoadedModel", files: Sequence[CodeFile], token_bits: np.ndarray, batch_size: int
) -> list[_FileBits]:
    rows = [
        model.tokenizer.encode(repository_document(file.repository, [(file.path, file.text)], with_metadata=False))
        for file in files
    ]
    return [
        _bits_of(file, np.asarray(row), np.asarray(likelihoods, np.float64), token_bits)
        for file, row, likelihoods in zip(files, rows, model.score(rows, batch_size=batch_size), strict=True)
    ]


def _bits_of(file: CodeFile, row: np.ndarray, likelihoods: np.ndarray, token_bits: np.ndarray) -> _FileBits:
    if likelihoods.shape != (len(row) - 1,):
        raise ValueError(f"the scorer returned shape {likelihoods.shape} for a row of {len(row)} tokens")
    is_text = row >= len(Special)  # text can never become a special token
    return _FileBits(
        language=file.language,
        bytes=file.bytes,
        tokens=int(is_text.sum()),
        model=math.fsum(-likelihoods[is_text[1:]]) / math.log(2),
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
