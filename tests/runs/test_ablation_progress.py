"""What an ablation says of the time that is left."""

import pytest

from sc2jax.runs.ablation import Job
from sc2jax.runs.ablation_progress import AblationProgress
from sc2jax.runs.jobs import Ended

JOBS = [Job(f"{verb}{number}", verb, {}, "/w", (), ()) for number in range(3) for verb in ("train", "evaluate")]


@pytest.mark.parametrize(
    ("seconds", "left"),
    [
        (0.1, ""),
        (10.0, "10 s; about 40 seconds left"),  # two trainings more, two evaluations, one each is known
        (90.0, "90 s; about 6 minutes left"),
        (3600.0, "3600 s; about 4.0 hours left"),
    ],
)
def test_what_is_left_is_what_others_of_the_verb_took(monkeypatch, capsys, seconds, left):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = AblationProgress(JOBS, "/w")
    for job in JOBS[:2]:
        progress.tell(job, None)
        now[0] += seconds
        progress.tell(job, Ended(0, "done", 0))
    last = capsys.readouterr().out.splitlines()[-1].strip()
    assert last == (left or "0 s")


def test_a_job_that_failed_says_where_its_log_is(capsys):
    progress = AblationProgress(JOBS, "/w")
    progress.tell(JOBS[0], None)
    progress.tell(JOBS[0], Ended(2, "", 0))
    said = " ".join(capsys.readouterr().out.split())
    assert "[1/6] train0 FAILED: exit status 2" in said
    assert "/w/logs/train0.log" in said
