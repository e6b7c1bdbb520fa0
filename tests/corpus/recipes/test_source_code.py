import dataclasses
import errno
import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sc2jax.corpus.config import CorpusConfig
from sc2jax.corpus.recipes import source_code
from sc2jax.corpus.recipes.source_code import curate
from sc2jax.corpus.stages import files, licenses, signatures, split
from sc2jax.errors import UserError
from sc2jax.feed.units import Units
from sc2jax.records import manifest as manifests
from sc2jax.records.manifest import read_manifest
from sc2jax.records.schemas import REJECTED_FILE, SOURCE_FILE
from sc2jax.records.statistics import corpus_statistics

CONFIG = CorpusConfig(row_group_bytes=4000, part_bytes=20_000)


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a corpus by name, without the marks and locks of its stages."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and ".sc2jax" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def ngrams(text: str) -> set[tuple[str, ...]]:
    tokens = re.split(r"\W", text.lower())
    return set(zip(*(tokens[place:] for place in range(5)), strict=False))


@pytest.fixture
def source(plant: Callable[..., str], program: Callable[..., str], edited: Callable[..., str]) -> str:
    """Twenty-four repositories with duplicates, near-duplicates and a licence among them."""
    tree = {}
    for number in range(24):
        for part in range(3):
            tree[f"repository{number:02d}/part{part}.py"] = program(number * 3 + part)
        tree[f"repository{number:02d}/near.py"] = edited(program(number), number, 2)
    tree["repository01/copy.py"] = tree["repository20/part1.py"]
    tree["repository02/table.csv"] = "a,b\n"
    return plant("source", tree)


