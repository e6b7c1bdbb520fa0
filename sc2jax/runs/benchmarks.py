"""The two halves of a benchmark as stages of a run: samples, and the verdicts on them with scores and pages."""

import dataclasses
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

import sc2jax
from sc2jax import storage
from sc2jax.benchmarks.occurrences import occurrences
from sc2jax.evaluation.benchmark import Benchmark, Groups
from sc2jax.evaluation.config import JudgingConfig, SamplingConfig
from sc2jax.evaluation.generating import Writer, generate_samples
from sc2jax.evaluation.judging.checks import check_judge
from sc2jax.evaluation.judging.gold import remembered_expected
from sc2jax.evaluation.judging_samples import Bench, judge_samples
from sc2jax.evaluation.measures import read_benchmark
from sc2jax.evaluation.problems import Sampling
from sc2jax.evaluation.samples import Answer, Answers, read_samples
from sc2jax.evaluation.score_page import render_pages
from sc2jax.evaluation.scores import Facts, make_scores, scores_json, summary
from sc2jax.evaluation.scores import Sample as ScoredSample
from sc2jax.evaluation.scores import Sampling as DrawnBy
from sc2jax.model.config import Computation
from sc2jax.records.dataset import read_tables
from sc2jax.records.manifest import Manifest, is_finished, read_manifest, write_output
from sc2jax.records.stage import Stage, Written
from sc2jax.records.stage_folder import notes_folder
from sc2jax.runs.benchmark_results import SCORES, VERDICTS, read_scores_of
from sc2jax.runs.inputs import JUDGED, SAMPLED, input_digests
from sc2jax.runs.run import Run, say
from sc2jax.settings import part
from sc2jax.storage import join

SAMPLES_VERSION, VERDICTS_VERSION = 1, 2
"""Raised when a change to a half changes its results."""

SAMPLES = "samples.jsonl"
_ENVIRONMENT = "SC2JAX_BENCHMARKS"


def benchmarks_folder(run: Run) -> str:
    """Where the files of benchmarks lie."""
    return run.settings.paths.benchmarks or os.environ.get(_ENVIRONMENT, "") or "benchmarks"


def settled(run: Run) -> Run:
    """The run with all that its scores depend on and that is not said where it runs: so its config gives them again."""
    settings, evaluation = run.settings, run.settings.evaluation
    file = evaluation.samples_file
    evaluation = dataclasses.replace(
        evaluation,
        model_name=evaluation.model_name or Path(storage.absolute(file or run.workdir)).name,
        samples_file=storage.absolute(file) if file else "",
    )
    paths = dataclasses.replace(settings.paths, benchmarks=storage.absolute(benchmarks_folder(run)))
    return dataclasses.replace(run, settings=dataclasses.replace(settings, evaluation=evaluation, paths=paths))


@dataclasses.dataclass(frozen=True)
class Measured:
    """A benchmark that is going to be measured: read, its expected values known, and the judge believed.

    `answers` are those of a file of samples, if one is named.
    """

    name: str
    benchmark: Benchmark
    expected: Mapping[str, Groups]
    bench: Bench
    answers: Answers | None


def prepare(run: Run, name: str, bench: Bench, memory: str) -> Measured:
    """Reads a benchmark, and makes sure that its own solutions pass here; `memory` is where that is remembered.

    Raises:
        UserError: its file, that of samples, or the model is not there or damaged, or the judge cannot be believed.
    """
    benchmark = read_benchmark(name, benchmarks_folder(run))
    file = run.settings.evaluation.samples_file
    # What is missing is told before right answers are judged, which may take minutes.
    if file:
        answers = read_samples(file, list(benchmark.golds))
    else:
        answers = None
        input_digests(run, SAMPLED[name])
    expected = remembered_expected(name, benchmark, bench.judge, bench.candidates, _tools(), memory, say)
    check_judge(name, benchmark, expected, bench.judge.judge, run.settings.seed)
    return Measured(name, benchmark, expected, bench, answers)


def measure(run: Run, measured: Measured, model: Callable[[], Writer]) -> None:
    """Generates samples, unless a file of samples is named, judges them, and says the scores."""
    if measured.answers is None:
        run.do(_samples_stage(run, measured, model), SAMPLED[measured.name])
    run.do(_verdicts_stage(run, measured), JUDGED[measured.name])
    say(summary(read_scores_of(run, measured.name)))
    say(storage.absolute(join(run.folder(JUDGED[measured.name]), "index.html")))


def _samples_stage(run: Run, measured: Measured, model: Callable[[], Writer]) -> Stage:
    settings, benchmark = run.settings, measured.benchmark
    sampling = _sampling(settings.evaluation, benchmark.sampling)

    def write(folder: str) -> Written:
        path = join(notes_folder(folder, stage.key), SAMPLES)
        batch = settings.evaluation.generation_batch
        generate_samples(model(), benchmark.problems, sampling, settings.seed, path, batch_size=batch, say=say)
        return [write_output(folder, SAMPLES, storage.read_bytes(path))], {}

    sections = {
        "sampling": dataclasses.asdict(sampling),
        "prompt_rule": benchmark.prompt_rule,
        "computation": part(settings.model, Computation),
        "mesh": settings.mesh,
        "seed": settings.seed,
    }
    digests = input_digests(run, SAMPLED[measured.name]) | {"benchmark": benchmark.read.file["content_sha256"]}
    stage = Stage(f"{measured.name}-samples", SAMPLES_VERSION, sections, digests, write, resumes=True)
    return stage


