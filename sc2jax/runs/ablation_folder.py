"""The working folder of an ablation: the base config that lies in it, and whether it is the same ablation."""

import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from sc2jax import storage
from sc2jax.ablation.variants import Variant, parse_variants
from sc2jax.config import differing_keys, load_config, to_settings
from sc2jax.config_help import declarations
from sc2jax.config_values import leaves
from sc2jax.errors import UserError
from sc2jax.runs.ablation import BASE, Ablation
from sc2jax.runs.jobs import LOGS

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

    Variants and seeds may be added; what is there must mean what it meant.

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
    changed = [label for label, overrides in earlier.items() if ours.get(label) != overrides]
    if changed:
        raise UserError(
            f"{ablation.workdir} holds an ablation with other variants: {', '.join(changed)} "
            f"{'is' if len(changed) == 1 else 'are'} not there now, or {'means' if len(changed) == 1 else 'mean'} "
            f"something else; {advice}"
        )


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
