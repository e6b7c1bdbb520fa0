"""What lies below a folder, compared with all that is written down about it."""

import dataclasses
import os
from collections.abc import Callable, Iterator

from sc2jax import storage
from sc2jax.checkpoint.disk import CHECKPOINTS
from sc2jax.checkpoint.ownership import foreign_entries
from sc2jax.config import Settings
from sc2jax.errors import UserError
from sc2jax.locks import holder
from sc2jax.records.manifest import MANIFEST, Manifest, is_finished, read_manifest
from sc2jax.records.stage_folder import LOCK, MARK, OURS, foreign_files, hidden_files, leads_to_stages, read_mark
from sc2jax.runs.ablation import BASE
from sc2jax.runs.ablation_folder import is_kept
from sc2jax.runs.inputs import FOLLOWS, MEASURED, SAMPLED, other_inputs
from sc2jax.runs.model_checkpoint import refuse_gone_on, refuse_other_checkpoint
from sc2jax.runs.run import NAMED, Run, saved_paths
from sc2jax.storage import join
from sc2jax.training.journal import TENSORBOARD
from sc2jax.training.profile import PROFILE

_MODELS = ("train", "convert")
"""The stages that leave checkpoints."""

_PLACES = {**MEASURED, **{f"{name}-samples": place for name, place in SAMPLED.items()}}
"""Of the stages that do not lie in a folder of their name."""
_OF_A_RUN = {*_PLACES, *FOLLOWS}
"""The stages that read those of a run; the inner ones of a corpus read each other."""


@dataclasses.dataclass(frozen=True)
class Found:
    """What was found in the folder of a stage, or with `is_stage` False around all stages.

    `faults` are sentences; `foreign` are the files, relative to the folder, that nothing of ours lists; `interrupted`
    counts those that an interrupted run left.
    """

    folder: str
    files: int
    faults: list[str]
    foreign: list[str]
    is_stage: bool = True
    interrupted: int = 0


def inspect(root: str) -> Iterator[Found]:
    """Every stage at or below a folder, then what belongs to none."""
    files = _files_below(root)
    ends = (MANIFEST, MARK)
    stages = sorted({_above(path, end) for path in files for end in ends if f"/{path}".endswith(f"/{end}")})
    stages = [stage for stage in stages if OURS not in stage.split("/")]
    for stage in stages:
        yield _inspect_stage(join(root, stage) if stage else root)
    ablations = [_above(path, BASE) for path in files if f"/{path}".endswith(f"/{BASE}")]
    ours = {path for folder in ablations for path in files if _is_below(path, folder) and is_kept(_below(path, folder))}
    foreign = [path for path in files if path not in ours and not any(_is_below(path, stage) for stage in stages)]
    if foreign:
        yield Found(root, 0, [], foreign, is_stage=False)


def _files_below(root: str, around: frozenset[str] = frozenset()) -> list[str]:
    """The files below a folder, and below links in it that lead to stages, which those who use a stage follow too."""
    around |= {os.path.realpath(root)}
    found = []
    for path in storage.files_below(root):
        at = join(root, path)
        if leads_to_stages(at) and os.path.realpath(at) not in around:
            found += [join(path, below) for below in _files_below(at, around)]
        else:
            found.append(path)
    return found


def _above(path: str, end: str) -> str:
    return path.removesuffix(end).rstrip("/")


def _is_below(path: str, folder: str) -> bool:
    return not folder or path.startswith(f"{folder}/")


def _below(path: str, folder: str) -> str:
    return path.removeprefix(f"{folder}/") if folder else path


