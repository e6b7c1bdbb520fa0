"""The working folder of an ablation: the base config that lies in it, and whether it is the same ablation."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from sc2jax import storage
from sc2jax.ablation.variants import Variant, parse_variants
from sc2jax.config import differing_keys, load_config, to_settings
from sc2jax.config_help import declarations
from sc2jax.config_values import leaves
from sc2jax.errors import UserError
from sc2jax.records.manifest import is_finished
from sc2jax.runs.ablation import BASE, Ablation, run_name
from sc2jax.runs.jobs import LOGS
from sc2jax.storage import join

LOCK = "lock"
"""The file that the one process at work in the folder holds."""

_WHEREVER = ("paths.compilation_cache",)
"""The only path that no run follows from."""


def is_kept(path: str) -> bool:
    """Whether a path below the folder is one of ours and belongs to no stage."""
    return path in (BASE, LOCK) or path.startswith(f"{LOGS}/")


def keep_base(ablation: Ablation) -> None:
    """Writes the base config, with which every command begins, into the working folder.

    Raises:
        UserError: the folder holds another ablation.
    """
    refuse_other_ablation(ablation)
    content = json.dumps(ablation.config.to_dict(), indent=1, sort_keys=True) + "\n"
    storage.write_whole(ablation.base, content.encode())


def refuse_other_ablation(ablation: Ablation) -> None:
    """Makes sure that the working folder is empty, or holds this ablation or a part of it.

    Variants and seeds may be added and left out; what was trained must mean what it meant.

    Raises:
        UserError: it holds runs over another base config, naming the keys, or other variants, naming those.
    """
    if not storage.exists(ablation.base):
        return
    theirs = load_config(ablation.base)
    advice = f"give another --workdir, or delete {ablation.workdir}"
    differing = differing_keys(_deciding(ablation.config), _deciding(theirs))
    if differing:
        raise UserError(
            f"{ablation.workdir} holds an ablation over another base config, with another {', '.join(differing)}; "
            f"{advice}"
        )
    ours, earlier = _variants(ablation.config), _variants(theirs)
    seeds = to_settings(theirs).ablation.seeds
    changed = [
        label
        for label, variant in earlier.items()
        if ours.get(label, variant) != variant and _is_trained(ablation.workdir, variant, seeds)
    ]
    if changed:
        raise UserError(
            f"{ablation.workdir} holds trained variants that mean something else now: {', '.join(changed)}; call yours "
            f"otherwise, {advice}"
        )


def _is_trained(workdir: str, variant: Variant, seeds: Sequence[int]) -> bool:
    return any(is_finished(join(workdir, f"runs/{run_name(variant, seed)}/train")) for seed in seeds)


def _deciding(config: ConfigDict) -> dict[str, Any]:
    """The values that the runs follow from, by dotted keys."""
    declared = declarations()
    return {
        key: value
        for key, value in leaves(config.to_dict())
        if declared[key].decides or key == "training.steps" or (key.startswith("paths.") and key not in _WHEREVER)
    }


def _variants(config: ConfigDict) -> Mapping[str, Variant]:
    ablation = to_settings(config).ablation
    return {variant.label: variant for variant in parse_variants(ablation.variants, ablation.grid)}
