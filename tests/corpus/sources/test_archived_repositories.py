"""Repositories of git as an export of Software Heritage holds them, beside the repositories themselves."""

import gzip
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from git_repositories import FILE, FOLDER, check_out, put_object, put_tree, run_git
from heritage_exports import (
    Tables,
    add_git,
    no_tables,
    write_export,
)
from source_listings import LIMIT
from swh.model.model import Content, Directory

from sc2jax.corpus.config import CorpusConfig
from sc2jax.corpus.heritage import Archive, open_archived
from sc2jax.corpus.recipes.source_code import curate
from sc2jax.corpus.sources.contents import read_contents
from sc2jax.corpus.sources.git_trees import git_repository
from sc2jax.corpus.sources.left_out import LeftOut
from sc2jax.corpus.sources.walk import FoundRepository
from sc2jax.errors import UserError

LICENSE = Path(__file__).parents[3] / "LICENSE"
GITHUB = "https://github.com/"


def found_in(source: str, archive: Archive, work: Path, left_out: LeftOut) -> list[FoundRepository]:
    opened = open_archived(source, left_out, archive, str(work))
    assert opened is not None
    with opened as repositories:
        return sorted(repositories, key=lambda repository: repository.name)


def make_trees(root: Path, program: Callable[..., str]) -> list[str]:
    """Repositories below a folder, in the names of their owners, with what is hard about trees."""
    files = {
        "ada/one": {
            "a.py": program(1),
            "src/deep/er/b.py": program(2),
            "LICENSE": LICENSE.read_text(),
            "copy.py": program(1),
        },
        "ada/two": {"a.py": program(3), "README.md": "Two.\n" * 30, "src/data.csv": "a,b\n"},
        "bob/one": {"a.py": program(4), "docs/LICENSE.txt": LICENSE.read_text(), "docs/c.py": program(5)},
    }
    files |= {f"eve/{number}": {"a.py": program(10 + number)} for number in range(4)}
    for name, tree in files.items():
        for path, text in tree.items():
            (root / name / path).parent.mkdir(parents=True, exist_ok=True)
            (root / name / path).write_text(text)
    odd = os.fsdecode(b"gr\xfc\xdfe.py")
    (root / "ada/one" / odd).write_text(program(6))
    (root / "ada/one/gr\\xfc\\xdfe.py").write_text(program(7))
    (root / "ada/two/LICENSE").symlink_to("src/../README.md")
    (root / "ada/two/COPYING").symlink_to("/etc/passwd")
    for name in files:
        folder = root / name
        run_git(folder, "init", "-q", "-b", "main")
        run_git(folder, "remote", "add", "origin", GITHUB + name)
        run_git(folder, "add", "-A")
        if name == "bob/one":
            run_git(folder, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},LICENSES")
        run_git(folder, "commit", "-q", "-m", "first")
    return list(files)


@pytest.fixture
def trees(tmp_path: Path, program: Callable[..., str]) -> tuple[Path, list[str], Archive, str]:
    """The folder of repositories, their names, and the same as an archive and an export."""
    names = make_trees(tmp_path / "trees", program)
    tables = no_tables()
    for name in names:
        add_git(tables, tmp_path / "store", str(tmp_path / "trees" / name), GITHUB + name)
    export = write_export(tmp_path / "export", tables)
    return tmp_path / "trees", names, Archive(str(tmp_path / "store")), export


def listed_by_git(folder: Path) -> dict[str, str]:
    """The files of the commit that is checked out, and the identifiers of their contents."""
    out = subprocess.run(["git", "-C", folder, "ls-tree", "-r", "-z", "HEAD"], check=True, capture_output=True).stdout
    found = {}
    for line in out.split(b"\0")[:-1]:
        about, _, path = line.partition(b"\t")
        mode, _, name = about.split()
        if mode.startswith(b"100"):
            marked = path.replace(b"\\x", b"\\x5cx") if path.isascii() else path
            found[marked.decode("utf-8", "backslashreplace")] = f"swh:1:cnt:{name.decode()}"
    return found


