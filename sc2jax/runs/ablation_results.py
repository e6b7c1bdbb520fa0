"""What the runs of an ablation came to, read from what their stages left."""

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from sc2jax.ablation.results import RunResult
from sc2jax.errors import UserError
from sc2jax.evaluation.measures.decoding import Decoding
from sc2jax.inference.speed import decoding_bytes
from sc2jax.model.adapters import adapter_table
from sc2jax.model.config import ModelConfig
from sc2jax.model.params import abstract_params, parameter_table
from sc2jax.records.manifest import read_manifest, read_output
from sc2jax.runs.ablation import AblationRun
from sc2jax.runs.jobs import read_note
from sc2jax.runs.model_checkpoint import training_statistics
from sc2jax.runs.results import read_scores
from sc2jax.runs.run import Run
from sc2jax.runs.starting_points import adapters_of
from sc2jax.storage import join
from sc2jax.training.metrics import METRICS, TIMING, Row, metrics_of
from sc2jax.training.utilisation import flops_per_token

_LAST_SHARE = 20  # the final loss is the mean of the last twentieth of the log


def run_result(run: AblationRun, workdir: str) -> RunResult:
    """What a finished run came to.

    Raises:
        UserError: something that its stages wrote is missing or damaged.
    """
    this = Run(run.settings, run.train.workdir)
    _refuse_near_heldout(this, run.evaluate.overrides["paths.corpus"])
    folder, manifest = this.folder("train"), this.manifest("train")
    trained, model = training_statistics(folder, manifest), ModelConfig(**manifest.config["model"])
    adapters = adapters_of(manifest.config)
    table = adapter_table(parameter_table(model), adapters) if adapters else ()
    flops = flops_per_token(model, model.context_length, table)
    rows = metrics_of(read_output(folder, manifest, METRICS), join(folder, METRICS))
    positions = run.settings.training.batch_size * model.context_length
    timing = _timing(read_output(folder, manifest, TIMING))
    figures = {
        "loss": _final_loss(rows),
        "parameters": trained["parameters"],
        "flops_per_token": flops,
        "training_flops": flops * positions * trained["steps"],
        "tokens": trained["tokens"],
        "cache_bytes": decoding_bytes(abstract_params(parameter_table(model)), model)[1],
        **_speed(timing),
        **_memory(run, workdir, timing),
        **_scores(this),
    }
    return RunResult(
        run.variant.label,
        run.seed,
        " ".join(f"{key}={value}" for key, value in run.variant.overrides),
        figures,
        tokenizer=manifest.inputs["tokenizer"],
        tokens=[row["tokens"] for row in rows],
        flops=[row["step"] * positions * flops for row in rows],
        losses=[row["loss"] for row in rows],
        rates=[row.get("bits_per_byte", float("nan")) for row in rows],
    )


def _refuse_near_heldout(run: Run, base: str) -> None:
    """Makes sure that a corpus of another one's making holds nothing like the held-out files of the base's corpus.

    Raises:
        UserError: it was not curated without them.
    """
    corpus, scored = run.manifest("corpus"), read_manifest(base)
    if corpus.digest != scored.digest and corpus.inputs.get("heldout") != scored.digest:
        raise UserError(
            f"{run.folder('corpus')} may hold what resembles the held-out files that every run is scored on; curate it "
            f"with --config.paths.heldout={base}"
        )


def _final_loss(rows: Sequence[Row]) -> float:
    return statistics.fmean(row["loss"] for row in rows[-max(1, len(rows) // _LAST_SHARE) :])


def _timing(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.splitlines()]


def _speed(timing: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The median of the log's lines, without the first, in which programs are still compiled."""
    speeds = [line["tokens_per_second"] for line in timing[1:] or timing if "tokens_per_second" in line]
    return {"tokens_per_second": statistics.median(speeds)} if speeds else {}


def _memory(run: AblationRun, workdir: str, timing: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The most memory that training held: the device's where it was told, else that of the process, if it was here."""
    peaks = [line["peak_device_bytes"] for line in timing if line.get("peak_device_bytes")]
    note = read_note(run.train, workdir)
    peak = max(peaks) if peaks else note.peak_bytes if note else 0
    return {"peak_bytes": peak} if peak else {}


def _scores(run: Run) -> dict[str, float]:
    """The scores, which are comparable: of the same held-out text.

    Raises:
        UserError: a part of it was left out, because the run was trained on it.
    """
    figures: dict[str, float] = {}
    bits, infilling = read_scores(run, "bits_per_byte"), read_scores(run, "infilling")
    for scores in (bits, infilling):
        left_out = scores.other_corpus["left_out"] if scores.other_corpus else 0
        if left_out == "unknown":
            raise UserError(
                "which of the held-out files it was trained on is not known, for its corpus is not where it was then; "
                "bring that back, delete the run's folder evaluate, and run this again"
            )
        if left_out:
            raise UserError(
                f"of the held-out files that every run is scored on, {left_out} were trained on, and so left out; "
                "curate its corpus with paths.heldout, the base's corpus"
            )
    decoding = read_scores(run, "decoding", timed=True).found
    if bits.found["measured"]:
        figures |= {"bits_per_byte": bits.found["total"]["model"]}
    if infilling.found["measured"]:
        rates = infilling.found["model"]
        figures |= {"infill_exact": rates["exact_match"], "infill_similarity": rates["edit_similarity"]}
    return figures | (_decoding(decoding) if decoding["measured"] else {})


def _decoding(found: Decoding) -> dict[str, float]:
    """What was timed of generation."""
    if "timing" not in found:
        return {}
    alone, together = found["timing"]["alone"], found["timing"]["together"]
    return {
        "decoding_bytes": together["program_bytes"],
        "prefill_milliseconds": alone["prefill_milliseconds"],
        "decoding_alone": alone["tokens_per_second"],
        "decoding_together": together["tokens_per_second"],
    }
