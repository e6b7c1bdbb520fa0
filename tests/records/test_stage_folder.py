"""Nothing in a stage's folder is deleted or written over that is not its own, whatever it is called."""

import contextlib
import json
import logging
import os
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.locks import locked
from sc2jax.records.manifest import MANIFEST, Manifest, commit, manifest_json, read_manifest, write_output
from sc2jax.records.stage import Stage
from sc2jax.records.stage_folder import claimed, delete_unfinished, foreign_files, hidden_files, read_mark


def stage(contents: dict[str, bytes], name: str = "toy", keeps: tuple[str, ...] = (), **config) -> Stage:
    def write(folder: str):
        return [write_output(folder, path, content) for path, content in contents.items()], {}

    return Stage(name, 1, {"config": config}, {}, write, keeps=keeps)


def tree(folder: Path) -> dict[str, bytes | str]:
    """All files and links below a folder but ours."""
    found: dict[str, bytes | str] = {}
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != ".sc2jax"]
        for name in files:
            path = Path(parent, name)
            found[str(path.relative_to(folder))] = str(path.readlink()) if path.is_symlink() else path.read_bytes()
    return found


def test_the_mark_comes_first_and_what_is_under_way_lies_within(tmp_path):
    def write(folder: str):
        (mark,) = tmp_path.glob("run/.sc2jax/mark.json")
        assert json.loads(mark.read_text()) == {"stage": "toy", "id": Path(folder).name}
        assert Path(folder).parent == tmp_path / "run/.sc2jax"
        return [write_output(folder, "out", b"x")], {}

    Stage("toy", 1, {}, {}, write).run(str(tmp_path / "run"))
    assert tree(tmp_path / "run").keys() == {"out", MANIFEST}
    assert not [path for path in (tmp_path / "run/.sc2jax").iterdir() if path.is_dir()]


NAMES = st.sampled_from(
    [
        "part-notes.txt",
        "part-00000.snappy.parquet",
        "part-00000-0123456789abcdef.parquet",
        "notes.unfinished",
        ".part.7.unfinished",
        ".sc2jax.json",
        "config.json",
        "manifest.json.bak",
        "ä b",
        "metrics.jsonl",
    ]
)
PATHS = st.lists(st.sampled_from(["train", "heldout", "mine", "stages"]), max_size=2).flatmap(
    lambda folders: NAMES.map(lambda name: "/".join([*folders, name]))
)


@settings(max_examples=60, deadline=None)
@given(foreign=st.dictionaries(PATHS, st.binary(max_size=3), min_size=1), at=st.integers(0, 3))
def test_any_foreign_files_are_as_they_were(tmp_path_factory, foreign, at):
    """They lie in an unmarked folder, come before the first run, between two, or are around the folder."""
    outside = tmp_path_factory.mktemp("outside")
    folder = outside / "run"
    ours = {"train/part-00000.parquet": b"one", "heldout/x": b"y", "scores.json": b"{}"}
    root = outside if at == 3 else folder
    if at in (1, 2):
        stage(ours, share=1).run(str(folder))
    for path, content in foreign.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    before = {path: content for path, content in tree(root).items() if path in foreign}
    if at == 0:
        with pytest.raises(UserError, match="holds files that are not ours"):
            stage(ours, share=1).run(str(folder))
        assert tree(root) == before
        assert not (folder / ".sc2jax").exists()
        return
    stage(ours | {"train/part-00000.parquet": b"two"}, share=2).run(str(folder))
    del ours["heldout/x"]
    stage(ours, share=3).run(str(folder))
    assert {path: content for path, content in tree(root).items() if path in foreign} == before
    assert tree(folder).keys() - {path for path in foreign if root == folder} == {*ours, MANIFEST}


def test_a_file_where_an_output_has_to_go_is_refused_and_kept(tmp_path):
    stage({"a": b"a"}, share=1).run(str(tmp_path))
    (tmp_path / "b").write_bytes(b"theirs")
    with pytest.raises(UserError, match=r"/b is not ours and lies where an output has to go"):
        stage({"a": b"other", "b": b"ours"}, share=2).run(str(tmp_path))
    assert tree(tmp_path) | {MANIFEST: b""} == {"a": b"a", "b": b"theirs", MANIFEST: b""}
    (tmp_path / "b").write_bytes(b"ours")  # nothing would be lost
    stage({"a": b"other", "b": b"ours"}, share=2).run(str(tmp_path))
    assert tree(tmp_path)["a"] == b"other"


