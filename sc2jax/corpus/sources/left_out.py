"""What a source holds that is not taken: why, how often, and what to do about it.

Whatever goes wrong with a repository, a folder or a file of a source is a `SourceError`. One of them never ends the
work on the others, unless `corpus.damaged` says so.
"""

import dataclasses
import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping

from sc2jax.display import terminal_text
from sc2jax.errors import UserError
from sc2jax.records.statistics import LeftOutShare

_NAMED = 3
"""As many of each kind are named."""

_DIGEST_SPACE = 1 << 256


@dataclasses.dataclass(frozen=True)
class Reason:
    """A kind of what is left out, in words.

    One without a remedy is nothing that anybody should mend; a harmless one is named, but never ends the work.
    """

    one: str
    many: str
    remedy: str = ""
    harmless: bool = False


REASONS: dict[str, Reason] = {
    "unreadable_git": Reason(
        "git repository that cannot be read as one",
        "git repositories that cannot be read as such",
        "repair it (`git fsck`), or remove .git to take the folder as plain files",
    ),
    "git_elsewhere": Reason(
        "git repository that leads out of the source to a place that does not know it",
        "git repositories that lead out of the source to places that do not know them",
        "name a folder that holds both as the source, or a clone",
    ),
    "no_commit": Reason(
        "git repository without a commit",
        "git repositories without a commit",
        "commit its files, or remove .git to take the folder as plain files",
    ),
    "damaged_object": Reason(
        "file whose content git cannot read",
        "files whose contents git cannot read",
        "repair the repository (`git fsck`), or clone it anew",
    ),
    "damaged_folder": Reason(
        "folder of a commit that git cannot read",
        "folders of commits that git cannot read",
        "repair the repository (`git fsck`), or clone it anew",
    ),
    "missing_object": Reason(
        "file whose content is not in its clone",
        "files whose contents are not in their clones",
        "clone the repository anew, without a filter",
    ),
    "missing_folder": Reason(
        "folder of a commit that is not in its clone",
        "folders of commits that are not in their clones",
        "clone the repository anew, without a filter",
    ),
    "too_many_paths": Reason(
        "repository with more paths than are listed of one",
        "repositories with more paths than are listed of one",
        "look whether its folders name each other",
    ),
    "unreadable_folder": Reason(
        "folder that cannot be read", "folders that cannot be read", "make it readable, or remove it"
    ),
    "unreadable_file": Reason(
        "file that cannot be read", "files that cannot be read", "make it readable, or remove it"
    ),
    "changed": Reason(
        "file that was another one when it was read again",
        "files that were others when they were read again",
        "run the same command again",
    ),
    "changed_license": Reason(
        "licence that was another one when it was read again, and counts as unknown",
        "licences that were others when they were read again, and count as unknown",
        "run the same command again",
    ),
    "damaged_archive": Reason(
        "archive that is damaged",
        "archives that are damaged",
        "fetch it anew, or unpack what can be saved of it",
    ),
    "archive_bomb": Reason(
        "archive that expands to more than it can honestly hold",
        "archives that expand to more than they can honestly hold",
        "remove it, or unpack it if you trust it",
    ),
    "damaged_member": Reason(
        "file of an archive that cannot be expanded",
        "files of archives that cannot be expanded",
        "fetch the archive anew, or unpack it",
    ),
    "encrypted_member": Reason(
        "encrypted file of an archive",
        "encrypted files of archives",
        "unpack the archive with its password",
    ),
    "sparse_member": Reason(
        "file of an archive that is stored as pieces with holes",
        "files of archives that are stored as pieces with holes",
        "unpack the archive, or pack it anew without `--sparse`",
    ),
    "unsafe_member": Reason(
        "path in an archive that leads out of it",
        "paths in archives that lead out of them",
        "pack the archive anew with paths relative to one folder",
    ),
    "unsafe_path": Reason(
        "committed path that leads out of its repository",
        "committed paths that lead out of their repositories",
        "clone the repository anew",
    ),
    "absent_content": Reason(
        "content that the store of Software Heritage does not hold",
        "contents that the store of Software Heritage does not hold",
        "see that corpus.heritage_contents names its bucket, or a whole copy of it",
    ),
    "unfetched_content": Reason(
        "content of Software Heritage that could not be fetched",
        "contents of Software Heritage that could not be fetched",
        "see that the network and the credentials are right, and run the same command again",
    ),
    "damaged_content": Reason(
        "content of Software Heritage that is damaged",
        "contents of Software Heritage that are damaged",
        "fetch them anew",
    ),
    "damaged_events": Reason(
        "hour of GitHub's events that is damaged",
        "hours of GitHub's events that are damaged",
        "fetch it anew, if the archive has a whole one",
    ),
    "same_name": Reason(
        "name that is written like another one beside it",
        "names that are written like others beside them",
        "rename one of the two",
    ),
    "link": Reason("link", "links"),
    "special_file": Reason("pipe, socket or device", "pipes, sockets or devices"),
    "submodule": Reason("submodule", "submodules"),
    "not_sampled": Reason("repository outside of corpus.sample", "repositories outside of corpus.sample"),
    "replaced_member": Reason(
        "file of an archive that a later one of the same name replaces",
        "files of archives that later ones of the same names replace",
    ),
    "not_archived": Reason(
        "file whose content Software Heritage does not have",
        "files whose contents Software Heritage does not have",
    ),
    "not_published": Reason(
        "file whose text The Stack v2's table leaves out",
        "files whose texts The Stack v2's tables leave out",
    ),
    "lost_folder": Reason(
        "folder that is not in the export of Software Heritage",
        "folders that are not in the export of Software Heritage",
    ),
    "crowded_folder": Reason(
        "folder that 1,000,000 others of its level are equal to",
        "folders that 1,000,000 others of their levels are equal to",
    ),
    "too_deep": Reason("folder below 64 others", "folders below 64 others"),
    "modified": Reason(
        "file that is not in the working tree as it was committed, which is how it is taken",
        "files that are not in working trees as they were committed, which is how they are taken",
        "commit them to have them as they lie",
        harmless=True,
    ),
    "untracked": Reason(
        "file or folder in a working tree that is not committed",
        "files or folders in working trees that are not committed",
        "commit them to have them taken",
        harmless=True,
    ),
}


