"""Tiny corpora for the tests of this room."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from sc2jax.assets import asset_path
from sc2jax.feed import flat_tokens
from sc2jax.feed.batches import Batches
from sc2jax.feed.config import TokenizeConfig
from sc2jax.feed.mixtures import read_mixture
from sc2jax.feed.rows import Packed
from sc2jax.feed.sources import FeedInputs, open_sources, tokens_config, tokens_inputs
from sc2jax.feed.tokenizing import lay_tokens
from sc2jax.records.dataset import write_part
from sc2jax.records.edits import edits_sha256
from sc2jax.records.manifest import Manifest, Output, commit
from sc2jax.records.schemas import SCHEMAS, SOURCE_FILE

Open = Callable[..., Batches]
Lay = Callable[..., FeedInputs]
Files = list[tuple[str, str]]
Repositories = dict[str, Files]
WORDS = ["def", "return", "self", "import", "value", "=", "(", ")", ":", "yield", "42", "+", "\n\n   ", "\n"]


def make_repositories(count: int, seed: int = 0, longest: int = 300) -> Repositories:
    """Repositories of one to six files of pseudo-code, some of them empty, each text unlike every other."""
    rng = random.Random(seed)

    def text(name: str) -> str:
        words = rng.choices(WORDS, k=rng.choice([0, 3, longest // 4, longest]))
        return f"# {name} é😀\n" + " ".join(words) if words else ""

    return {
        f"owner/repository{number:03d}": [
            (f"src/file{file}.py", text(f"{seed}/{number}/{file}")) for file in range(rng.randint(1, 6))
        ]
        for number in range(count)
    }


def write_corpus(folder: Path, parts: Sequence[Sequence[Repositories]], heldout: Repositories | None = None) -> str:
    """A curated corpus: for each part its row groups, each a set of repositories."""
    outputs = [
        write_part(str(folder), "train", index, map(_table, row_groups), SOURCE_FILE)
        for index, row_groups in enumerate(parts)
    ]
    if heldout:
        outputs.append(write_part(str(folder), "heldout", 0, [_table(heldout)], SOURCE_FILE))
    commit(str(folder), Manifest("curate", {}, {}, tuple(outputs), {}))
    return str(folder)


def _table(repositories: Repositories) -> pa.Table:
    rows = [
        {
            "repository": repository,
            "path": path,
            "content": text,
            "swhid": "swh:1:cnt:" + hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(),
            "revision": "",
            "source_bytes": len(text.encode()),
            "encoding": "utf-8",
            "language": "Python",
            "licenses": [],
            "license_type": "no_license",
            "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "edits": [],
            "edits_sha256": edits_sha256([]),
        }
        for repository, files in repositories.items()
        for path, text in files
    ]
    return pa.Table.from_pylist(rows, SOURCE_FILE)


def split_units(repositories: Repositories, size: int) -> list[Repositories]:
    """Row groups of `size` repositories each."""
    names = list(repositories)
    return [{name: repositories[name] for name in names[at : at + size]} for at in range(0, len(names), size)]


def write_records(folder: Path, schema: pa.Schema, row_groups: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    """A dataset of other records than files; columns that a record lacks are empty, and it has no license."""
    empty = {field.name: [] if pa.types.is_list(field.type) else "" for field in schema}
    empty["license_type"] = "no_license"
    tables = (pa.Table.from_pylist([empty | dict(record) for record in group], schema) for group in row_groups)
    output = write_part(str(folder), "train", 0, tables, schema)
    commit(str(folder), Manifest("curate", {}, {}, (output,), {}))
    return str(folder)


TEXT_WORDS = {"openwebmath": 300, "wikipedia": 30, "arxiv": 12_000}


def _text(words: int, rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(max(1, words // 2), words)))


def _samples(kind: str) -> list[dict]:
    path = asset_path("data", "records", f"{kind}.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_sources(folder: Path) -> dict:
    """Every source of the mixture: repositories and texts by chance, the rest the hand-written records."""
    rng = random.Random(0)
    for share in read_mixture("starcoder2_15b"):
        place = folder / share.folder
        if share.format == "repository":
            write_corpus(place, [split_units(make_repositories(60, longest=3000), 4)])
        elif share.format == "plain_text":
            groups = [[{"text": _text(TEXT_WORDS[share.name], rng)} for _ in range(5)] for _ in range(6)]
            write_records(place, SCHEMAS["plain_text"], groups)
        else:
            write_records(place, SCHEMAS[share.format], [_samples(share.format)] * 3)
    shares = {share.name: share.share for share in read_mixture("starcoder2_15b")}
    sources = [
        {"name": share.name, "folder": share.folder, "format": share.format, "share": share.share, "max_epochs": 0}
        for share in read_mixture("starcoder2_15b")
    ]
    (folder / "endless.json").write_text(json.dumps({"sources": sources}))
    return {name: value / sum(shares.values()) for name, value in shares.items()}


@contextlib.contextmanager
def one_after_the_other(
    rows: pa.Table, cuts: Sequence[int], function: Callable[[pa.Table], pa.Table], schema: pa.Schema
) -> Iterator[Iterator[pa.Table]]:
    """The engine's map as a plain loop."""
    yield (function(rows.slice(at, end - at)).cast(schema) for at, end in itertools.pairwise([*cuts, rows.num_rows]))


