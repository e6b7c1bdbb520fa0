"""What a corpus leaves out of its training files for the sake of another corpus's held-out files."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from split_sides import heldout_repositories

from sc2jax.corpus.config import CorpusConfig
from sc2jax.corpus.recipes.source_code import curate
from sc2jax.corpus.stages import licenses
from sc2jax.errors import UserError
from sc2jax.records.dataset import read_tables
from sc2jax.records.manifest import Manifest, Output, commit, read_manifest
from sc2jax.records.stage import Stage

CONFIG = CorpusConfig(row_group_bytes=4000, part_bytes=20_000, heldout_fraction=0.3)
NAMES = [f"repository{number:02d}" for number in range(20)]
HELDOUT = sorted(heldout_repositories(NAMES, 0.3))
TRAINING = sorted(set(NAMES) - set(HELDOUT))
SHORT = "import short\n"

Rows = Callable[..., list[dict[str, Any]]]
Files = dict[tuple[str, str], dict[str, Any]]


def ngrams(text: str, size: int = 5) -> set[tuple[str, ...]]:
    tokens = re.split(r"\W", text.lower())
    return set(zip(*(tokens[place:] for place in range(size)), strict=False))


def jaccard(text: str, other: str) -> float:
    """The similarity itself, of all n-grams."""
    left, right = ngrams(text), ngrams(other)
    return len(left & right) / max(len(left | right), 1)


@pytest.fixture
def base(plant: Callable[..., str], program: Callable[..., str], tmp_path: Path) -> tuple[str, Manifest]:
    """A corpus of twenty repositories, some of which are held out, and one of those holds a file without n-grams."""
    tree = {f"{name}/a.py": program(number) for number, name in enumerate(NAMES)}
    tree[f"{HELDOUT[0]}/short.py"] = SHORT
    folder = str(tmp_path / "base")
    return folder, curate(CONFIG, [plant("first", tree)], folder, 0)


@pytest.fixture
def sides(rows_of: Rows) -> Callable[[str, Manifest], tuple[Files, Files, Files]]:
    """The training files of a corpus, its held-out files and its rejects, by repository and path."""

    def read(folder: str, manifest: Manifest) -> tuple[Files, Files, Files]:
        named = [
            {(row["repository"], row["path"]): row for row in rows_of(folder, manifest, side)}
            for side in ("train", "heldout", "rejects")
        ]
        return named[0], named[1], named[2]

    return read


def test_no_training_file_resembles_what_the_other_corpus_holds_out(
    base: tuple[str, Manifest],
    plant: Callable[..., str],
    program: Callable[..., str],
    edited: Callable[..., str],
    tmp_path: Path,
    sides: Callable[[str, Manifest], tuple[Files, Files, Files]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Copies whole and edited, in other languages, of other thresholds and licences, signed in other n-grams."""
    monkeypatch.setattr(licenses, "detect", lambda *_: frozenset({"GPL-3.0-only"}))
    folder, manifest = base
    theirs = [row["content"] for row in sides(folder, manifest)[1].values()]
    assert len(theirs) == len(HELDOUT) + 1
    secret = {name: program(NAMES.index(name)) for name in HELDOUT}
    tree = {f"{name}/own.py": program(100 + number) for number, name in enumerate(NAMES)}
    into = TRAINING[0]
    tree |= {
        f"{into}/copy.py": secret[HELDOUT[0]],
        f"{into}/short.py": SHORT,
        f"{into}/other_short.py": "import other\n",
    }
    tree |= {f"{into}/near{number}.py": edited(secret[HELDOUT[1]], number, number) for number in range(1, 24)}
    tree[f"{into}/near.js"] = edited(secret[HELDOUT[2]], 0, 3)
    tree |= {f"{TRAINING[1]}/COPYING": "x", f"{TRAINING[1]}/licensed.py": edited(secret[HELDOUT[3]], 0, 2)}
    tree |= {f"{HELDOUT[4]}/again.py": secret[HELDOUT[4]], f"{HELDOUT[5]}/again.py": edited(secret[HELDOUT[5]], 0, 2)}
    changed = dataclasses.replace(
        CONFIG,
        near_threshold=0.99,
        near_permutations=230,
        keep_license_types=("permissive", "no_license", "non_permissive"),
    )
    source = plant("second", tree)
    without = sides(str(tmp_path / "without"), curate(changed, [source], str(tmp_path / "without"), 5))
    output = str(tmp_path / "with")
    train, heldout, rejects = sides(output, made := curate(changed, [source], output, 5, folder))

    limit, unsure = changed.heldout_similarity, 4 * (0.61 * 0.39 / 230) ** 0.5
    for name, row in without[0].items():
        closest = max(jaccard(row["content"], text) for text in theirs)
        if row["content"] in theirs or closest > limit + unsure:
            assert rejects[name]["reason"] == "duplicate_of_heldout"
        elif closest < limit - unsure:
            assert name in train
    dropped = {name: row["detail"] for name, row in rejects.items() if row["reason"] == "duplicate_of_heldout"}
    assert dropped[into, "copy.py"] == f"has the text of {HELDOUT[0]}: a.py"
    assert dropped[into, "short.py"] == f"has the text of {HELDOUT[0]}: short.py"
    assert dropped[into, "near1.py"] == f"resembles {HELDOUT[1]}: a.py"
    assert dropped[into, "near.js"] == f"resembles {HELDOUT[2]}: a.py"
    assert dropped[TRAINING[1], "licensed.py"] == f"resembles {HELDOUT[3]}: a.py"
    assert (into, "other_short.py") in train
    assert train.keys() | dropped.keys() == without[0].keys()
    assert heldout.keys() == without[1].keys() > {(HELDOUT[4], "again.py"), (HELDOUT[5], "again.py")}
    last = made.statistics["funnel"][-1]
    assert last["stage"] == "split"
    assert last["dropped"] == {"duplicate_of_heldout": len(dropped)}
    assert last["files_out"] == len(train) + len(heldout)
    assert last["bytes_in"] - last["bytes_out"] == sum(rejects[name]["source_bytes"] for name in dropped)


