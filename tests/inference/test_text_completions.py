"""Completions as texts: the tokens of `generate`, cut where a search in its text finds a stop."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from sc2jax.errors import UserError
from sc2jax.inference import texts
from sc2jax.inference.generate import generate
from sc2jax.inference.stops import TextCompletion
from sc2jax.model.params import init_params, parameter_table

WRITTEN = ["a", "def f(", "x = [1, 2", "def f(", "def f(", "if", "é" * 40]
MOST = 24


@pytest.fixture(scope="module")
def model(byte_model):
    """As the room's, of a longer context."""
    config = dataclasses.replace(byte_model.config, context_length=128, vocab_size=512)
    params = init_params(parameter_table(config), jax.random.key(3))
    return dataclasses.replace(byte_model, params=params, config=config)


@pytest.fixture(scope="module")
def prompts(byte_tokenizer) -> list[list[int]]:
    return [byte_tokenizer.encode_text(text) for text in WRITTEN]


def asked(count: int, **change: Any) -> dict[str, Any]:
    return {
        "stop_texts": [()] * count,
        "stop_ids": frozenset(),
        "max_new_tokens": MOST,
        "temperature": 0.0,
        "top_p": 1.0,
        "seed": 7,
        "numbers": range(count),
        "names": [f"prompt {place}" for place in range(count)],
        "first": 0,
        **change,
    }


def complete(model, prompts, batch_size=3, **change: Any) -> list[TextCompletion]:
    return list(model.complete_texts(prompts, batch_size=batch_size, **asked(len(prompts), **change)))


DRAWN: dict[str, Any] = {"temperature": 0.9, "top_p": 0.95}


@pytest.mark.parametrize("drawn", [{}, DRAWN], ids=["greedy", "drawn"])
def test_tokens_are_those_of_generate(model, prompts, drawn) -> None:
    expected = generate(
        model.params, model.config, prompts, vocab_size=294, max_new_tokens=MOST, stop_ids=frozenset(), **drawn, seed=7
    )
    made = complete(model, prompts, **drawn)
    assert [one.ids for one in made] == [one.ids for one in expected]
    assert [one.text for one in made] == [model.tokenizer.decode(one.ids) for one in expected]
    assert {one.finish for one in made} == {"length"}


def test_a_stop_token_ends_as_in_generate_and_is_kept(model, prompts) -> None:
    free = complete(model, prompts)
    stop = free[0].ids[5]
    expected = generate(
        model.params, model.config, prompts, vocab_size=294, max_new_tokens=MOST, stop_ids=frozenset([stop])
    )
    assert len({len(one.ids) for one in expected}) > 1
    ending = dataclasses.replace(model, end_ids=frozenset([stop]))
    made = complete(model, prompts, stop_ids=frozenset([stop]))
    assert made == complete(ending, prompts)
    assert [one.ids for one in made] == [one.ids + [stop] * one.finished for one in expected]
    assert [one.finish for one in made] == ["stop" if one.finished else "length" for one in expected]
    assert [one.text for one in made] == [model.tokenizer.decode(one.ids) for one in expected]


def stops_of(text: str, place: int) -> tuple[str, ...]:
    """Two texts that a completion holds, the earlier named last, another number of tokens along for each prompt."""
    at = 2 + place % max(1, len(text) - 4)
    return text[at + 1 : at + 3], text[at : at + 2], "never"


@pytest.mark.parametrize("drawn", [{}, DRAWN], ids=["greedy", "drawn"])
def test_neither_the_batch_nor_the_steps_between_looks_change_a_completion(model, prompts, drawn, monkeypatch) -> None:
    free = complete(model, prompts, **drawn)
    stops = [stops_of(one.text, 3 * place) if place != 2 else () for place, one in enumerate(free)]
    expected = [cut(model.tokenizer, one, of_prompt) for one, of_prompt in zip(free, stops, strict=True)]
    assert len({len(one.ids) for one in expected}) > 2
    for batch_size, steps in [(1, 16), (2, 1), (16, 5)]:
        monkeypatch.setattr(texts, "STEPS", steps)
        assert complete(model, prompts, batch_size, stop_texts=stops, **drawn) == expected