def test_files_are_those_of_git_ls_tree(trees: Any, tmp_path: Path) -> None:
    root, names, archive, export = trees
    left_out = LeftOut()
    found = found_in(export, archive, tmp_path / "work", left_out)
    assert [repository.name for repository in found] == names
    for repository in found:
        expected = listed_by_git(root / repository.name)
        assert {file.path: file.swhid for file in repository.files} == expected
        contents = read_contents([file.location for file in repository.files], LIMIT)
        assert all(isinstance(content, bytes) for content in contents)
        commit = run_git(root / repository.name, "rev-parse", "HEAD")
        assert repository.revision == f"swh:1:rev:{commit}"
        assert repository.origin.directory == f"swh:1:dir:{run_git(root / repository.name, 'rev-parse', 'HEAD^{tree}')}"
    counts = {reason: share["count"] for reason, share in left_out.statistics.items()}
    assert counts == {"link": 2, "submodule": 1}


def test_a_repository_is_what_it_is_as_a_clone(trees: Any, tmp_path: Path) -> None:
    root, _, archive, export = trees
    for repository in found_in(export, archive, tmp_path / "work", LeftOut()):
        clone = git_repository(str(root), str(root / repository.name), repository.name, LeftOut())
        assert clone.revision == repository.revision
        for key in ("url", "branch", "directory", "revision_date", "committer_date"):
            assert getattr(clone.origin, key) == getattr(repository.origin, key)
        plain = {file.path: (file.size, file.swhid) for file in repository.files}
        assert {file.path: (file.size, file.swhid) for file in clone.files} == plain
        assert names_of(clone) == names_of(repository)


def names_of(repository: FoundRepository) -> list[tuple[str, str | None]]:
    return sorted((path, file and file.path) for path, file in repository.missing)


def test_identifiers_are_those_of_software_heritage(trees: Any, tmp_path: Path) -> None:
    """The made export itself is checked, by the archive's own package."""
    root, names, archive, _ = trees
    tables = no_tables()
    for name in names:
        add_git(tables, tmp_path / "again", str(root / name), GITHUB + name)
    for row in tables["content"]:
        content = Content.from_data(_content(archive, row["sha1"]))
        assert (content.sha1.hex(), content.sha1_git.hex(), content.length) == (
            row["sha1"],
            row["sha1_git"],
            row["length"],
        )
        assert content.sha256.hex() == row["sha256"]
        assert content.blake2s256.hex() == row["blake2s256"]
    folders: dict[str, list[dict[str, Any]]] = {}
    for row in tables["directory_entry"]:
        target = bytes.fromhex(row["target"])
        entry = {"name": row["name"], "type": row["type"], "target": target, "perms": row["perms"]}
        folders.setdefault(row["directory_id"], []).append(entry)
    assert len(folders) >= 8
    for identifier, entries in folders.items():
        assert Directory.from_dict({"entries": entries}).id.hex() == identifier


def _content(archive: Archive, sha1: str) -> bytes:
    return gzip.decompress(Path(archive.contents, "content", sha1).read_bytes())


def test_the_corpus_is_that_of_the_repositories_themselves(
    trees: Any, tmp_path: Path, rows_of: Callable[..., list[dict[str, Any]]]
) -> None:
    root, _, archive, export = trees
    config = CorpusConfig(heritage_contents=archive.contents, max_failed_share=0.0, heldout_fraction=0.6)
    outputs = [str(tmp_path / "of_trees"), str(tmp_path / "of_export")]
    manifests = [
        curate(config, [source], output, 3) for source, output in zip([str(root), export], outputs, strict=True)
    ]
    for side in ("train", "heldout", "rejects"):
        clones, archived = (rows_of(output, found, side) for output, found in zip(outputs, manifests, strict=True))
        assert [*map(without_source, by_name(clones))] == [*map(without_source, by_name(archived))]
        assert clones
    lists = [rows_of(output, found, "repositories") for output, found in zip(outputs, manifests, strict=True)]
    assert lists[0]
    assert [without_source(row) for row in by_name(lists[0])] == [without_source(row) for row in by_name(lists[1])]


def by_name(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["repository"], row.get("path", "")))


