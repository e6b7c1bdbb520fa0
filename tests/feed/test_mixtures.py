import json
from pathlib import Path

import pytest

from sc2jax.assets import asset_path
from sc2jax.errors import UserError
from sc2jax.feed.mixtures import SourceShare, read_mixture
from sc2jax.feed.sources import refuse_absent
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
    assert all(source.max_epochs == 5 and source.folder == source.name for source in sources)
    shares = {source.name: source.share for source in sources}
    assert ("source_code_full" in shares) == (name == "15b")
    assert ("arxiv" in shares) == ("openwebmath" in shares) == ("wikipedia" in shares) == (name != "3b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a mixture"),
        ("[]", "is not a mixture"),
        (json.dumps({"sources": [{**GOOD, "shares": 1}]}), "is not a mixture"),
        (json.dumps({"sources": []}), "at least one source"),
        (json.dumps({"sources": [GOOD, GOOD]}), "different names"),
        (json.dumps({"sources": [{**GOOD, "share": 0}]}), "it should be positive"),
        (json.dumps({"sources": [{**GOOD, "share": "half"}]}), "it should be positive"),
        (json.dumps({"sources": [{**GOOD, "max_epochs": -1}]}), "it should be 0 or more"),
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
