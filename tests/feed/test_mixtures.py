import dataclasses
import json
import os
from pathlib import Path

import pytest

from sc2jax.assets import asset_path
from sc2jax.errors import UserError
from sc2jax.feed.mixtures import SourceShare, read_mixture
from sc2jax.feed.sources import FeedInputs, open_units, refuse_absent
from sc2jax.storage import write_whole

GOOD = {"name": "source_code", "format": "repository", "share": 1.0, "max_epochs": 0}


def test_shipped_mixtures_can_be_read() -> None:
    assert read_mixture("repositories") == [SourceShare(**GOOD)]
    for path in asset_path("data", "mixtures").glob("*.json"):
        assert read_mixture(path.stem) == read_mixture(str(path))


@pytest.mark.parametrize(("name", "total"), [("3b", 612.45), ("7b", 663.25), ("15b", 913.23)])
def test_the_mixtures_of_the_paper(name: str, total: float) -> None:
    """Against the sums of the printed rows."""
    sources = read_mixture(f"starcoder2_{name}")
    assert sum(source.share for source in sources) == pytest.approx(total)
    assert all(source.folder == source.name for source in sources)
    assert {source.max_epochs for source in sources} == {5 if name == "15b" else 6}
    shares = {source.name: source.share for source in sources}
    assert ("source_code_full" in shares) == (name == "15b")
    assert ("arxiv" in shares) == ("openwebmath" in shares) == ("wikipedia" in shares) == (name != "3b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged: Input data was truncated; compare "),
        ("[]", "is damaged: Expected `object`, got `array`; compare "),
        ("{}", "missing required field `sources`"),
        ("[" * 10**5, "is damaged"),
        (
            json.dumps({"sources": [{**GOOD, "shares": 1}]}),
            "source 0 has an unknown field 'shares'; did you mean share",
        ),
        (json.dumps({"sources": [GOOD, {"name": "a"}]}), r"missing required field `format` - at `\$.sources\[1\]`"),
        (json.dumps({"sources": None}), "got `null`"),
        (json.dumps({"sources": []}), "at least one source"),
        (json.dumps({"sources": [GOOD, GOOD]}), "different names"),
        (json.dumps({"sources": [{**GOOD, "share": 0}]}), r"Expected `float` >= 1e-09 - at `\$.sources\[0\].share`"),
        (json.dumps({"sources": [{**GOOD, "share": 1e-320}]}), "Expected `float` >= 1e-09"),
        (
            json.dumps({"sources": [{**GOOD, "share": 1e300}]}),
            r"Expected `float` <= 1e\+?12|Expected `float` <= 1000000000000.0",
        ),
        (json.dumps({"sources": [{**GOOD, "share": float("nan")}]}), "is damaged"),
        (json.dumps({"sources": [{**GOOD, "name": "../other"}]}), "matching regex"),
        (json.dumps({"sources": [{**GOOD, "name": ""}]}), "matching regex"),
        (json.dumps({"sources": [{**GOOD, "max_epochs": 10**20}]}), "is damaged"),
        (json.dumps({"sources": [{**GOOD, "share": "half"}]}), "Expected `float`, got `str`"),
        (json.dumps({"sources": [{**GOOD, "max_epochs": -1}]}), "Expected `int` >= 0"),
        (json.dumps({"sources": [{**GOOD, "format": "repo"}]}), "'repo' of source_code is unknown; use one of"),
    ],
)
def test_bad_mixtures(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_mixture(str(tmp_path / "mine.json"))


def test_all_sources_that_a_corpus_lacks_are_named_at_once(tmp_path: Path) -> None:
    mixture = read_mixture("starcoder2_3b")
    (tmp_path / "issues").mkdir()
    write_whole(f"{tmp_path}/issues/manifest.json", b"{}")
    with pytest.raises(UserError) as caught:
        refuse_absent(str(tmp_path), "starcoder2_3b", mixture)
    message = str(caught.value)
    assert "has 10 sources, of which the corpus lacks 9: source_code_smol (repository), pull_requests" in message
    assert "issues (issue)" not in message
    assert f"{tmp_path}/source_code_smol" in message
    assert "--config.feed.mixture: 'repositories'" in message
    assert f"{tmp_path}/source_code_smol, {tmp_path}/pull_requests, .... Put them there" in message
    for share in mixture[2:]:
        write_whole(f"{tmp_path}/{share.folder}/manifest.json", b"{}")
    with pytest.raises(UserError, match=f"lacks 2: .* own: {tmp_path}/source_code_smol, {tmp_path}/pull_requests. Put"):
        refuse_absent(str(tmp_path), "starcoder2_3b", mixture)
    for share in mixture:
        write_whole(f"{tmp_path}/{share.folder}/manifest.json", b"{}")
    refuse_absent(str(tmp_path), "starcoder2_3b", mixture)
    refuse_absent(str(tmp_path / "empty"), "repositories", read_mixture("repositories"))


@pytest.mark.parametrize("name", ["nothing", "nothing.json", "a\0.json", "x" * 5000])
def test_no_such_mixture(name: str) -> None:
    with pytest.raises(UserError, match=r"there is no mixture .*; use one of repositories, starcoder2_15b"):
        read_mixture(name)


def test_a_mixture_in_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mixture.json")
    with pytest.raises(UserError, match="is no regular file"):
        read_mixture(str(tmp_path / "mixture.json"))


@pytest.mark.parametrize("folder", ["../other", "/etc", "a/../../b"])
def test_a_source_lies_below_the_corpus(tmp_path: Path, inputs: FeedInputs, folder: str) -> None:
    with pytest.raises(UserError, match="which is no path below it"):
        refuse_absent(str(tmp_path), "mine", [SourceShare("a", "file", 1.0, folder)])
    here = dataclasses.replace(inputs, corpus=str(tmp_path))
    with pytest.raises(UserError, match="which is no path below it"):
        open_units(here, SourceShare("a", "file", 1.0, folder), "train")


@pytest.mark.parametrize("name", ["manifest.json", "config.json", "a\n", "a/b", "..", ".sc2jax", "-a", ""])
def test_a_source_has_a_name_that_no_other_file_of_its_folder_has(tmp_path: Path, name: str) -> None:
    path = tmp_path / "mixture.json"
    path.write_text(json.dumps({"sources": [{**GOOD, "name": name}]}))
    with pytest.raises(UserError, match="is damaged"):
        read_mixture(str(path))
