"""What a contained process may see of the machine's files: the interpreter, its standard library, and their libraries.

It runs in the sandbox's own processes and needs the standard library and `linux` alone.
"""

import contextlib
import ctypes
import json
import os
import stat
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from sc2jax.evaluation.sandbox import linux


@dataclass(frozen=True)
class View:
    """Paths that are seen, by the names that they have outside too."""

    shown: tuple[str, ...]
    """Files and folders, with what is in them."""

    hidden: tuple[str, ...]
    """Folders below those that are empty: what was installed beside the standard library."""


DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")


def interpreter_view(packages: list[str]) -> View:
    """What this interpreter and these packages (their folders) need."""
    library = sysconfig.get_path("stdlib")
    shown = [library, sysconfig.get_config_var("DESTSHARED") or "", os.path.realpath(sys.executable), *packages]
    outermost = [path for path in dict.fromkeys(shown) if path and not any(_is_below(path, each) for each in shown)]
    libraries = [path for path in _shared_libraries(packages) if not any(_is_below(path, each) for each in outermost)]
    beside = (f"{library}/{name}" for name in ("site-packages", "dist-packages"))
    hidden = [path for path in beside if Path(path).is_dir() and path not in outermost]
    return View((*outermost, *libraries), tuple(hidden))


def refuse_below(view: View, folder: str) -> None:
    """Makes sure that nothing which is to be seen lies in a folder that a sandbox has for itself.

    Raises:
        OSError: naming what does.
    """
    for path in view.shown:
        if _is_below(home_of(path), folder):
            raise OSError(f"{path} would be hidden: inside, {folder} is the sandbox's own; install Python elsewhere")


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


def _shared_libraries(packages: list[str]) -> list[str]:
    """The files that the loader maps when every extension module is loaded, by the names that it looks for.

    They are loaded in a process of their own, since what is loaded once stays.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with os.fdopen(writing, "w") as stream:
                json.dump(_load_extensions(packages), stream)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        content = stream.read()
    os.waitpid(child, 0)
    if not content:
        raise OSError("the shared libraries of the interpreter's extension modules cannot be loaded")
    return [path for path in ("/etc/ld.so.cache", *json.loads(content)) if Path(path).is_file()]


def _load_extensions(packages: list[str]) -> list[str]:
    folders = [sysconfig.get_config_var("DESTSHARED") or f"{sysconfig.get_path('stdlib')}/lib-dynload", *packages]
    for folder in folders:
        for path in Path(folder).rglob("*.so*"):
            with contextlib.suppress(OSError):  # one that lacks a library is none that a program can use
                ctypes.CDLL(str(path), os.RTLD_LAZY | os.RTLD_LOCAL)
    found: list[str] = []

    class Information(ctypes.Structure):
        _fields_ = (("address", ctypes.c_void_p), ("name", ctypes.c_char_p))

    def note(information: "ctypes._Pointer[Information]", size: int, data: int) -> int:  # noqa: ARG001
        found.append(os.fsdecode(information.contents.name or b""))
        return 0

    visit = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Information), ctypes.c_size_t, ctypes.c_void_p)
    ctypes.CDLL(None).dl_iterate_phdr(visit(note), None)
    # A library that was found by its place beside another has `..` in its name.
    return [os.path.normpath(path) for path in found if path.startswith("/")]


def build_root(view: View) -> None:
    """Makes a root that holds the view and nothing else, read-only but for an empty /tmp to mount something on.

    The process must be alone in its mount namespace, with the right to mount in it. Nothing of this is seen outside.
    """
    new = "/tmp"
    linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    kept = {home_of(path): linux.clone_tree(str(Path(path).resolve())) for path in (*view.shown, *DEVICES)}
    linux.mount("root", new, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=1m,mode=755")
    for path, target in links():
        Path(new + path).symlink_to(target)
    for path, tree in kept.items():
        _attach(tree, new + path)
    for path in view.hidden:
        linux.mount("hidden", new + path, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=4k,mode=755")
    Path(new, "tmp").mkdir(exist_ok=True)
    linux.pivot_root(new)
    linux.restrict_mounts("/", linux.MS_RDONLY | linux.MS_NOSUID)


def links() -> list[tuple[str, str]]:
    """The symbolic links in the root that lead to programs and libraries, and where to."""
    paths = (Path(path) for path in ("/bin", "/lib", "/lib32", "/lib64", "/sbin"))
    return [(str(path), str(path.readlink())) for path in paths if path.is_symlink()]


def home_of(path: str) -> str:
    """The path without symbolic links in its folders; its own name stays, since a library is asked for by that."""
    return str(Path(path).parent.resolve() / Path(path).name)


def _attach(tree: int, target: str) -> None:
    """Mounts a kept copy on a path that it makes."""
    if stat.S_ISDIR(os.fstat(tree).st_mode):
        Path(target).mkdir(parents=True, exist_ok=True)
    else:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).touch()
    linux.attach_tree(tree, target)
    os.close(tree)


def landlock_rights(view: View) -> dict[str, int]:
    """The same as rights that Landlock can give, which cannot hide a part of a folder that it shows.

    So such a folder is given by what is in it, and cannot be listed: the importer must have done that already.
    """
    rights = dict.fromkeys(DEVICES, linux.LANDLOCK_READ_FILE) | {
        "/dev/null": linux.LANDLOCK_READ_FILE | linux.LANDLOCK_WRITE_FILE
    }
    for path in view.shown:
        parts = [path]
        if any(_is_below(folder, path) for folder in view.hidden):
            parts = [str(part) for part in Path(path).iterdir() if str(part) not in view.hidden]
        rights |= dict.fromkeys(parts, linux.LANDLOCK_READ_FILE | linux.LANDLOCK_READ_DIR)
    return rights


def make_reachable(view: View) -> None:
    """Covers, for this process alone, the folders that an unprivileged user may not enter, so that the view stays.

    An interpreter that root built below its own home is such a case. What else is in those folders is hidden by it.

    Raises:
        OSError: this process may not mount.
    """
    closed = {folder for path in view.shown if (folder := _closed_ancestor(path))}
    if not closed:
        return
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    kept = {path: linux.clone_tree(path) for path in view.shown if _closed_ancestor(path)}
    for folder in closed:
        linux.mount("cover", folder, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=1m,mode=755")
    for path, tree in kept.items():
        _attach(tree, path)


def _closed_ancestor(path: str) -> str:
    """The first folder on the way to a path that others may not enter; "" if there is none."""
    for folder in reversed(Path(path).parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return str(folder)
    return ""
