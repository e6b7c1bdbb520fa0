"""`scores.json` of a benchmark: what was measured, on what, with what, and what came out, in one file to publish.

It follows from the stored samples, the verdicts on them and the facts of the run alone, so that the same three give it
again byte for byte, on any machine.
"""

import re
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypedDict

import msgspec

from sc2jax.benchmarks.files import BenchmarkFile
from sc2jax.errors import UserError
from sc2jax.evaluation.measures.infilling import edit_similarity
from sc2jax.evaluation.pass_at_k import KS, Estimate, mean_over_tasks, pass_at_k
from sc2jax.evaluation.verdicts import Verdict
from sc2jax.json_files import Count, Share, decode_json
from sc2jax.records.manifest import canonical_json, sha256_of

ALL = "all"
"""The group of a benchmark whose tests have none."""


class Sample(TypedDict):
    """What a model wrote for a task; `sample` counts from 0 in its task."""

    task_id: str
    sample: Count
    prompt: str
    completion: str


class Judged(TypedDict):
    """What was found of a sample.

    `groups` is the verdict of each group of tests, the same groups for all samples, {} where there is one. That of a
    group counts what the group counts where it is published: EvalPlus' `plus` is passed only by what passes `base`.
    `detail` says for a reader what went wrong.
    """

    task_id: str
    sample: Count
    verdict: Verdict
    groups: Mapping[str, Verdict]
    detail: str


class Sampling(TypedDict):
    """How completions were drawn; the least temperature, 0, is the likeliest token each time."""

    temperature: Annotated[float, msgspec.Meta(ge=0)]
    top_p: Share
    samples: Count
    max_new_tokens: Count


class Facts(TypedDict):
    """What the scores are of, and everything that they follow from.

    Attributes:
        benchmark: name of the measure.
        model: what wrote the samples, for a reader.
        file: where the tasks come from.
        prompt_rule: how a prompt is made of a task, in words; "" if it is not known, as of samples made elsewhere.
        sampling: how completions were drawn; None if that is not known.
        seed: of the samples, and of the intervals' draws.
        version: of sc2jax.
        tools: the version of everything that ran samples or decided on them, by name.
        sandbox: what `Sandbox.facts` says.
        samples_sha256: the digest of the stored samples.
        published_as: the name of each group among published figures, where they were measured in the same way.
        command: gives these scores again.
    """

    benchmark: str
    model: str
    file: BenchmarkFile
    prompt_rule: str
    sampling: Sampling | None
    seed: Count
    version: str
    tools: Mapping[str, str]
    sandbox: Mapping[str, Any]
    samples_sha256: str
    published_as: Mapping[str, str]
    command: str


Metrics = dict[str, dict[str, Estimate]]
"""By group, then by name: pass@1, or exact_match and edit_similarity."""


class InCorpus(TypedDict):
    """How many completions hold a long span that stands in the corpus."""

    completions: Count
    found: Count
    share: Share


class Scores(Facts):
    """The facts and what came out.

    `tasks` and `samples` count what was judged; `verdicts` is by group, with every verdict named. `parts` has the
    metrics of parts of the tasks: for each way to part them (by `contamination`, by `language`) each part by its name.
    `judged_sha256` is the digest of the verdicts.
    """

    tasks: Count
    samples: Count
    judged_sha256: str
    verdicts: dict[str, dict[str, Count]]
    metrics: Metrics
    parts: dict[str, dict[str, Metrics]]
    in_corpus: NotRequired[InCorpus]


