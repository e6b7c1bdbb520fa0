"""Completions for people, with a model whose answers are the test's: what it is asked, and what is made of them."""

import dataclasses
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

import pytest

from sc2jax.errors import UserError
from sc2jax.inference.config import CompletionConfig
from sc2jax.inference.generate import Completion
from sc2jax.inference.loaded_model import LoadedModel
from sc2jax.inference.samples import LEAST_LINES, complete_prompt, samples_from_files
from sc2jax.text.formats import FORMATS
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer

LONG = "".join(f"line_{number} = {number}\n" for number in range(9))


@dataclasses.dataclass(frozen=True)
class Parrot(LoadedModel):
    """Answers every prompt with one text, and remembers what it was asked and when it gave each token."""

    text: str = "x"
    events: list[Any] = dataclasses.field(default_factory=list)

    def complete(self, prompts: Sequence[Sequence[int]], **options: Any) -> list[Completion]:
        self.events.append((list(map(self.tokenizer.decode, prompts)), options))
        return [Completion(self.tokenizer.encode_text(self.text), finished=True) for _ in prompts]

    def stream(self, prompt: Sequence[int], **options: Any) -> Iterator[int]:
        self.events.append((self.tokenizer.decode(prompt), options))
        for token in self.tokenizer.encode_text(self.text)[: options["max_new_tokens"]]:
            self.events.append("token")
            yield token


def parrot(tokenizer: Tokenizer, text: str = "x") -> Parrot:
    nothing: Any = None
    return Parrot(nothing, nothing, tokenizer, nothing, text)


@pytest.mark.parametrize(
    ("config", "prompt"),
    [
        (CompletionConfig(prompt="a = "), "<file_sep>a = "),
        (CompletionConfig(prompt="a", suffix="b"), "<file_sep><fim_prefix>a<fim_suffix>b<fim_middle>"),
        (
            CompletionConfig(prompt="a", path="lib/b.py", repository="me/lib"),
            "<repo_name>me/lib<file_sep>lib/b.py\na",
        ),
        (
            CompletionConfig(prompt="a", suffix="c", path="b.py", repository="me/lib"),
            "<repo_name>me/lib<file_sep><fim_prefix>b.py\na<fim_suffix>c<fim_middle>",
        ),
    ],
)
def test_prompt_path_and_repository_reach_the_model(byte_tokenizer, config, prompt) -> None:
    model = parrot(byte_tokenizer)
    complete_prompt(model, config, seed=0)
    assert model.events[0][0] == prompt


def test_how_tokens_are_drawn_reaches_the_model(byte_tokenizer) -> None:
    model = parrot(byte_tokenizer)
    config = CompletionConfig(prompt="a", temperature=0.7, top_p=0.6, max_new_tokens=5)
    complete_prompt(model, config, seed=11)
    samples_from_files(model, [("a.py", LONG)], config, seed=11)
    (_, streamed), (_, completed) = model.events[0], model.events[-1]
    assert streamed == completed
    stops = streamed.pop("stop_ids")
    assert streamed == {"temperature": 0.7, "top_p": 0.6, "max_new_tokens": 5, "seed": 11}
    # A file ends with the repository, where the next file begins, and where a middle does.
    assert stops == {
        Special.END_OF_TEXT, Special.FILE_SEP, Special.REPO_NAME, Special.FIM_PREFIX, Special.FIM_MIDDLE,
        Special.FIM_SUFFIX, Special.FIM_PAD,
    }  # fmt: skip


def test_a_completion_that_is_shorter_than_its_limit_has_stopped(byte_tokenizer) -> None:
    asked = CompletionConfig(prompt="a", suffix="\nc", max_new_tokens=5)
    stopped = complete_prompt(parrot(byte_tokenizer, "four"), asked, 0)
    assert stopped == {"kind": "infill", "prefix": "a", "suffix": "\nc", "completion": "four", "finish": "stop"}
    cut = complete_prompt(parrot(byte_tokenizer, "four"), CompletionConfig(prompt="a", max_new_tokens=4), 0)
    assert cut == {"kind": "left_to_right", "prompt": "a", "completion": "four", "finish": "length"}
    nothing = complete_prompt(parrot(byte_tokenizer, ""), CompletionConfig(prompt="a"), 0)
    assert nothing == {"kind": "left_to_right", "prompt": "a", "completion": "", "finish": "stop"}


def test_text_is_shown_as_soon_as_it_is_certain(byte_tokenizer) -> None:
    model = parrot(byte_tokenizer, "aé\n")
    sample = complete_prompt(model, CompletionConfig(prompt="p"), 0, lambda piece: model.events.append(("show", piece)))
    assert sample["completion"] == "aé\n"
    shown = [("show", "a"), ("show", ""), ("show", "é"), ("show", "\n")]
    assert model.events[1:-1] == [event for piece in shown for event in ("token", piece)]
    assert model.events[-1] == ("show", "")


def test_half_a_character_at_the_limit_is_shown_as_it_is_kept(byte_tokenizer) -> None:
    pieces: list[str] = []
    config = CompletionConfig(prompt="p", max_new_tokens=2)
    sample = complete_prompt(parrot(byte_tokenizer, "aé"), config, 0, pieces.append)
    assert "".join(pieces) == sample["completion"] == "a\ufffd"


