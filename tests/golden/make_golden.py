"""Writes the golden cases: tiny random models in Hugging Face's format with what transformers computes from them.

    pip install -e .[golden]
    SC2JAX_TOKENIZER=path/to/starcoder2/tokenizer.json python tests/golden/make_golden.py

Each case is a folder as `save_pretrained` writes it, with an `expected.safetensors` beside it. The tests read these and
need neither torch nor transformers. Run again with the same versions of both, it writes the same numbers. A last case
completes text: its weights follow from a seed, and only the prompts and their continuations are stored.
"""
# pyright: reportMissingImports=false

import itertools
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import completion_case
import torch
import transformers
from safetensors.torch import save_file
from transformers import Starcoder2Config, Starcoder2ForCausalLM

from sc2jax.text.formats import repository_prompt
from sc2jax.text.tokenizer import load_tokenizer

HERE = Path(__file__).parent
LENGTH = 20
NEW_TOKENS = completion_case.NEW_TOKENS
SMALLEST_MARGIN = 1e-3
"""Between the two likeliest tokens of every greedy step: far above rounding, so that the choice is no accident."""

BASE: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "bos_token_id": 0,
    "eos_token_id": 0,
}

# Window smaller than, equal to and larger than the sequence, and none; 1, 2 and all key-value heads; tied and not.
CASES: dict[str, dict[str, Any]] = {
    "multi_query_window_8_tied": {"num_key_value_heads": 1, "sliding_window": 8, "tie_word_embeddings": True},
    "grouped_window_8_untied": {"num_key_value_heads": 2, "sliding_window": 8, "tie_word_embeddings": False},
    "multi_head_window_20_tied": {"num_key_value_heads": 4, "sliding_window": 20, "tie_word_embeddings": True},
    "grouped_window_64_untied": {"num_key_value_heads": 2, "sliding_window": 64, "tie_word_embeddings": False},
    "multi_query_no_window_untied": {"num_key_value_heads": 1, "sliding_window": None, "tie_word_embeddings": False},
    # Not a window of 1: there the sliding cache of transformers 5.23 keeps every key (it slices from -window + 1 on).
    "multi_head_window_2_tied": {"num_key_value_heads": 4, "sliding_window": 2, "tie_word_embeddings": True},
    "grouped_large_theta_tied": {
        "num_key_value_heads": 2,
        "sliding_window": 5,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 999999.4420358813},
        "num_hidden_layers": 3,
    },
}


def main() -> None:
    """Writes every case anew."""
    torch.set_num_threads(1)  # so that sums are taken in one order
    for number, (name, changes) in enumerate(CASES.items()):
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        model, numbers = draw_case(BASE | changes, first_seed=1000 * number)
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        # One entry: the library writes several in a random order.
        versions = {"made_with": f"torch {torch.__version__}, transformers {transformers.__version__}"}
        save_file(numbers, folder / "expected.safetensors", metadata=versions)
        print(name, sum(parameter.numel() for parameter in model.parameters()), "parameters")  # noqa: T201
    write_completions(Path(os.environ["SC2JAX_TOKENIZER"]))


def draw_case(settings: dict[str, Any], first_seed: int) -> tuple[Starcoder2ForCausalLM, dict[str, torch.Tensor]]:
    """The first model none of whose greedy choices is a close one."""
    for seed in itertools.count(first_seed):
        model = random_model(settings, seed)
        numbers = expected(model, seed)
        if min(float(numbers.pop(f"margin{suffix}")) for suffix in ("", "_leftpad")) > SMALLEST_MARGIN:
            return model, numbers
    raise AssertionError


def random_model(settings: dict[str, Any], seed: int) -> Starcoder2ForCausalLM:
    """A model whose every parameter is random, biases and norms too, and large enough to matter."""
    config = Starcoder2Config(**settings, attn_implementation="eager")
    model = Starcoder2ForCausalLM(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_scale = parameter.ndim == 1 and name.endswith("norm.weight")
            parameter.copy_(1.0 + 0.2 * noise if is_scale else 0.3 * noise)
    return model


def expected(model: Starcoder2ForCausalLM, seed: int) -> dict[str, torch.Tensor]:
    """What the model computes from random tokens: logits, loss, gradients, greedy continuations, padded and not."""
    generator = torch.Generator().manual_seed(seed + 500)
    tokens = torch.randint(1, model.config.vocab_size, (3, LENGTH), generator=generator)
    # A prompt of one token, one about the window's size, and one that fills the row.
    lengths = torch.tensor([1, 9, LENGTH])
    mask = (torch.arange(LENGTH)[None] >= LENGTH - lengths[:, None]).long()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)

    loss = model(tokens, labels=tokens).loss
    loss.backward()
    gradients = {f"{name}.grad": parameter.grad for name, parameter in model.named_parameters()}
    with torch.no_grad():
        logits = model(tokens).logits
        padded = model(tokens * mask, attention_mask=mask, position_ids=positions).logits
    continued, margin = greedy(model, tokens, torch.ones_like(mask))
    continued_padded, margin_padded = greedy(model, tokens * mask, mask)
    return {
        "input_ids": tokens,
        "attention_mask_leftpad": mask,
        "position_ids_leftpad": positions,
        "logits": logits,
        "logits_leftpad": padded,
        "loss": loss.detach().reshape(1),
        "greedy": continued,
        "greedy_leftpad": continued_padded,
        "margin": margin,
        "margin_leftpad": margin_padded,
        **gradients,
    }


def greedy(model: Starcoder2ForCausalLM, tokens: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each prompt with the tokens after it, and how far the closest choice among them was from being another."""
    out = model.generate(
        tokens,
        attention_mask=mask,
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    best = torch.stack(out.logits).topk(2, dim=-1).values
    return out.sequences, (best[..., 0] - best[..., 1]).min()


def write_completions(tokenizer_file: Path) -> None:
    """Continues prompts, one of them with a suffix, with the first model that has no close choice to make."""
    for seed in itertools.count():
        completions, margin = complete(tokenizer_file, seed)
        if margin > SMALLEST_MARGIN:
            case = {"seed": seed, "transformers": transformers.__version__, "completions": completions}
            completion_case.EXPECTED.write_text(json.dumps(case, indent=1) + "\n")
            return


def complete(tokenizer_file: Path, seed: int) -> tuple[list[dict[str, Any]], float]:
    """The case's prompts with their continuations, and how far the closest choice was from being another."""
    with tempfile.TemporaryDirectory() as scratch:
        completion_case.write_model(Path(scratch, "model"), tokenizer_file, seed)
        model = Starcoder2ForCausalLM.from_pretrained(Path(scratch, "model"), dtype=torch.float32).eval()
    tokenizer = load_tokenizer(str(tokenizer_file))
    completions, margins = [], []
    for prompt in completion_case.PROMPTS:
        pieces = repository_prompt("", [], "", prompt["prompt"], suffix=prompt["suffix"] or None, with_metadata=False)
        ids = torch.tensor([tokenizer.encode(pieces)])
        continued, margin = greedy(model, ids, torch.ones_like(ids))
        completions.append(prompt | {"prompt_ids": ids[0].tolist(), "ids": continued[0, ids.shape[1] :].tolist()})
        margins.append(float(margin))
    return completions, min(margins)


if __name__ == "__main__":
    main()