def test_an_own_held_out_file_stays_when_only_what_is_left_out_resembles_it(
    base: tuple[str, Manifest],
    plant: Callable[..., str],
    program: Callable[..., str],
    edited: Callable[..., str],
    tmp_path: Path,
    sides: Callable[[str, Manifest], tuple[Files, Files, Files]],
) -> None:
    """And goes if a training file that stays resembles it: both decisions stand in one line of the funnel."""
    secret, plain = program(NAMES.index(HELDOUT[0])), program(50)
    tree = {f"{name}/own.py": program(100 + number) for number, name in enumerate(NAMES)}
    tree |= {f"{HELDOUT[1]}/a.py": secret, f"{TRAINING[0]}/a.js": edited(secret, 0, 1)}
    tree |= {f"{HELDOUT[1]}/b.py": plain, f"{TRAINING[0]}/b.js": edited(plain, 0, 1)}
    manifest = curate(CONFIG, [plant("second", tree)], str(tmp_path / "corpus"), 0, base[0])
    train, heldout, _ = sides(str(tmp_path / "corpus"), manifest)
    assert (HELDOUT[1], "a.py") in heldout
    assert (TRAINING[0], "b.js") in train
    assert {(HELDOUT[1], "b.py"), (TRAINING[0], "a.js")}.isdisjoint(heldout.keys() | train.keys())
    last = manifest.statistics["funnel"][-1]
    assert last["dropped"] == {"duplicate_of_heldout": 1, "near_duplicate_across_split": 1}
    assert last["bytes_out"] == sum(row["source_bytes"] for side in (train, heldout) for row in side.values())


def test_held_out_files_too_short_for_n_grams_are_known_by_their_digests(
    plant: Callable[..., str],
    program: Callable[..., str],
    tmp_path: Path,
    sides: Callable[[str, Manifest], tuple[Files, Files, Files]],
) -> None:
    base = str(tmp_path / "base")
    curate(CONFIG, [plant("first", {f"{HELDOUT[0]}/a.py": SHORT, f"{TRAINING[0]}/a.py": program(0)})], base, 0)
    tree = {f"{HELDOUT[0]}/a.py": program(1), f"{TRAINING[0]}/a.py": program(0), f"{TRAINING[0]}/b.py": SHORT}
    second = plant("second", tree)
    manifest = curate(CONFIG, [second], str(tmp_path / "corpus"), 0, base)
    assert set(sides(str(tmp_path / "corpus"), manifest)[0]) == {(TRAINING[0], "a.py")}


def test_a_reject_names_the_file_that_has_its_text_before_one_of_the_same_n_grams(
    plant: Callable[..., str], program: Callable[..., str], tmp_path: Path, rows_of: Rows
) -> None:
    base, text = str(tmp_path / "base"), program(0)
    held = {f"{HELDOUT[0]}/a.js": text.upper(), f"{HELDOUT[1]}/a.py": text}
    curate(
        CONFIG, [plant("first", {**held, **{f"{name}/b.py": program(20 + n) for n, name in enumerate(NAMES)}})], base, 0
    )
    source, output = plant("second", {f"{TRAINING[0]}/a.py": text, f"{TRAINING[0]}/b.py": program(5)}), str(tmp_path)
    manifest = curate(CONFIG, [source], f"{output}/corpus", 0, base)
    assert [row["detail"] for row in rows_of(f"{output}/corpus", manifest, "rejects")] == [
        f"has the text of {HELDOUT[1]}: a.py"
    ]


def test_records_of_the_other_corpus_that_are_none_are_named(
    base: tuple[str, Manifest],
    plant: Callable[..., str],
    program: Callable[..., str],
    tmp_path: Path,
    write_unchecked: Callable[..., Output],
) -> None:
    """A corpus of another tool, whole by its digests, in which a text is not that of its own digest."""
    (table, *_) = read_tables(*base, "heldout")
    field = table.schema.field("content")
    texts = pa.array([text + "#" for text in table["content"].to_pylist()], field.type)
    table = table.set_column(table.schema.get_field_index("content"), field, texts)
    output = write_unchecked(tmp_path / "foreign", [table], "heldout")
    commit(str(tmp_path / "foreign"), dataclasses.replace(base[1], outputs=(output,)))
    source = plant("second", {"a/own.py": program(100)})
    with pytest.raises(UserError, match="its text has the sha256"):
        curate(CONFIG, [source], str(tmp_path / "corpus"), 0, str(tmp_path / "foreign"))