def _inspect_stage(folder: str) -> Found:
    faults: list[str] = []
    _try(faults, lambda: _refuse_writer(folder))
    if not is_finished(folder):
        return Found(folder, 0, [*faults, "it is unfinished: run its stage again"], [])
    if not storage.exists(join(folder, MARK)) and b'"sha256"' not in storage.read_bytes(join(folder, MANIFEST)):
        return Found(folder, 0, [], [MANIFEST], is_stage=False)
    try:
        manifest, mark = read_manifest(folder), read_mark(folder)
        unfinished, hidden = hidden_files(folder)
    except UserError as error:
        return Found(folder, 0, [*faults, str(error)], [])
    if mark is not None and mark.stage != manifest.stage:
        faults.append(f"its mark says `{mark.stage}`, its manifest `{manifest.stage}`")
    is_model = "model" in manifest.config and manifest.stage in _MODELS
    gone_on: list[str] = []
    if is_model:
        _try(gone_on, lambda: refuse_gone_on(folder, manifest))
    # A log that has gone on is no fault of its own.
    changed = (_changed(folder, output.path, output.sha256) for output in manifest.outputs)
    faults += gone_on or [fault for fault in changed if fault]
    _try(faults, lambda: faults.extend(_made_from_others(folder, manifest)))
    if is_model:
        _try(faults, lambda: refuse_other_checkpoint(folder, manifest))
        _try(faults, lambda: _verify_checkpoints(folder, manifest))
    keeps = (CHECKPOINTS, TENSORBOARD, PROFILE) if is_model else ()
    # What has a manifest of its own is a stage or a dataset, and is looked at as one.
    foreign = [name for name in foreign_files(folder, manifest, keeps) if not name.endswith("/")]
    if is_model:
        foreign += [join(CHECKPOINTS, name) for name in foreign_entries(join(folder, CHECKPOINTS))]
    return Found(folder, len(manifest.outputs), faults, foreign + hidden, interrupted=len(unfinished))


def _try(faults: list[str], check: Callable[[], None]) -> None:
    try:
        check()
    except (UserError, OSError) as error:
        faults.append(str(error))


def _refuse_writer(folder: str) -> None:
    writer = holder(join(folder, LOCK))
    if writer is not None:
        raise UserError(f"it is being written by {writer}")


def _changed(folder: str, path: str, sha256: str) -> str:
    try:
        found = storage.sha256_of_file(join(folder, path))
    except (UserError, OSError) as error:
        return f"{path} cannot be read: {error}"
    return "" if found == sha256 else f"{path} is not what its stage wrote"


def _made_from_others(folder: str, manifest: Manifest) -> list[str]:
    """Inputs that lie beside the stage and are not those that it was made from.

    What a folder is its manifest says, for a working folder may have any name.
    """
    above, _, name = folder.rpartition("/")
    place = _PLACES.get(manifest.stage, name)
    run, stage = (folder.removesuffix(f"/{place}"), place) if folder.endswith(f"/{place}") else (above, name)
    wrong = [of for of in other_inputs(Run(Settings(), run), stage) if of not in ("", name)]
    if manifest.stage not in _OF_A_RUN:
        beside = {of: join(above, of) for of in manifest.inputs if is_finished(join(above, of))}
        wrong += [of for of, at in beside.items() if read_manifest(at).digest != manifest.inputs[of]]
    elsewhere = _inputs_elsewhere(folder) if wrong else {}
    wrong = [of for of in wrong if not _holds(elsewhere.get(of, ""), manifest.inputs[of])]
    faults = [f"it was made with another {of} than lies beside it" for of in wrong if of != "heldout"]
    return faults + _other_heldout(folder, manifest)


def _other_heldout(folder: str, manifest: Manifest) -> list[str]:
    """Whether the held-out files that a corpus leaves alone are still those of the corpus that its config names."""
    digest, named = manifest.inputs.get("heldout", ""), saved_paths(folder).get("heldout", "")
    if not (digest and named and is_finished(named)) or read_manifest(named).digest == digest:
        return []
    return [f"what it may not train on was held out by another corpus than lies in {named} (paths.heldout) now"]


def _inputs_elsewhere(folder: str) -> dict[str, str]:
    """The folders that a stage's config names for its inputs, if they did not all lie in one run; else none.

    Of one run it may be a copy, whose stages have to fit each other.
    """
    named = {name: path for name, path in saved_paths(folder).items() if name in NAMED and path}
    return named if len({path.rpartition("/")[0] for path in named.values()}) > 1 else {}


def _holds(path: str, digest: str) -> bool:
    """Whether the folder of a tokenizer or a corpus still holds what was read."""
    if not path or not is_finished(path):
        return False
    found = read_manifest(path)
    return digest in (found.digest, *(output.sha256 for output in found.outputs if output.result))


def _verify_checkpoints(folder: str, manifest: Manifest) -> None:
    from sc2jax.checkpoint.checkpoints import Checkpoints  # Orbax takes seconds to import

    checkpoints = Checkpoints(join(folder, CHECKPOINTS))
    try:
        for step in checkpoints.steps():
            if manifest.stage == "train" and checkpoints.read_key(step) != manifest.key:
                raise UserError(f"the checkpoint of step {step} is that of another run")
            checkpoints.verify_stored(step)
    finally:
        checkpoints.close()
