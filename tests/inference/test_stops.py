"""Where a completion ends, against a search in the text of every number of tokens."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc2jax.errors import UserError
from sc2jax.inference.stops import TextCompletion, WrittenText, refuse_too_long
from sc2jax.text.special_tokens import Special

ENDS = frozenset({int(Special.END_OF_TEXT), int(Special.FILE_SEP)})


def write(tokenizer, ids, stops, most) -> TextCompletion | None:
    written = WrittenText(tokenizer, stops, ENDS, most)
    return next((done for token in ids if (done := written.push(token)) is not None), None)


def by_search(tokenizer, ids, stops, most) -> TextCompletion | None:
    """Decodes the tokens anew after each of them; a character that is not whole is no text until nothing follows."""
    for count in range(1, len(ids) + 1):
        ended = ids[count - 1] in ENDS
        at_end = ended or count == most
        body = ids[: count - 1] if ended else ids[:count]
        after_special = max((place + 1 for place, token in enumerate(body) if token < len(Special)), default=0)
        tail = tokenizer.bytes_of(body[after_special:])
        text = tokenizer.decode(body[:after_special]) + tail.decode(errors="replace")
        if not at_end:
            # What a further byte would change is not there yet.
            further = [
                tokenizer.decode(body[:after_special]) + (tail + more).decode(errors="replace")
                for more in (b"a", b"\x80", b"\x90\x80", b"\xa0\x80\x80", b"\xbf\xbf\xbf")
            ]
            text = "".join(
                one[0]
                for one in itertools.takewhile(lambda them: len(set(them)) == 1, zip(text, *further, strict=False))
            )
        places = [text.find(stop) for stop in stops if stop in text]
        if places:
            return TextCompletion(text[: min(places)], ids[:count], "stop")
        if at_end:
            return TextCompletion(text, ids[:count], "stop" if ended else "length")
    return None


TEXTS = st.text("ab\ndé€😀�\x10", max_size=6)


@given(st.data())
def test_ends_where_a_search_finds_the_first_stop(byte_tokenizer, data) -> None:
    tokens = st.one_of(
        st.binary(max_size=3).map(lambda some: [38 + byte_place(byte) for byte in some]),
        TEXTS.map(byte_tokenizer.encode_text),
        st.sampled_from(list(Special)).map(lambda token: [int(token)]),
    )
    ids = [token for run in data.draw(st.lists(tokens, max_size=8)) for token in run]
    literals = st.sampled_from([Special.FIM_PAD.literal, "pad><f", "<|endoftext|>"])
    stops = data.draw(st.lists(st.one_of(TEXTS.filter(bool), literals), max_size=4))
    most = data.draw(st.integers(1, 30))
    assert write(byte_tokenizer, ids, stops, most) == by_search(byte_tokenizer, ids, stops, most)


def byte_place(byte: int) -> int:
    """The place of a byte among the tokens of `byte_tokenizer`."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [*printable, *(code for code in range(256) if code not in printable)].index(byte)


def ended(tokenizer, text, stops, most=100):
    done = write(tokenizer, [*tokenizer.encode_text(text), 0], stops, most)
    assert done is not None
    return done.text, tokenizer.decode(done.ids), done.finish


def test_the_stop_that_begins_first_cuts(byte_tokenizer) -> None:
    # Both are there after the same token; the longer one begins earlier.
    assert ended(byte_tokenizer, "xyab..", ["b", "yab"]) == ("x", "xyab", "stop")
    # The shorter one is there before the longer one is complete.
    assert ended(byte_tokenizer, "xyabc.", ["yabc", "b"]) == ("xya", "xyab", "stop")


def test_a_stop_over_several_tokens_and_a_split_character(byte_tokenizer) -> None:
    assert ended(byte_tokenizer, "a\ndef f", ["\ndef "]) == ("a", "a\ndef ", "stop")
    assert ended(byte_tokenizer, "né€x", ["€"]) == ("né", "né€", "stop")


def test_a_stop_token_ends_and_is_kept_among_the_ids(byte_tokenizer) -> None:
    assert ended(byte_tokenizer, "ab", ["c"]) == ("ab", "ab<|endoftext|>", "stop")
    # Its literal is no text of the completion.
    assert ended(byte_tokenizer, "ab", ["<|endoftext|>"]) == ("ab", "ab<|endoftext|>", "stop")


def test_the_limit_ends_with_what_is_left_of_a_character(byte_tokenizer) -> None:
    assert ended(byte_tokenizer, "abc", [], most=2) == ("ab", "ab", "length")
    assert ended(byte_tokenizer, "a€", [], most=3) == ("a�", "a�", "length")
    assert ended(byte_tokenizer, "a€", ["�"], most=3) == ("a", "a�", "stop")
    assert ended(byte_tokenizer, "ab", ["b"], most=2) == ("a", "ab", "stop")


def test_a_prompt_too_long_is_named() -> None:
    refuse_too_long([[1] * 6, [1] * 8], ["one", "two"], 2, 10)
    with pytest.raises(UserError, match=r"two has 9 tokens; with max_new_tokens 2 .* context of 10"):
        refuse_too_long([[1] * 6, [1] * 9], ["one", "two"], 2, 10)
