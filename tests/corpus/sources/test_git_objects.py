"""Reading objects through git: what it is asked, what it says, and what it is not shown."""

import os
import shutil
from pathlib import Path

import pytest
from git_repositories import make_repository, put_object, run_git

from sc2jax.corpus.sources import git_objects
from sc2jax.corpus.sources.contents import git_location, read_contents
from sc2jax.corpus.sources.git_objects import GitObjects, ObjectStore, close_stores
from sc2jax.corpus.sources.left_out import SourceError
from sc2jax.errors import UserError


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    (tmp_path / "src/tree").mkdir(parents=True)
    (tmp_path / "src/tree/a.py").write_text("one")
    make_repository(str(tmp_path / "src/tree"))
    return ObjectStore(str(tmp_path / "src/tree/.git/objects"), str(tmp_path / "src"), "sha1")


def put_many(store: ObjectStore, count: int, size: int = 10) -> dict[str, bytes]:
    contents = [b"%d" % number * size for number in range(count)]
    return {put_object(Path(store.folder).parent, "blob", content): content for content in contents}


def reasons(found: list[bytes | SourceError]) -> list[str]:
    return [each.reason if isinstance(each, SourceError) else "" for each in found]


def test_more_objects_than_are_asked_at_once(store: ObjectStore) -> None:
    expected = put_many(store, 1_300)
    objects = GitObjects(store)
    assert list(objects.read(list(expected), 1000)) == list(expected.values())
    assert list(objects.sizes(list(expected))) == [("blob", len(content)) for content in expected.values()]
    assert list(objects.read([], 1000)) == []
    objects.close()


def test_what_is_too_large_or_not_there_does_not_disturb_the_others(store: ObjectStore) -> None:
    small, large = list(put_many(store, 5)), put_object(Path(store.folder).parent, "blob", b"x" * 100_000)
    asked = [small[0], large, small[1], "1" * 40, small[2], large, small[3]]
    objects = GitObjects(store)
    assert reasons(list(objects.read(asked, 1000))) == [
        "", "unreadable_file", "", "missing_object", "", "unreadable_file", "",
    ]  # fmt: skip
    assert reasons(list(objects.read([large], 100_000))) == [""]
    assert reasons(list(objects.read([large], 99_999))) == ["unreadable_file"]
    objects.close()


def test_who_stops_reading_leaves_nothing_to_the_next(store: ObjectStore) -> None:
    expected = put_many(store, 20)
    objects = GitObjects(store)
    reading = objects.read(list(expected), 1000)
    next(reading)
    reading.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert list(objects.read(list(expected), 1000)) == list(expected.values())
    prefix = git_location(store)
    locations = [prefix + name.encode() for name in expected]
    reading = read_contents(locations, 1000)
    next(reading)
    reading.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert list(read_contents(locations, 1000)) == list(expected.values())
    objects.close()
    close_stores()


def test_git_that_ends_is_begun_again_so_many_times(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = put_many(store, 6)
    objects = GitObjects(store)
    found: list[bytes | SourceError] = []
    for content in objects.read(list(expected), 1000):
        found.append(content)
        if len(found) in (2, 4):
            objects._processes["--batch"].kill()
            objects._processes["--batch"].wait()
    assert {each for each in found if isinstance(each, bytes)} <= set(expected.values())
    assert len(found) == 6
    monkeypatch.setattr(git_objects, "_MOST_DEATHS", 0)
    assert reasons(list(objects.read(list(expected), 1000))) == ["damaged_object"] * 6
    objects.close()


@pytest.mark.parametrize("what", ["an object", "a folder of objects", "all objects", "a pack", "alternates"])
def test_nothing_outside_of_the_bound_is_shown_to_git(store: ObjectStore, tmp_path: Path, what: str) -> None:
    """Even where what lies there is sound."""
    folder, outside = Path(store.folder), tmp_path / "outside"
    if what == "a pack":
        run_git(folder.parent.parent, "gc", "-q", "--prune=now")
    shutil.copytree(folder, outside)
    if what == "all objects":
        moved = folder
    elif what == "a pack":
        moved = next((folder / "pack").glob("*.pack"))
    elif what == "alternates":
        moved = folder / "info/alternates"
        moved.parent.mkdir(exist_ok=True)
        moved.write_text(f"{outside}\n")
        (outside / "info/alternates").parent.mkdir(exist_ok=True)
        (outside / "info/alternates").write_text("")
    else:
        moved = next(folder.glob("[0-9a-f][0-9a-f]"))
        moved = next(moved.iterdir()) if what == "an object" else moved
    if what != "alternates":
        shutil.rmtree(moved) if moved.is_dir() else moved.unlink()
        moved.symlink_to(outside / moved.relative_to(folder))
    with pytest.raises(SourceError) as raised:
        GitObjects(store)
    assert raised.value.reason == "git_elsewhere"
    GitObjects(ObjectStore(store.folder, str(tmp_path), "sha1")).close()


def test_no_setting_of_the_user_or_the_repository_counts(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, content = next(iter(put_many(store, 1).items()))
    (tmp_path / "home").mkdir()
    for config in (tmp_path / "home/.gitconfig", Path(store.folder).parent / "config"):
        config.write_text("nonsense [\n")
    for variable in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "nonsense")
    objects = GitObjects(store)
    assert list(objects.read([name], 100)) == [content]
    objects.close()


def test_without_git_it_is_said(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    git_objects.git_program.cache_clear()
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(UserError, match="git is not installed; install it"):
        list(GitObjects(store).read(["1" * 40], 1))
    monkeypatch.undo()
    git_objects.git_program.cache_clear()
