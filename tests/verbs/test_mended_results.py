"""Values of a run's results and manifests changed, and all digests mended: one message or a page, and no traceback.

So look the results of another version, or of somebody who means harm.
"""

import dataclasses
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nested_values import places

from sc2jax.records.manifest import Manifest, manifest_json, read_manifest
from sc2jax.runs.inputs import stage_digest

CHANGES = int(os.environ.get("SC2JAX_MENDED", "20"))
OTHERS = (None, 3, -1, 10**30, 0, 0.5, -0.0, "x", "\x1b[31m<script>", [], {}, [1], 1e308, 5e-324, True, False)
STAGES = ("corpus", "tokenizer", "train", "evaluate/bits_per_byte", "evaluate/infilling", "complete")
RESULTS = {
    "evaluate/bits_per_byte": ("scores.json",),
    "evaluate/infilling": ("scores.json",),
    "complete": ("samples.json",),
    "train": ("metrics.jsonl", "parameters.json", "config.json"),
}
READERS = {"corpus": "curate", "train": "train", "complete": "complete"}
"""The verbs that say what stands in a stage of theirs that is complete; of all others it is `evaluate`."""


@pytest.fixture(scope="module")
def run(measured, inputs, small_source, tmp_path_factory, start) -> Path:
    """A whole run in one folder."""
    folder = tmp_path_factory.mktemp("mended") / "run"
    shutil.copytree(measured, folder)
    for stage in ("corpus", "tokenizer"):
        shutil.copytree(inputs[f"paths.{stage}"], folder / stage)
    assert start("complete", folder, **{"paths.source": small_source}) == 0
    return folder


def changed(value: Any, chance: random.Random) -> Any:
    """The same with one value in it replaced, deleted or moved, or all of it."""
    found = list(places(value))
    if not found or chance.random() < 0.02:
        return chance.choice(OTHERS)
    *above, last = chance.choice(found)
    holder = value
    for step in above:
        holder = holder[step]
    if chance.random() < 0.3:
        del holder[last]
    elif chance.random() < 0.2:
        holder[last] = chance.choice([holder[last], [holder[last]] * 20, {"a": holder[last]}, str(holder[last])])
    else:
        holder[last] = chance.choice(OTHERS)
    return value


def changed_file(content: bytes, is_log: bool, chance: random.Random) -> bytes:
    """A JSON, or a log with a JSON in each line, with a value changed."""
    if not is_log:
        return json.dumps(changed(json.loads(content), chance)).encode()
    rows = changed([json.loads(line) for line in content.splitlines()], chance)
    return "".join(f"{json.dumps(row)}\n" for row in rows if isinstance(rows, list)).encode()


def change(run: Path, chance: random.Random) -> str:
    """Changes a value somewhere in a run, and mends the manifests; says which stage it is in."""
    stage = chance.choice(STAGES)
    manifest = read_manifest(str(run / stage))
    part = chance.choice([*RESULTS.get(stage, ()), "statistics", "config"])
    if part in ("statistics", "config"):
        other = changed(json.loads(json.dumps(getattr(manifest, part))), chance)
        mend(run, stage, dataclasses.replace(manifest, **{part: other if isinstance(other, dict) else {}}))
        return stage
    content = changed_file((run / stage / part).read_bytes(), part.endswith("l"), chance)
    (run / stage / part).write_bytes(content)
    digest = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    outputs = tuple(dataclasses.replace(out, **digest) if out.path == part else out for out in manifest.outputs)
    mend(run, stage, dataclasses.replace(manifest, outputs=outputs))
    return stage


def mend(run: Path, stage: str, manifest: Manifest) -> None:
    """Writes a manifest, and its digest into those of the stages that read it."""
    (run / stage / "manifest.json").write_bytes(manifest_json(manifest))
    for name in STAGES:
        reader = read_manifest(str(run / name))
        if stage in reader.inputs:
            other = dataclasses.replace(reader, inputs={**reader.inputs, stage: stage_digest(manifest)})
            (run / name / "manifest.json").write_bytes(manifest_json(other))


def restored(run: Path, count: int) -> Iterator[int]:
    """Numbers, and before each of them the run as it was, without a report."""
    small = [path for path in run.rglob("*") if path.suffix in (".json", ".jsonl")]
    before = {path: path.read_bytes() for path in small}
    for number in range(count):
        yield number
        for path, content in before.items():
            path.write_bytes(content)
        shutil.rmtree(run / "report", ignore_errors=True)


def try_changes(count: int, seed: int, run: Path, source: Path, start: Callable[..., int]) -> None:
    chance, pages = random.Random(seed), 0
    for number in restored(run, count):
        stage = change(run, chance)
        for verb in ("report", READERS.get(stage, "evaluate")):
            status = start(verb, run, **{"paths.source": source})
            assert status in (0, 2), (number, stage, verb)
            pages += verb == "report" and status == 0
    assert 0 < pages < count


def test_whatever_a_result_says_there_is_a_page_or_a_message(run, small_source, start):
    try_changes(CHANGES, 0, run, small_source, start)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_whatever_many_results_say(run, small_source, start):
    try_changes(50 * CHANGES, 1, run, small_source, start)
