"""Which licences a text holds, and whether it says anything else that could matter.

A licence is known by its runs of three words: a text holds it if it has most of the licence's words in such runs. What
none of the licences found accounts for is what was added: names, titles and addresses do no harm, a condition does.
"""

import dataclasses
import functools
import html
import json
import lzma
import re
import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np

from sc2jax.assets import asset_path
from sc2jax.corpus.tables import table_rows
from sc2jax.errors import UserError

TABLES = ("license_texts.jsonl.xz", "license_notices.txt", "license_names.tsv")
"""What the answers depend on, in `data/`."""

_NO_LICENSE = "-"
"""In `license_notices.txt`: the text belongs to no licence, and does no harm."""

_MOST_ADDED = 120
"""Words in a row that may be added: longer texts are not read as names and titles."""

_MOST_UNKNOWN = 2
"""Words beside `_FILLING` in a text that only names licences: its project, for example."""

_RUN = 3
_BITS = 20
"""Words of a run, and bits of the number of a word: a run is one 64-bit number."""

_COPYRIGHT_LINE = re.compile(r"^[^\w\n]*(?:portions[^\w\n]+)?(?:copyright|\(c\)|©).*$", re.IGNORECASE | re.MULTILINE)
_PAGE = re.compile(r"<(?:html|body|p|pre|div|br)\b", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
_WORD = re.compile(r"[^\W_]+")
_OTHER_SCRIPT = re.compile(r"[^\W\d_\u0000-\u024f]")
_LIMITING = re.compile(
    r"no|non|not|cannot|never|only|solely|but|except\w*|unless|until|must|shall|may|without|restrict\w*|prohibit\w*|"
    r"forbid\w*|disallow\w*|revo[ck]\w*|terminat\w*|limit\w*|condition\w*|clauses?|provided|provision\w*|subject|"
    r"additional\w*|agree\w*|requir\w*|permission\w*|permitted|consent|royalt\w*|patents?|"
    r"\w*commercial\w*|sell|sale|sold|fees?|paid|pay|purchase\w*|military|weapons?|evil|ethic\w*|harm\w*|"
    r"personal|private|academic|education\w*|evaluation|competi\w*|train|training|ai|"
    r"proprietary|confidential\w*|[al]*gpl\w*|gnu|affero|copyleft|mpl|mozilla|epl|eclipse|cddl|sspl|busl|eula|"
    r"nur|nicht|kein\w*|ohne|verboten|untersagt|kommerziell\w*|seulement|uniquement|sans|interdit\w*|ne|pas|sauf|"
    r"solo|sin|prohibid\w*|somente|apenas|sem|proibid\w*|vietat\w*|soltanto|niet|alleen"
)
"""Words of a sentence that may take away what a licence gives."""

_FILLING = frozenset(
    re.findall(
        r"\w+",
        "a all and any are as at available below both by can choice choose code contributions details distributed "
        "dual either file files following for found full fully in information is it its license licenses licensed "
        "made more of on one option or package please project released see software source spdx identifier "
        "identifiers term terms text that the their these this to txt md rst under used v version which your you ",
    )
)
"""All that a text may hold, beside the names of licences, that does nothing but name them."""

_UNHEARD = frozenset(("the", "version", "v"))


@dataclasses.dataclass(frozen=True)
class Told:
    """What a text says.

    Attributes:
        licenses: the SPDX identifiers of the licences that it holds, or does nothing but name.
        whole: whether it holds some, and says nothing beside them that may be a condition.
    """

    licenses: frozenset[str]
    whole: bool


def tell(text: str, least: float) -> Told:
    """What a text says as a whole.

    Args:
        text: of a file that may tell of a licence.
        least: the share of a licence's words that the text must have.
    """
    words = words_of(text)
    found, free = _index().find(words, least)
    added = [_without_names(run) for run in _runs(words, free)]
    named = frozenset(name for _, names in added for name in names)
    if found:
        harmless = all(_is_harmless(rest) for rest, _ in added)
    else:
        other = {word for rest, _ in added for word in rest} - _FILLING
        harmless = bool(named) and len(other) <= _MOST_UNKNOWN and not _limits(other)
    licenses = found - {_NO_LICENSE} | (named if harmless else frozenset())
    return Told(licenses, harmless and bool(licenses))


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without copyright lines that say nothing else, and without markup."""
    if _PAGE.search(text):
        text = html.unescape(_TAG.sub("\n", text))
    text = unicodedata.normalize("NFKC", text)
    text = _COPYRIGHT_LINE.sub(lambda line: line[0] if _limits(_WORD.findall(line[0].lower())) else "", text)
    return _WORD.findall(text.lower().replace("licence", "license"))


class _Index:
    """The runs of words of every licence."""

    def __init__(self, texts: list[tuple[str, list[str]]]):
        self._numbers: dict[str, int] = {}
        self._names = [name for name, _ in texts]
        self._runs = [self._runs_of([self._number(word) for word in words]) for _, words in texts]
        distinct = [np.unique(runs) for runs in self._runs]
        self._sizes = np.array([len(runs) for runs in distinct])
        all_runs = np.concatenate(distinct)
        order = np.argsort(all_runs, kind="stable")
        self._sorted = all_runs[order]
        self._owners = np.repeat(np.arange(len(texts)), self._sizes)[order]

    def find(self, words: list[str], least: float) -> tuple[frozenset[str], np.ndarray]:
        """The licences whose words a text has, and which of its words belong to none of them.

        Of licences that hold each other the one is taken that accounts for most words and lacks fewest.
        """
        runs = self._runs_of([self._numbers.get(word, 0) for word in words])
        free = np.ones(len(words), bool)
        candidates = list(self._candidates(runs, least, len(words)))
        found = set()
        while candidates:
            gains = [(int((free & covered).sum()), lacking, name) for name, lacking, covered in candidates]
            best = min(range(len(gains)), key=lambda at: (gains[at][1] - gains[at][0], *gains[at][1:]))
            name, lacking, covered = candidates[best]
            if gains[best][0] <= lacking:
                break
            found.add(name)
            free &= ~covered
        return frozenset(found), free

    def _candidates(self, runs: np.ndarray, least: float, length: int) -> Iterator[tuple[str, int, np.ndarray]]:
        """Name, words that are lacking, and the text's words that it accounts for."""
        distinct = np.unique(runs)
        first, last = (np.searchsorted(self._sorted, distinct, side) for side in ("left", "right"))
        shared = [self._owners[low:high] for low, high in zip(first, last, strict=True) if high > low]
        counts = np.bincount(np.concatenate(shared), minlength=len(self._names)) if shared else np.zeros(0, int)
        for at in np.flatnonzero(counts >= self._fewest(least)) if shared else ():
            own = self._runs[at]
            had = _in_runs(np.isin(own, distinct), len(own) + _RUN - 1)
            if had.mean() >= least and counts[at]:
                yield self._names[at], int((~had).sum()), _in_runs(np.isin(runs, own), length)

    def _fewest(self, least: float) -> np.ndarray:
        """Runs that a text shares at least with a licence, of whose words it has that share: a word is in three."""
        return self._sizes * max(0.0, 1 - 2 * _RUN * (1 - least))

    def _number(self, word: str) -> int:
        return self._numbers.setdefault(word, len(self._numbers) + 1)

    @staticmethod
    def _runs_of(numbers: list[int]) -> np.ndarray:
        """One number for each run of words; a word without a number makes a run that no licence has."""
        found = np.array(numbers, np.int64)
        if len(found) < _RUN:
            return np.zeros(0, np.int64)
        return (found[:-2] << 2 * _BITS) | (found[1:-1] << _BITS) | found[2:]


def _in_runs(runs: np.ndarray, length: int) -> np.ndarray:
    """Which words lie in one of the runs that are marked."""
    words = np.zeros(length, bool)
    for offset in range(_RUN):
        words[offset : offset + len(runs)] |= runs
    return words


@functools.cache
def _index() -> _Index:
    return _Index([(name, words_of(text)) for name, text in _known_texts()])


def _known_texts() -> Iterator[tuple[str, str]]:
    """The licences of SPDX, also without the appendix that tells how to apply them, and the notices."""
    end = "END OF TERMS AND CONDITIONS"
    try:
        lines = lzma.decompress(asset_path("data", TABLES[0]).read_bytes()).decode().splitlines()
        known = [(row["license"], row["text"]) for row in map(json.loads, lines)]
        notices = asset_path("data", TABLES[1]).read_text(encoding="utf-8")
    except (OSError, EOFError, ValueError, KeyError, TypeError, lzma.LZMAError) as error:
        raise UserError(f"the licence texts in data/ cannot be read ({error}); install sc2jax again") from error
    for name, text in known:
        yield name, text
        if end in text:
            yield name, text[: text.index(end)] + end
    for notice in re.split(r"^== ", notices, flags=re.MULTILINE)[1:]:
        name, _, text = notice.partition("\n")
        yield name, text


def _runs(words: list[str], free: np.ndarray) -> list[list[str]]:
    """The words that are free, as they stand in a row."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], free, [False]]).astype(np.int8)))
    return [words[start:stop] for start, stop in edges.reshape(-1, 2).tolist()]


def _without_names(run: list[str]) -> tuple[list[str], list[str]]:
    """The words of a run that do not name a permissive licence, and the licences that the others name."""
    names, longest = _names()
    words = [word for word in run if word not in _UNHEARD]
    rest, found, at = [], [], 0
    while at < len(words):
        for length in range(min(longest, len(words) - at), 0, -1):
            name = names.get(tuple(words[at : at + length]))
            if name and (length > 1 or len(words) == 1 or _is_named(words, at)):
                found.append(name)
                at += length
                break
        else:
            rest.append(words[at])
            at += 1
    return rest, found


def _is_named(words: list[str], at: int) -> bool:
    """Whether a single word, such as "MIT", is said as a licence's name: the word "license" stands beside it."""
    return any(word.startswith("license") for word in words[max(0, at - 1) : at + 2])


@functools.cache
def _names() -> tuple[dict[tuple[str, ...], str], int]:
    rows = table_rows("license_names.tsv", 2)[1:]
    names = {
        tuple(word for word in _WORD.findall(name.lower()) if word not in _UNHEARD): license_ for name, license_ in rows
    }
    return names, max(map(len, names))


def _is_harmless(run: list[str]) -> bool:
    return len(run) <= _MOST_ADDED and not _limits(run)


def _limits(words: Iterable[str]) -> bool:
    """Whether words may make a condition: one of them says so, or cannot be read here."""
    return any(_LIMITING.fullmatch(word) or _OTHER_SCRIPT.search(word) for word in words)
