"""Repositories and objects that the tests of this room make."""

import hashlib
import os
import shutil
import subprocess
import zlib
from collections.abc import Sequence
from pathlib import Path

from dulwich import porcelain

WHO = b"Ada <ada@example.org>"
FILE, LINK, SUBMODULE, FOLDER = 0o100644, 0o120000, 0o160000, 0o040000
GIT = str(shutil.which("git"))

Entry = tuple[bytes, int, str]
"""Name, mode, and the name of the object."""


def make_repository(folder: str, commit: bool = True) -> str:
    """Puts all files of a folder under git; returns the commit."""
    repository = porcelain.init(folder)
    porcelain.add(
        repository, [str(path) for path in Path(folder).rglob("*") if path.is_file() and ".git/" not in str(path)]
    )
    return porcelain.commit(repository, b"first", author=WHO, committer=WHO).decode() if commit else ""


def run_git(folder: str | Path, *arguments: str) -> str:
    """What git says, with no settings but those that are given."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in _WHO.items()},
    }
    command = [GIT, "-c", "protocol.file.allow=always", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()


_WHO = {"NAME": "Ada", "EMAIL": "ada@example.org", "DATE": "2024-02-03T04:05:06+0200"}


def put_object(git: Path, kind: str, content: bytes, hash_: str = "sha1") -> str:
    """Writes a loose object, whatever its content, and returns its name (git's gitformat-loose)."""
    whole = f"{kind} {len(content)}\0".encode() + content
    name = hashlib.new(hash_, whole).hexdigest()
    path = git / "objects" / name[:2] / name[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # it may be a pipe
    path.write_bytes(zlib.compress(whole))
    return name


def put_tree(git: Path, entries: Sequence[Entry], hash_: str = "sha1") -> str:
    """A tree of these entries, in this order, whatever their names."""
    content = b"".join(b"%o %s\0" % (mode, name) + bytes.fromhex(object_) for name, mode, object_ in entries)
    return put_object(git, "tree", content, hash_)


def check_out(
    git: Path, tree: str, hash_: str = "sha1", dates: Sequence[str] = ("1700000000 +0100", "1700000001 -0500")
) -> str:
    """Makes a commit of a tree the one that is checked out; returns it."""
    people = "".join(f"{who} Ada <a@b> {date}\n" for who, date in zip(("author", "committer"), dates, strict=True))
    commit = put_object(git, "commit", f"tree {tree}\n{people}\nsubject\n".encode(), hash_)
    (git / "HEAD").unlink(missing_ok=True)
    (git / "HEAD").write_text(f"{commit}\n")
    return commit


def check_out_entries(git: Path, entries: Sequence[Entry]) -> str:
    """The same with a tree of these entries."""
    return check_out(git, put_tree(git, entries))