def make_scores(
    facts: Facts,
    samples: Sequence[Sample],
    judged: Sequence[Judged],
    *,
    ks: Collection[int] = KS,
    references: Mapping[str, str] | None = None,
    parts: Mapping[str, Mapping[str, str]] | None = None,
    in_corpus: Collection[tuple[str, int]] | None = None,
) -> Scores:
    """The scores of samples that were judged.

    Args:
        facts: stand in the scores as they are.
        samples: in any order.
        judged: the verdict on each of them, in any order.
        ks: of pass@k; those that are more than the samples of a task are left out.
        references: what each task's completion should equal, for a measure of exact match instead of pass@k.
        parts: for each way to part the tasks, the part of each task.
        in_corpus: task and number of the samples that were found in the corpus; None if nobody looked.

    Raises:
        UserError: a sample has no verdict, or one that says nothing of it.
    """
    _refuse_mismatch(facts["benchmark"], samples, judged)
    passed, tasks = passed_by_group(judged), {one["task_id"] for one in judged}
    values = {group: _pass_values(tallies, ks) for group, tallies in passed.items()}
    if not facts["published_as"].keys() <= values.keys():
        raise ValueError(f"{facts['benchmark']} has the groups of tests {', '.join(values)} alone")
    if references is not None:
        similar = _edit_similarities(samples, references)
        values = {
            group: {"exact_match": task_values(tallies, 1), "edit_similarity": similar}
            for group, tallies in passed.items()
        }
    scores = Scores(
        **facts,
        tasks=len(tasks),
        samples=len(judged),
        judged_sha256=judged_digest(judged),
        verdicts=_verdict_counts(judged),
        metrics=_metrics(values, None, facts["seed"]),
        parts={
            way: {name: _metrics(values, members, facts["seed"]) for name, members in _members(tasks, part_of).items()}
            for way, part_of in (parts or {}).items()
        },
    )
    if in_corpus is not None:
        found = sum((one["task_id"], one["sample"]) in in_corpus for one in samples)
        scores["in_corpus"] = InCorpus(completions=len(samples), found=found, share=found / len(samples))
    return scores


def passed_by_group(judged: Iterable[Judged]) -> dict[str, dict[str, list[bool]]]:
    """Whether each sample of each task passed, by group of tests."""
    found: dict[str, dict[str, list[bool]]] = {}
    for one in judged:
        for group, verdict in group_verdicts(one).items():
            found.setdefault(group, {}).setdefault(one["task_id"], []).append(verdict == Verdict.PASSED)
    return found


def group_verdicts(one: Judged) -> Mapping[str, Verdict]:
    """The verdict of each group; where there is none, that on the sample."""
    return one["groups"] or {ALL: one["verdict"]}


def group_words(group: str) -> str:
    """A group of tests for a reader; "" for all of a benchmark that has none."""
    return "" if group == ALL else group


def task_values(tallies: Mapping[str, Sequence[bool]], k: int) -> dict[str, float]:
    """Pass@k of each task."""
    return {task: pass_at_k(len(passed), sum(passed), k) for task, passed in tallies.items()}


def judged_digest(judged: Iterable[Judged]) -> str:
    """The sha256 of the verdicts, in an order of their own; how long each took, and what else was said, is no part."""
    return sha256_of(sorted([one["task_id"], one["sample"], one["verdict"], one["groups"]] for one in judged))


def scores_json(scores: Scores) -> bytes:
    """The content of `scores.json`."""
    return (canonical_json(scores, indent=1) + "\n").encode()


def read_scores_json(content: bytes, where: str) -> Scores:
    """Scores that somebody wrote.

    Raises:
        UserError: they are none, or have another shape; `where` names them in the message.
    """
    return decode_json(content, Scores, where, "bring the file back, or evaluate again")


def summary(scores: Scores) -> str:
    """The scores in a sentence."""
    found = [
        f"{group_words(group)} {name}".lstrip() + f" {one['value']:.1%} ({one['low']:.1%} to {one['high']:.1%})"
        for group, metrics in scores["metrics"].items()
        for name, one in metrics.items()
    ]
    return f"{scores['benchmark']}: {', '.join(found)} on {scores['tasks']} tasks"


