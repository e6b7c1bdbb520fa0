"""The second half of a benchmark: a verdict on each sample, as JSON lines that grow until all are there.

Lines stand in the order of the samples, and each is written once all before it are known: what a killed run leaves is
the beginning of the whole file, and the same call goes on after it.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from sc2jax.errors import UserError
from sc2jax.evaluation.benchmark import Benchmark, Groups
from sc2jax.evaluation.growing_lines import add_lines, stored_lines
from sc2jax.evaluation.judging.calibration import time_scale
from sc2jax.evaluation.judging.cases import Case, FlawedCase, Judged
from sc2jax.evaluation.judging.python_judge import CANDIDATE, JUDGE, PythonJudge
from sc2jax.evaluation.samples import Answer
from sc2jax.evaluation.sandbox import Ended, Limits, Sandbox, open_sandbox
from sc2jax.evaluation.scores import Judged as JudgedSample
from sc2jax.evaluation.verdicts import Verdict
from sc2jax.progress import progress

_SLOWER = 1.25
"""How much slower than at its start a machine must have become for a verdict of time to be looked at again."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """Sandboxes in which samples are judged, some at a time."""

    candidates: Sandbox
    judges: Sandbox
    judge: PythonJudge

    def again(self, case: Case) -> Judged:
        """The verdict on a case; one for want of time is looked at again if the machine has become slower."""
        judged = self.judge.judge(case)
        if judged.verdict == Verdict.TIMEOUT:
            scale = time_scale(self.candidates)
            if scale > _SLOWER * self.judge.scale:
                return PythonJudge(self.candidates, self.judges, scale).judge(case)
        return judged


@contextlib.contextmanager
def open_bench(limits: Limits, *, rung: int, unsafe: bool) -> Iterator[Bench]:
    """Opens the sandboxes and finds out how slow the machine is.

    Raises:
        UserError: there is no such sandbox here.
    """
    with (
        open_sandbox(CANDIDATE, limits, rung=rung, unsafe=unsafe) as candidates,
        open_sandbox(JUDGE, limits, rung=rung, unsafe=unsafe) as judges,
    ):
        yield Bench(candidates, judges, PythonJudge(candidates, judges, time_scale(candidates)))


def judge_samples(
    benchmark: Benchmark,
    expected: Mapping[str, Groups],
    answers: Sequence[Answer],
    bench: Bench,
    path: str,
    *,
    workers: int,
    say: Callable[[str], object],
) -> list[JudgedSample]:
    """Writes the verdicts on samples into a file, or goes on where it ends, and returns them.

    Raises:
        UserError: the sandbox fails, which is no verdict; or the file holds something else.
    """
    found = _stored(path, answers)
    if found:
        say(f"going on after {len(found)} of {len(answers)} verdicts in {path}")
    known: dict[tuple[str, bool, str | None, str], JudgedSample] = {
        _program(answer): judged for answer, judged in zip(answers, found, strict=False)
    }

    def verdict(answer: Answer) -> JudgedSample:
        same = known.get(_program(answer))  # a model repeats itself, most of all at low temperatures
        if same is not None:
            return _line(answer, same["verdict"], same["groups"], same["detail"])
        judged = _judged(bench, _case(benchmark, expected, answer), answer)
        line = _line(answer, judged.verdict, judged.groups or _all_wrong(benchmark, judged), judged.detail)
        known[_program(answer)] = line
        return line

    pool = ThreadPoolExecutor(workers)
    try:
        todo = _in_order(pool, verdict, answers[len(found) :], workers)
        add_lines(path, _kept(found, progress(todo, desc="judged", initial=len(found), total=len(answers))))
    finally:
        # Nobody waits for a sample under way where something ended all: it ends with the sandbox.
        pool.shutdown(wait=False, cancel_futures=True)
    return found


def _kept(found: list[JudgedSample], lines: Iterable[JudgedSample]) -> Iterator[JudgedSample]:
    """Lines as they come, which are added to those that were found."""
    for line in lines:
        found.append(line)
        yield line


def _program(answer: Answer) -> tuple[str, bool, str | None, str]:
    """What a verdict follows from: samples that share it are judged once."""
    return answer.task_id, answer.whole, answer.prompt, answer.text


def _case(benchmark: Benchmark, expected: Mapping[str, Groups], answer: Answer) -> Case:
    if answer.flaw:
        return FlawedCase(answer.flaw)
    if benchmark.references and answer.task_id not in expected:
        return FlawedCase("its task's own solution is known to fail, so nothing says what is right")
    return benchmark.case(answer, expected.get(answer.task_id, {}))


def _line(answer: Answer, verdict: Verdict, groups: Mapping[str, Verdict], detail: str) -> JudgedSample:
    return JudgedSample(
        task_id=answer.task_id,
        sample=answer.sample,
        verdict=verdict,
        groups=groups,
        detail=detail.encode(errors="replace").decode(),
    )


def _judged(bench: Bench, case: Case, answer: Answer) -> Judged:
    """The verdict; where the sandbox fails it is asked once more, and then all ends."""
    why = ""
    for _ in range(2):
        try:
            judged = bench.again(case)
        except Ended as end:
            why = end.ending.detail
        else:
            if judged.verdict != Verdict.INFRASTRUCTURE:
                return judged
            why = judged.detail
    raise UserError(
        f"the sandbox failed twice at sample {answer.sample} of {answer.task_id} ({why}), which is no verdict; look at "
        "the machine's memory, processes and open files, and run the same command again: it goes on here"
    )


def _all_wrong(benchmark: Benchmark, judged: Judged) -> Mapping[str, Verdict]:
    """The groups of a sample that nothing could run."""
    groups = next(iter(benchmark.references.values())).groups if benchmark.references else ()
    return dict.fromkeys(groups, judged.verdict)


def _in_order(
    pool: ThreadPoolExecutor,
    work: Callable[[Answer], JudgedSample],
    answers: Sequence[Answer],
    workers: int,
) -> Iterator[JudgedSample]:
    """What `work` makes of answers, in their order, with few of them under way, so that an end comes soon."""
    running = [pool.submit(work, answer) for answer in answers[: 2 * workers]]
    try:
        for place in range(len(answers)):
            result = running.pop(0).result()
            if place + 2 * workers < len(answers):
                running.append(pool.submit(work, answers[place + 2 * workers]))
            yield result
    finally:
        for future in running:
            future.cancel()


def _stored(path: str, answers: Sequence[Answer]) -> list[JudgedSample]:
    remedy = "delete the file, and its samples are judged anew"

    def refuse_other(place: int, judged: JudgedSample, where: str) -> None:
        of = answers[place] if place < len(answers) else None
        if of is None or (judged["task_id"], judged["sample"]) != (of.task_id, of.sample):
            raise UserError(f"{where} is the verdict on another sample; {remedy}")

    return stored_lines(path, JudgedSample, refuse_other, remedy)