def _sampling(config: SamplingConfig, own: Sampling) -> Sampling:
    return Sampling(
        temperature=own.temperature if config.temperature < 0 else config.temperature,
        top_p=config.top_p or own.top_p,
        samples=config.samples or own.samples,
        max_new_tokens=config.max_new_tokens or own.max_new_tokens,
    )


def _verdicts_stage(run: Run, measured: Measured) -> Stage:
    settings, benchmark, bench = run.settings, measured.benchmark, measured.bench
    own = join(run.folder(SAMPLED[measured.name]), SAMPLES)
    answers = measured.answers or read_samples(own, list(benchmark.golds))
    judging = part(settings.evaluation, JudgingConfig)
    corpus = _corpus(run)
    if measured.answers is not None:
        digests = {"samples_file": answers.sha256}
    else:  # with what the samples are of, whose folders the config names so that it can be run elsewhere
        inputs = input_digests(run, SAMPLED[measured.name])
        digests = dict(inputs) | {"samples": run.manifest(SAMPLED[measured.name]).digest}
    digests |= {"benchmark": benchmark.read.file["content_sha256"], **({"corpus": corpus.digest} if corpus else {})}
    facts = _facts(run, measured, answers)

    def write(folder: str) -> Written:
        growing = join(notes_folder(folder, stage.key), VERDICTS)
        workers = settings.evaluation.judge_workers
        judged = judge_samples(benchmark, measured.expected, answers.answers, bench, growing, workers=workers, say=say)
        prompts = {problem.task_id: problem.prompt for problem in benchmark.problems}
        samples = [_sample(prompts, answer) for answer in answers.answers]
        parts, in_corpus = _parts(run, benchmark, samples, corpus)
        scores = make_scores(
            facts, samples, judged, ks=benchmark.ks, references=benchmark.exact, parts=parts, in_corpus=in_corpus
        )
        outputs = [
            write_output(folder, VERDICTS, storage.read_bytes(growing)),
            write_output(folder, SCORES, scores_json(scores)),
        ]
        withheld = (
            ""
            if benchmark.read.source.shown or judging.show_withheld
            else "its authors ask that they are not published"
        )
        for page, text in render_pages(scores, samples, judged, withheld=withheld):
            outputs.append(write_output(folder, page, text.encode()))
        return outputs, {}

    sections = {"judging": judging, "facts": dict(facts), "seed": settings.seed}
    stage = Stage(f"{measured.name}-verdicts", VERDICTS_VERSION, sections, digests, write, resumes=True)
    return stage


def _facts(run: Run, measured: Measured, answers: Answers) -> Facts:
    settings, benchmark, sampled = run.settings, measured.benchmark, measured.answers is None
    sampling = _sampling(settings.evaluation, benchmark.sampling)
    return Facts(
        benchmark=measured.name,
        model=settings.evaluation.model_name,
        file=benchmark.read.file,
        prompt_rule=benchmark.prompt_rule if sampled else "",
        sampling=DrawnBy(**dataclasses.asdict(sampling)) if sampled else None,
        seed=settings.seed,
        version=sc2jax.__version__,
        tools=_tools(),
        sandbox=measured.bench.candidates.facts(),
        samples_sha256=answers.sha256,
        published_as=benchmark.published_as
        if sampled and benchmark.read.known and sampling == benchmark.sampling
        else {},
        command="sc2jax evaluate --config=config.json --workdir=DIR",
    )


def _tools() -> dict[str, str]:
    """The versions of what runs samples or decides on them."""
    return {"python": platform.python_version(), "numpy": version("numpy")}


def _sample(prompts: Mapping[str, str], answer: Answer) -> ScoredSample:
    """An answer as readers and scores see it."""
    prompt = answer.prompt if answer.prompt is not None else prompts[answer.task_id]
    return ScoredSample(
        task_id=answer.task_id,
        sample=answer.sample,
        prompt="" if answer.whole else prompt,
        completion=answer.text.encode(errors="replace").decode(),
    )


def _corpus(run: Run) -> Manifest | None:
    """The corpus of the run, if there is one to look for tasks and completions in."""
    folder = run.folder("corpus")
    return read_manifest(folder) if is_finished(folder) else None


def _parts(
    run: Run, benchmark: Benchmark, samples: list[ScoredSample], corpus: Manifest | None
) -> tuple[dict[str, Mapping[str, str]], list[tuple[str, int]] | None]:
    """The parts of the tasks, and which samples stand in the corpus; None if there is no corpus to look in."""
    parts = dict(benchmark.parts)
    if corpus is None:
        return parts, None
    texts = {(one["task_id"], one["sample"]): one["completion"] for one in samples}
    tasks = {(name, -1): text for name, text in benchmark.texts.items()}
    found = occurrences({**texts, **tasks}, _documents(run, corpus))
    parts["contamination"] = {name: "contaminated" if found[name, -1].found else "clean" for name in benchmark.golds}
    return parts, [key for key in texts if found[key].found]


def _documents(run: Run, corpus: Manifest) -> Iterator[str]:
    for table in read_tables(run.folder("corpus"), corpus, "train", ("content",), "source_file"):
        yield from table.column("content").to_pylist()