CHANGED = frozenset({"changed", "changed_license"})
"""What another run of the same command may find as it should be."""


class SourceError(Exception):
    """Something in a source that is not taken.

    Attributes:
        reason: one of `REASONS`.
        location: where it lies on disk.
        detail: what is wrong with it, if the reason does not say all.
    """

    def __init__(self, reason: str, location: str, detail: str = ""):
        super().__init__(reason, location, detail)
        self.reason, self.location, self.detail = reason, location, detail

    def as_user_error(self) -> UserError:
        """The same as an error that ends the work."""
        reason = REASONS[self.reason]
        detail = f" ({self.detail})" if self.detail else ""
        article = "an" if reason.one[0] in "aeiou" else "a"
        return UserError(f"{as_text(self.location)} is {article} {reason.one}{detail}; {reason.remedy}")


class LeftOut:
    """Counts what is left out of the source at `root`, if that is given; the names that it keeps are relative to it."""

    def __init__(self, root: str = "", stop: bool = False):
        self._root, self._stop = root, stop
        self._counts: Counter[str] = Counter()
        self._named: dict[str, list[str]] = {}
        self._known: set[str] = set()
        self._sum = 0

    def add(self, fault: SourceError) -> None:
        """Counts one; what should be mended counts once, however often it is met.

        Raises:
            UserError: it should be mended, and such faults end the work.
        """
        remedy = REASONS[fault.reason].remedy
        if remedy and self._stop and not REASONS[fault.reason].harmless:
            raise fault.as_user_error() from fault
        below = fault.location.removeprefix(self._root).lstrip("/")
        name = as_text(below or os.path.basename(self._root))  # noqa: PTH119
        if remedy:
            if name in self._known:
                return
            self._known.add(name)
            self._name(fault.reason, [f"{name}: {fault.detail}" if fault.detail else name])
        self._counts[fault.reason] += 1
        identity = hashlib.sha256(f"{fault.reason}\0{name}".encode()).digest()
        self._sum = (self._sum + int.from_bytes(identity, "big")) % _DIGEST_SPACE

    def absorb(self, other: "LeftOut") -> None:
        """Adds what was left out of another source."""
        self._counts += other._counts
        self._sum = (self._sum + other._sum) % _DIGEST_SPACE
        for reason, names in other._named.items():
            self._name(reason, names)

    def __bool__(self) -> bool:
        return bool(self._counts)

    @property
    def digest(self) -> str:
        """A digest of the reasons and names, whatever their order."""
        return f"{self._sum:064x}"

    @property
    def statistics(self) -> dict[str, LeftOutShare]:
        """The counts by reason, with the first names of those that should be mended."""
        return {
            reason: {"count": count, "named": self._named.get(reason, [])}
            for reason, count in sorted(self._counts.items())
        }

    def _name(self, reason: str, names: list[str]) -> None:
        self._named[reason] = sorted([*self._named.get(reason, []), *names])[:_NAMED]


def together(*parts: Mapping[str, LeftOutShare]) -> dict[str, LeftOutShare]:
    """The statistics of several places as one."""
    reasons = sorted({reason for part in parts for reason in part})
    shares = {reason: [part[reason] for part in parts if reason in part] for reason in reasons}
    return {
        reason: {
            "count": sum(share["count"] for share in found),
            "named": sorted(name for share in found for name in share["named"])[:_NAMED],
        }
        for reason, found in shares.items()
    }


def in_words(shares: Mapping[str, LeftOutShare]) -> list[tuple[str, str]]:
    """How often each thing was left out, what should be mended first, and of that the names and what to do.

    A corpus that another version curated may know reasons that are none here; they are named as they are.
    """
    known = REASONS | {reason: Reason(reason, reason) for reason in sorted(shares.keys() - REASONS.keys())}
    found = []
    for reason, words in known.items():
        if reason not in shares:
            continue
        count, named = shares[reason]["count"], shares[reason]["named"]
        more = f" and {count - len(named):,} more" if count > len(named) else ""
        what = f"{count:,} {words.one if count == 1 else words.many}"
        found.append((what, f"{'; '.join(named)}{more}; {words.remedy}" if named else ""))
    return found


def in_a_line(shares: Mapping[str, LeftOutShare]) -> str:
    """All of it in one line for the terminal; "" for nothing."""
    lines = [f"{what} ({names})" if names else what for what, names in in_words(shares)]
    return terminal_text(", ".join(lines)).replace("\n", " ")


def as_text(path: str) -> str:
    r"""A path as text, from which its bytes can be told: no two paths have the same.

    Bytes that are not UTF-8, those of control characters, and the backslash of what would read like one of these are
    written `\xNN`.
    """
    if path.isascii() and path.isprintable() and "\\x" not in path:
        return path
    marked = _LIKE_A_BYTE.sub(rb"\\x5c", os.fsencode(path))
    return _CONTROLS.sub(_bytes_of, marked.decode("utf-8", "backslashreplace"))


_LIKE_A_BYTE = re.compile(rb"\\(?=x[0-9a-f]{2})")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _bytes_of(found: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02x}" for byte in found[0].encode())
