"""A disk that is full at the first or the last file of a verb: one message, and it goes on when there is room."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sc2jax.evaluation.measures import MEASURES
from sc2jax.records.manifest import MANIFEST, read_manifest

VERBS = ("curate", "tokenizer", "tokenize", "train", "evaluate", "complete", "report")


@contextmanager
def full_from(monkeypatch: pytest.MonkeyPatch, number: int) -> Iterator[list[int]]:
    """Every file from the given one on cannot be made lasting, which is when a full disk is found out at the latest."""
    made: list[int] = []

    def sync(descriptor: int) -> None:
        made.append(descriptor)
        if len(made) >= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", sync)
        yield made


def digests(run: Path) -> dict[str, str]:
    """The digest of the results of each stage; the report's holds nothing that differs from run to run."""
    manifests = [path for path in run.rglob(MANIFEST) if "stages" not in path.parts and ".sc2jax" not in path.parts]
    return {str(path.parent.relative_to(run)): read_manifest(str(path.parent)).digest for path in manifests}


def test_a_full_disk_is_one_message_and_changes_nothing(
    tmp_path: Path, small_source: Path, start: Callable[..., int], monkeypatch, capsys
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    source = {"paths.source": small_source}
    for verb in VERBS:
        with full_from(monkeypatch, 1 << 30) as made:
            assert start(verb, whole, **source) == 0
        for number in (1, len(made)):
            before = digests(run)
            capsys.readouterr()
            with full_from(monkeypatch, number):
                assert start(verb, run, **source) == 2
            errors = capsys.readouterr().err
            assert len(errors.splitlines()) == 1 and errors.startswith(f"sc2jax {verb}: "), errors
            assert "make room and run the same command again" in errors
            # Measures that are done by then stay.
            assert {stage: digest for stage, digest in digests(run).items() if stage in before} == before
            assert len(set(digests(run)) - set(before)) < (len(MEASURES) if verb == "evaluate" and number > 1 else 1)
            assert not list(run.rglob(".*.unfinished"))
        assert start(verb, run, **source) == 0
    assert digests(run) == digests(whole)
