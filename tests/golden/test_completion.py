"""Completions of converted random weights, through the commands, against transformers' token for token."""

import json
import os
from pathlib import Path

import completion_case
import numpy as np
import pytest

from sc2jax.cli import parse, run
from sc2jax.config import to_settings
from sc2jax.display import terminal_text
from sc2jax.runs.models import open_model
from sc2jax.runs.run import open_run
from sc2jax.text.tokenizer import load_tokenizer

CASE = json.loads(completion_case.EXPECTED.read_text(encoding="utf-8"))
CONFIG = ("--config=starcoder2:3b", "--config.model.compute_dtype=float32")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    tokenizer = os.environ.get("SC2JAX_TOKENIZER", "")
    if not tokenizer:
        pytest.skip("SC2JAX_TOKENIZER does not name StarCoder2's tokenizer.json")
    folder = tmp_path_factory.mktemp("completion")
    completion_case.write_model(folder / "source", Path(tokenizer), CASE["seed"])
    run(["convert", *CONFIG, f"--config.convert.from_huggingface={folder / 'source'}", f"--workdir={folder / 'run'}"])
    return folder / "run"


def test_token_for_token(workdir):
    _, config, _ = parse("complete", [*CONFIG, f"--workdir={workdir}"])
    model = open_model(open_run(to_settings(config), str(workdir)))
    prompts = [completion["prompt_ids"] for completion in CASE["completions"]]
    # Together in one batch, as unlike in length as they are.
    made = model.complete(prompts, max_new_tokens=completion_case.NEW_TOKENS, stop_ids=frozenset())
    assert [completion.ids for completion in made] == [completion["ids"] for completion in CASE["completions"]]


def test_the_type_of_the_computation_is_that_of_the_command(workdir):
    prompts = [completion["prompt_ids"] for completion in CASE["completions"]]
    scores = {}
    for dtype in ("float32", "bfloat16"):
        _, config, _ = parse("complete", [CONFIG[0], f"--config.model.compute_dtype={dtype}", f"--workdir={workdir}"])
        model = open_model(open_run(to_settings(config), str(workdir)))
        scores[dtype] = model.score(prompts, batch_size=2)[0]
    errors = np.abs(scores["bfloat16"] - scores["float32"])
    assert 1e-3 < errors.max() < 0.5  # bfloat16 keeps eight bits


@pytest.mark.parametrize("number", range(len(CASE["completions"])))
def test_the_command_prints_the_same_text(workdir, capsys, number):
    completion = CASE["completions"][number]
    run(
        [
            "complete",
            *CONFIG,
            f"--workdir={workdir}",
            f"--config.completion.prompt={completion['prompt']}",
            f"--config.completion.suffix={completion['suffix']}",
            f"--config.completion.max_new_tokens={completion_case.NEW_TOKENS}",
        ]
    )
    tokenizer = load_tokenizer(str(workdir / "tokenizer/tokenizer.json"))
    assert f"⟦{terminal_text(tokenizer.decode(completion['ids']))}⟧" in capsys.readouterr().out
