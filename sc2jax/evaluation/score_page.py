"""The pages of a benchmark's scores: `index.html`, and pages of tasks to read what failed.

They need no network, no script and no file but each other. Their bytes follow from what they are given, and none grows
with the number of samples: of those that wrote the same one is shown, and few of each verdict.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jinja2

from sc2jax.evaluation.pass_at_k import RESAMPLES, Estimate
from sc2jax.evaluation.published import Row, beside
from sc2jax.evaluation.report import flat, shortened
from sc2jax.evaluation.scores import (
    Judged,
    Metrics,
    Sample,
    Sampling,
    Scores,
    group_verdicts,
    group_words,
    metric_rows,
    natural,
)
from sc2jax.evaluation.verdicts import Verdict
from sc2jax.pages import page_environment

INDEX = "index.html"
_TASKS_PER_PAGE = 25
_MOST_CHARACTERS = 4000  # of a prompt or completion
_MOST_OF_A_DETAIL = 1500
_SHOWN_OF_EACH_VERDICT = 2  # of a task's samples
_SHOWN_OF_A_TASK = 5
_COMPARED = ("pass@1", "exact_match")
_MEANINGS = {
    Verdict.PASSED: "every test of the group",
    Verdict.WRONG: "another answer, or no program",
    Verdict.TIMEOUT: "took longer than the limit",
    Verdict.MEMORY: "took more than the limit",
    Verdict.CRASHED: "ended before it answered",
    Verdict.REFUSED: "tried what the sandbox forbids",
    Verdict.INFRASTRUCTURE: "could not be judged; there are no scores where one is",
}
_FIGURES = ("metrics", "verdicts", "parts", "in_corpus", "tasks", "samples", "command", "published_as")
"""Of the scores, what the index shows elsewhere than among the facts."""


@dataclasses.dataclass(frozen=True)
class Shown:
    """A sample to read; `same` others wrote the same and were judged alike."""

    number: int
    same: int
    verdict: str
    kind: str
    completion: str
    detail: str


@dataclasses.dataclass(frozen=True)
class Task:
    """A task with its outcome in words, how many samples passed in each group and in all, and the samples to read.

    `kind` is `good`, `part` or `bad`; `left_out` counts the samples that are neither shown nor equal to one that is.
    """

    name: str
    page: str
    anchor: str
    outcome: str
    kind: str
    passed: Mapping[str, int]
    solved: int
    samples: int
    prompt: str
    shown: Sequence[Shown]
    left_out: int


def render_pages(
    scores: Scores, samples: Sequence[Sample], judged: Sequence[Judged], *, withheld: str = ""
) -> Iterator[tuple[str, str]]:
    """The name and the whole text of each page, to be written as UTF-8 into one folder.

    Args:
        scores: what was made of the samples.
        samples: what the model wrote.
        judged: the verdict on each sample.
        withheld: why the texts of tasks and completions are left out; "" shows them.
    """
    tasks = _tasks(samples, judged)
    pages = [list(page) for _, page in itertools.groupby(tasks, key=lambda task: task.page)]
    environment = scores_environment()
    common = {"scores": scores, "drawn": drawn(scores["sampling"]), "withheld": withheld}
    names = [f"{page[0].name} to {page[-1].name}" if len(page) > 1 else page[0].name for page in pages]
    published = beside(scores["published_as"])
    yield (
        INDEX,
        environment.get_template("scores.html.jinja").render(
            **common,
            metrics=list(metric_rows(scores["metrics"])),
            parts={way: list(_part_rows(of_part)) for way, of_part in sorted(scores["parts"].items())},
            compared=_compared(scores["metrics"]),
            published=published,
            caveats=list(_caveats(scores, published)),
            settings=_settings(published),
            meanings=_MEANINGS.items(),
            outcomes=_outcomes(tasks),
            facts=list(flat({name: value for name, value in scores.items() if name not in _FIGURES})),
            resamples=RESAMPLES,
        ),
    )
    for number, page in enumerate(pages):
        yield (
            page[0].page,
            environment.get_template("score_tasks.html.jinja").render(
                **common,
                tasks=page,
                title=names[number],
                before=(pages[number - 1][0].page, names[number - 1]) if number else None,
                after=(pages[number + 1][0].page, names[number + 1]) if number + 1 < len(pages) else None,
            ),
        )


def scores_environment() -> jinja2.Environment:
    """The environment of the templates of scores and comparisons."""
    environment = page_environment(Path(__file__).parent)
    environment.filters |= {
        "head": lambda text: shortened(text, _MOST_CHARACTERS),
        "tail": lambda text: shortened(text, -_MOST_CHARACTERS),
        "detail": lambda text: shortened(text, _MOST_OF_A_DETAIL),
        "verdict": verdict_words,
        "group": group_words,
    }
    return environment


def drawn(sampling: Sampling | None) -> str:
    """How completions were drawn, in words."""
    if sampling is None:
        return "samples made elsewhere, how is not known"
    one = f"{sampling['samples']} sample{'s' if sampling['samples'] != 1 else ''} a task"
    if not sampling["temperature"]:
        return f"{one}, greedy"
    return f"{one}, temperature {sampling['temperature']:g}, top\N{NON-BREAKING HYPHEN}p {sampling['top_p']:g}"


def verdict_words(verdict: str) -> str:
    """A verdict as it reads in a sentence."""
    return "refused by the sandbox" if verdict == Verdict.REFUSED else str(verdict)


def judged_words(one: Judged) -> str:
    """The verdict on a sample, or those of its groups of tests where they differ."""
    groups = group_verdicts(one)
    if len(set(groups.values())) == 1:
        return verdict_words(next(iter(groups.values())))
    return ", ".join(f"{group} {verdict_words(groups[group])}" for group in sorted(groups))


def _tasks(samples: Sequence[Sample], judged: Sequence[Judged]) -> list[Task]:
    written: dict[str, dict[int, Sample]] = {}
    for one in samples:
        written.setdefault(one["task_id"], {})[one["sample"]] = one
    found: dict[str, list[Judged]] = {}
    for one in sorted(judged, key=lambda one: one["sample"]):
        found.setdefault(one["task_id"], []).append(one)
    names = sorted(found, key=natural)
    return [_task(number, name, written[name], found[name]) for number, name in enumerate(names)]


def _task(number: int, name: str, written: Mapping[int, Sample], found: Sequence[Judged]) -> Task:
    groups = [group_verdicts(one) for one in found]
    passed = {group: sum(one[group] == Verdict.PASSED for one in groups) for group in groups[0]}
    shown = _shown(written, found)
    outcome, kind = _outcome(found)
    return Task(
        name=name,
        page=f"tasks-{number // _TASKS_PER_PAGE + 1:03}.html",
        anchor=f"t{number + 1}",
        outcome=outcome,
        kind=kind,
        passed=passed,
        solved=sum(_kind(one) == "good" for one in found),
        samples=len(found),
        prompt=written[found[0]["sample"]]["prompt"],
        shown=shown,
        left_out=len(found) - sum(1 + one.same for one in shown),
    )


def _outcome(found: Sequence[Judged]) -> tuple[str, str]:
    """In words, and of which kind."""
    if len(found) == 1:
        return judged_words(found[0]), _kind(found[0])
    passed = sum(_kind(one) == "good" for one in found)
    if passed == len(found):
        return "passed in every sample", "good"
    return ("passed in some samples", "part") if passed else ("passed in no sample", "bad")


def _kind(one: Judged) -> str:
    verdicts = [verdict == Verdict.PASSED for verdict in group_verdicts(one).values()]
    return "good" if all(verdicts) else "part" if any(verdicts) else "bad"


def _shown(written: Mapping[int, Sample], found: Sequence[Judged]) -> list[Shown]:
    """The first of each verdict, failures first, each once if others wrote the same."""
    alike: dict[tuple[str, str, str], list[Judged]] = {}
    for one in found:
        alike.setdefault((judged_words(one), written[one["sample"]]["completion"], one["detail"]), []).append(one)
    of_verdict: dict[str, list[Shown]] = {}
    for (verdict, completion, detail), ones in alike.items():
        shown = Shown(ones[0]["sample"], len(ones) - 1, verdict, _kind(ones[0]), completion, detail)
        of_verdict.setdefault(verdict, []).append(shown)
    # One of each verdict before the second of any, so that no kind of failure hides another.
    rounds = itertools.zip_longest(*(shown[:_SHOWN_OF_EACH_VERDICT] for shown in of_verdict.values()))
    chosen = [one for one_of_each in rounds for one in one_of_each if one is not None]
    passing = [one for one in chosen if one.kind == "good"][:1]
    failing = [one for one in chosen if one.kind != "good"][: _SHOWN_OF_A_TASK - len(passing)]
    return failing + passing


def _outcomes(tasks: Sequence[Task]) -> list[tuple[str, str, list[Task]]]:
    """The tasks of each outcome, with its kind: failures first, the commonest of them first."""
    found: dict[tuple[str, str], list[Task]] = {}
    for task in tasks:
        found.setdefault((task.outcome, task.kind), []).append(task)
    order = ("bad", "part", "good")
    ordered = sorted(found.items(), key=lambda item: (order.index(item[0][1]), -len(item[1]), item[0][0]))
    return [(outcome, kind, members) for (outcome, kind), members in ordered]


def _compared(metrics: Metrics) -> dict[str, Estimate]:
    """The figure of each group that others publish."""
    return {group: named[name] for group, named in metrics.items() for name in _COMPARED if name in named}


def _part_rows(of_part: Mapping[str, Metrics]) -> Iterator[tuple[str, str, str, Estimate]]:
    for part in sorted(of_part):
        for group, name, one in metric_rows(of_part[part]):
            yield part, group, name, one


def _caveats(scores: Scores, published: Sequence[Row]) -> Iterator[str]:
    """What keeps the figures from being of the same tasks."""
    tasks = {one.name: one.tasks for row in published for one in row.figures.values()}
    for name, count in tasks.items():
        if count not in (0, scores["tasks"]):
            yield f"The published {name} is of {count} tasks, this run of {scores['tasks']}."


def _settings(published: Sequence[Row]) -> list[str]:
    """How and where the figures were published, each once."""
    figures = [one for row in published for one in row.figures.values()]
    names: dict[tuple[str, str], dict[str, None]] = {}
    for one in figures:
        names.setdefault((one.setting, re.sub(r"-\d+b$", "", one.source)), {})[one.name] = None
    return [
        f"{' and '.join(of)}{f', {setting}' if setting else ''} ({source})" for (setting, source), of in names.items()
    ]
