"""Repositories and indexes that the tests of this room make."""

import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path

from dulwich import porcelain

WHO = b"Ada <ada@example.org>"
FILE, LINK, SUBMODULE, FOLDER = 0o100644, 0o120000, 0o160000, 0o040000


def make_repository(folder: str, commit: bool = True) -> str:
    """Puts all files of a folder under git; returns the commit."""
    repository = porcelain.init(folder)
    porcelain.add(
        repository, [str(path) for path in Path(folder).rglob("*") if path.is_file() and ".git/" not in str(path)]
    )
    return porcelain.commit(repository, b"first", author=WHO, committer=WHO).decode() if commit else ""


def index_bytes(
    entries: Sequence[tuple[bytes, int] | tuple[bytes, int, int]], version: int = 2, extensions: bytes = b""
) -> bytes:
    """An index by the letter of git's gitformat-index, of (path, mode) or (path, mode, stage)."""
    body = bytearray(struct.pack(">4sLL", b"DIRC", version, len(entries)))
    previous = b""
    for path, mode, *stage in entries:
        flags = min(len(path), 0xFFF) | (stage[0] if stage else 0) << 12
        entry = struct.pack(">10L", 0, 0, 0, 0, 0, 0, mode, 0, 0, 0) + b"\1" * 20 + struct.pack(">H", flags)
        if version == 4:
            same = 0
            while same < min(len(path), len(previous)) and path[same] == previous[same]:
                same += 1
            body += entry + _offset_number(len(previous) - same) + path[same:] + b"\0"
        else:
            entry += path
            body += entry + b"\0" * (8 - len(entry) % 8)
        previous = path
    body += extensions
    return bytes(body) + hashlib.sha1(body).digest()


def _offset_number(value: int) -> bytes:
    """The encoding of offsets in packs: seven bits a byte, the most significant first, one added at each step."""
    found = [value & 0x7F]
    while value := value >> 7:
        value -= 1
        found.append(0x80 | value & 0x7F)
    return bytes(reversed(found))
