"""The report of a run: one HTML page that needs no network, no script and no other file.

Its bytes depend on its inputs alone, not on a clock.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from sc2jax.evaluation import charts
from sc2jax.evaluation.measures.bits_per_byte import BitsPerByte, Rates
from sc2jax.evaluation.measures.infilling import Infilling, InfillRates, InfillSample
from sc2jax.evaluation.not_measured import NotMeasured
from sc2jax.evaluation.pass_at_k import Estimate
from sc2jax.evaluation.scores import Scores, group_words, metric_rows
from sc2jax.inference.samples import CompletionSample
from sc2jax.pages import page_environment
from sc2jax.records.statistics import CorpusStatistics

_TEMPLATE = "report.html.jinja"
_MOST_ROWS = 12  # of a chart of languages or licences; the rest is summed
_MOST_CHARACTERS = 4000  # of one text shown
_SHOWN_OF_EACH_VERDICT = 4  # infilling samples
_SHOWN_OF_A_DIGEST = 12
_LAST_SHARE = 20  # the final loss is the mean of the last twentieth of the rows


class Provenance(TypedDict):
    """What made the run: version of the code, and of each stage the digest of its manifest and the settings it used.

    `settings` are those that the stage's results follow from, nested in their sections. `manifests` has at least a
    `corpus` and a `tokenizer`. `step` is that of the checkpoint that was measured; `trained_on` is the digest of the
    corpus that it was trained on, "" if it saw none of this kind or was `imported`.
    """

    version: str
    manifests: Mapping[str, str]
    step: int
    trained_on: str
    imported: bool
    settings: Mapping[str, Mapping[str, object]]


def render_report(
    corpus: CorpusStatistics,
    left_out: Sequence[tuple[str, str]],
    parameters: int,
    metrics: Sequence[Mapping[str, Any]],
    bits_per_byte: BitsPerByte | NotMeasured,
    infilling: Infilling | NotMeasured,
    caveats: Mapping[str, str],
    samples: Sequence[CompletionSample],
    provenance: Provenance,
    others: Sequence[tuple[str, str]] = (),
    benchmarks: Mapping[str, Scores] | None = None,
    *,
    samples_are_unseen: bool,
) -> str:
    """The whole page as text, to be written as UTF-8.

    `left_out` says what the sources of the corpus hold besides: what and how often, and which with what to do.
    `parameters` is the model's size, `metrics` are the lines of its training log. `caveats` says by the name of a
    measure what has to be known of its figures; `others` are measures without a picture of their own on the page: their
    names and what they found, in a sentence. `benchmarks` are the scores of those that were measured, by their names.
    `samples_are_unseen` says whether the samples are of held-out files.
    """
    environment = page_environment(Path(__file__).parent)
    environment.filters |= {
        "short": lambda digest: digest[:_SHOWN_OF_A_DIGEST],
        "head": lambda text: shortened(text, _MOST_CHARACTERS),
        "tail": lambda text: shortened(text, -_MOST_CHARACTERS),
        "most_first": _most_first,
    }
    return environment.get_template(_TEMPLATE).render(
        corpus=corpus,
        left_out=left_out,
        language_bars=_largest({name: share["bytes"] for name, share in corpus["languages"].items()}),
        license_bars=_largest(corpus["licenses"]),
        parameters=parameters,
        metrics=metrics,
        final_loss=_final_loss(metrics),
        curves=_curves(metrics),
        metric_rows=_evenly(metrics, _MOST_ROWS),
        bits=bits_per_byte,
        bits_rows=_language_rates(bits_per_byte),
        infilling=infilling,
        infill_rows=_language_exact(infilling),
        infill_samples=_shown(infilling),
        others=others,
        benchmark_rows=_benchmark_rows(benchmarks or {}),
        caveats=caveats,
        samples=samples,
        samples_are_unseen=samples_are_unseen,
        provenance=provenance,
        settings=[(stage, list(flat(used))) for stage, used in provenance["settings"].items()],
        width=charts.WIDTH,
        height=charts.HEIGHT,
    )


def shortened(text: str, characters: int) -> str:
    """At most so many characters of a text: its start, or its end if the number is negative."""
    if len(text) <= abs(characters):
        return text
    return f"{text[:characters]} …" if characters > 0 else f"… {text[characters:]}"


def _final_loss(metrics: Sequence[Mapping[str, Any]]) -> tuple[float, int] | None:
    """The mean loss of the last rows, and their number; None if there are none or one is not finite."""
    last = metrics[-max(1, len(metrics) // _LAST_SHARE) :]
    losses = [row["loss"] for row in last]
    return (statistics.fmean(losses), len(losses)) if losses and all(map(math.isfinite, losses)) else None


def _curves(metrics: Sequence[Mapping[str, Any]]) -> dict[str, charts.LineChart | None]:
    steps = [row["step"] for row in metrics]
    return {
        "loss": charts.line_chart(steps, [row["loss"] for row in metrics]),
        "learning_rate": charts.line_chart(
            steps, [row["learning_rate"] for row in metrics], noisy=False, from_zero=True
        ),
        "gradient_norm": charts.line_chart(steps, [row["gradient_norm"] for row in metrics], from_zero=True),
    }


def _evenly(rows: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """At most `most` rows, evenly spaced from the first to the last."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(index * (len(rows) - 1) / (most - 1))] for index in range(most)]


def _most_first(amounts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(amounts.items(), key=lambda item: (-item[1], item[0]))


def _largest(amounts: Mapping[str, int]) -> list[tuple[str, int, float]]:
    """Name, amount and share of the whole, the largest first; small ones beyond `_MOST_ROWS` are summed in one row."""
    ordered = _most_first(amounts)
    if len(ordered) > _MOST_ROWS:
        rest = ordered[_MOST_ROWS - 1 :]
        ordered = [*ordered[: _MOST_ROWS - 1], (f"{len(rest)} others", sum(amount for _, amount in rest))]
    whole = sum(amounts.values())
    return [(name, amount, amount / whole if whole else 0.0) for name, amount in ordered]


def _language_rates(bits: BitsPerByte | NotMeasured) -> list[tuple[str, Rates]]:
    if bits["measured"] is False:
        return []
    ordered = sorted(bits["by_language"].items(), key=lambda item: (-item[1]["bytes"], item[0]))
    return ordered[:_MOST_ROWS]


def _benchmark_rows(benchmarks: Mapping[str, Scores]) -> list[tuple[Scores, str, str, Estimate]]:
    return [
        (scores, group_words(group), name, one)
        for _, scores in sorted(benchmarks.items())
        for group, name, one in metric_rows(scores["metrics"])
    ]


def _language_exact(infilling: Infilling | NotMeasured) -> list[tuple[str, InfillRates]]:
    if infilling["measured"] is False:
        return []
    ordered = sorted(infilling["by_language"].items(), key=lambda item: (-item[1]["samples"], item[0]))
    return ordered[:_MOST_ROWS]


def _shown(infilling: Infilling | NotMeasured) -> list[InfillSample]:
    """The first samples that are right and the first that are wrong, in the order in which they were drawn."""
    if infilling["measured"] is False:
        return []
    right = [sample for sample in infilling["items"] if sample["exact"]]
    wrong = [sample for sample in infilling["items"] if not sample["exact"]]
    return right[:_SHOWN_OF_EACH_VERDICT] + wrong[:_SHOWN_OF_EACH_VERDICT]


def flat(config: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as rows of a table, by their dotted names."""
    for key, value in sorted(config.items()):
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
