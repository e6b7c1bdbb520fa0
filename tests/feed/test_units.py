"""Units of reading: found by the manifest alone, checked when they are read."""

import dataclasses
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from feed_corpora import Repositories, split_units, write_corpus

from sc2jax.errors import UserError
from sc2jax.feed.units import Units
from sc2jax.records.manifest import commit, read_manifest

COLUMNS = ("repository", "path", "content")


def open_units(folder: str, *, skip_damaged: bool = False) -> Units:
    return Units(folder, "train", COLUMNS, "repository", skip_damaged=skip_damaged)


def test_units_are_the_row_groups_of_all_parts_in_order(repositories: Repositories, tmp_path: Path) -> None:
    groups = split_units(repositories, 3)
    units = open_units(write_corpus(tmp_path, [groups[:1], groups[1:6], [{}], groups[6:]]))
    assert len(units) == len(groups)
    for index, group in enumerate(groups):
        unit = units[index]
        rows = [
            [(row["repository"], row["path"], row["content"]) for row in unit[document]]
            for document in range(len(unit))
        ]
        assert rows == [[(repository, *file) for file in files] for repository, files in group.items()]
    names = [units.name(index).rpartition("/")[2] for index in range(len(units))]
    assert [name[:10] for name in names] == ["part-00000"] + ["part-00001"] * 5 + ["part-00003"] * 2
    assert [name.rpartition("#")[2] for name in names] == ["0", "0", "1", "2", "3", "4", "0", "1"]


def test_the_manifest_knows_the_row_groups_of_a_part(repositories: Repositories, tmp_path: Path) -> None:
    folder = write_corpus(tmp_path, [split_units(repositories, 4)])
    (part,) = read_manifest(folder).outputs
    assert part.row_groups == pq.read_metadata(tmp_path / part.path).num_row_groups == 6


def test_the_size_of_a_unit_is_its_part_of_its_file(repositories: Repositories, tmp_path: Path) -> None:
    groups = split_units(repositories, 3)
    units = open_units(write_corpus(tmp_path, [groups[:1], groups[1:6], groups[6:]]))
    parts = [path.stat().st_size for path in sorted((tmp_path / "train").glob("*.parquet"))]
    assert units.sizes == [parts[0], *[parts[1] / 5] * 5, *[parts[2] / 2] * 2]


def test_an_empty_split_is_named(tmp_path: Path) -> None:
    units = open_units(write_corpus(tmp_path, []))
    assert len(units) == 0
    assert units.sizes == []
    with pytest.raises(UserError, match=f"the corpus {tmp_path} has no files in its split 'train'; curate more"):
        units.require("train")


def test_no_part_is_opened_before_it_is_read(repositories: Repositories, tmp_path: Path) -> None:
    folder = write_corpus(tmp_path, [[group] for group in split_units(repositories, 6)])
    for part in (tmp_path / "train").glob("*.parquet"):
        part.write_bytes(bytes(part.stat().st_size))
    units = open_units(folder)
    assert len(units) == 4
    for index in range(4):
        with pytest.raises(UserError, match=r"part-0000\d-.* is damaged"):
            units[index]


@pytest.mark.parametrize("size", [None, 10])
def test_missing_and_shortened_parts_are_found_at_the_start_or_when_read(
    repositories: Repositories, tmp_path: Path, size: int | None
) -> None:
    folder = write_corpus(tmp_path, [[group] for group in split_units(repositories, 6)])
    part = sorted((tmp_path / "train").glob("*.parquet"))[2]
    if size is None:
        part.unlink()
    else:
        part.write_bytes(part.read_bytes()[:size])
    message = f"{part} is " + ("missing" if size is None else "damaged: it has 10 bytes instead of")
    with pytest.raises(UserError, match=message):
        open_units(folder)
    units = open_units(folder, skip_damaged=True)
    assert len(units) == 4
    with pytest.raises(UserError, match=message):
        units[2]
    assert len(units[3])


def test_parts_of_which_the_manifest_does_not_know_enough_are_refused(
    repositories: Repositories, tmp_path: Path
) -> None:
    folder = write_corpus(tmp_path, [split_units(repositories, 6)])
    manifest = read_manifest(folder)
    older = tuple(dataclasses.replace(output, row_groups=0) for output in manifest.outputs)
    commit(folder, dataclasses.replace(manifest, outputs=older))
    with pytest.raises(UserError, match="written by an earlier version; run the stage that wrote it again"):
        open_units(folder)
