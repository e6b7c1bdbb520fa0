"""Runs of one benchmark compared with the first of them, task by task: a page, and the same in lines.

Differences are paired: their intervals are those of the mean over tasks of what one run solved more than the other.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from sc2jax.errors import UserError
from sc2jax.evaluation.pass_at_k import Estimate, excludes_zero, mean_over_tasks, paired_difference
from sc2jax.evaluation.score_page import drawn, scores_environment, verdict_words
from sc2jax.evaluation.scores import (
    Judged,
    Scores,
    group_verdicts,
    group_words,
    judged_digest,
    natural,
    passed_by_group,
    task_values,
)

_MOST_TASKS = 100  # named of those that one run gained or lost


@dataclasses.dataclass(frozen=True)
class ComparedRun:
    """A run by the name that a reader knows it by: its scores, and the verdicts that they were made of."""

    name: str
    scores: Scores
    judged: Sequence[Judged]


@dataclasses.dataclass(frozen=True)
class Figure:
    """A run's figure over the tasks that it shares with the first run, and the paired difference to it.

    The first run has no difference, and its figure is over all its tasks.
    """

    run: str
    value: Estimate
    difference: Estimate | None


@dataclasses.dataclass(frozen=True)
class Metric:
    """One metric of one group of tests, of every run that has it."""

    group: str
    name: str
    figures: Sequence[Figure]


@dataclasses.dataclass(frozen=True)
class TaskChange:
    """A task that a run solves more or less often than the first run, and what became of it in words."""

    task: str
    before: str
    after: str
    amount: float


@dataclasses.dataclass(frozen=True)
class Changes:
    """The tasks of one group in which a run differs from the first, the largest changes first, and how many do not."""

    run: str
    group: str
    gained: Sequence[TaskChange]
    lost: Sequence[TaskChange]
    alike: int


def render_comparison(runs: Sequence[ComparedRun]) -> str:
    """The whole page as text, to be written as UTF-8; the first run is what the others are compared with.

    Raises:
        UserError: they cannot be compared; the message says why.
    """
    metrics = compared_metrics(runs)
    differences = [one.difference for metric in metrics for one in metric.figures if one.difference is not None]
    reached = max((max(-one["low"], one["high"]) for one in differences), default=0.0)
    environment = scores_environment()
    environment.filters["signed"] = signed
    environment.tests["certain"] = excludes_zero
    return environment.get_template("comparison.html.jinja").render(
        title=f"{runs[0].scores['benchmark']}, {len(runs)} runs",
        runs=runs,
        drawn=drawn,
        grouped=len({metric.group for metric in metrics}) > 1,
        metrics=metrics,
        extent=reached or 1.0,
        changes=[one for run in runs[1:] for one in _changes(run, runs[0])],
        most=_MOST_TASKS,
        caveats=list(_caveats(runs)),
    )


def in_lines(runs: Sequence[ComparedRun]) -> Iterator[str]:
    """The figures of each run in a line for each metric, for a terminal.

    Raises:
        UserError: they cannot be compared; the message says why.
    """
    for metric in compared_metrics(runs):
        for one in metric.figures:
            beside = ""
            if one.difference is not None:
                low, high = (signed(one.difference[end]) for end in ("low", "high"))
                beside = f", {signed(one.difference['value'])} points to {runs[0].name} ({low} to {high})"
            what = f"{group_words(metric.group)} {metric.name}".lstrip()
            yield f"{one.run}: {what} {one.value['value']:.1%}{beside}"


def compared_metrics(runs: Sequence[ComparedRun]) -> list[Metric]:
    """Each metric of the first run, with those of the others and their paired differences.

    Edit similarity is left out: it follows from texts, and verdicts do not tell it.

    Raises:
        UserError: the runs cannot be compared; the message says why.
    """
    _refuse_incomparable(runs)
    values = [_values(run) for run in runs]
    seed = runs[0].scores["seed"]
    found = []
    for key in sorted(values[0], key=lambda key: (key[0], natural(key[1]))):
        reference = values[0][key]
        figures = [Figure(runs[0].name, mean_over_tasks([reference[task] for task in sorted(reference)], seed), None)]
        for run, of_run in zip(runs[1:], values[1:], strict=True):
            shared = {task: value for task, value in of_run.get(key, {}).items() if task in reference}
            if shared:
                value = mean_over_tasks([shared[task] for task in sorted(shared)], seed)
                figures.append(Figure(run.name, value, paired_difference(shared, reference, seed)))
        found.append(Metric(*key, figures))
    return found


def signed(difference: float) -> str:
    """A difference of shares in points of a hundred, with its sign, if it is written as more than 0."""
    amount = f"{abs(100 * difference):.1f}"
    sign = "" if amount == "0.0" else "+" if difference > 0 else "\N{MINUS SIGN}"
    return f"{sign}{amount}"


def _values(run: ComparedRun) -> dict[tuple[str, str], Mapping[str, float]]:
    """What each task adds to each metric that follows from verdicts."""
    found = {}
    for group, tallies in passed_by_group(run.judged).items():
        for name in run.scores["metrics"][group].keys() - {"edit_similarity"}:
            k = 1 if name == "exact_match" else int(name.removeprefix("pass@"))
            found[group, name] = task_values(tallies, k)
    return found


def _changes(run: ComparedRun, reference: ComparedRun) -> Iterator[Changes]:
    theirs, ours = passed_by_group(reference.judged), passed_by_group(run.judged)
    before, after = _words(reference), _words(run)
    for group in sorted(theirs.keys() & ours.keys()):
        shares, others = task_values(ours[group], 1), task_values(theirs[group], 1)
        differing = [
            TaskChange(task, before[group][task], after[group][task], shares[task] - others[task])
            for task in shares.keys() & others.keys()
        ]
        differing.sort(key=lambda one: (-abs(one.amount), natural(one.task)))
        yield Changes(
            run.name,
            group,
            [one for one in differing if one.amount > 0],
            [one for one in differing if one.amount < 0],
            sum(one.amount == 0 for one in differing),
        )


def _words(run: ComparedRun) -> dict[str, dict[str, str]]:
    """What became of each task by group: the verdict on its one sample, or how many passed."""
    single = {
        (group, one["task_id"]): verdict_words(verdict)
        for one in run.judged
        for group, verdict in group_verdicts(one).items()
    }
    return {
        group: {
            task: single[group, task] if len(passed) == 1 else f"{sum(passed)}/{len(passed)}"
            for task, passed in tallies.items()
        }
        for group, tallies in passed_by_group(run.judged).items()
    }


def _caveats(runs: Sequence[ComparedRun]) -> Iterator[str]:
    """What else differs between the runs than the model."""
    first = runs[0]
    tasks = {one["task_id"] for one in first.judged}
    for run in runs[1:]:
        theirs = {one["task_id"] for one in run.judged}
        if theirs != tasks:
            yield (
                f"{run.name} has {len(theirs)} tasks and {first.name} {len(tasks)}; "
                f"compared are the {len(theirs & tasks)} that both have."
            )
        if run.scores["sampling"] != first.scores["sampling"]:
            yield (
                f"{run.name} was drawn otherwise ({drawn(run.scores['sampling'])}) than {first.name} "
                f"({drawn(first.scores['sampling'])})."
            )
        if run.scores["prompt_rule"] != first.scores["prompt_rule"]:
            unknown = first if run.scores["prompt_rule"] else run
            yield f"How the prompts of {unknown.name} were made is not known; other prompts give other scores."
        for name in sorted(run.scores["tools"].keys() | first.scores["tools"].keys()):
            versions = [one.scores["tools"].get(name, "none") for one in (run, first)]
            if versions[0] != versions[1]:
                yield f"{run.name} was judged with {name} {versions[0]}, {first.name} with {versions[1]}."


def _refuse_incomparable(runs: Sequence[ComparedRun]) -> None:
    """Makes sure that runs measured the same, and that each one's scores are of its verdicts."""
    if len(runs) < 2:
        raise UserError(f"{len(runs)} runs cannot be compared; name two or more")
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"two runs are called {twice}; name each run once, or copy one to a folder of another name")
    for run in runs:
        _refuse_other_verdicts(run)
    first = runs[0]
    for run in runs[1:]:
        for what, ours, theirs in _must_be_equal(run.scores, first.scores):
            if ours != theirs:
                raise UserError(
                    f"{run.name} and {first.name} cannot be compared: the {what} of one is {ours}, of the other "
                    f"{theirs}; evaluate both in the same way"
                )
        if not {one["task_id"] for one in run.judged} & {one["task_id"] for one in first.judged}:
            raise UserError(f"{run.name} and {first.name} have no task in common; evaluate both on the same tasks")


def _must_be_equal(scores: Scores, reference: Scores) -> Iterator[tuple[str, str, str]]:
    yield "benchmark", scores["benchmark"], reference["benchmark"]
    yield "benchmark file's content_sha256", scores["file"]["content_sha256"], reference["file"]["content_sha256"]
    yield "tests' groups", ", ".join(sorted(scores["verdicts"])), ", ".join(sorted(reference["verdicts"]))
    if scores["prompt_rule"] and reference["prompt_rule"]:
        yield "prompt rule", scores["prompt_rule"], reference["prompt_rule"]


def _refuse_other_verdicts(run: ComparedRun) -> None:
    if judged_digest(run.judged) == run.scores["judged_sha256"]:
        with contextlib.suppress(KeyError, ValueError):  # scores of other groups, or of metrics that there are not
            means = {key: mean_over_tasks(list(of_task.values()), 0)["value"] for key, of_task in _values(run).items()}
            if all(run.scores["metrics"][group][name]["value"] == mean for (group, name), mean in means.items()):
                return
    raise UserError(f"{run.name}: its scores are not those of its verdicts; judge it again")
