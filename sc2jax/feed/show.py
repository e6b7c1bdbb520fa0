"""One packed row for people to read."""

import itertools
import os
import sys
from collections.abc import Iterator, Mapping

import numpy as np

from sc2jax.feed.config import FeedConfig
from sc2jax.text.config import FimConfig
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer, load_tokenizer

_SEGMENTS = ("36", "33")  # cyan and yellow, by turns
_SPECIAL = "1;35"  # bold magenta
_DIM = "2"


def show_row(
    *,
    corpus: str,
    tokenizer: str,
    config: FeedConfig,
    fim: FimConfig,
    batch_size: int,
    seed: int,
    row: int = 0,
    step: int = 0,
    color: bool | None = None,
) -> str:
    """Row `row` of batch `step`, the first being 0, as training sees it.

    With `color` None there are colours if standard output is a terminal and NO_COLOR is not set.

    Raises:
        UserError: the corpus, the tokenizer or the mixture cannot be used.
    """
    from sc2jax.feed.batches import open_batches

    with open_batches(
        corpus=corpus, tokenizer=tokenizer, config=config, fim=fim, batch_size=batch_size, seed=seed, rows=[row]
    ) as batches:
        batch = next(itertools.islice(batches, step, None))
    features = {name: values[0] for name, values in batch.items()}
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    colored = bool(wanted) if color is None else color
    return f"batch {step}, row {row}\n{render_row(features, load_tokenizer(tokenizer), color=colored)}"


def render_row(row: Mapping[str, np.ndarray], tokenizer: Tokenizer, *, color: bool) -> str:
    """A row's text below a header with its segments.

    Segments are coloured by turns, special tokens are bold, and tokens after which nothing is learnt (weight 0) are
    dim. Control characters of the text are drawn as pictures, so that no file can send commands to the terminal.
    """
    spans = list(_spans(row))
    text = []
    for segment, special, weighted, ids in spans:
        style = _SPECIAL if special else _SEGMENTS[segment % len(_SEGMENTS)]
        written = _repeated(tokenizer, ids) if special else _printable(tokenizer.decode(ids))
        text.append(f"\x1b[{style if weighted else f'{_DIM};{style}'}m{written}\x1b[0m" if color else written)
    return f"{_header(row)}\n\n{''.join(text)}"


def _header(row: Mapping[str, np.ndarray]) -> str:
    segments, weights = row["segment_ids"], row["weights"]
    lengths = np.bincount(segments)
    parts = [f"{length} in segment {index}" for index, length in enumerate(lengths) if index and length]
    if lengths[0]:
        parts.append(f"{lengths[0]} of padding")
    return f"{len(segments)} tokens: {', '.join(parts)}; {int((weights == 0).sum())} with weight 0"


def _spans(row: Mapping[str, np.ndarray]) -> Iterator[tuple[int, bool, bool, list[int]]]:
    """Runs of tokens that look alike: segment, special or not, weight or not, ids."""
    tokens = row["tokens"].tolist()
    special = [token < len(Special) for token in tokens]
    looks = zip(row["segment_ids"].tolist(), special, (row["weights"] > 0).tolist(), strict=True)
    at = 0
    for look, group in itertools.groupby(looks):
        length = sum(1 for _ in group)
        yield *look, tokens[at : at + length]
        at += length


def _repeated(tokenizer: Tokenizer, ids: list[int]) -> str:
    """Special tokens, a long run of the same one, such as padding, in short."""
    counts = [(token, sum(1 for _ in group)) for token, group in itertools.groupby(ids)]
    return "".join(
        tokenizer.decode([token]) * count if count < 4 else f"{tokenizer.decode([token])} x {count}"
        for token, count in counts
    )


_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
_PICTURES |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)  # the other set of terminal commands


def _printable(text: str) -> str:
    return text.translate(_PICTURES)