class Killed(BaseException):
    pass


IN_THE_WAY = {
    "a file": lambda at: at.write_text("mine"),
    "a pipe": os.mkfifo,
    "a link to nothing": lambda at: at.symlink_to("nothing"),
    "a link to itself": lambda at: at.symlink_to(at),
    "a link that leaves": lambda at: at.symlink_to("/tmp"),
    "another disk": Path.mkdir,
    "no permission": Path.mkdir,
}


@pytest.mark.parametrize("kind", IN_THE_WAY)
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("at", ["new", "new/er"])
def test_what_lies_where_a_folder_has_to_go_is_found_before_anything_is_moved(tmp_path, monkeypatch, kind, killed, at):
    """Also by whoever ends a commit that was killed before it came there."""
    folder = tmp_path / "run"
    stage({"a": b"1", "b/c": b"1"}, share=1).run(str(folder))
    second = stage({"a": b"2", "b/c": b"2", "new/er/d": b"2"}, share=2)
    if killed:
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr("sc2jax.records.stage_folder._publish", raising(Killed))
            second.run(str(folder))
    (folder / at).parent.mkdir(exist_ok=True)
    IN_THE_WAY[kind](folder / at)
    stat = os.stat
    if kind == "another disk":
        monkeypatch.setattr(Path, "stat", lambda path, **how: stat("/proc" if path == folder / at else path, **how))
    if kind == "no permission":
        monkeypatch.setattr(os, "access", lambda path, how: Path(path) != folder / at or not how & os.W_OK)
    before = entries(folder)
    with pytest.raises(UserError, match=rf"/{at}.* (has to go; move it away|leaves .*/run; nothing of it)"):
        second.run(str(folder))
    assert entries(folder) == before
    assert read_manifest(str(folder)).config["config"]["share"] == 1
    monkeypatch.undo()
    if (folder / at).is_dir() and not (folder / at).is_symlink():
        (folder / at).rmdir()
    else:
        (folder / at).unlink()
    second.run(str(folder))
    assert tree(folder).keys() == {"a", "b/c", "new/er/d", MANIFEST}
    assert (folder / "a").read_bytes() == b"2"


def test_what_an_earlier_run_wrote_is_not_deleted_over_a_link(tmp_path, monkeypatch):
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    stage({"a": b"1", "old/e": b"1"}, share=1).run(str(folder))
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr("sc2jax.records.stage_folder._publish", raising(Killed))
        stage({"a": b"2"}, share=2).run(str(folder))
    (folder / "old").rename(elsewhere)
    (folder / "old").symlink_to(elsewhere)
    with pytest.raises(UserError, match="is a link that leaves"):
        stage({"a": b"2"}, share=2).run(str(folder))
    assert tree(elsewhere) == {"e": b"1"}
    assert (folder / "a").read_bytes() == b"1"


