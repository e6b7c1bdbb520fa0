"""What the runs of an ablation came to: a figure for each column, and the curves of their training."""

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence

from sc2jax.ablation.intervals import Interval, mean_interval, paired_difference


@dataclasses.dataclass(frozen=True)
class Column:
    """A figure of every run: its name in files, its title on the page, its form, its meaning, and if it is drawn."""

    name: str
    title: str
    form: str
    meaning: str
    drawn: bool = False


SCORES = (
    Column("bits_per_byte", "bits per byte", "figure", "of the held-out text, left to right; less is better"),
    Column("infill_exact", "lines filled exactly", "percent", "of the held-out lines that were hidden"),
    Column("infill_similarity", "edit similarity", "figure", "of what was filled in to the hidden line"),
    Column("loss", "training loss", "figure", "nats a token, mean of the last twentieth of the log"),
)
COSTS = (
    Column("parameters", "parameters", "count", "all that are trained"),
    Column("flops_per_token", "FLOPs a token", "power", "of training, forward and backward"),
    Column("training_flops", "training FLOPs", "power", "of the whole run"),
    Column("tokens", "tokens", "count", "trained on, without padding"),
    Column("tokens_per_second", "tokens/s training", "count", "median over the log", drawn=True),
    Column(
        "peak_bytes", "peak memory training", "size", "of the device where it tells, else of the process", drawn=True
    ),
    Column("cache_bytes", "KV cache", "size", "keys and values of one sequence of the whole context", drawn=True),
)
DECODING = (
    Column("decoding_bytes", "memory decoding", "size", "of the compiled program for a batch", drawn=True),
    Column("prefill_milliseconds", "ms a prompt", "figure", "to read one prompt of the context"),
    Column("decoding_alone", "tokens/s alone", "count", "written in one completion", drawn=True),
    Column("decoding_together", "tokens/s in a batch", "count", "written in all completions of a batch", drawn=True),
)
COLUMNS = (*SCORES, *COSTS, *DECODING)


@dataclasses.dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes:
        label: of its variant.
        seed: of its training.
        overrides: of its variant, as they were written.
        figures: by the names of columns; what was not measured is left out.
        tokenizer: the digest of its tokenizer.
        tokens: trained on, at each line of the log.
        flops: spent, at each line of the log.
        losses: nats a token, of the steps up to each line of the log since the one before.
        rates: the same losses in bits a byte of text.
    """

    label: str
    seed: int
    overrides: str
    figures: Mapping[str, float]
    tokenizer: str = ""
    tokens: Sequence[float] = ()
    flops: Sequence[float] = ()
    losses: Sequence[float] = ()
    rates: Sequence[float] = ()


@dataclasses.dataclass(frozen=True)
class Summary:
    """A variant over its seeds: by column the mean and its interval, and the difference to the reference."""

    label: str
    overrides: str
    seeds: tuple[int, ...]
    means: Mapping[str, Interval]
    differences: Mapping[str, Interval]


def summaries(results: Sequence[RunResult], reference: str) -> list[Summary]:
    """The variants in the order of their first runs, compared with that of the label `reference` if it has runs."""
    by_label: dict[str, list[RunResult]] = {}
    for result in results:
        by_label.setdefault(result.label, []).append(result)
    found, first = [], by_label.get(reference, [])
    for label, runs in by_label.items():
        names = [column.name for column in COLUMNS]
        own, theirs = ({name: _by_seed(of, name) for name in names} for of in (runs, first))
        differences = {name: paired_difference(own[name], theirs[name]) for name in names} if label != reference else {}
        found.append(
            Summary(
                label,
                runs[0].overrides,
                tuple(run.seed for run in runs),
                {name: mean_interval(list(values.values())) for name, values in own.items() if values},
                {name: difference for name, difference in differences.items() if difference is not None},
            )
        )
    return found


def _by_seed(runs: Sequence[RunResult], name: str) -> dict[int, float]:
    return {run.seed: run.figures[name] for run in runs if name in run.figures}


def results_csv(results: Sequence[RunResult]) -> str:
    """A line a run: its label, seed, overrides and figures; what was not measured is empty."""
    names = [column.name for column in COLUMNS]
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(["label", "seed", "overrides", *names])
    for run in results:
        writer.writerow([run.label, run.seed, run.overrides, *(run.figures.get(name, "") for name in names)])
    return content.getvalue()
