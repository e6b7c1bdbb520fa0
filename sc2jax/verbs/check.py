"""Checks everything below a run or a corpus: `sc2jax check DIR`.

Every digest, every input, every checkpoint and every lock is compared with what is written down, and files that belong
to no stage are listed. It changes nothing, and ends with 0 only if all holds.
"""

from sc2jax import storage
from sc2jax.config import Settings
from sc2jax.errors import UserError
from sc2jax.runs.inspection import inspect
from sc2jax.runs.run import open_run, say

_NAMED_AT_MOST = 10


def run(settings: Settings, workdir: str) -> None:
    """Checks the folder and says what was found."""
    open_run(settings, workdir)
    faulty = stages = 0
    for found in inspect(storage.absolute(workdir)):
        stages += found.is_stage
        faulty += bool(found.faults)
        kind = f"{found.files:,} files" if found.is_stage else "no stage"
        say(f"{found.folder}: {kind}, {'as they were written' if not found.faults else 'FAULTY'}")
        for fault in found.faults:
            say(f"  {fault}")
        for name in found.foreign[:_NAMED_AT_MOST]:
            say(f"  not ours: {name}")
        if found.interrupted:
            say(f"  and {found.interrupted:,} files that an interrupted run left; they go when its stage is run again")
        if len(found.foreign) > _NAMED_AT_MOST:
            say(f"  and {len(found.foreign) - _NAMED_AT_MOST} more that are not ours")
    if not stages:
        raise UserError(f"{workdir} holds no stage of a run and no corpus; name a working folder, or a stage's")
    if faulty:
        raise UserError(f"{faulty} of {stages} stages below {workdir} do not hold what was written down; see above")
    say(f"all {stages} stages hold")