def cut(tokenizer, free: TextCompletion, stops) -> TextCompletion:
    for count in range(1, len(free.ids) + 1):
        text = tokenizer.decode(free.ids[:count])
        places = [text.find(stop) for stop in stops if stop in text]
        if places:
            return TextCompletion(text[: min(places)], free.ids[:count], "stop")
    return free


def test_draws_follow_from_the_number_alone(model, prompts) -> None:
    numbers = [2**32 - 1, *range(1, len(prompts))]
    whole = complete(model, prompts, **DRAWN, numbers=numbers)
    assert whole[1] != whole[3]  # the same prompt, drawn twice
    assert complete(model, prompts, **DRAWN, numbers=numbers, first=4) == whole[4:]
    assert complete(model, prompts[::-1], **DRAWN, numbers=numbers[::-1]) == whole[::-1]
    assert complete(model, prompts, **DRAWN, numbers=[0, *range(1, len(prompts))])[0] != whole[0]
    assert complete(model, prompts, **DRAWN, first=len(prompts)) == []


def test_what_was_completed_earlier_is_not_completed_again(model, prompts, monkeypatch) -> None:
    put = []
    real = texts._put
    monkeypatch.setattr(texts, "_put", lambda *a, **k: (put.append(1), real(*a, **k))[1])
    assert len(complete(model, prompts, first=4)) == len(put) == len(prompts) - 4


def test_no_step_is_computed_for_slots_that_have_ended(model, prompts) -> None:
    wanted: Any = asked(2, max_new_tokens=3)
    slots = texts._Slots(model.params, model.config, wanted, count=3, longest=40, choices=294)
    slots.put(0, prompts[0], 0)
    assert len([token for token in slots.choose({0: None})[0] if token != texts._NOT_FINITE]) == 3
    assert slots._state.counts_B.tolist() == [3, 0, 0]
    slots.put(1, prompts[1], 1)
    slots.choose({})
    assert slots._state.counts_B.tolist() == [3, 1, 0]


def test_completions_come_as_soon_as_they_have_ended(model, prompts, monkeypatch) -> None:
    monkeypatch.setattr(texts, "STEPS", 4)
    put = []
    real = texts._put
    monkeypatch.setattr(texts, "_put", lambda *a, **k: (put.append(1), real(*a, **k))[1])
    completions = model.complete_texts(prompts, batch_size=2, **asked(len(prompts)))
    next(completions)
    assert len(put) == 2


def test_equal_prompts_that_follow_one_another_are_read_once(model, prompts, monkeypatch) -> None:
    read = []
    real = texts._read
    monkeypatch.setattr(texts, "_read", lambda params, prompt, **k: (read.append(1), real(params, prompt, **k))[1])
    complete(model, [prompts[0], *prompts[2:5], list(prompts[4])])
    assert len(read) == 3


@pytest.mark.parametrize("most", [0, 1, 2])
def test_few_tokens(model, prompts, most) -> None:
    free = complete(model, prompts)
    made = complete(model, prompts, max_new_tokens=most)
    assert [one.ids for one in made] == [one.ids[:most] for one in free]
    assert complete(model, prompts, max_new_tokens=most, first=5) == made[5:]


def test_a_prompt_and_its_completion_fit_into_the_context_or_nothing_is_made(model, prompts) -> None:
    assert len(complete(model, prompts, max_new_tokens=128 - 80)[-1].ids) == 48
    with pytest.raises(UserError, match="prompt 6 has 80 tokens; with max_new_tokens 49"):
        model.complete_texts(prompts, **asked(len(prompts), max_new_tokens=49))


def test_logits_that_are_not_finite_are_refused(model, prompts) -> None:
    broken = jax.tree.map(lambda array: array * np.float32("nan"), model.params)
    with pytest.raises(UserError, match="not finite"):
        complete(dataclasses.replace(model, params=broken), prompts)


def test_bad_requests_are_refused_before_anything_is_made(model, prompts) -> None:
    for change, message in [({"temperature": -1.0}, "temperature"), ({"top_p": 0.0}, "top_p")]:
        with pytest.raises(UserError, match=message):
            model.complete_texts(prompts, **asked(len(prompts), **change))
    with pytest.raises(UserError, match="no token"):
        model.complete_texts([[]], **asked(1))