def test_samples_come_from_two_files_whatever_their_order(byte_tokenizer) -> None:
    files = [(f"{name}.py", LONG.replace("line", name)) for name in "abcdef"] + [("short.py", "x\n" * 7 + "\n" * 9)]
    config = CompletionConfig()
    drawn = set()
    for seed in range(6):
        left, infill = samples_from_files(parrot(byte_tokenizer), files, config, seed)
        assert samples_from_files(parrot(byte_tokenizer), files[::-1], config, seed) == [left, infill]
        assert left["kind"] == "left_to_right" and infill["kind"] == "infill"
        assert left["finish"] == infill["finish"] == "stop" and left["completion"] == infill["completion"] == "x"
        first, second = left["prompt"][0], infill["prefix"][0]
        assert [first, second] == sorted("abcdef", key=lambda name: sha256(f"{seed}/{name}.py".encode()).hexdigest())[
            :2
        ]
        drawn.add((first, second))
        text = LONG.replace("line", second)
        assert infill["prefix"] + f"{second}_4 = 4" + infill["suffix"] == text  # the line in the middle
        assert LONG.replace("line", first).startswith(left["prompt"]) and left["prompt"].endswith("_3 = 3")
    assert len(drawn) > 3


def test_the_model_is_shown_no_more_of_a_file_than_was_asked_for(byte_tokenizer) -> None:
    model = parrot(byte_tokenizer)
    left, infill = samples_from_files(model, [("a.py", LONG)], CompletionConfig(context_characters=15), 0)
    assert left["kind"] == "left_to_right" and infill["kind"] == "infill"
    assert left["prompt"] == "line_0 = 0"
    assert (infill["prefix"], infill["suffix"]) == (LONG[:44][-15:], LONG[54:][:15])
    assert model.events[0][0] == [
        f"<file_sep>{left['prompt']}",
        f"<file_sep><fim_prefix>{infill['prefix']}<fim_suffix>{infill['suffix']}<fim_middle>",
    ]


def test_files_that_are_too_short_are_refused(byte_tokenizer) -> None:
    with pytest.raises(UserError, match=f"{LEAST_LINES} filled lines"):
        samples_from_files(parrot(byte_tokenizer), [("a", "x\n" * 7)], CompletionConfig(), 0)
    assert samples_from_files(parrot(byte_tokenizer), [("a", "x\n" * 8)], CompletionConfig(), 0)


def test_a_model_is_asked_with_its_own_temperature_unless_told_otherwise(byte_tokenizer) -> None:
    model = dataclasses.replace(parrot(byte_tokenizer), temperature=0.3)
    for config in (CompletionConfig(), CompletionConfig(temperature=0.0), CompletionConfig(temperature=0.9)):
        complete_prompt(model, dataclasses.replace(config, prompt="a"), seed=0)
        samples_from_files(model, [("a.py", LONG)], config, seed=0)
    given = [event[1]["temperature"] for event in model.events if event != "token"]
    assert given == [0.3, 0.3, 0.0, 0.0, 0.9, 0.9]


@pytest.mark.parametrize("change", [{}, {"max_new_tokens": 1_000_000}, {"temperature": 100.0}, {"temperature": 0.0}])
def test_what_a_completion_may_ask_for(change) -> None:
    CompletionConfig(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"max_new_tokens": 3_000_000_000},
            "max_new_tokens is 3000000000; it must be .* at most 1,000,000",
        ),
        ({"max_new_tokens": 0}, "at least 1"),
        ({"temperature": -0.5}, "temperature is -0.5; it must be -1 or at least 0"),
        ({"temperature": -2.0}, "temperature is -2.0"),
        ({"temperature": 100.1}, "at most 100"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"context_characters": 10**7}, "at most 1,000,000"),
        ({"top_p": 0.0}, "more than 0"),
    ],
)
def test_what_it_may_not(change, message) -> None:
    with pytest.raises(UserError, match=f"completion.*{message}"):
        CompletionConfig(**change)


@pytest.mark.parametrize(
    ("suffix", "prompt"),
    [
        ("", [Special.FILE_SEP, "def f("]),
        ("\n", [Special.FILE_SEP, Special.FIM_PREFIX, "def f(", Special.FIM_SUFFIX, "\n", Special.FIM_MIDDLE]),
    ],
)
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_what_is_shown_is_what_the_model_completes(byte_model, suffix, prompt, temperature) -> None:
    pieces: list[str] = []
    config = CompletionConfig(prompt="def f(", suffix=suffix, max_new_tokens=20, temperature=temperature)
    sample = complete_prompt(byte_model, config, 4, pieces.append)
    options = {"max_new_tokens": 20, "temperature": temperature, "top_p": 0.95, "seed": 4}
    ids = byte_model.tokenizer.encode(prompt)
    (completion,) = byte_model.complete([ids], stop_ids=FORMATS["repository"].stops, **options)
    assert "".join(pieces) == sample["completion"] == byte_model.tokenizer.decode(completion.ids)
