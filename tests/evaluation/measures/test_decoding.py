"""What the measure makes of the speeds that it is told, and what of it is a result."""

import dataclasses
from typing import Any

import jax
import pytest
from scripted_model import scripted_model, unexpected

from sc2jax.config import Settings
from sc2jax.errors import UserError
from sc2jax.evaluation.config import DecodingConfig
from sc2jax.evaluation.measures.decoding import Decoding, measure, summary
from sc2jax.inference import speed
from sc2jax.inference.loaded_model import LoadedModel
from sc2jax.inference.speed import Speed
from sc2jax.json_files import decode_json
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import init_params, parameter_table
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh
from sc2jax.records.manifest import Manifest, commit, read_manifest
from sc2jax.runs.results import Scores, read_scores, write_scores
from sc2jax.runs.run import Run
from sc2jax.text.tokenizer import Tokenizer

CONFIG = DecodingConfig(decoding_tokens=5, decoding_batch=3)


@pytest.fixture
def model(byte_tokenizer: Tokenizer) -> LoadedModel:
    """A vocabulary of some tokens more than the tokenizer has, and a context of 20."""
    config = ModelConfig(
        vocab_size=300, context_length=20, embed_dim=8, num_layers=1, num_heads=2, num_kv_heads=1, window=4
    )
    params = init_params(parameter_table(config), jax.random.key(0))
    return LoadedModel(params, config, byte_tokenizer, create_mesh(MeshConfig(), jax.devices()[:1]))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Reading takes a quarter of a second a prompt, a step 2 ms and 1 ms more for each; what was asked for."""
    calls: list[dict[str, Any]] = []

    def answer(_params: Any, _config: Any, **how: Any) -> Speed:
        calls.append(how)
        return Speed(0.25 * how["batch_size"], 0.002 + 0.001 * how["batch_size"], 1000 + how["batch_size"])

    monkeypatch.setattr(speed, "decoding_speed", answer)
    return calls


def test_one_alone_and_many_together(
    model: LoadedModel, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "peak_process_bytes", lambda: 77)
    found = measure(model, unexpected, CONFIG, 0)
    assert asked == [
        {"batch_size": batch, "prompt_tokens": 15, "new_tokens": 5, "choices": model.tokenizer.vocab_size}
        for batch in (1, 3)
    ]
    assert found["measured"] is True
    assert (found["context"], found["prompt_tokens"], found["new_tokens"]) == (20, 15, 5)
    assert found["cache_bytes"] == 2 * 1 * 1 * 4 * 4 * 2 + 4 * 4, "four slots of one head of four, in bfloat16"
    timing = found.get("timing")
    assert timing == {
        "device": jax.devices()[0].device_kind,
        "alone": {
            "batch": 1,
            "prefill_milliseconds": 250.0,
            "tokens_per_second": pytest.approx(1 / 0.003),
            "program_bytes": 1001,
        },
        "together": {
            "batch": 3,
            "prefill_milliseconds": 750.0,
            "tokens_per_second": pytest.approx(3 / 0.005),
            "program_bytes": 1003,
        },
        "peak_bytes": 77,
        "peak_of": "process",
    }
    said = summary(found)
    assert "a prompt of 15 tokens is read in 250.0 ms, 333 tokens/s alone and 600 in a batch of 3" in said
    monkeypatch.setattr(speed, "peak_device_bytes", lambda: 99)
    timing = measure(model, unexpected, CONFIG, 0).get("timing")
    assert timing and (timing["peak_bytes"], timing["peak_of"]) == (99, "device")


def test_only_ids_of_the_model_are_asked_for(model: LoadedModel, asked: list[dict[str, Any]]) -> None:
    small = dataclasses.replace(model, config=dataclasses.replace(model.config, vocab_size=40))
    measure(small, unexpected, CONFIG, 0)
    assert {how["choices"] for how in asked} == {40}


def test_off_and_too_long(byte_tokenizer: Tokenizer, model: LoadedModel, asked: list[dict[str, Any]]) -> None:
    found = measure(scripted_model(byte_tokenizer), unexpected, DecodingConfig(), 0)
    assert found == {"measured": False, "reason": "switched off (evaluation.decoding_tokens is 0)"}
    assert summary(found) == "decoding: not measured, switched off (evaluation.decoding_tokens is 0)"
    with pytest.raises(UserError, match=r"decoding_tokens is 20, and leaves no room .* context of 20; lower it"):
        measure(model, unexpected, DecodingConfig(decoding_tokens=20), 0)
    measure(model, unexpected, DecodingConfig(decoding_tokens=19), 0)
    assert asked[0]["prompt_tokens"] == 1


def test_bytes_are_results_and_times_are_not(model: LoadedModel, asked: list[dict[str, Any]], tmp_path: Any) -> None:
    """Two runs that differ in time alone have one digest; what was timed is read only where it is asked for."""
    found: Any = measure(model, unexpected, CONFIG, 0)
    assert asked
    run = Run(Settings(), str(tmp_path))
    digests = set()
    for milliseconds in (250.0, 7.0):
        found["timing"]["alone"]["prefill_milliseconds"] = milliseconds
        outputs = write_scores(run.folder("evaluate/decoding"), Scores(found))
        commit(run.folder("evaluate/decoding"), Manifest("decoding", {}, {}, tuple(outputs), {}))
        digests.add(read_manifest(run.folder("evaluate/decoding")).digest)
    assert len(digests) == 1
    assert read_scores(run, "decoding", timed=True).found == found
    bytes_alone = read_scores(run, "decoding").found
    assert bytes_alone == {name: value for name, value in found.items() if name != "timing"}
    assert summary(bytes_alone).endswith("cache of 20 tokens 0.00 MB")
    (tmp_path / "evaluate/decoding/timing.json").write_text("{}")
    with pytest.raises(UserError, match=r"timing\.json is not what its stage wrote"):
        read_scores(run, "decoding", timed=True)


@pytest.mark.parametrize("speed_", ["0", "-1"])
def test_a_speed_of_nothing_is_no_result(speed_: str) -> None:
    times = f'"batch": 1, "prefill_milliseconds": 0, "program_bytes": 0, "tokens_per_second": {speed_}'
    sizes = (
        '"measured": true, "context": 1, "prompt_tokens": 1, "new_tokens": 1, "parameter_bytes": 1, "cache_bytes": 1'
    )
    timing = f'"device": "cpu", "alone": {{{times}}}, "together": {{{times}}}, "peak_bytes": 0, "peak_of": "device"'
    with pytest.raises(UserError, match="tokens_per_second"):
        decode_json(f'{{{sizes}, "timing": {{{timing}}}}}'.encode(), Decoding, "x", "y")