def natural(name: str) -> list[tuple[int, str]]:
    """The key by which task 2 comes before task 10."""
    parts = [part.lstrip("0") if part.isdecimal() else part for part in re.split(r"([0-9]+)", name) if part]
    return [(len(part), part) if part.isdecimal() or not part else (-1, part) for part in parts]


def metric_rows(metrics: Metrics) -> Iterator[tuple[str, str, Estimate]]:
    """Group, name and figure of each metric, in an order of their own: read again, scores have another."""
    for group in sorted(metrics):
        for name in sorted(metrics[group], key=natural):
            yield group, name, metrics[group][name]


def _pass_values(tallies: Mapping[str, Sequence[bool]], ks: Collection[int]) -> dict[str, dict[str, float]]:
    """Pass@k of each task, by name, for the k that all tasks have samples for."""
    fewest = min(map(len, tallies.values()))
    return {f"pass@{k}": task_values(tallies, k) for k in sorted(ks) if k <= fewest}


def _edit_similarities(samples: Iterable[Sample], references: Mapping[str, str]) -> dict[str, float]:
    """The mean over the samples of each task."""
    found: dict[str, list[float]] = {}
    for one in sorted(samples, key=lambda one: (one["task_id"], one["sample"])):
        similarity = edit_similarity(references[one["task_id"]], one["completion"])
        found.setdefault(one["task_id"], []).append(similarity)
    return {task: statistics.fmean(similarities) for task, similarities in found.items()}


def _metrics(
    values: Mapping[str, Mapping[str, Mapping[str, float]]], members: Collection[str] | None, seed: int
) -> Metrics:
    """The means over tasks, or over those of a part."""
    return {
        group: {
            name: mean_over_tasks(
                [of_task[task] for task in sorted(of_task) if members is None or task in members], seed
            )
            for name, of_task in named.items()
        }
        for group, named in values.items()
    }


def _members(tasks: Collection[str], part_of: Mapping[str, str]) -> dict[str, set[str]]:
    """The tasks of each part that has any of those that were judged, each of which is in one."""
    found: dict[str, set[str]] = {}
    for task in sorted(tasks):
        found.setdefault(part_of[task], set()).add(task)
    return found


def _verdict_counts(judged: Iterable[Judged]) -> dict[str, dict[str, int]]:
    """Of each group, and with every verdict, so that a reader sees which did not occur."""
    counts: dict[str, Counter[Verdict]] = {}
    for one in judged:
        for group, verdict in group_verdicts(one).items():
            counts.setdefault(group, Counter())[verdict] += 1
    return {group: {str(verdict): counted[verdict] for verdict in Verdict} for group, counted in counts.items()}


def _refuse_mismatch(benchmark: str, samples: Sequence[Sample], judged: Sequence[Judged]) -> None:
    """Makes sure that each sample has one verdict, on the same groups, and that it is one on the sample."""
    written = Counter((one["task_id"], one["sample"]) for one in samples)
    found = Counter((one["task_id"], one["sample"]) for one in judged)
    if not found:
        raise UserError(f"{benchmark}: there is no sample to score; generate some first")
    if written != found or max(found.values()) > 1:
        task, number = next(iter((written - found) + (found - written)), max(found, key=lambda one: found[one]))
        raise UserError(
            f"{benchmark}: samples and verdicts do not belong together: sample {number} of {task} stands "
            f"{written[task, number]} times among samples and {found[task, number]} times among verdicts; judge again"
        )
    failed = [one for one in judged if Verdict.INFRASTRUCTURE in (one["verdict"], *one["groups"].values())]
    if failed:
        raise UserError(
            f"{benchmark}: {len(failed)} samples could not be judged, such as sample {failed[0]['sample']} of "
            f"{failed[0]['task_id']} ({failed[0]['detail'] or 'no reason given'}); that is no score: judge again"
        )
    if len({frozenset(one["groups"]) for one in judged}) > 1:
        raise ValueError(f"{benchmark}: samples were judged by different groups of tests")
