"""Writes the golden cases of adapters: what `peft` wrote for a golden model, and what it computes with it.

    pip install -e .[golden] peft
    python tests/golden/make_adapters.py

Each case is a folder as `PeftModel.save_pretrained` writes it, without its README, with an `expected.safetensors`
beside it: tokens, the logits of the model with the adapters and those of the model into which `peft` merged them. The
tests need neither torch nor peft.
"""
# pyright: reportMissingImports=false

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from safetensors.torch import save_file
from transformers import Starcoder2ForCausalLM

HERE = Path(__file__).parent
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "c_fc", "c_proj"]
LENGTH = 20

# The golden model that they are added to, and the arguments of LoraConfig.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "every_layer": ("grouped_window_8_untied", {"r": 3, "lora_alpha": 7, "target_modules": ALL, "lora_dropout": 0.1}),
    "some_layers": ("multi_query_window_8_tied", {"r": 2, "lora_alpha": 4, "target_modules": ["v_proj", "c_proj"]}),
    "rank_stabilised": (
        "grouped_large_theta_tied",
        {"r": 4, "lora_alpha": 3, "target_modules": ["q_proj", "k_proj", "o_proj", "c_fc"], "use_rslora": True},
    ),
}


def main() -> None:
    """Writes every case anew."""
    torch.set_num_threads(1)
    for seed, (name, (base, arguments)) in enumerate(CASES.items()):
        folder = HERE / "adapters" / name
        shutil.rmtree(folder, ignore_errors=True)
        model = Starcoder2ForCausalLM.from_pretrained(HERE / base, attn_implementation="eager")
        adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **arguments)).eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter_name, parameter in adapted.named_parameters():
                if "lora_" in parameter_name:
                    parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
            tokens = torch.randint(1, model.config.vocab_size, (2, LENGTH), generator=generator)
            adapted.save_pretrained(folder)
            numbers = {"input_ids": tokens, "logits": adapted(tokens).logits}
            numbers["logits_merged"] = adapted.merge_and_unload()(tokens).logits
        (folder / "README.md").unlink(missing_ok=True)
        config = json.loads((folder / "adapter_config.json").read_text())
        # Not the place on the machine that wrote it, nor the order of a set.
        config |= {"base_model_name_or_path": base, "target_modules": sorted(config["target_modules"])}
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
        versions = f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}"
        save_file(numbers, folder / "expected.safetensors", metadata={"made_with": versions})


if __name__ == "__main__":
    main()