def entries(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """What lies below a folder but ours: which it is, of which kind, and when it was changed last."""
    found = {path: os.lstat(path) for path in folder.rglob("*") if ".sc2jax" not in path.parts}
    return {path: (state.st_ino, state.st_mode, state.st_mtime_ns) for path, state in found.items()}


def raising(error: type[BaseException]):
    def fail(*_):
        raise error

    return fail


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a link to nothing", "a link that leaves", "a link within"])
@pytest.mark.parametrize("listed", [False, True])
def test_what_is_no_file_where_an_output_has_to_go_is_refused_and_kept(tmp_path, kind, listed):
    folder = tmp_path / "run"
    first = {"a": b"1", "z": b"1"} | ({"b": b"1"} if listed else {})
    stage(first, share=1).run(str(folder))
    (folder / "b").unlink(missing_ok=True)
    make = {**IN_THE_WAY, "a folder": Path.mkdir, "a link within": lambda at: at.symlink_to("z")}[kind]
    make(folder / "b")
    with pytest.raises(UserError, match=r"run/b (is not ours and lies where|is a link that leaves)"):
        stage({"a": b"2", "b": b"1"}, share=2).run(str(folder))
    assert (folder / "a").read_bytes() == b"1"
    assert json.loads((folder / MANIFEST).read_text())["config"]["config"] == {"share": 1}
    assert os.path.lexists(folder / "b")
    assert not (folder / "b").is_file() or (folder / "b").is_symlink()


def test_a_dataset_of_its_own_stays_and_is_named_once(tmp_path, caplog):
    contents = {"train/a": b"a"}
    stage(contents, keeps=("stages",), share=1).run(str(tmp_path))
    commit(
        str(tmp_path / "issues"), Manifest("other", {}, {}, (write_output(str(tmp_path / "issues"), "p", b"x"),), {})
    )
    stage(contents, share=1).run(str(tmp_path / "nested"))
    stage(contents, share=1).run(str(tmp_path / "stages/files"))
    (tmp_path / "issues/deep").mkdir()
    (tmp_path / "issues/deep/notes").write_text("x")
    for name in ("1", "2", "3"):
        (tmp_path / "train" / name).write_text("x")
    before = tree(tmp_path)
    with caplog.at_level(logging.WARNING, "sc2jax"):
        for _ in range(2):
            stage(contents, keeps=("stages",), share=2).run(str(tmp_path))
    (record,) = caplog.records
    assert record.getMessage().endswith("not ours; they stay as they are: issues/, nested/, train/1 and 2 more")
    assert tree(tmp_path) == before | {MANIFEST: (tmp_path / MANIFEST).read_bytes()}
    assert foreign_files(str(tmp_path), read_manifest(str(tmp_path)))[-1] == "train/3"


def test_the_folder_of_another_stage_is_refused_before_any_work(tmp_path):
    stage({"a": b"a"}).run(str(tmp_path))
    for copied in (True, False):
        if not copied:
            shutil.rmtree(tmp_path / ".sc2jax")  # copied without the hidden folder: the manifest says whose it is
        with pytest.raises(UserError, match="holds what `toy` wrote"), claimed(str(tmp_path), "other"):
            pytest.fail("claimed")
    assert stage({"a": b"b"}, share=2).run(str(tmp_path)).config == {"config": {"share": 2}}
    assert read_mark(str(tmp_path)) is not None


@pytest.mark.parametrize("mark", [b"", b"null", b'{"stage": "toy"}', b'{"stage": "toy", "id": "../../x"}'])
def test_a_damaged_mark_is_refused(tmp_path, mark):
    (tmp_path / ".sc2jax").mkdir()
    (tmp_path / ".sc2jax/mark.json").write_bytes(mark)
    with pytest.raises(UserError, match=r"mark\.json is damaged.*delete"):
        stage({"a": b"a"}).run(str(tmp_path))


def test_a_failure_leaves_nothing_where_nothing_was(tmp_path):
    def fail(folder: str):
        write_output(folder, "deep/a", b"x")
        raise UserError("no")

    (tmp_path / "there").mkdir()
    for folder in ("there", "new/er"):
        with pytest.raises(UserError, match=r"^no$"):
            Stage("toy", 1, {}, {}, fail).run(str(tmp_path / folder))
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


@pytest.mark.parametrize("after", range(13))
def test_a_commit_that_was_killed_is_finished_by_the_next_run(tmp_path, monkeypatch, after):
    """Killed at each of its moves: the next run, of whatever config, finds one of the two states, never a mixture."""
    first = {"a": b"1", "b": b"1", "c": b"1", "old/e": b"1"}
    second = {"a": b"2", "b": b"2", "d": b"2"}
    stage(first, share=1).run(str(tmp_path))
    with monkeypatch.context() as patched:
        moved, replace, delete = [], Path.replace, storage.delete_file

        def moves(path: str | Path) -> None:
            if len(moved) == after:
                raise Killed
            moved.append(path)

        def move(self: Path, target: Path) -> Path:
            moves(target)
            return replace(self, target)

        def remove(path: str) -> None:
            moves(path)
            delete(path)

        patched.setattr("pathlib.Path.replace", move)
        patched.setattr("sc2jax.storage.delete_file", remove)
        patched.setattr("shutil.rmtree", lambda *_: None)  # a process that is killed cleans nothing up
        try:
            stage(second, share=2).run(str(tmp_path))
        except Killed:
            pass
        else:
            # Three outputs, the earlier manifest and the new one are written, three moved; the last is written and
            # moved, and two files are deleted.
            assert after == 12
    assert read_manifest(str(tmp_path)).config["config"]["share"] in (1, 2)
    stage(second, share=2).run(str(tmp_path))
    assert tree(tmp_path) == second | {MANIFEST: (tmp_path / MANIFEST).read_bytes()}
    assert not (tmp_path / "old").exists()


def test_what_a_killed_run_left_is_deleted(tmp_path):
    stage({"a": b"1"}).run(str(tmp_path))
    mark = read_mark(str(tmp_path))
    assert mark is not None
    left = tmp_path / ".sc2jax" / mark.id
    (left / "train").mkdir(parents=True)
    (left / "train/part").write_text("half")
    stage({"a": b"2"}, share=2).run(str(tmp_path))
    assert not left.exists()


def test_an_interrupted_commit_of_a_damaged_manifest_is_refused(tmp_path):
    stage({"a": b"1"}).run(str(tmp_path))
    mark = read_mark(str(tmp_path))
    assert mark is not None
    content = manifest_json(Manifest("toy", {}, {}, (), {}))
    write_output(str(tmp_path), f".sc2jax/{mark.id}/{MANIFEST}", content.replace(b"toy", b"tox"))
    with pytest.raises(UserError, match=r"manifest\.json is not what its stage wrote"):
        stage({"a": b"2"}, share=2).run(str(tmp_path))


def test_in_an_object_store_all_lies_in_its_place(tmp_path):
    folder = f"memory://stages/{random.Random(0).random()}"
    stage({"train/a": b"1", "b": b"1"}, share=1).run(folder)
    stage({"train/a": b"2"}, share=2).run(folder)
    assert foreign_files(folder, read_manifest(folder)) == []
    assert [output.path for output in read_manifest(folder).outputs] == ["train/a"]
    with pytest.raises(UserError, match="holds what `toy` wrote"):
        stage({}, name="other").run(folder)


@pytest.mark.parametrize("name", [".sc2jax/notes.txt", "manifest.json"])
def test_what_only_looks_like_ours_is_refused_and_kept(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"name": "my web app"}')
    with pytest.raises(UserError, match=rf"holds files that are not ours \({name}\).*name an empty or a new folder"):
        stage({"a": b"a"}).run(str(tmp_path))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [Path(name).name]


@pytest.mark.parametrize("content", [b"my notes", b'{"host": "mine"}', b"null", b"\0"])
def test_a_lock_that_is_not_ours_is_refused_and_kept(tmp_path, content):
    (tmp_path / ".sc2jax").mkdir()
    (tmp_path / ".sc2jax/lock").write_bytes(content)
    with pytest.raises(UserError, match=r"holds files that are not ours \(.sc2jax/lock\)"):
        stage({"a": b"a"}).run(str(tmp_path))
    assert [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()] == [content]


@pytest.mark.parametrize("place", ["os.ftruncate", "os.fsync", "os.pwrite", "pathlib.Path.replace"])
def test_a_run_that_was_killed_before_its_mark_has_a_name_leaves_nothing(tmp_path, monkeypatch, place):
    """Neither the lock, whole or empty, nor what was written of the mark, is in the way of the next run, or stays."""
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(place, raising(Killed))
        patched.setattr(Path, "unlink", lambda *_, **__: None)  # a process that is killed cleans nothing up
        patched.setattr(storage, "delete_file", lambda *_: None)
        stage({"a": b"a"}).run(str(tmp_path))
    assert list((tmp_path / ".sc2jax").iterdir())
    assert hidden_files(str(tmp_path))[1] == []
    stage({"a": b"a"}).run(str(tmp_path))
    assert sorted(path.name for path in (tmp_path / ".sc2jax").iterdir()) == ["lock", "mark.json"]


def test_only_a_mark_without_its_name_is_taken_for_one(tmp_path):
    stage({"a": b"a"}).run(str(tmp_path))
    hidden = tmp_path / ".sc2jax"
    for name, content in {".0123456789abcdef.unfinished": "mine", ".01.unfinished": "", "notes": '{"id": "'}.items():
        (hidden / name).write_text(content)
    (hidden / ".1123456789abcdef.unfinished").symlink_to("mark.json")
    for name, content in {".2123456789abcdef.unfinished": '{"id', ".3123456789abcdef.unfinished": '{"id": "01'}.items():
        (hidden / name).write_text(content)
    unfinished, foreign = hidden_files(str(tmp_path))
    assert unfinished == [".sc2jax/.2123456789abcdef.unfinished", ".sc2jax/.3123456789abcdef.unfinished"]
    stage({"a": b"b"}, share=2).run(str(tmp_path))
    assert hidden_files(str(tmp_path)) == ([], foreign)
    assert [name.removeprefix(".sc2jax/") for name in foreign] == [
        *(".01.unfinished", ".0123456789abcdef.unfinished", ".1123456789abcdef.unfinished", "notes")
    ]


@pytest.mark.parametrize("name", [MANIFEST, ".sc2jax", ".sc2jax/mark.json", ".sc2jax/lock"])
def test_nothing_of_ours_is_read_or_written_over_a_link_that_leaves(tmp_path, name):
    for folder in ("run", "other"):
        stage({"a": b"a"}).run(str(tmp_path / folder))
    mark = read_mark(str(tmp_path / "other"))
    assert mark is not None
    (tmp_path / "run" / name).rename(tmp_path / "moved")
    (tmp_path / "run" / name).symlink_to(tmp_path / "other" / name)
    before = tree(tmp_path / "other"), entries(tmp_path / "other/.sc2jax")
    for again in (stage({"a": b"a"}), stage({"a": b"a"}, share=2)):
        with pytest.raises(UserError, match=rf"run/{name}.* is a link that leaves .*/run"):
            again.run(str(tmp_path / "run"))
    assert (tree(tmp_path / "other"), entries(tmp_path / "other/.sc2jax")) == before


def test_work_in_progress_is_not_sought_over_a_link(tmp_path):
    stage({"a": b"a"}).run(str(tmp_path / "run"))
    mark = read_mark(str(tmp_path / "run"))
    assert mark is not None
    commit(str(tmp_path / "mine"), Manifest("toy", {}, {}, (), {}))
    (tmp_path / "run/.sc2jax" / mark.id).symlink_to(tmp_path / "mine")
    with pytest.raises(UserError, match=rf"{mark.id} is a link that leaves"):
        stage({"a": b"b"}, share=2).run(str(tmp_path / "run"))
    assert (tmp_path / "mine" / MANIFEST).exists()


@pytest.mark.parametrize("busy", [False, True])
def test_what_another_run_left_goes_when_the_folder_is_found_complete(tmp_path, busy):
    """Unless it is at work still."""
    stage({"a": b"1"}, share=1).run(str(tmp_path))
    mark = read_mark(str(tmp_path))
    assert mark is not None
    left = tmp_path / ".sc2jax" / mark.id / "train/part"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    assert hidden_files(str(tmp_path)) == ([f".sc2jax/{mark.id}/train/part"], [])
    held = locked(f"{tmp_path}/.sc2jax/lock", "it") if busy else contextlib.nullcontext()
    with held:
        assert stage({"a": b"1"}, share=1).done(str(tmp_path)) is not None
    assert left.exists() == busy
    assert left.parent.parent.exists() == busy


def test_a_half_committed_folder_is_no_complete_one(tmp_path, monkeypatch):
    stage({"a": b"1"}, share=1).run(str(tmp_path))
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr("sc2jax.records.stage_folder._publish", raising(Killed))
        stage({"a": b"2"}, share=2).run(str(tmp_path))
    assert stage({"a": b"1"}, share=1).done(str(tmp_path)) is None
    before = entries(tmp_path / ".sc2jax"), hidden_files(str(tmp_path))
    delete_unfinished(str(tmp_path))
    assert (entries(tmp_path / ".sc2jax"), hidden_files(str(tmp_path))) == before
    stage({"a": b"2"}, share=2).run(str(tmp_path))
    assert (tmp_path / "a").read_bytes() == b"2"


def test_what_cannot_be_written_in_stays_as_it_is(tmp_path, monkeypatch):
    stage({"a": b"1"}).run(str(tmp_path))
    mark = read_mark(str(tmp_path))
    assert mark is not None
    (tmp_path / ".sc2jax" / mark.id).mkdir()
    monkeypatch.setattr("sc2jax.records.stage_folder.locked", raising(PermissionError))
    assert stage({"a": b"1"}).done(str(tmp_path)) is not None
