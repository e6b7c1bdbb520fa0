"""A corpus is built again from its identities and an archive of contents, to the byte, or not at all."""

import dataclasses
import errno
import hashlib
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from dulwich import porcelain

from sc2jax.cli import main
from sc2jax.config import default_config, to_settings
from sc2jax.corpus.config import CorpusConfig
from sc2jax.corpus.recipes import rebuild as recipe
from sc2jax.corpus.recipes.rebuild import rebuilding
from sc2jax.corpus.recipes.source_code import curate
from sc2jax.corpus.stages import corpus as corpus_stage
from sc2jax.corpus.stages import identities, rebuild
from sc2jax.corpus.stages.identities import open_corpus
from sc2jax.errors import UserError
from sc2jax.records.dataset import read_part, read_tables, write_labelled_part
from sc2jax.records.edits import Replacement, edit_text, edits_sha256
from sc2jax.records.manifest import MANIFEST, Manifest, manifest_json, read_manifest
from sc2jax.records.schemas import IDENTITY, SOURCE_FILE
from sc2jax.records.statistics import corpus_statistics
from sc2jax.runs.sharing import stage_sections

CONFIG = CorpusConfig(row_group_bytes=4000, part_bytes=10_000, heldout_fraction=0.3, sample=0.9)
WHO = b"Ada <ada@example.org>"
GERMAN = "# Größe über alles: Äpfel, Öl, Übung, süß, heiß, Fuß, Straße, Mädchen, Köln, fünf, zwölf\n"
RUSSIAN = "# Съешь ещё этих мягких французских булок, да выпей чаю. \n" * 8


