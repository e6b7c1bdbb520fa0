"""Results whose values were changed where they lie: refused in one message, or drawn on the page."""

import copy
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from nested_values import places

from sc2jax.config import Settings
from sc2jax.errors import UserError
from sc2jax.evaluation.report import render_report
from sc2jax.records.manifest import Manifest, commit, write_output
from sc2jax.records.statistics import corpus_statistics
from sc2jax.runs.results import read_samples, read_scores
from sc2jax.runs.run import Run
from sc2jax.training.metrics import metrics_of

OTHERS = (None, -1, 10**30, 0, 1.5, "x", [], {}, 1e308, True)
GONE = object()


def changed(value: Any, path: tuple[str | int, ...], other: Any) -> Any:
    whole = copy.deepcopy(value)
    holder = whole
    for step in path[:-1]:
        holder = holder[step]
    if other is GONE:
        del holder[path[-1]]
    else:
        holder[path[-1]] = other
    return whole


def variants(value: Any) -> Iterator[Any]:
    """The value with each other value in each place, and without what is there."""
    yield from OTHERS
    for path in places(json.loads(json.dumps(value))):
        for other in (*OTHERS, GONE):
            yield changed(json.loads(json.dumps(value)), path, other)


@pytest.fixture
def small(run: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The run with little of everything."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # thousands of files
    run["metrics"] = run["metrics"][:2]
    run["infilling"]["items"] = run["infilling"]["items"][1:2]
    run["bits_per_byte"]["by_language"] = dict([*run["bits_per_byte"]["by_language"].items()][:1])
    run["infilling"]["by_language"] = dict([*run["infilling"]["by_language"].items()][:1])
    run["corpus"]["funnel"] = run["corpus"]["funnel"][1:2]
    run["corpus"] |= {"languages": {"C": {"files": 3, "bytes": 9}}, "licenses": {"MIT": 3}, "left_out": {}}
    return run


def read_by(name: str, folder: str) -> Callable[[Any], Any]:
    """What reads such a result when it lies in a run with manifests to match."""
    reader = Run(Settings(), folder)

    def at(stage: str, file: str, content: Any) -> None:
        written = write_output(f"{folder}/{stage}", file, json.dumps(content).encode())
        commit(f"{folder}/{stage}", Manifest(stage, {}, {}, (written,), {}))

    def read(value: Any) -> Any:
        if name == "samples":
            at("complete", "samples.json", value)
            return read_samples(reader)
        if name == "corpus":
            return corpus_statistics(folder, Manifest("curate", {}, {}, (), value))
        if name == "metrics":
            lines = value if isinstance(value, list) else [value]
            return metrics_of(b"".join(json.dumps({"feed": {}} | line).encode() + b"\n" for line in lines), "log")
        at(f"evaluate/{name}", "scores.json", value)
        return read_scores(reader, name).found

    return read


@pytest.mark.parametrize("name", ["bits_per_byte", "infilling", "samples", "corpus"])
def test_whatever_a_result_holds_it_is_refused_or_drawn(small, tmp_path, name):
    read, drawn, refused = read_by(name, str(tmp_path)), 0, 0
    for value in variants(small[name]):
        try:
            small[name] = read(value)
        except UserError as error:
            assert "is damaged: " in str(error)
            refused += 1
        else:
            drawn += 1
            render_report(**small)
    assert drawn > 5
    assert refused > 5 * drawn


def test_whatever_a_log_holds_it_is_refused_or_drawn(small, tmp_path):
    read, drawn = read_by("metrics", str(tmp_path)), 0
    for row in range(2):
        for key in small["metrics"][0]:
            for other in (*OTHERS, GONE, 7e-320, 1e39):
                try:
                    metrics = read(changed(small["metrics"], (row, key), other))
                except UserError as error:
                    assert f"line {row + 1}, is damaged: " in str(error) or "line 2, is damaged: " in str(error)
                else:
                    drawn += 1
                    render_report(**small | {"metrics": metrics})
    assert drawn > 20


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("bits_per_byte", ("total", "model"), -0.1),
        ("bits_per_byte", ("total", "model"), 1e41),
        ("bits_per_byte", ("total", "unigram"), 0),
        ("bits_per_byte", ("total", "gzip"), 0.0),
        ("bits_per_byte", ("total", "files"), -1),
        ("bits_per_byte", ("total", "files"), 2**53),
        ("bits_per_byte", ("ratio_to_unigram",), -1),
        ("infilling", ("model", "exact_match"), 1.01),
        ("infilling", ("interval",), [0.1, 0.2, 0.3]),
        ("infilling", ("interval",), [-0.1, 0.2]),
        ("infilling", ("items", 0, "edit_similarity"), 2.0),
        ("infilling", ("items", 0, "finish"), "stopped"),
        ("infilling", ("measured",), False),
        ("bits_per_byte", ("corpus",), {"trained_on": True, "left_out": 0}),
        ("bits_per_byte", ("corpus",), {"trained_on": False, "left_out": "many"}),
        ("samples", (0, "kind"), "infill"),
        ("samples", (1, "kind"), "other"),
        ("corpus", ("split", "train"), GONE),
        ("corpus", ("funnel",), []),
        ("corpus", ("licenses", "MIT"), -1),
        ("metrics", (1, "step"), 1),
        ("metrics", (0, "step"), 0),
        ("metrics", (1, "loss"), -1.0),
    ],
)
def test_what_is_out_of_its_range_is_refused(small, tmp_path, name, path, value):
    read = read_by(name, str(tmp_path))
    assert read(small[name])
    with pytest.raises(UserError, match="is damaged: "):
        read(changed(json.loads(json.dumps(small[name])), path, value))


def test_what_a_reader_does_not_know_is_left_out(small, tmp_path):
    read = read_by("bits_per_byte", str(tmp_path))
    other = {"trained_on": False, "left_out": 3}
    assert read(small["bits_per_byte"] | {"corpus": other, "new": 1}) == small["bits_per_byte"]
    assert read_scores(Run(Settings(), str(tmp_path)), "bits_per_byte").other_corpus == other
    assert read({"measured": False, "reason": "none"}) == {"measured": False, "reason": "none"}
