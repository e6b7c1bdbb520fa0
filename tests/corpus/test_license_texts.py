"""What licence texts say, judged on the texts as their stewards publish them and on what people add to them."""

import json
import lzma
import time
from functools import cache

import pytest

from sc2jax.assets import asset_path
from sc2jax.corpus.license_texts import Told, tell, words_of

COMMONS_CLAUSE = (
    '"Commons Clause" License Condition v1.0\n\nThe Software is provided to you by the Licensor under the License, as '
    "defined below, subject to the following condition.\n\nWithout limiting other conditions in the License, the "
    "grant of rights under the License will not include, and the License does not grant to you, the right to Sell the "
    "Software.\n"
)


@cache
def spdx() -> dict[str, str]:
    lines = lzma.decompress(asset_path("data", "license_texts.jsonl.xz").read_bytes()).decode().splitlines()
    return {row["license"]: row["text"] for row in map(json.loads, lines)}


def told(text: str) -> tuple[set[str], bool]:
    found = tell(text, 0.9)
    return set(found.licenses), found.whole


@pytest.mark.parametrize(
    "name", ["MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "Unlicense", "GPL-2.0-only", "MPL-2.0"]
)
def test_a_license_is_itself(name: str) -> None:
    assert told(f"Our project\n\nCopyright (c) 2020 Ada Lovelace <ada@example.org>\n\n{spdx()[name]}") == ({name}, True)


def test_nearly_every_license_is_itself_and_none_is_nothing() -> None:
    answers = {name: tell(text, 0.9).licenses for name, text in sorted(spdx().items())[::5]}
    assert [name for name, found in answers.items() if not found and len(words_of(spdx()[name])) > 3] == []
    assert sum(name in found for name, found in answers.items()) > 0.85 * len(answers)


def test_what_an_apache_license_ends_with_may_be_left_out() -> None:
    terms, end, _ = spdx()["Apache-2.0"].partition("END OF TERMS AND CONDITIONS")
    assert told(terms + end) == ({"Apache-2.0"}, True)


@pytest.mark.parametrize("name", ["MIT", "Apache-2.0", "BSD-3-Clause"])
@pytest.mark.parametrize(
    "condition",
    [
        COMMONS_CLAUSE,
        "The Software shall be used for good things, not evil ones.",
        "For non-commercial use only.",
        "Copyright ACME. Commercial use is prohibited.",
        "You may not train models on it.",
        "Nur zu Forschungszwecken, nicht zum Verkauf.",
        "仅供个人使用",
        "Portions are under the GPL.",
        "pleasant words " * 61,
    ],
)
def test_a_condition_added_is_more_than_the_license(name: str, condition: str) -> None:
    text = spdx()[name]
    middle = text.index("\n\n", len(text) // 3)
    for added in (
        f"{condition}\n\n{text}",
        f"{text}\n\n{condition}\n",
        f"{text[:middle]}\n\n{condition}\n{text[middle:]}",
    ):
        assert not tell(added, 0.9).whole


def test_a_single_word_may_turn_it_round() -> None:
    assert not tell(spdx()["MIT"].replace("is hereby granted", "is not hereby granted"), 0.9).whole


def test_a_license_that_is_another_one_with_a_condition_is_found() -> None:
    assert told(spdx()["MIT"] + "\nThe Software shall be used for Good, not Evil.\n") == ({"JSON", "MIT"}, True)
    assert told(spdx()["MIT"] + "\nThe Software shall be used\n") == ({"MIT"}, False), "less of it than is lacking"


def test_all_licenses_of_a_text_are_found() -> None:
    texts = spdx()
    assert told(texts["MIT"] + texts["Apache-2.0"]) == ({"MIT", "Apache-2.0"}, True)
    assert told(texts["Apache-2.0"] + texts["GPL-3.0-only"]) == ({"Apache-2.0", "GPL-3.0-only"}, True)
    assert told(texts["MIT"] * 30)[0] == {"MIT"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MIT", {"MIT"}),
        ("SPDX-License-Identifier: BSD-2-Clause", {"BSD-2-Clause"}),
        ("This project is released under the terms of the MIT license.", {"MIT"}),
        (
            "Made available under *either* of the licenses in LICENSE.APACHE or LICENSE.BSD",
            {"Apache-2.0", "BSD-3-Clause"},
        ),
        ("This project is released under the terms of the MIT license, for schools only.", set()),
        ("Mit freundlichen Grüßen", set()),
        ("Released under the GPL or the MIT license", set()),
        ("Released under the frumious bander snatch or the MIT license", set()),
        ("Copyright ACME. All rights reserved. No permission is granted to copy or use this.", set()),
        ("See the file", set()),
        ("Additional copyrights may follow", set()),
        ("", set()),
    ],
)
def test_texts_that_only_name_a_license(text: str, expected: set[str]) -> None:
    assert told(text) == (expected, bool(expected))


def test_markup_and_spelling_do_not_count() -> None:
    gpl, mit = spdx()["GPL-3.0-only"], spdx()["MIT"]
    page = "".join(f"<p>{line}</p>\n" for line in gpl.replace("&", "&amp;").replace("<", "&lt;").splitlines())
    assert told(f"<html><body>{page}</body></html>")[0] == {"GPL-3.0-only"}
    assert told("\n".join(f"> {line}" for line in gpl.splitlines()))[0] == {"GPL-3.0-only"}
    assert told("\n".join(f" * {line}" for line in mit.upper().splitlines())) == ({"MIT"}, True)
    assert words_of("A Licence, (c) of it\nCopyright Ada\nCopyright: you must pay") == (
        ["a", "license", "c", "of", "it", "copyright", "you", "must", "pay"]
    )
    assert words_of("a < b <p> c") == ["a", "b", "c"]


def test_a_license_counts_from_the_least_share_on() -> None:
    words = words_of(spdx()["Zlib"])
    half = " ".join(words[: len(words) // 2])
    assert tell(half, 0.9) == Told(frozenset(), False)
    assert "Zlib" in tell(half, 0.4).licenses


@pytest.mark.parametrize("piece", ["\n", "<p", "copyright\n", "a ", "&#", "license mit ", "-\n"])
def test_a_megabyte_takes_no_longer_than_it_should(piece: str) -> None:
    tell("first", 0.9)
    start = time.process_time()
    tell("<p>" + piece * ((1 << 20) // len(piece)), 0.9)
    assert time.process_time() - start < 5
