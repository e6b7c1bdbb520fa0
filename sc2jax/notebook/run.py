"""Runs, read from their folders with the standard library alone, and pictures of them."""

import json
import re
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sc2jax import plots
from sc2jax.display import terminal_text
from sc2jax.errors import UserError
from sc2jax.notebook.environment import asked
from sc2jax.notebook.shown import Completion, Page
from sc2jax.plots import Curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STAGES = ("train", "tokenize", "tokenizer", "corpus")
"""From the last to the first: the config beside the last one that is there names what all before it wrote."""
_MOST_BARS = 12
_LOSS = "loss (nats a token)"
_BITS = "held-out bits per byte"


class Run:
    """The folder of a run, as `sc2jax quickstart` or other verbs filled it."""

    def __init__(self, folder: str | Path) -> None:
        """Opens the run; what it has not done yet it may still do.

        Raises:
            UserError: the folder is not there, or holds no stage of a run.
        """
        self.folder = Path(folder).resolve()
        if not self.folder.is_dir():
            raise UserError(f"there is no folder {folder}; give a run's --workdir")
        self._config()

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def log(self) -> list[dict[str, Any]]:
        """The lines of the training log, oldest first: step, tokens, loss, learning rate and what the feed did.

        Raises:
            UserError: nothing was trained yet, or a line is damaged.
        """
        path = self._written("train", "metrics.jsonl", "train")
        return [_decoded(line, f"{path}, line {number},") for number, line in enumerate(_lines(path), start=1)]

    def corpus(self) -> dict[str, Any]:
        """The statistics of the corpus that the run read: its funnel, languages, licences and split.

        Raises:
            UserError: nothing was curated, or what was written of it is damaged.
        """
        path = self._written("corpus", "manifest.json", "curate")
        return _value(_decoded(_text(path), str(path)), path, "statistics", dict)

    def scores(self, measure: str = "bits_per_byte") -> dict[str, Any]:
        """What a measure found, such as "bits_per_byte" or "infilling".

        Raises:
            UserError: nothing was measured yet, or the file is damaged.
        """
        path = self._written(f"evaluate/{measure}", "scores.json", "evaluate")
        return _decoded(_text(path), str(path))

    def show_row(self, step: int = 0, row: int = 0, source: str = "") -> Page:
        """A row that the model is trained on, with its documents and special tokens told apart.

        Raises:
            UserError: there is no such row, or the run has no tokenizer yet.
        """
        which = {"step": step, "row": row, "source": source}
        with tempfile.TemporaryDirectory() as scratch:
            page = Path(scratch) / "row.html"
            arguments = [f"--config.show.{name}={value}" for name, value in which.items() if value]
            said = asked("show", *self._reading(), f"--config.show.html={page}", *arguments)
            if not page.is_file():
                raise UserError(f"`sc2jax show` wrote no page of row {row} of step {step}: {said}")
            return Page(page.read_text("utf-8"), height=320)

    def complete(self, prompt: str, suffix: str = "", **settings: str | float) -> Completion:
        """Goes on from a prompt, or with a suffix fills the gap between the two.

        Args:
            prompt: the text before what is made.
            suffix: the text after it; "": the text ends there.
            settings: those of the config's section `completion`, such as `max_new_tokens` and `temperature`.

        Raises:
            UserError: the run has no model, or refuses the prompt or a setting.
        """
        if not prompt or "\0" in prompt + suffix:
            raise UserError("a prompt needs at least one character, and none of code 0; give one, such as a newline")
        wanted = {"prompt": prompt, "suffix": suffix} | settings
        arguments = [f"--config.completion.{name}={value}" for name, value in wanted.items()]
        return _completion(asked("complete", *self._reading(), *arguments), prompt, suffix)

    def report(self) -> Page:
        """The page that `sc2jax report` wrote.

        Raises:
            UserError: there is none yet.
        """
        return Page(self._written("report", "index.html", "report").read_text("utf-8"), height=800)

    def plot_loss(self) -> "Figure":
        """The training loss over the tokens read."""
        return plots.curves({"loss": [self.loss_curve()]}, x_label="tokens", y_label=_LOSS, noisy=True)

    def loss_curve(self) -> Curve:
        """The training loss over the tokens read, as numbers."""
        path, rows = self.folder / "train/metrics.jsonl", self.log()
        return Curve([_number(row, path, "tokens") for row in rows], [_number(row, path, "loss") for row in rows])

    def bits_per_byte(self) -> float:
        """Held-out bits per byte of the model.

        Raises:
            UserError: they were not measured.
        """
        return _number(self._rates(), self.folder / "evaluate/bits_per_byte", "model")

    def plot_scores(self) -> "Figure":
        """Held-out bits per byte of the model and of both baselines, on the same files."""
        rates = self._rates()
        names = {"model": "model", "gzip": "gzip", "unigram": "unigram tokens"}
        where = self.folder / "evaluate/bits_per_byte"
        return plots.bars({shown: _number(rates, where, name) for name, shown in names.items()}, _BITS)

    def plot_languages(self) -> "Figure":
        """The bytes of the corpus by language, the most first."""
        where = self.folder / "corpus"
        languages = _value(self.corpus(), where, "languages", dict)
        sizes = sorted(((_number(share, where, "bytes"), name) for name, share in languages.items()), reverse=True)
        bars = {name: size for size, name in sizes[:_MOST_BARS]}
        others = sizes[_MOST_BARS:]
        return plots.bars(
            bars | ({f"{len(others)} others": sum(size for size, _ in others)} if others else {}), "bytes"
        )

    def plot_funnel(self) -> "Figure":
        """The files that each stage of curation left."""
        where = self.folder / "corpus"
        files: dict[str, float] = {}
        for stage in _value(self.corpus(), where, "funnel", list):
            files = files or {"read": _number(stage, where, "files_in")}
            files[_value(stage, where, "stage", str).replace("_", " ")] = _number(stage, where, "files_out")
        return plots.bars(files, "files")

    def _rates(self) -> dict[str, Any]:
        scores = self.scores()
        if not scores.get("measured"):
            raise UserError(f"{self.folder}: bits per byte were not measured: {scores.get('reason', 'no files')}")
        return _value(scores, self.folder / "evaluate/bits_per_byte", "total", dict)

    def _config(self) -> Path:
        """The config beside the last stage that is there, which may be another one each time."""
        found = next(filter(Path.is_file, (self.folder / stage / "config.json" for stage in _STAGES)), None)
        if found is None:
            raise UserError(
                f"{self.folder} holds no run: none of {', '.join(_STAGES)} is in it; give a run's --workdir"
            )
        return found

    def _reading(self) -> list[str]:
        """The arguments with which a verb reads this run."""
        return [f"--config={self._config()}", f"--workdir={self.folder}"]

    def _written(self, stage: str, name: str, verb: str) -> Path:
        """A file of a stage, in this run or where its config says that the run read the stage."""
        paths, config = [self.folder / stage / name], self._config()
        read = _value(_decoded(_text(config), str(config)), config, "paths", dict)
        named = _value({stage: "", **read}, config, stage, str)
        paths += [Path(named) / name] if named else []
        found = next(filter(Path.is_file, paths), None)
        if found is None:
            raise UserError(f"{paths[0]} is not there: `sc2jax {verb}` was not run or did not finish; run it first")
        return found


