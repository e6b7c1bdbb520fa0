"""Git's index: which paths a working tree tracks, read from the bytes of the file.

The format is that of git's Documentation/gitformat-index.txt, versions 2 to 4. Whatever is not as written there is
refused as a whole: a part of an index would look like a smaller repository.
"""

import hashlib
import stat
import struct

_HASHES = {20: hashlib.sha1, 32: hashlib.sha256}
"""Length of an object's name -> the hash that makes it, and the checksum at the end of an index."""

_FIXED_BYTES = 40
"""Of an entry, before the name of its object: ten numbers, the seventh of which is the mode."""

_EXTENDED, _NAME_LENGTH, _VERSIONS = 0x4000, 0x0FFF, (2, 3, 4)
_KINDS = {stat.S_IFREG: "file", stat.S_IFLNK: "link", 0o160000: "submodule", stat.S_IFDIR: "folder"}

_SPLIT = "it is split in two; run `git update-index --no-split-index`"
"""Half of such an index lies in another file; its own entries may have no path."""


class DamagedIndexError(Exception):
    """An index that is not what git writes, or that needs a part of git which is not here."""


def tracked_paths(content: bytes) -> dict[bytes, str]:
    """The tracked paths, each a `file`, `link`, `submodule` or, in a sparse index, a `folder`.

    What is a file on any side of a conflict is a file.

    Raises:
        DamagedIndexError: for any other bytes than those of a whole index.
    """
    hash_bytes = _hash_bytes(content)
    end = len(content) - hash_bytes
    try:
        paths, offset = _entries(content[:end], hash_bytes)
        _refuse_unknown_extensions(content[offset:end])
    except (struct.error, ValueError, IndexError, KeyError) as error:
        raise DamagedIndexError("it is cut off or damaged") from error
    return paths


def _hash_bytes(content: bytes) -> int:
    """The length of the checksum, which tells the kind of the repository; git may be told to write zeros for it."""
    for length, make in _HASHES.items():
        if content[-length:] == make(memoryview(content)[:-length]).digest():
            return length
    for length in sorted(_HASHES, reverse=True):
        if len(content) > length and not any(content[-length:]):
            return length
    raise DamagedIndexError("its checksum does not match")


def _entries(content: bytes, hash_bytes: int) -> tuple[dict[bytes, str], int]:
    """The paths, and where the extensions begin."""
    magic, version, count = struct.unpack_from(">4sLL", content)
    if magic != b"DIRC" or version not in _VERSIONS:
        raise DamagedIndexError("it is none of version 2, 3 or 4")
    paths: dict[bytes, str] = {}
    offset, previous = 12, (b"", -1)
    for _ in range(count):
        flags_at = offset + _FIXED_BYTES + hash_bytes
        (mode,) = struct.unpack_from(">L", content, offset + 24)
        (flags,) = struct.unpack_from(">H", content, flags_at)
        begin = flags_at + (4 if flags & _EXTENDED else 2)
        kept = b""
        if version == 4:
            strip, begin = _variable_number(content, begin)
            if strip > len(previous[0]):
                raise DamagedIndexError("a path is shortened by more than its length")
            kept = previous[0][: len(previous[0]) - strip]
        stop = content.index(b"\0", begin)
        path = kept + content[begin:stop]
        if not path:
            raise DamagedIndexError(_SPLIT)
        if min(len(path), _NAME_LENGTH) != flags & _NAME_LENGTH:
            raise DamagedIndexError("a path is longer or shorter than noted")
        offset = stop + 1 if version == 4 else offset + ((stop - offset + 8) & ~7)
        place = path, flags >> 12 & 3
        if place <= previous:
            raise DamagedIndexError("its paths are out of order")
        kind = _KINDS[stat.S_IFMT(mode)]
        if paths.get(path) != "file":
            paths[path] = kind
        previous = place
    return paths, offset


def _variable_number(content: bytes, at: int) -> tuple[int, int]:
    """Git's number of variable length, and where it ends."""
    value = content[at] & 0x7F
    while content[at] & 0x80:
        at += 1
        value = (value + 1 << 7) | (content[at] & 0x7F)
    return value, at + 1


def _refuse_unknown_extensions(content: bytes) -> None:
    """Those that begin with a capital letter may be passed over; of the others `sdir` says that folders are entries."""
    at = 0
    while at < len(content):
        name, size = struct.unpack_from(">4sL", content, at)
        if name == b"link":
            raise DamagedIndexError(_SPLIT)
        if not name[:1].isupper() and name != b"sdir":
            raise DamagedIndexError(f"it needs an extension that is unknown here, {name!r}")
        at += 8 + size
    if at != len(content):
        raise DamagedIndexError("it is cut off")
