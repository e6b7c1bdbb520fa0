"""The first half of a benchmark: samples of a model, as JSON lines that grow until all are there.

Each line is written once it and all before it are known, so what a killed run leaves is the beginning of the whole
file, and the same call goes on after it. A sample's draws follow from the seed, the place of its task among the
problems and its own number, and from nothing else.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, Unpack

from sc2jax.errors import UserError
from sc2jax.evaluation.growing_lines import add_lines, stored_lines
from sc2jax.evaluation.problems import Problem, Sampling
from sc2jax.evaluation.samples import Sample
from sc2jax.inference.stops import TextCompletion, Texts
from sc2jax.progress import progress
from sc2jax.text.formats import FORMATS
from sc2jax.text.tokenizer import Tokenizer

MOST_SAMPLES = 2**16
"""Of a task; and the most tasks: both numbers together are 32 bits, which key a sample's draws."""


class Writer(Protocol):
    """What samples are generated with: of a `LoadedModel`, what is used of it here."""

    @property
    def tokenizer(self) -> Tokenizer:
        """That of the model."""
        ...

    def complete_texts(
        self, prompts: Sequence[Sequence[int]], *, batch_size: int, **texts: Unpack[Texts]
    ) -> Iterator[TextCompletion]:
        """The completions of prompts, in their order."""
        ...


def generate_samples(
    model: Writer,
    problems: Sequence[Problem],
    sampling: Sampling,
    seed: int,
    path: str,
    *,
    batch_size: int = 16,
    say: Callable[[str], object] = lambda _: None,
) -> None:
    """Writes the samples of all problems into a file, task after task, or goes on where it ends.

    The path must be one for this model, these problems and this sampling alone: of what is in the file, only what its
    lines say can be compared with what is asked for.

    Args:
        model: that writes.
        problems: the tasks of a benchmark.
        sampling: how their completions are drawn.
        seed: of the draws.
        path: of the file, on the local disk or in an object store.
        batch_size: how many samples are written together.
        say: told where a run goes on.

    Raises:
        UserError: a prompt is too long for the model, or the file holds something else than the first of these samples.
    """
    total = len(problems) * sampling.samples
    if max(len(problems), sampling.samples) > MOST_SAMPLES:
        raise ValueError(f"{len(problems)} tasks, {sampling.samples} samples each: at most {MOST_SAMPLES} are numbered")
    stored = _stored(path, problems, sampling.samples, seed)
    if stored == total > 0:
        return
    if stored:
        say(f"going on after {stored} of {total} samples in {path}")
    prompts = [model.tokenizer.encode(problem.pieces) for problem in problems]
    places = [(task, number) for task in range(len(problems)) for number in range(sampling.samples)]
    completions = model.complete_texts(
        [prompts[task] for task, _ in places],
        batch_size=batch_size,
        first=stored,
        names=[f"the prompt of {problems[task].task_id}" for task, _ in places],
        stop_texts=[problems[task].stops for task, _ in places],
        stop_ids=FORMATS["file"].stops,
        numbers=[task * MOST_SAMPLES + number for task, number in places],
        max_new_tokens=sampling.max_new_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=seed,
    )
    samples = (
        _sample(problems[task], number, completion, seed)
        for (task, number), completion in zip(places[stored:], completions, strict=True)
    )
    add_lines(path, progress(samples, desc="samples", initial=stored, total=total))


def _sample(problem: Problem, number: int, completion: TextCompletion, seed: int) -> Sample:
    return Sample(
        task_id=problem.task_id,
        sample=number,
        prompt=problem.prompt,
        completion=completion.text,
        ids=completion.ids,
        seed=seed,
        finish=completion.finish,
    )


def _stored(path: str, problems: Sequence[Problem], samples: int, seed: int) -> int:
    """How many samples a file holds already; a last line that was cut off is removed from it.

    Raises:
        UserError: they are not the first of those that are asked for.
    """
    remedy = "delete the file, and its samples are generated anew"

    def refuse_other(place: int, sample: Sample, where: str) -> None:
        if place >= len(problems) * samples:
            raise UserError(f"{where} is one sample more than is asked for; {remedy}")
        problem, number = problems[place // samples], place % samples
        asked = (problem.task_id, number, problem.prompt, seed)
        if (sample["task_id"], sample["sample"], sample["prompt"], sample["seed"]) != asked:
            raise UserError(
                f"{where} is not sample {number} of {problem.task_id} with this prompt and seed {seed}; {remedy}"
            )

    return len(stored_lines(path, Sample, refuse_other, remedy))