def test_the_other_corpus_is_part_of_what_a_corpus_is_and_none_changes_nothing(
    base: tuple[str, Manifest], plant: Callable[..., str], program: Callable[..., str], tmp_path: Path
) -> None:
    source = plant("second", {f"{name}/own.py": program(100 + number) for number, name in enumerate(NAMES[:9])})
    output = str(tmp_path / "corpus")
    plain = curate(CONFIG, [source], output, 0)
    inner = read_manifest(f"{output}/stages/split")
    assert set(plain.inputs) == {"listing", "repositories", "left_out", "tables"}
    assert (set(inner.inputs), set(inner.config)) == (
        {"files", "places", "exact", "near", "signatures"},
        {"split_config", "signature_config", "parts_config", "engine_config"},
    )
    named = curate(CONFIG, [source], output, 0, base[0])
    inner = read_manifest(f"{output}/stages/split")
    assert named.inputs == {**plain.inputs, "heldout": base[1].digest}
    assert inner.inputs["heldout"] == base[1].digest
    assert set(inner.config) == {"split_config", "parts_config", "signature_config", "engine_config", "seed"}
    assert named.key != plain.key
    other = plant("first", {f"{HELDOUT[0]}/new.py": program(300)})
    changed = curate(CONFIG, [other], base[0], 0)
    assert curate(CONFIG, [source], output, 0, base[0]).inputs["heldout"] == changed.digest
    assert curate(CONFIG, [source], output, 0).key == plain.key


def test_nothing_is_left_to_train_on(base: tuple[str, Manifest], tmp_path: Path) -> None:
    source = tmp_path / "second" / TRAINING[0]
    source.mkdir(parents=True)
    (source / "a.py").write_text(SHORT)
    with pytest.raises(UserError, match=r"no usable file is left of the sources \(duplicate_of_heldout 1\)"):
        curate(CONFIG, [str(tmp_path / "second")], str(tmp_path / "corpus"), 0, base[0])


def a_part(folder: str, manifest: Manifest) -> Path:
    return Path(folder, manifest.under("heldout")[0].path)


def test_a_corpus_that_cannot_be_used_is_one_message(
    base: tuple[str, Manifest], plant: Callable[..., str], program: Callable[..., str], tmp_path: Path
) -> None:
    source, output = plant("second", {"a/own.py": program(100)}), str(tmp_path / "corpus")
    single = str(tmp_path / "single")
    curate(CONFIG, [source], single, 0)
    Stage("toy", 1, {}, {}, lambda _: ([], {})).run(str(tmp_path / "toy"))
    (tmp_path / "file").write_text("x")
    for folder, message in {
        str(tmp_path / "none"): r"paths.heldout is .*none, which holds no finished corpus",
        str(tmp_path / "toy"): "which `toy` wrote; name one that `curate` wrote",
        str(tmp_path / "file"): "paths.heldout",
        single: "a corpus that holds no file out",
        output: "the very corpus that is curated",
        f"{tmp_path}/x/../corpus/": "the very corpus that is curated",
    }.items():
        with pytest.raises(UserError, match=message):
            curate(CONFIG, [source], output, 0, folder)
    few = dataclasses.replace(CONFIG, near_permutations=50, near_threshold=0.9)
    with pytest.raises(UserError, match=r"near_permutations is 50: 59% of the files that are as similar as"):
        curate(few, [source], output, 0, base[0])
    assert not Path(output).exists()


def last_of_the_texts(path: Path) -> int:
    """A byte of the texts of the first row group, which lie in a dictionary before the pages that use it."""
    group = pq.read_metadata(path).row_group(0)
    (column,) = (
        group.column(index) for index in range(group.num_columns) if group.column(index).path_in_schema == "content"
    )
    return column.data_page_offset - 1


@pytest.mark.parametrize("damage", ["gone", "cut", "changed", "manifest"])
def test_what_is_read_of_the_other_corpus_is_compared_with_its_digests(
    base: tuple[str, Manifest],
    plant: Callable[..., str],
    program: Callable[..., str],
    tmp_path: Path,
    damage: str,
) -> None:
    path = Path(base[0], "manifest.json") if damage == "manifest" else a_part(*base)
    content = bytearray(path.read_bytes())
    middle = len(content) // 3 if damage == "manifest" else last_of_the_texts(path)
    content[middle] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:middle] if damage == "cut" else content)
    source = plant("second", {"a/own.py": program(100)})
    with pytest.raises(UserError, match=re.escape(str(path))):
        curate(CONFIG, [source], str(tmp_path / "corpus"), 0, base[0])
