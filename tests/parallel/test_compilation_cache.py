"""Where compiled programs are kept, and where they are not."""

import os
import stat
from pathlib import Path

import jax
import pytest

from sc2jax.errors import UserError
from sc2jax.parallel.compilation_cache import default_folder, private_folder, use_compilation_cache


@pytest.fixture(autouse=True)
def as_before():
    """The folder that the tests themselves use."""
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def on_a_tpu(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")


def environment(folder: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(folder)}


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"HOME": "/me"}, "/me/.cache/sc2jax/compilations"),
        ({"HOME": "/me", "XDG_CACHE_HOME": ""}, "/me/.cache/sc2jax/compilations"),
        ({"HOME": "/me", "XDG_CACHE_HOME": "relative"}, "/me/.cache/sc2jax/compilations"),
        ({"HOME": "/me", "XDG_CACHE_HOME": "/fast"}, "/fast/sc2jax/compilations"),
    ],
)
def test_the_folder_is_the_users_own(variables, folder):
    assert default_folder(variables) == folder


def test_cpus_keep_nothing(tmp_path):
    assert use_compilation_cache(str(tmp_path / "cache"), environment(tmp_path)) == ""
    assert jax.config.values["jax_compilation_cache_dir"] is None and not list(tmp_path.iterdir())


def test_other_devices_keep_it_in_a_folder_that_is_made(on_a_tpu, tmp_path):
    folder = use_compilation_cache("", environment(tmp_path / "not" / "yet"))
    assert folder == jax.config.values["jax_compilation_cache_dir"] == f"{tmp_path}/not/yet/sc2jax/compilations"
    assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
    assert (
        use_compilation_cache(f"{tmp_path}/mine")
        == f"{tmp_path}/mine"
        == jax.config.values["jax_compilation_cache_dir"]
    )


def test_off_is_off(on_a_tpu, tmp_path):
    assert use_compilation_cache("off", environment(tmp_path)) == ""
    assert jax.config.values["jax_compilation_cache_dir"] is None


def test_what_jax_was_told_stays_unless_the_config_names_another(on_a_tpu, tmp_path):
    jax.config.update("jax_compilation_cache_dir", "/theirs")
    assert use_compilation_cache("", environment(tmp_path)) == ""
    assert jax.config.values["jax_compilation_cache_dir"] == "/theirs"
    assert (
        use_compilation_cache(f"{tmp_path}/mine")
        == f"{tmp_path}/mine"
        == jax.config.values["jax_compilation_cache_dir"]
    )


def spoiled(tmp_path: Path, how: str) -> Path:
    """A folder that others decide on."""
    folder = tmp_path / "above" / "cache"
    folder.mkdir(parents=True)
    if how == "group":
        folder.chmod(0o770)
    elif how == "all":
        folder.chmod(0o702)
    elif how == "above":
        (tmp_path / "above").chmod(0o777)
    elif how == "link":
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    elif how == "link to nothing":
        folder.rmdir()
        folder.symlink_to(tmp_path / "nothing")
    elif how == "file":
        folder.rmdir()
        folder.write_text("mine")
    return folder


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("group", "others may write in it"),
        ("all", "others may write in it"),
        ("above", "others may replace it, for they may write in .*above;"),
        ("link", "is a link"),
        ("link to nothing", "cannot hold the compilation cache"),
        ("file", "cannot hold the compilation cache"),
    ],
)
def test_a_folder_that_others_decide_on_is_refused(tmp_path, how, message):
    folder = spoiled(tmp_path, how)
    with pytest.raises(UserError, match=rf"{message}.*--config\.paths\.compilation_cache, or off"):
        private_folder(str(folder))
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("who", ["the folder", "one above"])
def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch, who):
    folder = tmp_path / "cache"
    folder.mkdir()
    place, real = folder if who == "the folder" else tmp_path, Path.lstat

    def lstat(path: Path) -> os.stat_result:
        about = list(real(path))
        about[stat.ST_UID] = os.getuid() + 1 if path == place else about[stat.ST_UID]
        return os.stat_result(about)

    monkeypatch.setattr(Path, "lstat", lstat)
    with pytest.raises(UserError, match="another user"):
        private_folder(str(folder))


def test_folders_above_may_be_the_systems(tmp_path, monkeypatch):
    """As those of a user that is not root are."""
    folder, real = tmp_path / "cache", Path.lstat
    folder.mkdir()

    def lstat(path: Path) -> os.stat_result:
        about = list(real(path))
        about[stat.ST_UID] = 1234 if path == folder else 0
        return os.stat_result(about)

    monkeypatch.setattr(Path, "lstat", lstat)
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    assert private_folder(str(folder)) == str(folder)


def test_a_folder_in_one_where_all_may_write_their_own_is_private(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    assert private_folder(f"{tmp_path}/shared/cache") == f"{tmp_path}/shared/cache"


def test_links_above_are_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert private_folder(f"{tmp_path}/link/cache") == f"{tmp_path}/disk/cache"


@pytest.mark.parametrize("path", ["gs://bucket/cache", "file:///cache"])
def test_only_a_local_folder_can_be_looked_at(path):
    with pytest.raises(UserError, match="no folder on a local disk"):
        private_folder(path)


def test_an_untrusted_folder_is_an_error_only_where_it_was_named(on_a_tpu, tmp_path, caplog):
    (tmp_path / "sc2jax").mkdir()
    (tmp_path / "sc2jax" / "compilations").mkdir()
    (tmp_path / "sc2jax" / "compilations").chmod(0o777)
    assert use_compilation_cache("", environment(tmp_path)) == ""
    assert "no compilations are kept: " in caplog.text and "others may write in it" in caplog.text
    assert jax.config.values["jax_compilation_cache_dir"] is None
    with pytest.raises(UserError, match="others may write in it"):
        use_compilation_cache(f"{tmp_path}/sc2jax/compilations")