def without_source(row: dict[str, Any]) -> dict[str, Any]:
    """Without what an archive alone knows."""
    return {key: value for key, value in row.items() if key not in ("source", "snapshot", "visit_date")}


def test_too_many_failed_contents_end_the_run(trees: Any, tmp_path: Path) -> None:
    _, _, archive, export = trees
    objects = sorted(Path(archive.contents, "content").iterdir())
    programs = [path for path in objects if b" = " in _content(archive, path.name)]
    programs[0].unlink()
    programs[1].write_bytes(b"no gzip")
    output = tmp_path / "corpus"
    config = CorpusConfig(heritage_contents=archive.contents, max_failed_share=0.1)
    with pytest.raises(
        UserError, match=r"of \d\d contents of Software Heritage failed .*corpus\.max_failed_share \(10"
    ):
        curate(config, [export], str(output), 0)
    assert not (output / "manifest.json").exists()
    config = CorpusConfig(heritage_contents=archive.contents, max_failed_share=0.5)
    left_out = curate(config, [export], str(output), 0).statistics["left_out"]
    assert {"absent_content", "damaged_content"} <= left_out.keys()


def test_folders_in_folders_without_end(tmp_path: Path) -> None:
    """Seventy levels, as a clone has them."""
    folder, git = tmp_path / "deep", tmp_path / "deep/.git"
    folder.mkdir()
    run_git(folder, "init", "-q", "-b", "main")
    blob = put_object(git, "blob", b"x")
    tree = put_tree(git, [(b"f.py", FILE, blob)])
    for _ in range(70):
        tree = put_tree(git, [(b"d", FOLDER, tree), (b"f.py", FILE, blob)])
    check_out(git, tree)
    tables = no_tables()
    add_git(tables, tmp_path / "store", str(folder), f"{GITHUB}a/deep")
    lefts = [LeftOut(), LeftOut()]
    (archived,) = found_in(
        write_export(tmp_path / "e", tables), Archive(str(tmp_path / "store")), tmp_path / "w", lefts[0]
    )
    clone = git_repository(str(tmp_path), str(folder), "deep", lefts[1])
    assert len(archived.files) == 64
    assert sorted(file.path for file in archived.files) == sorted(file.path for file in clone.files)
    assert lefts[0].statistics["too_deep"]["count"] == lefts[1].statistics["too_deep"]["count"] == 1


def test_a_repository_whose_root_is_lost_and_one_without_files(tmp_path: Path) -> None:
    tables: Tables = no_tables()
    empty = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
    for number, root in enumerate(["0" * 39 + "1", empty]):
        name, revision, snapshot = f"a/r{number}", f"{number + 7:040x}", f"{number + 9:040x}"
        visit = {"origin": GITHUB + name, "visit": 1, "date": 0, "status": "full", "snapshot": snapshot}
        tables["origin_visit_status"].append(visit)
        branch = {"snapshot_id": snapshot, "name": b"HEAD", "target": revision, "target_type": "revision"}
        tables["snapshot_branch"].append(branch)
        tables["revision"].append({"id": revision, "type": "git", "directory": root, "date": None})
    left_out = LeftOut()
    lost, without = found_in(write_export(tmp_path / "e", tables), Archive("store"), tmp_path / "w", left_out)
    assert lost.fault is not None
    assert lost.fault.reason == "lost_folder"
    assert (without.fault, without.files) == (None, [])
    assert {reason: share["count"] for reason, share in left_out.statistics.items()} == {"lost_folder": 1}


def test_an_output_within_an_export_and_folders_that_are_hard_to_look_into(trees: Any, tmp_path: Path) -> None:
    _, _, archive, export = trees
    config = CorpusConfig(heritage_contents=archive.contents)
    with pytest.raises(UserError, match="would lie inside the source"):
        curate(config, [export], f"{export}/corpus", 0)
    folder = tmp_path / "a::b"
    folder.mkdir()
    os.mkfifo(folder / "a.parquet")
    for source in (folder, tmp_path / "nowhere"):
        assert open_archived(str(source), LeftOut(), archive) is None
    with pytest.raises(UserError, match="cannot be reached"):
        open_archived("nosuchkind://bucket", LeftOut(), archive)
