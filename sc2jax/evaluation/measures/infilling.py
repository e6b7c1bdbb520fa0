"""Exact-match infilling of held-out lines, in the manner of the single-line task of SantaCoder (arXiv 2301.03988).

A whole line of a held-out file, indentation included, is hidden. The model sees the text around it in the format of
training (prefix, suffix, then the middle) and writes greedily until it stops by itself or reaches the limit of tokens.
Completion and line are compared after `strip()`. Nothing else is cut off, so a model that does not know where to stop
is wrong.

A line qualifies if, without the blanks around it, it has at least `min_line_letters` letters and at most
`max_line_characters` characters, and if its file has a line that is not blank before it and another after it. Lines are
drawn in a seeded order: first one from each file, then a second one from each file, and so on.

Beside the model's score stands the score of copying the nearest line before that is not blank: repetitive code can be
completed by repeating it.
"""

import dataclasses
import difflib
import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, TypedDict

from sc2jax.evaluation.config import InfillingConfig
from sc2jax.evaluation.heldout import CodeFile, Splits, choose_files, rank
from sc2jax.evaluation.not_measured import NotMeasured
from sc2jax.json_files import Count, Share
from sc2jax.text.fim import infill_prompt
from sc2jax.text.formats import FORMATS
from sc2jax.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from sc2jax.inference.generate import Completion
    from sc2jax.inference.loaded_model import LoadedModel

VERSION = 2
"""Raised when a change to this measure changes its results."""

Config = InfillingConfig

_SHOWN_LINES = 4  # kept on each side of a sample, for a reader


class InfillSample(TypedDict):
    """One hidden line: what the model saw, what it wrote, and whether that is right.

    `line` counts from 1; `before` and `after` are the lines around the hidden one, for a reader; `prompt` is the whole
    prompt that the model saw, with special tokens as literals.
    """

    repository: str
    path: str
    line: Count
    language: str
    before: str
    after: str
    prompt: str
    reference: str
    completion: str
    finish: Literal["stop", "length"]
    exact: bool
    first_line_exact: bool
    edit_similarity: Share


class InfillRates(TypedDict):
    """Shares of samples, all in [0, 1]; `edit_similarity` is a mean."""

    samples: Count
    exact: Count
    exact_match: Share
    edit_similarity: Share


class Infilling(TypedDict):
    """Exact-match infilling of held-out lines.

    `interval` is the 95 % Wilson interval of `model.exact_match`; `first_line_match` is the share of samples in which
    the first line written is right, whether or not the model stopped after it; `stopped` is the share that ended in a
    stop token. `copy_previous` is the score of repeating the line before.
    """

    measured: Literal[True]
    model: InfillRates
    interval: tuple[Share, Share]
    first_line_match: Share
    stopped: Share
    copy_previous: InfillRates
    by_language: dict[str, InfillRates]
    items: list[InfillSample]


Result = Infilling


@dataclasses.dataclass(frozen=True)
class HiddenLine:
    """A line to fill in, with all the text around it; `number` counts from 1."""

    file: CodeFile
    number: int
    prefix: str
    line: str
    suffix: str

    @property
    def previous(self) -> str:
        """The nearest line before it that is not blank."""
        return self.prefix.rstrip().rsplit("\n", 1)[-1]


def measure(model: "LoadedModel", splits: Splits, config: InfillingConfig, seed: int) -> Infilling | NotMeasured:
    """Hides a seeded choice of held-out lines; the module's docstring says which qualify and what counts as right."""
    for name in ("infill_samples", "max_bytes"):
        if not getattr(config, name):
            return NotMeasured(measured=False, reason=f"switched off (evaluation.{name} is 0)")
    hidden = choose_lines(splits("heldout"), config, seed)
    if not hidden:
        return NotMeasured(
            measured=False, reason="no held-out file has a line to ask for with text before and after it"
        )
    samples = _complete(model, hidden, config)
    rates = _rates([(sample["reference"], sample["completion"]) for sample in samples])
    return Infilling(
        measured=True,
        model=rates,
        interval=wilson_interval(rates["exact"], rates["samples"]),
        first_line_match=statistics.fmean(sample["first_line_exact"] for sample in samples),
        stopped=statistics.fmean(sample["finish"] == "stop" for sample in samples),
        copy_previous=_rates([(line.line, line.previous) for line in hidden]),
        by_language={
            language: _rates(
                [(item["reference"], item["completion"]) for item in samples if item["language"] == language]
            )
            for language in sorted({sample["language"] for sample in samples})
        },
        items=samples,
    )