def laid(inputs: FeedInputs, folder: str, renderings: int = 1, done: str = "") -> FeedInputs:
    """The inputs with their tokens, which are laid flat in a folder and committed."""
    config = TokenizeConfig(renderings=renderings)
    outputs, statistics = lay_tokens(
        folder, done or f"{folder}.done", inputs, open_sources(inputs), config, one_after_the_other
    )
    commit_tokens(dataclasses.replace(inputs, tokens=folder), outputs, statistics)
    return dataclasses.replace(inputs, tokens=folder)


def commit_tokens(inputs: FeedInputs, outputs: Sequence[Output], statistics: Mapping[str, Any]) -> None:
    """Commits tokens as those of these inputs."""
    mixture = read_mixture(inputs.config.mixture)
    config, digests = dict(tokens_config(inputs, mixture)), tokens_inputs(inputs, mixture)
    commit(inputs.tokens, Manifest("tokenize", digests, config, tuple(outputs), statistics))


def write_flat(
    folder: Path,
    tokens: Mapping[str, Sequence[np.ndarray]],
    shares: Sequence[float] = (),
    caps: Sequence[int] = (),
    *,
    part: int = 0,
    vocab_size: int = 2**17,
) -> tuple[str, list[Output], dict[str, Any]]:
    """Sources with these tokens, an array a rendering, in parts of so many; the path of their mixture's file.

    What they come to is returned with it and not committed, for that depends on the inputs.
    """
    outputs = []
    for name, renderings in tokens.items():
        for rendering, ids in enumerate(renderings):
            prefix = flat_tokens.rendering_folder(name, rendering)
            for index, at in enumerate(range(0, len(ids), part or len(ids))):
                here = ids[at : at + (part or len(ids))]
                outputs += flat_tokens.write_part(str(folder), prefix, index, here, vocab_size)
    statistics = {
        "sources": {
            name: {"tokens": list(map(len, made)), "left_out": {}, "damaged_units": 0} for name, made in tokens.items()
        }
    }
    sources = [
        {"name": name, "format": "plain_text", "share": share, "max_epochs": cap}
        for name, share, cap in zip(tokens, shares or [1] * len(tokens), caps or [0] * len(tokens), strict=True)
    ]
    path = folder / "mixture.json"
    path.write_text(json.dumps({"sources": sources}))
    return str(path), outputs, statistics


def numbered(size: int, first: int = 100) -> np.ndarray:
    """Tokens that tell where they lie."""
    return np.arange(first, first + size, dtype=np.int32)


class Row(NamedTuple):
    """The features of one row, and what it lacks."""

    features: dict[str, np.ndarray]
    counts: tuple[int, ...]


def each(packed: Packed) -> list[Row]:
    """Rows one by one."""
    return [
        Row({name: values[row] for name, values in packed.features.items()}, tuple(counts))
        for row, counts in enumerate(packed.counts.tolist())
    ]
