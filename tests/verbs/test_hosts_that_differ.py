"""`train` on hosts whose data differ: refused at all of them, before one of them writes anything.

The hosts are threads here, for nothing of JAX has begun by then.
"""

import dataclasses
import shutil

import pytest
from members import in_threads

from sc2jax.config import default_config, to_settings
from sc2jax.parallel.hosts import AgreedError, Hosts
from sc2jax.records.manifest import manifest_json, read_manifest
from sc2jax.verbs import train


@pytest.fixture
def refused(inputs, small, tmp_path, monkeypatch):
    """The message that two hosts end with alike, the second of which was told other paths."""

    def never(*_: object) -> None:
        raise AgreedError("nothing was refused")

    monkeypatch.setattr(train, "_train", never)

    def refused(**others: str) -> str:
        def work(hosts: Hosts) -> None:
            config = default_config()
            config.update_from_flattened_dict({**small, **inputs, **(others if hosts.index else {})})
            train._run(to_settings(config), str(tmp_path / "run"), hosts)

        first, second = in_threads(2, work)
        assert isinstance(first, AgreedError)
        assert isinstance(second, AgreedError)
        assert str(first) == str(second)
        return str(first)

    return refused


def test_another_corpus(refused, start, small_source, tmp_path):
    shutil.copytree(small_source, tmp_path / "source")
    (tmp_path / "source/package_0/added.py").write_text("def added(x):\n    return x + 1\n")
    assert start("curate", tmp_path / "other", **{"paths.source": tmp_path / "source"}) == 0
    assert "have different inputs: corpus is '" in refused(**{"paths.corpus": f"{tmp_path}/other/corpus"})
    assert not (tmp_path / "run").exists()


def test_another_tokenizer(refused, start, inputs, tmp_path):
    larger = {"paths.corpus": inputs["paths.corpus"], "tokenizer.vocab_size": 345}
    assert start("tokenizer", tmp_path / "other", **larger) == 0
    assert "have different inputs: tokenizer is '" in refused(**{"paths.tokenizer": f"{tmp_path}/other/tokenizer"})
    assert not (tmp_path / "run").exists()


def test_another_start(refused, trained):
    """None, where the first is told of none."""
    message = refused(**{"paths.start": f"{trained}/train"})
    assert "have different inputs: start is '" in message
    assert message.count(" on process 1 on ") == 1


def test_other_tokens(refused, call, tmp_path):
    """Of the same corpus and tokenizer, and yet of other bytes, as another machine might make them."""
    for name in ("run", "other"):
        assert call("tokenize", tmp_path / name)[0] == 0
    manifest = read_manifest(f"{tmp_path}/other/tokenize")
    outputs = tuple(dataclasses.replace(output, sha256="0" * 64) for output in manifest.outputs)
    changed = manifest_json(dataclasses.replace(manifest, outputs=outputs))
    (tmp_path / "other/tokenize/manifest.json").write_bytes(changed)
    assert "have different inputs: tokenize is '" in refused(**{"paths.tokenize": f"{tmp_path}/other/tokenize"})
    assert not (tmp_path / "run/train").exists()