def ablation_runs(workdir: str | Path) -> dict[str, list[Run]]:
    """The runs of `sc2jax ablate` by their labels, in the order of their names, one for each seed.

    Raises:
        UserError: there are none.
    """
    found: dict[str, list[Run]] = {}
    for folder in sorted((Path(workdir) / "runs").glob("*-seed*")):
        named = re.fullmatch(r"(.+)-seed\d+", folder.name)
        if named and (folder / "train" / "metrics.jsonl").is_file():
            found.setdefault(named[1], []).append(Run(folder))
    if not found:
        raise UserError(f"{workdir} holds no runs of an ablation; give the --workdir of `sc2jax ablate`")
    return found


def compare_losses(runs: Mapping[str, Sequence[Run]]) -> "Figure":
    """The training losses over tokens, a line for each label: the mean of its runs within their extremes.

    Raises:
        UserError: a label has no runs, or one of them no losses.
    """
    _refuse_none(runs)
    series = {label: [run.loss_curve() for run in group] for label, group in runs.items()}
    return plots.curves(series, x_label="tokens", y_label=_LOSS, noisy=True)


def compare_scores(runs: Mapping[str, Sequence[Run]]) -> "Figure":
    """Held-out bits per byte, a row for each label: the mean of its runs and their extremes.

    Raises:
        UserError: a label has no runs, or one of them no scores.
    """
    _refuse_none(runs)
    rates = {label: [run.bits_per_byte() for run in group] for label, group in runs.items()}
    means, lows, highs = ([of(group) for group in rates.values()] for of in (statistics.fmean, min, max))
    return plots.intervals(list(rates), means, lows, highs, _BITS)


def _refuse_none(runs: Mapping[str, Sequence[Run]]) -> None:
    empty = [label for label, group in runs.items() if not group]
    if empty or not runs:
        raise UserError(
            f"there is no run to compare{f' of {empty[0]!r}' if empty else ''}; give one or more of each label"
        )


def _completion(said: str, prompt: str, suffix: str) -> Completion:
    """What `sc2jax complete` printed, taken apart: between its marks, which the prompt may hold as well."""
    start = f"{terminal_text(prompt)}\u27e6"
    before, _, rest = said.partition(start)
    between, mark, after = rest.rpartition(f"\u27e7{terminal_text(suffix)}\n--- ")
    if not (before.endswith("\n") and mark):
        raise UserError(f"`sc2jax complete` printed no completion: {said[-500:]}")
    return Completion(prompt, between, suffix, "stop" if after.startswith("stopped") else "length")


def _lines(path: Path) -> list[str]:
    return [line for line in _text(path).splitlines() if line]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is damaged: it is no text in UTF-8; run its stage again") from error


def _decoded(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is damaged: {error}; run its stage again") from error
    if not isinstance(value, dict):
        raise UserError(f"{where} is damaged: it is no object; run its stage again")
    return value


def _value(values: Mapping[str, Any], where: Path, name: str, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(values, Mapping) or name not in values:
        raise UserError(f"{where} says nothing of {name!r}; it was written by another version: run its stage again")
    if not isinstance(values[name], kind):
        raise UserError(f"{where} is damaged: {name!r} is not of its kind; run its stage again")
    return values[name]


def _number(values: Mapping[str, Any], where: Path, name: str) -> float:
    return _value(values, where, name, (int, float))