def test_corpus_on_disk(
    source: str, tmp_path: Path, rows_of: Callable[..., list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_BATCH_BYTES", 3000)  # so that repositories are read in several pieces
    monkeypatch.setattr(signatures, "_ROW_GROUP_BYTES", 5_000)  # so that signatures lie in several row groups
    output = str(tmp_path / "corpus")
    manifest = curate(CONFIG, [source], output, 3)
    sides = {side: rows_of(output, manifest, side) for side in ("train", "heldout", "rejects")}
    assert manifest.statistics["split"] == {
        side: {
            "repositories": len({row["repository"] for row in sides[side]}),
            "files": len(sides[side]),
            "bytes": sum(row["source_bytes"] for row in sides[side]),
        }
        for side in ("train", "heldout")
    }
    assert manifest.statistics["funnel"][0]["files_in"] == sum(map(len, sides.values()))
    kept = sides["train"] + sides["heldout"]
    assert manifest.statistics["languages"] == {
        "Python": {"files": len(kept), "bytes": sum(row["source_bytes"] for row in kept)}
    }
    signed = read_manifest(f"{output}/stages/signatures").under("signatures")
    assert sum(part.rows for part in signed) == 24 * 4 + 1, "every text, copies too"
    assert len(manifest.under("train")) > 2, "several parts"
    for side in ("train", "heldout"):
        seen: set[str] = set()
        for output_ in manifest.under(side):
            part = pq.ParquetFile(f"{output}/{output_.path}")
            assert part.schema_arrow.equals(SOURCE_FILE)
            for group in range(part.num_row_groups):
                rows = part.read_row_group(group).to_pylist()
                names = {row["repository"] for row in rows}
                assert not names & seen, "a repository never straddles a row group"
                seen |= names
                keys = [(row["repository"], row["path"]) for row in rows]
                assert keys == sorted(keys)
    assert pq.read_schema(f"{output}/{manifest.under('rejects')[0].path}").equals(REJECTED_FILE)
    reasons = [row["reason"] for row in sides["rejects"]]
    assert reasons.count("exact_duplicate") == 1
    assert reasons.count("near_duplicate") == 24
    assert reasons.count("excluded_extension") == 1


def test_no_near_duplicate_crosses_the_split(
    plant: Callable[..., str],
    program: Callable[..., str],
    edited: Callable[..., str],
    tmp_path: Path,
    rows_of: Callable[..., list[dict[str, Any]]],
) -> None:
    """Near-duplicates of every similarity around the threshold, in one language and in two."""
    tree = {}
    for number in range(60):
        tree[f"first{number}/a.py"] = program(number)
        tree[f"second{number}/b.{('py', 'pyi', 'js')[number % 3]}"] = edited(program(number), number, 1 + number % 9)
    config = dataclasses.replace(CONFIG, heldout_fraction=0.5)
    manifest = curate(config, [plant("pairs", tree)], str(tmp_path / "corpus"), 0)
    train, heldout, rejects = (
        rows_of(str(tmp_path / "corpus"), manifest, side) for side in ("train", "heldout", "rejects")
    )
    across = [row for row in rejects if row["reason"] == "near_duplicate_across_split"]
    assert len(across) >= 8
    assert len(train) > 20
    assert len(heldout) > 10
    grams = [(ngrams(row["content"])) for row in train]
    for row in heldout:
        own = ngrams(row["content"])
        assert max(len(own & other) / len(own | other) for other in grams) < 0.7


def test_without_near_deduplication_only_copies_go_and_what_crosses_the_split(
    plant: Callable[..., str],
    program: Callable[..., str],
    edited: Callable[..., str],
    tmp_path: Path,
    rows_of: Callable[..., list[dict[str, Any]]],
) -> None:
    """Every text once, but for those held out that resemble a training file."""
    tree = {}
    for number in range(40):
        tree |= {f"first{number}/a.py": program(number), f"first{number}/near.py": edited(program(number), number, 2)}
        tree[f"second{number}/b.{('py', 'js')[number % 2]}"] = edited(program(number), number, 1 + number % 9)
        tree[f"second{number}/copy.py"] = program(number % 7)
    config = dataclasses.replace(CONFIG, heldout_fraction=0.4, near_threshold=0.0)
    manifest = curate(config, [plant("pairs", tree)], str(tmp_path / "corpus"), 0)
    train, heldout, rejects = (
        rows_of(str(tmp_path / "corpus"), manifest, side) for side in ("train", "heldout", "rejects")
    )
    reasons = [row["reason"] for row in rejects]
    across = [row for row in rejects if row["reason"] == "near_duplicate_across_split"]
    assert reasons.count("exact_duplicate") == len(tree) - len(set(tree.values()))
    assert len(train) + len(heldout) + len(across) == len(set(tree.values()))
    assert {row["content"] for row in train + heldout} <= set(tree.values())
    grams = [ngrams(row["content"]) for row in train]
    for row in heldout:
        own = ngrams(row["content"])
        assert max(len(own & other) / len(own | other) for other in grams) < 0.7
    for row in across:
        own = ngrams(tree[f"{row['repository']}/{row['path']}"])
        assert max(len(own & other) / len(own | other) for other in grams) > 0.5
    assert len(across) > 10
    assert len(heldout) > 5


def test_of_duplicates_the_one_with_the_most_welcome_license_is_kept(
    plant: Callable[..., str],
    program: Callable[..., str],
    edited: Callable[..., str],
    tmp_path: Path,
    rows_of: Callable[..., list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Files of another language stand before, so that a file's rank is not that of its place among its duplicates."""
    monkeypatch.setattr(licenses, "detect", lambda *_: frozenset({"MIT"}))
    monkeypatch.setattr(files, "_BATCH_BYTES", 9000)  # so that duplicates stand in several row groups
    monkeypatch.setattr(signatures, "_BATCH_CHARACTERS", 2000)
    tree = {"a/LICENSE.md": "MIT"} | {f"a/{number}.js": program(100 + number) for number in range(5)}
    for number in range(6):
        free, licensed = f"b{number}", f"c{number}"
        tree |= {f"{free}/copy.py": program(number), f"{free}/near.py": program(20 + number)}
        tree |= {f"{licensed}/copy.py": program(number), f"{licensed}/near.py": edited(program(20 + number), 0, 1)}
        tree[f"{licensed}/LICENSE.md"] = "MIT"
    manifest = curate(CONFIG, [plant("source", tree)], str(tmp_path / "corpus"), 0)
    lost = {
        (row["repository"], row["path"], row["reason"], row["detail"])
        for row in rows_of(str(tmp_path / "corpus"), manifest, "rejects")
        if row["path"].endswith(".py")
    }
    assert lost == {
        (f"b{number}", f"{kind}.py", reason, f"kept c{number}: {kind}.py")
        for number in range(6)
        for kind, reason in (("copy", "exact_duplicate"), ("near", "near_duplicate"))
    }


@pytest.mark.parametrize(("rule", "kept"), [("greedy", 3), ("transitive", 1)])
def test_of_a_chain_of_near_duplicates_one_is_kept_by_the_rule_of_the_paper_and_by_the_default_those_unlike_it(
    plant: Callable[..., str],
    program: Callable[..., str],
    edited: Callable[..., str],
    tmp_path: Path,
    rows_of: Callable[..., list[dict[str, Any]]],
    rule: str,
    kept: int,
) -> None:
    texts = [program(0)]
    for seed in range(8):
        texts.append(edited(texts[-1], seed, 3))
    source = plant("source", {f"a/{number}.py": text for number, text in enumerate(texts)})
    output = str(tmp_path / "corpus")
    manifest = curate(dataclasses.replace(CONFIG, near_rule=rule), [source], output, 0)
    names = {row["path"] for row in rows_of(output, manifest, "train")}
    rejects = rows_of(output, manifest, "rejects")
    assert "0.py" in names
    assert len(names) == kept
    assert len(rejects) == 9 - kept
    assert {row["detail"].removeprefix("kept a: ") for row in rejects} <= names


def test_held_out_files_whose_bands_are_common_are_dropped_unseen(
    plant: Callable[..., str],
    program: Callable[..., str],
    tmp_path: Path,
    rows_of: Callable[..., list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fifty files that have four fifths of what they hold in common: more pairs under a key than are formed."""
    monkeypatch.setattr(split, "across", functools.partial(split.across, most_pairs=20))
    core = program(0, 160)
    tree = {f"{number:02d}/a.py": core + program(number + 1, 40) for number in range(50)}
    output = str(tmp_path / "corpus")
    config = dataclasses.replace(CONFIG, heldout_fraction=0.2, near_threshold=0.0, heldout_similarity=0.9)
    manifest = curate(config, [plant("source", tree)], output, 0)
    rejects = rows_of(output, manifest, "rejects")
    assert {row["reason"] for row in rejects} == {"common_bands_across_split"}
    assert {row["detail"] for row in rejects} == {"so many files on both sides share its bands that none was compared"}
    assert len(rejects) > 3


def test_the_same_bytes_whatever_the_order_of_sources(
    plant: Callable[..., str], program: Callable[..., str], tmp_path: Path
) -> None:
    one = plant("one", {f"a{n}/x.py": program(n) for n in range(5)})
    two = plant("two", {f"b{n}/x.py": program(n + 2) for n in range(5)})
    curate(CONFIG, [one, two], str(tmp_path / "first"), 0)
    curate(CONFIG, [two, one], str(tmp_path / "second"), 0)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_curating_what_was_curated_drops_nothing(
    source: str, tmp_path: Path, rows_of: Callable[..., list[dict[str, Any]]], plant: Callable[..., str]
) -> None:
    output = str(tmp_path / "corpus")
    manifest = curate(CONFIG, [source], output, 0)
    kept = rows_of(output, manifest, "train") + rows_of(output, manifest, "heldout")
    again = plant("again", {f"{row['repository']}/{row['path']}": row["content"] for row in kept})
    second = curate(CONFIG, [again], str(tmp_path / "second"), 0)
    assert not any(line["dropped"] for line in second.statistics["funnel"])
    assert second.statistics["split"] == manifest.statistics["split"]
    assert [o.sha256 for o in second.under("train")] == [o.sha256 for o in manifest.under("train")]


def test_a_finished_corpus_is_left_alone_and_an_edited_file_is_seen(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "corpus"
    first = curate(CONFIG, [source], str(output), 0)
    with monkeypatch.context() as patch:
        patch.setattr(source_code, "_run_stages", lambda *_, **__: pytest.fail("nothing was to be done"))
        assert curate(CONFIG, [source], str(output), 0).digest == first.digest
    Path(source, "repository05/part0.py").write_text("brand_new = file_of(its_own)\n")
    assert curate(CONFIG, [source], str(output), 0).digest != first.digest


def test_a_changed_threshold_reruns_only_what_depends_on_it(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = str(tmp_path / "corpus")
    curate(CONFIG, [source], output, 0)
    monkeypatch.setattr(source_code, "write_files", lambda *_, **__: pytest.fail("the files need not be read again"))
    changed = dataclasses.replace(CONFIG, heldout_fraction=0.3)
    manifest = curate(changed, [source], output, 0)
    assert manifest.statistics["split"]["heldout"]["repositories"] > 3


@pytest.mark.parametrize("survives", [0, 1, 3, 7, 12])
def test_killed_anywhere_and_run_again_gives_the_same_bytes(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survives: int
) -> None:
    """A kill leaves some whole files, perhaps half of one under another name, and never a manifest too early."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    curate(CONFIG, [source], str(whole), 0)
    write, written = Path.replace, []

    def killed(self: Path, target: Path) -> Path:
        written.append(target)
        if len(written) > survives:
            raise KeyboardInterrupt
        return write(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # a kill cleans nothing up
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            curate(CONFIG, [source], str(broken), 0)
    assert len(written) > survives
    curate(CONFIG, [source], str(broken), 0)
    assert contents(broken) == contents(whole)


def test_a_full_disk_leaves_nothing_that_counts(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = str(tmp_path / "corpus")
    fsync, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"disk that holds .*corpus is full"):
        curate(CONFIG, [source], output, 0)
    assert not (tmp_path / "corpus" / manifests.MANIFEST).exists()
    assert not [path for path in contents(tmp_path / "corpus") if path.endswith(".unfinished")]
    assert curate(CONFIG, [source], output, 0).statistics["funnel"][-1]["files_out"] > 0


@pytest.mark.parametrize("small", [True, False], ids=["small", "large"])
def test_a_damaged_part_is_made_again_or_named(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    """A small part is compared with its digest before its stage is skipped; a large one betrays itself when read."""
    output = tmp_path / "corpus"
    expected = curate(CONFIG, [source], str(output), 0)
    if not small:
        monkeypatch.setattr(manifests, "_READ_WHOLE", 0)
    (output / manifests.MANIFEST).unlink()
    (output / "stages/signatures" / manifests.MANIFEST).unlink()
    part = next((output / "stages/files/kept").iterdir())
    content = bytearray(part.read_bytes())
    content[len(content) // 3] ^= 0xFF
    part.write_bytes(content)
    if small:
        assert curate(CONFIG, [source], str(output), 0).digest == expected.digest
        return
    with pytest.raises(UserError, match=rf"{part.name} is damaged"):
        curate(CONFIG, [source], str(output), 0)


def test_a_source_without_a_usable_file(plant: Callable[..., str], tmp_path: Path) -> None:
    root = plant("src", {"pkg/data.bin": b"\0\1", "pkg/table.csv": "1,2\n"})
    with pytest.raises(UserError, match=r"no usable file is left of the sources .*nul_byte 1"):
        curate(CONFIG, [root], str(tmp_path / "corpus"), 0)
    assert not (tmp_path / "corpus" / manifests.MANIFEST).exists()


def test_a_single_repository_holds_nothing_out(
    plant: Callable[..., str], program: Callable[..., str], tmp_path: Path
) -> None:
    root = plant("src", {"only/a.py": program(0), "only/b.py": program(1)})
    split = curate(CONFIG, [root], str(tmp_path / "corpus"), 0).statistics["split"]
    assert (split["train"]["files"], split["heldout"]["files"]) == (2, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_lines", 0), ("min_alphabetic", 1.5), ("keep_license_types", ("any",)), ("max_distribution_bytes", -1)],
)
def test_config_refuses_what_makes_no_sense(field: str, value: object) -> None:
    with pytest.raises(UserError, match=f"corpus.{field} is"):
        dataclasses.replace(CONFIG, **{field: value})


def test_a_large_repository_becomes_documents_of_its_name_for_the_feed(
    plant: Callable[..., str], program: Callable[..., str], tmp_path: Path, rows_of: Callable[..., list[dict[str, Any]]]
) -> None:
    """Read as the feed reads: in each row group the rows of one name, in a row, are a document."""
    tree = {f"small{number}/a.py": program(number) for number in range(4)}
    tree |= {f"large/{number:02d}.py": program(100 + number) for number in range(12)}
    config = dataclasses.replace(CONFIG, heldout_fraction=0.2, max_document_bytes=4 * len(program(100)))
    output = str(tmp_path / "corpus")
    manifest = curate(config, [plant("mixed", tree)], output, 0)
    documents = []
    for side in ("train", "heldout"):
        units = Units(output, side, ("repository", "path", "source_bytes"), "repository", "source_file")
        documents += [unit[index] for _, unit in units.readable() for index in range(len(unit))]
    cut = [document for document in documents if document[0]["repository"] == "large"]
    assert len(cut) >= 3
    assert all(sum(row["source_bytes"] for row in document) <= config.max_document_bytes for document in cut)
    assert sorted(row["path"] for document in cut for row in document) == [f"{number:02d}.py" for number in range(12)]
    assert len(documents) - len(cut) == 4
    statistics = corpus_statistics(output, manifest)
    assert statistics["cut"] == {"repositories": 1, "documents": len(cut)}
    split = statistics["split"]
    assert split["train"]["repositories"] + split["heldout"]["repositories"] == 5, "a cut one counts once"
    whole = curate(CONFIG, [str(tmp_path / "mixed")], str(tmp_path / "whole"), 0)
    assert corpus_statistics(str(tmp_path / "whole"), whole)["cut"] == {"repositories": 0, "documents": 0}