def whole(folder: str) -> dict[str, bytes]:
    """The parts of both sides and the identities of a corpus, by name."""
    sides = [Path(folder, name) for name in ("train", "heldout", "identities")]
    files = [path for side in sides for path in side.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def build(manifest: str, source: str, output: Path) -> Manifest:
    return rebuilding(CONFIG, [source], str(output), 0, manifest).run(str(output))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A source of git and plain folders in several encodings, and its corpus, of which some texts were edited."""
    top = tmp_path_factory.mktemp("made")
    source, output = top / "source", top / "corpus"
    for number in range(10):
        folder = source / f"project{number:02d}"
        (folder / "inner").mkdir(parents=True)
        lines = [f"value_{number}_{line} = secret_{number * line} + other_{line}" for line in range(30)]
        text = "\n".join(lines) + "\n"
        dos = text.replace("\n", "\r\n").replace("value", "result").replace("other", "a")
        marked = "\ufeff" + "".join(f"é{number} = {name!r}\n" for name in lines[::-1])
        (folder / "unix.py").write_bytes(text.encode())
        (folder / "inner/dos.py").write_bytes(dos.encode())
        (folder / "marked.py").write_bytes(marked.encode())
        (folder / "german.py").write_bytes((GERMAN + f"eins_{number} = zwei\n" * (number + 2)).encode("latin-1"))
        (folder / "russian.js").write_bytes((RUSSIAN + f"let drei{number} = vier\n" * (number + 2)).encode("cp1251"))
        (folder / "wide.py").write_bytes(text.encode("utf-16"))
        if number % 2:
            git = porcelain.init(str(folder))
            porcelain.add(git, [str(path) for path in folder.rglob("*.py")] + [str(folder / "russian.js")])
            porcelain.commit(git, b"first", author=WHO, committer=WHO)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(corpus_stage, "row_groups", edited(corpus_stage.row_groups))
        curate(CONFIG, [str(source)], str(output), 0)
    yield str(source), str(output)


def edited(row_groups: Callable[..., Iterator[pa.Table]]) -> Callable[..., Iterator[pa.Table]]:
    """Lets texts be edited as a stage that redacts would: some parts replaced, deleted, inserted, and once more."""

    def of(*arguments: Any) -> Iterator[pa.Table]:
        for table in row_groups(*arguments):
            yield pa.Table.from_pylist([redacted(row) for row in table.to_pylist()], SOURCE_FILE)

    return of


def redacted(row: dict[str, Any]) -> dict[str, Any]:
    text, edits = row["content"], []
    for word, new in (("secret", "<KEY>"), ("Äpfel", ""), ("<KEY>", "<KEY>é😀"), ("other", "<NAME>"), ("Köln", "")):
        at = text.find(word)
        if at >= 0 and hash_of(row) % 3:
            text, edits = edit_text(text, edits, [Replacement(at, at + len(word), new, word)])
    spans = [dataclasses.asdict(edit) for edit in edits]
    return row | {"content": text, "text_sha256": sha256(text), "edits": spans, "edits_sha256": edits_sha256(spans)}


def hash_of(row: dict[str, Any]) -> int:
    return int(row["swhid"][-4:], 16)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def moved(source: str, top: Path) -> str:
    """The same contents elsewhere: everything renamed, one repository in an archive, one as objects of git alone."""
    for folder in sorted(Path(source).iterdir()):
        number = int(folder.name[-2:])
        if number == 1:
            shutil.copytree(folder / ".git", top / "bare")
            continue
        if number == 2:
            shutil.make_archive(str(top / "packed"), "gztar", folder)
            continue
        if number == 3:
            with zipfile.ZipFile(top / "zipped.zip", "w") as archive:
                archive.writestr("a/b", "other")
                for path in folder.rglob("*.[pj]*"):
                    archive.write(path, f"x/{path.name}.txt")
            continue
        for index, path in enumerate(sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".js"))):
            target = top / f"all/of/{number % 3}" / f"{number}-{index}.unknown"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    (top / "all/empty").write_bytes(b"")
    return str(top)


def listed(folder: str) -> list[dict[str, Any]]:
    """The sides of a corpus as its manifest lists them."""
    manifest = read_manifest(folder)
    return [dataclasses.asdict(output) for side in ("train", "heldout") for output in manifest.under(side)]


def of_outputs(manifest: Manifest) -> set[tuple[str, bool]]:
    return {(output.path.partition("/")[0], output.result) for output in manifest.outputs}


def test_what_is_built_again_has_several_of_everything(made: tuple[str, str]) -> None:
    _, output = made
    manifest = read_manifest(output)
    assert min(len(manifest.under(side)) for side in ("train", "heldout")) > 1
    rows = [
        row
        for side in ("train", "heldout")
        for table in read_tables(output, manifest, side)
        for row in table.to_pylist()
    ]
    assert max(part.row_groups for part in manifest.under("train")) > 1
    assert {row["encoding"] for row in rows} > {"UTF-8", "WINDOWS-1251"}
    assert len({row["encoding"] for row in rows}) > 2
    assert {len(row["edits"]) for row in rows} >= {0, 1, 2}
    assert any("\r\n" in row["content"] for row in rows)
    assert any(row["content"].startswith("\ufeff") for row in rows)
    assert not any(row["path"] == "wide.py" for row in rows)


@pytest.mark.parametrize("where", ["the same", "moved"])
def test_the_same_bytes(made: tuple[str, str], tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source, output = made
    (tmp_path / "moved").mkdir()
    archive = source if where == "the same" else moved(source, tmp_path / "moved")
    if where == "moved":  # so that every loop goes round more than once
        monkeypatch.setattr(rebuild, "_GROUPS", 3)
        monkeypatch.setattr(rebuild, "_BUCKET_BYTES", 4_000)
    again = build(output, archive, tmp_path / "again")
    assert whole(str(tmp_path / "again")) == whole(output)
    assert listed(str(tmp_path / "again")) == listed(output)
    before, after = corpus_statistics(output, read_manifest(output)), corpus_statistics(str(tmp_path / "again"), again)
    assert {**after, "left_out": {}} == {**before, "left_out": {}}
    results = {("heldout", True), ("identities", False), ("train", True)}
    assert of_outputs(again) == results < of_outputs(read_manifest(output))
    assert not {top for top, result in of_outputs(read_manifest(output)) if result} & {"identities"}
    assert not list(tmp_path.rglob("shuffle-*"))


def test_from_the_identities_alone_and_once_more(made: tuple[str, str], tmp_path: Path) -> None:
    source, output = made
    alone = shutil.copytree(Path(output, "identities"), tmp_path / "alone")
    first = build(str(alone), source, tmp_path / "first")
    build(str(tmp_path / "first"), source, tmp_path / "second")
    assert whole(str(tmp_path / "second")) == whole(output)
    assert build(str(alone), "/nowhere", tmp_path / "first") == first, "it is done, so nothing is read"


def test_every_file_has_its_place_and_no_content(made: tuple[str, str]) -> None:
    _, output = made
    corpus, manifest = open_corpus(output), read_manifest(output)
    for side in ("train", "heldout"):
        found = [row for table in read_tables(corpus.folder, corpus.manifest, side) for row in table.to_pylist()]
        places = []
        for part in manifest.under(side):
            label = int(part.path.split("-")[1])
            for group in range(part.row_groups):
                only = Manifest("", {}, {}, (part,), {})
                tables = list(read_tables(output, only, side))
                places += [(row, label, group) for row in tables[group].to_pylist()]
        assert [(row["part"], row["row_group"]) for row in found] == [place[1:] for place in places]
        for row, (whole_row, _, _) in zip(found, places, strict=True):
            text = whole_row.pop("content")
            written = row.pop("replacements")
            assert written == [text[edit["start"] : edit["end"]] for edit in whole_row["edits"]]
            assert {name: row[name] for name in whole_row} == whole_row
    assert "content" not in IDENTITY.names
    assert b"other_" not in b"".join(
        content for name, content in whole(output).items() if name.startswith("identities")
    )


def refused(manifest: str, source: str, output: Path) -> str:
    """The message; nothing is left of the work."""
    with pytest.raises(UserError) as error:
        build(manifest, source, output)
    assert not output.exists()
    return str(error.value)


def altered(output: str, folder: Path, change: Callable[[dict], dict] = dict, **said: Any) -> str:
    """The identities of a corpus as they would be if something else had been written down."""
    corpus, outputs = open_corpus(output), []
    for (side, label), part in zip(corpus.places, corpus.identities, strict=True):
        tables = [table.to_pylist() for table in read_part(corpus.folder, part)]
        changed = [pa.Table.from_pylist([change(row) for row in rows], IDENTITY) for rows in tables]
        outputs.append(write_labelled_part(str(folder), side, label, changed, IDENTITY))
    statistics = {**corpus.manifest.statistics, **said}
    manifest = dataclasses.replace(corpus.manifest, outputs=tuple(outputs), statistics=statistics)
    (folder / MANIFEST).write_bytes(manifest_json(manifest))
    return str(folder)


def known(output: str) -> list[dict[str, Any]]:
    """The identities of all files."""
    corpus = open_corpus(output)
    tables = [table for part in corpus.identities for table in read_part(corpus.folder, part)]
    return [row for table in tables for row in table.to_pylist()]


@pytest.mark.parametrize("count", [1, 3, 4])
def test_contents_that_are_missing(made: tuple[str, str], tmp_path: Path, count: int) -> None:
    source, output = made
    shutil.copytree(source, tmp_path / "less")
    rows = known(output)
    plain = [row for row in rows if not Path(source, row["repository"], ".git").exists()][:count]
    for row in plain:
        (tmp_path / "less" / row["repository"] / row["path"]).unlink()
    (tmp_path / "less/pipe").mkdir()
    os.mkfifo(tmp_path / "less/pipe/fifo")
    message = refused(output, str(tmp_path / "less"), tmp_path / "again")
    assert f"the contents of {count} of {len(rows)} files of {output}/identities are not in the sources (" in message
    named = [f"{row['repository']}: {row['path']}, {row['swhid']}" in message for row in plain]
    assert sum(named) == min(count, 3)
    assert ("; ...)" in message) == (count > 3)
    assert message.count("swh:1:cnt:") == min(count, 3)
    assert "name more of them in paths.source; left out of the sources: 1 pipe, socket or device" in message


def test_a_content_that_changes_after_it_was_listed(
    made: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = made
    shutil.copytree(source, tmp_path / "copy")
    row = next(row for row in known(output) if not Path(source, row["repository"], ".git").exists())
    listing = recipe.list_anew

    def then_changed(*arguments: Any, **names: Any) -> Any:
        found = listing(*arguments, **names)
        (tmp_path / "copy" / row["repository"] / row["path"]).write_text("another")
        return found

    monkeypatch.setattr(recipe, "list_anew", then_changed)
    message = refused(output, str(tmp_path / "copy"), tmp_path / "again")
    which = f"{row['repository']}: {row['path']}, which cannot be read as it was listed (changed)"
    assert message.endswith("bring that folder back")
    assert f" files of {output}/identities cannot be made again ({which}); run the same command again" in message
    assert message.startswith("1 of ")


def german(row: dict) -> bool:
    return row["path"] == "german.py"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoding": "UTF-8"}, "which is no text in UTF-8"),
        ({"encoding": "no\0such"}, "which is no text in no\u2400such"),
        ({"encoding": "cp1251"}, "whose text has the sha256 "),
        ({"replacements": ["a"] * 9}, r"with \d edits and 9 replacements"),
        ({"text_sha256": "0" * 64}, "whose text has the sha256 "),
    ],
)
def test_what_cannot_be_made_again(made: tuple[str, str], tmp_path: Path, change: dict, said: str) -> None:
    source, output = made
    manifest = altered(output, tmp_path, lambda row: row | change if german(row) else row)
    message = refused(manifest, source, tmp_path / "again")
    pattern = rf"(\d+) of (\d+) files of {tmp_path} cannot be made again \((.*)\); run the same"
    ((count, total, names),) = re.findall(pattern, message)
    assert int(total) == open_corpus(output).files
    assert 3 < int(count) < 11
    assert names.endswith("; ...")
    assert len(re.findall(rf"project\d\d: german.py, {said}", names)) == 3


def test_other_edits_than_were_written_down(made: tuple[str, str], tmp_path: Path) -> None:
    source, output = made
    manifest = altered(output, tmp_path, lambda row: row | {"edits_sha256": "0" * 64} if row["edits"] else row)
    assert "its edits have the sha256" in refused(manifest, source, tmp_path / "again")


def test_other_replacements_are_other_texts(made: tuple[str, str], tmp_path: Path) -> None:
    source, output = made
    manifest = altered(output, tmp_path, lambda row: row | {"replacements": ["" for _ in row["edits"]]})
    assert "whose text has the sha256" in refused(manifest, source, tmp_path / "again")


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ({}, "no version differs, so it was written with another corpus"),
        ({"sc2jax": "0.0.1"}, r"it was written by sc2jax 0\.0\.1 \(here .*\); install those versions"),
        ({"zlib": "1"}, r"it was written by zlib 1 \(here none\); install those versions"),
    ],
)
def test_parts_that_come_out_other_than_they_were(
    made: tuple[str, str], tmp_path: Path, versions: dict, said: str
) -> None:
    source, output = made
    other = known(output)[0]["repository"]
    written = identities.written_by() | versions
    manifest = altered(
        output, tmp_path, lambda row: row | ({"stars": 7} if row["repository"] == other else {}), written_by=written
    )
    message = refused(manifest, source, tmp_path / "again")
    total = len(open_corpus(output).parts)
    assert re.fullmatch(
        rf"1 of {total} parts of the corpus of {tmp_path} come out other than they were written "
        rf"\(train/part-\d+-[0-9a-f]{{16}}\.parquet\): {said}",
        message,
    )


@pytest.mark.parametrize("name", ["arrow", "codec"])
def test_another_writer_is_refused_before_any_work(
    made: tuple[str, str], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = made
    manifest = altered(output, tmp_path, written_by=identities.written_by() | {name: "\x1bold", "sc2jax": "0.0.1"})
    monkeypatch.setattr(recipe, "list_anew", None)
    message = refused(manifest, source, tmp_path / "again")
    assert message.startswith(f"the corpus of {tmp_path} cannot be built here to the byte: it was written by ")
    assert f"{name} \u241bold (here {identities.written_by()[name]})" in message
    assert "sc2jax 0.0.1 (here" in message


def test_another_release_that_writes_the_same_is_as_good(made: tuple[str, str], tmp_path: Path) -> None:
    source, output = made
    manifest = altered(output, tmp_path / "other", written_by=identities.written_by() | {"sc2jax": "0.0.1"})
    build(manifest, source, tmp_path / "again")
    assert listed(str(tmp_path / "again")) == listed(output)


def test_what_is_left_out_of_the_sources_is_said(made: tuple[str, str], tmp_path: Path) -> None:
    source, output = made
    (tmp_path / "more/pipe").mkdir(parents=True)
    os.mkfifo(tmp_path / "more/pipe/fifo")
    sources = [source, str(tmp_path / "more")]
    manifest = rebuilding(CONFIG, sources, str(tmp_path / "again"), 0, output).run(str(tmp_path / "again"))
    assert corpus_statistics("", manifest)["left_out"]["special_file"]["count"] == 1
    assert open_corpus(output).statistics["corpus"]["left_out"] == {}


def test_what_cannot_be_read_ends_the_work_where_that_is_asked_for(made: tuple[str, str], tmp_path: Path) -> None:
    source, output = made
    (tmp_path / "more/broken/.git").mkdir(parents=True)
    (tmp_path / "more/broken/.git/HEAD").write_text("nonsense")
    stop = dataclasses.replace(CONFIG, damaged="stop")
    stage = rebuilding(stop, [source, str(tmp_path / "more")], str(tmp_path / "again"), 0, output)
    with pytest.raises(UserError, match="broken"):
        stage.run(str(tmp_path / "again"))


def test_a_folder_with_something_else_is_refused(made: tuple[str, str], tmp_path: Path) -> None:
    source, output = made
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="holds files that are not ours"):
        rebuilding(CONFIG, [source], str(tmp_path), 0, output)


def test_identities_of_another_kind(made: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, output = made
    others = IDENTITY.set(IDENTITY.names.index("stars"), pa.field("stars", pa.string()))
    with monkeypatch.context() as patched:
        patched.setitem(globals(), "IDENTITY", others)
        manifest = altered(output, tmp_path)
    assert "stars is string instead of int64" in refused(manifest, source, tmp_path / "again")


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("at", [-1, -20, 5, 100, "cut", "gone"])
def test_damaged_identities(made: tuple[str, str], tmp_path: Path, at: int | str) -> None:
    source, output = made
    alone = Path(shutil.copytree(Path(output, "identities"), tmp_path / "alone"))
    path = sorted(alone.glob("train/*"))[1]
    if at == "gone":
        path.unlink()
    elif at == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        flip(path, int(at))
    message = refused(str(alone), source, tmp_path / "again")
    assert str(path) in message


def test_every_byte_of_the_identities_counts(made: tuple[str, str], tmp_path: Path) -> None:
    """Whatever Parquet does not check itself, such as what lies between its pages."""
    source, output = made
    alone = Path(shutil.copytree(Path(output, "identities"), tmp_path / "alone"))
    path = sorted(alone.glob("heldout/*"))[0]
    flip(path, 0)  # of the letters that the file begins with
    assert refused(str(alone), source, tmp_path / "again") == f"{path} is not what was written; bring it back"


def test_a_damaged_manifest(made: tuple[str, str], tmp_path: Path) -> None:
    source, output = made
    alone = Path(shutil.copytree(Path(output, "identities"), tmp_path / "alone"))
    manifest = alone / MANIFEST
    manifest.write_bytes(manifest.read_bytes().replace(b"zstd", b"gzip"))
    assert "is not what its stage wrote" in refused(str(alone), source, tmp_path / "again")
    corpus = Path(shutil.copytree(output, tmp_path / "corpus"))
    shutil.copy(altered(output, tmp_path / "other", largest_file=9) + f"/{MANIFEST}", corpus / "identities")
    assert "is not what its stage wrote" in refused(str(corpus), source, tmp_path / "again")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"largest_file": -1}, "what .* says of the corpus is damaged: .*; bring it back as it was written"),
        ({"parts": []}, "is damaged: its parts are not those of its corpus; bring it back"),
        ({"parts": 1}, "is damaged: its parts are not those of its corpus; bring it back"),
        ({"rows": 1}, "is damaged: its parts are not those of its corpus; bring it back"),
        ({"row_groups": 1}, "is damaged: its parts are not those of its corpus; bring it back"),
    ],
)
def test_a_manifest_that_says_what_cannot_be(made: tuple[str, str], tmp_path: Path, said: dict, message: str) -> None:
    source, output = made
    parts = [dict(part) for part in open_corpus(output).manifest.statistics["parts"]]
    if said.get("parts") == 1:
        said = {"parts": parts[:1]}
    elif "rows" in said or "row_groups" in said:
        (name,) = said
        parts[0][name] += 1
        said = {"parts": parts}
    manifest = altered(output, tmp_path, **said)
    assert re.search(message, refused(manifest, source, tmp_path / "again"))


@pytest.mark.parametrize("path", ["../x", "train/x.parquet", "rejects/part-00000-0123456789abcdef.parquet"])
def test_parts_that_lie_elsewhere(made: tuple[str, str], tmp_path: Path, path: str) -> None:
    source, output = made
    corpus = open_corpus(output)
    parts = [dict(part) | {"path": path} for part in corpus.manifest.statistics["parts"]]
    shutil.copytree(corpus.folder, tmp_path / "alone")
    outputs = tuple(dataclasses.replace(part, path=path.replace("../", "")) for part in corpus.identities)
    manifest = dataclasses.replace(
        corpus.manifest, outputs=outputs, statistics={**corpus.manifest.statistics, "parts": parts}
    )
    (tmp_path / "alone" / MANIFEST).write_bytes(manifest_json(manifest))
    assert "names files that are no parts" in refused(str(tmp_path / "alone"), source, tmp_path / "again")


def test_folders_that_hold_no_identities(made: tuple[str, str], tmp_path: Path) -> None:
    source, output = made
    (tmp_path / "empty").mkdir()
    empty = refused(str(tmp_path / "empty"), source, tmp_path / "again")
    assert f"paths.manifest is {tmp_path}/empty, which holds no manifest.json; name a folder that" in empty
    assert "paths.manifest" in refused(str(tmp_path / "none"), source, tmp_path / "again")
    stage = refused(f"{output}/stages/files", source, tmp_path / "again")
    assert "which `files` wrote; name one that `curate` wrote" in stage
    manifest = read_manifest(output)
    outputs = tuple(part for part in manifest.outputs if part.path != f"identities/{MANIFEST}")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / MANIFEST).write_bytes(manifest_json(dataclasses.replace(manifest, outputs=outputs)))
    old = refused(str(tmp_path / "old"), source, tmp_path / "again")
    assert old == f"{tmp_path}/old was written by an earlier version, without identities/; run curate again"


@pytest.mark.parametrize("below", ["", "/identities"])
def test_a_corpus_is_not_built_onto_itself(made: tuple[str, str], below: str) -> None:
    source, output = made
    before = whole(output)
    with pytest.raises(UserError, match=r"the very corpus that would be built; name another output"):
        build(output + below, source, Path(output))
    assert whole(output) == before


def test_a_full_disk_is_one_message(made: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, output = made

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(recipe, "write_rebuilt", full)
    assert "is full; make room and run the same command again (nothing stays" in refused(output, source, tmp_path / "a")


def test_the_samples_by_the_command_line(samples: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def curate_into(name: str, **paths: str) -> Any:
        flags = [f"--config.paths.{key}={value}" for key, value in paths.items()]
        with pytest.raises(SystemExit) as end:
            main(["curate", f"--workdir={tmp_path / name}", f"--config.paths.source={samples}", *flags])
        return end.value.code

    assert curate_into("a") == 0
    assert curate_into("b", manifest=str(tmp_path / "a/corpus")) == 0
    assert whole(str(tmp_path / "b/corpus")) == whole(str(tmp_path / "a/corpus"))
    said = [line.partition(" -> ")[0] for line in capsys.readouterr().out.splitlines() if "kept" in line]
    assert len(said) == 2
    assert len(set(said)) == 1
    assert curate_into("c", manifest=str(tmp_path / "a/corpus"), heldout=str(tmp_path / "a/corpus")) == 2
    assert "paths.manifest and paths.heldout are both set" in capsys.readouterr().err


def test_runs_of_other_manifests_share_no_corpus() -> None:
    config: Any = default_config()
    config.paths.manifest = "/identities"
    assert stage_sections(to_settings(config), "corpus")["manifest"] == "/identities"
