"""What becomes of a corpus when something in its sources is broken, or changes under its hands."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sc2jax.config import default_config, to_settings
from sc2jax.corpus.config import CorpusConfig
from sc2jax.corpus.recipes import source_code
from sc2jax.corpus.recipes.source_code import curate
from sc2jax.corpus.stages import licenses
from sc2jax.errors import UserError
from sc2jax.records.manifest import Manifest
from sc2jax.verbs import curate as verb

Rows = Callable[..., list[dict[str, Any]]]


def parts(manifest: Manifest) -> list[str]:
    return [output.sha256 for output in manifest.outputs if output.result]


@pytest.fixture
def source(plant: Callable[..., str], program: Callable[..., str]) -> str:
    return plant(
        "src", {f"pkg{number}/{name}.py": program(10 * number + ord(name)) for number in range(3) for name in "ab"}
    )


def test_the_others_go_on_and_the_end_says_what_is_missing(
    source: str, tmp_path: Path, plant: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = curate(CorpusConfig(), [source], str(tmp_path / "whole"), 0)
    assert whole.statistics["left_out"] == {}
    plant("src", {"broken/.git/HEAD": "nonsense", "broken/a.py": "1"})
    Path(source, "pkg0/link.py").symlink_to("a.py")
    settings = to_settings(default_config())
    settings = dataclasses.replace(settings, paths=dataclasses.replace(settings.paths, source=source))
    for expected in ("written", "complete already"):
        verb.run(settings, str(tmp_path / "run"))
        said = capsys.readouterr().out
        assert (expected == "complete already") == (expected in said)
        assert (
            "left out of the sources: 1 git repository that cannot be read as one (broken: its HEAD "
            "holds no commit; repair it (`git fsck`), or remove .git to take the folder as plain files), 1 link\n"
        ) in said
    again = curate(settings.corpus, [source], str(tmp_path / "run/corpus"), settings.seed)
    assert parts(again) == parts(whole)
    stop = dataclasses.replace(settings.corpus, damaged="stop")
    with pytest.raises(UserError, match=r"src/broken is a git repository that cannot be read as one"):
        curate(stop, [source], str(tmp_path / "run/corpus"), settings.seed)


def test_what_is_left_out_is_part_of_what_a_corpus_is(source: str, tmp_path: Path, plant: Callable[..., str]) -> None:
    """Statistics of a source that was mended, or broke, are not those of before."""
    output = str(tmp_path / "corpus")
    before = curate(CorpusConfig(), [source], output, 0)
    plant("src", {"broken/.git/HEAD": "nonsense"})
    broken = curate(CorpusConfig(), [source], output, 0)
    assert (parts(broken), broken.key == before.key) == (parts(before), False)
    assert broken.statistics["left_out"]["unreadable_git"]["count"] == 1
    Path(source, "broken/.git/HEAD").unlink()
    Path(source, "broken/.git").rmdir()
    assert curate(CorpusConfig(), [source], output, 0) == before


def test_a_file_that_changes_after_it_was_listed_is_rejected_and_taken_by_the_next_run(
    source: str, tmp_path: Path, rows_of: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = curate(CorpusConfig(), [source], str(tmp_path / "whole"), 0)
    output, file, license_file = str(tmp_path / "corpus"), Path(source, "pkg0/a.py"), Path(source, "pkg2/LICENSE")
    monkeypatch.setattr(licenses, "detect", lambda content, *_: frozenset({"MIT"} if content == b"MIT" else ()))
    license_file.write_text("MIT")
    listed = source_code.write_listing

    def list_and_change(*arguments: Any, **more: Any) -> Any:
        listing = listed(*arguments, **more)
        file.rename(f"{source}.kept")
        license_file.write_text("GPL")
        return listing

    with monkeypatch.context() as patch:
        patch.setattr(source_code, "write_listing", list_and_change)
        changed = curate(CorpusConfig(), [source], output, 0)
    rejects = {(row["path"], row["reason"]): row["detail"] for row in rows_of(output, changed, "rejects")}
    assert rejects == {
        ("a.py", "changed"): "No such file or directory",
        ("LICENSE", "changed"): "",
        ("a.py", "non_permissive_license"): licenses.UNREADABLE,
        ("b.py", "non_permissive_license"): licenses.UNREADABLE,
    }
    assert changed.statistics["left_out"] == {
        "changed": {"count": 2, "named": ["pkg0/a.py: No such file or directory", "pkg2/LICENSE"]},
        "changed_license": {"count": 1, "named": ["pkg2/LICENSE"]},
    }
    Path(f"{source}.kept").rename(file)
    license_file.write_text("MIT")
    with monkeypatch.context() as patch:
        patch.setattr(source_code, "write_listing", list_and_change)
        with pytest.raises(UserError, match=r"pkg2/LICENSE is a file that was another one"):
            curate(CorpusConfig(damaged="stop"), [source], output, 0)
    Path(f"{source}.kept").rename(file)
    license_file.write_text("MIT")
    mended = curate(CorpusConfig(), [source], output, 0)
    assert mended.key == changed.key, "the sources are what was listed"
    assert mended.statistics["left_out"] == {}
    assert mended.statistics["split"] == whole.statistics["split"]


def test_nothing_that_can_be_read(plant: Callable[..., str], tmp_path: Path) -> None:
    root = plant("src", {"broken/.git/HEAD": "nonsense"})
    with pytest.raises(UserError, match=r"no file of the sources can be read: 1 git repository .*repair it"):
        curate(CorpusConfig(), [root], str(tmp_path / "corpus"), 0)
    assert not (tmp_path / "corpus").exists()
