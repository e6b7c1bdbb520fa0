"""What an ablation says while it works: a line as each job begins and as it ends, and how long the rest may take."""

import statistics
import time
from collections.abc import Sequence

from sc2jax.display import print_text
from sc2jax.runs.ablation import Job
from sc2jax.runs.jobs import Ended, log_path
from sc2jax.runs.run import say


class AblationProgress:
    """Follows the jobs, whose times by verb tell what is left."""

    def __init__(self, jobs: Sequence[Job], workdir: str) -> None:
        self._jobs, self._workdir = jobs, workdir
        self._began = 0.0
        self._seconds: dict[str, list[float]] = {}

    def tell(self, job: Job, ended: Ended | None) -> None:
        """Says that a job begins, or how it ended."""
        number = self._jobs.index(job) + 1
        if ended is None:
            self._began = time.monotonic()
            print_text(f"[{number}/{len(self._jobs)}] {job.name}")
            return
        seconds = time.monotonic() - self._began
        self._seconds.setdefault(job.verb, []).append(seconds)
        if ended.status:
            say(f"FAILED: {ended.said or f'exit status {ended.status}'}", log_path(job, self._workdir))
        else:
            say(ended.said)
        left = self._left(self._jobs[number:])
        say(f"{seconds:.0f} s" + (f"; about {_in_words(left)} left" if round(left) else ""))

    def _left(self, jobs: Sequence[Job]) -> float:
        """Seconds that jobs take if they take what others of their verb took; those of no known verb are left out."""
        means = {verb: statistics.fmean(seconds) for verb, seconds in self._seconds.items()}
        return sum(means.get(job.verb, 0.0) for job in jobs)


def _in_words(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