def summary(result: Infilling | NotMeasured) -> str:
    """The result in a sentence."""
    if result["measured"] is False:
        return f"infilling: not measured, {result['reason']}"
    model, copied = result["model"], result["copy_previous"]
    return (
        f"infilling: {model['exact']} of {model['samples']} lines exact ({model['exact_match']:.1%}), edit "
        f"similarity {model['edit_similarity']:.2f}; copying the line before: {copied['exact_match']:.1%}"
    )


def choose_lines(files: Iterable[CodeFile], config: InfillingConfig, seed: int) -> list[HiddenLine]:
    """At most `infill_samples` lines, in a seeded order that does not depend on the order of the files."""
    chosen = choose_files(files, max_files=config.max_files, max_bytes=config.max_bytes, seed=seed)
    rounds = itertools.zip_longest(*(_shuffled_lines(file, config, seed) for file in chosen))
    lines = (line for one_a_file in rounds for line in one_a_file if line is not None)
    return list(itertools.islice(lines, config.infill_samples))


def _shuffled_lines(file: CodeFile, config: InfillingConfig, seed: int) -> Iterator[HiddenLine]:
    lines = file.text.split("\n")
    filled = [index for index, line in enumerate(lines) if line.strip()]
    askable = [index for index in filled[1:-1] if _may_be_asked(lines[index], config)]
    askable.sort(key=lambda index: rank(seed, file.repository, file.path, index))
    for index in askable:
        before = "".join(line + "\n" for line in lines[:index])
        after = "".join("\n" + line for line in lines[index + 1 :])
        yield HiddenLine(file, index + 1, before, lines[index], after)


def _may_be_asked(line: str, config: InfillingConfig) -> bool:
    content = line.strip()
    letters = sum(character.isalpha() for character in content)
    return letters >= config.min_line_letters and len(content) <= config.max_line_characters


def cut_context(prefix: str, suffix: str, config: InfillingConfig) -> tuple[str, str]:
    """The end of the prefix and the start of the suffix within their budgets, whole lines where one fits."""
    if len(prefix) > config.prefix_characters:
        cut = len(prefix) - config.prefix_characters
        start = prefix.find("\n", cut - 1) + 1
        prefix = prefix[start if 0 < start < len(prefix) else cut :]
    if len(suffix) > config.suffix_characters:
        end = suffix.rfind("\n", 0, config.suffix_characters + 1)
        suffix = suffix[: end if end > 0 else config.suffix_characters]
    return prefix, suffix


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a proportion; 95 % at the default `z`."""
    share = successes / trials
    middle = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def _complete(model: "LoadedModel", hidden: Sequence[HiddenLine], config: InfillingConfig) -> list[InfillSample]:
    prompts = [model.tokenizer.encode(infill_prompt(*cut_context(line.prefix, line.suffix, config))) for line in hidden]
    completions = model.complete(
        prompts,
        max_new_tokens=config.infill_tokens,
        stop_ids=FORMATS["repository"].stops,  # a middle ends where its file does
        batch_size=config.infill_batch,
    )
    return [
        _judge(model.tokenizer, line, prompt, completion)
        for line, prompt, completion in zip(hidden, prompts, completions, strict=True)
    ]


def _judge(tokenizer: Tokenizer, line: HiddenLine, prompt: list[int], completion: "Completion") -> InfillSample:
    text = tokenizer.decode(completion.ids)
    return InfillSample(
        repository=line.file.repository,
        path=line.file.path,
        line=line.number,
        language=line.file.language,
        before="\n".join(line.prefix.split("\n")[-_SHOWN_LINES - 1 :]),
        after="\n".join(line.suffix.split("\n")[: _SHOWN_LINES + 1]),
        prompt=tokenizer.decode(prompt),
        reference=line.line,
        completion=text,
        finish="stop" if completion.finished else "length",
        exact=_same(line.line, text),
        first_line_exact=_same(line.line, text.strip().split("\n", 1)[0]),
        edit_similarity=edit_similarity(line.line, text),
    )


def edit_similarity(reference: str, completion: str) -> float:
    """Twice the matched characters over all characters (Ratcliff and Obershelp), of the stripped texts."""
    matcher = difflib.SequenceMatcher(None, reference.strip(), completion.strip(), autojunk=False)
    return matcher.ratio()


def _same(reference: str, completion: str) -> bool:
    return reference.strip() == completion.strip()


def _rates(pairs: Sequence[tuple[str, str]]) -> InfillRates:
    exact = sum(_same(reference, completion) for reference, completion in pairs)
    return InfillRates(
        samples=len(pairs),
        exact=exact,
        exact_match=exact / len(pairs),
        edit_similarity=statistics.fmean(edit_similarity(*pair) for pair in pairs),
    )
