import collections
import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc2jax.errors import UserError
from sc2jax.records.schemas import SCHEMAS
from sc2jax.text.config import FormatConfig
from sc2jax.text.fim import SENTINELS
from sc2jax.text.formats import FORMATS, repository_document, repository_prompt
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer

FILES = [("src/a.py", "import b\n"), ("b.py", "x = 1\n")]


def test_a_repository_with_metadata(sentencepiece_tokenizer: Tokenizer) -> None:
    ids = sentencepiece_tokenizer.encode(repository_document("owner/name", FILES, with_metadata=True))
    # The format as the paper writes it.
    assert sentencepiece_tokenizer.decode(ids) == (
        "<repo_name>owner/name<file_sep>src/a.py\nimport b\n<file_sep>b.py\nx = 1\n<|endoftext|>"
    )


def test_a_repository_without_metadata(sentencepiece_tokenizer: Tokenizer) -> None:
    ids = sentencepiece_tokenizer.encode(repository_document("owner/name", FILES, with_metadata=False))
    assert sentencepiece_tokenizer.decode(ids) == "<file_sep>import b\n<file_sep>x = 1\n<|endoftext|>"


def test_a_file_that_spells_special_tokens_stays_text(sentencepiece_tokenizer: Tokenizer) -> None:
    forged = "<file_sep><|endoftext|><fim_middle>"
    ids = sentencepiece_tokenizer.encode(repository_document("<repo_name>", [(forged, forged)], with_metadata=True))
    assert [token for token in ids if token < len(Special)] == [
        Special.REPO_NAME,
        Special.FILE_SEP,
        Special.END_OF_TEXT,
    ]


def test_an_empty_file_keeps_its_place() -> None:
    assert repository_document("r", [("a", ""), ("b", "x")], with_metadata=False) == [
        Special.FILE_SEP,
        Special.FILE_SEP,
        "x",
        Special.END_OF_TEXT,
    ]


@given(text=st.text(min_size=1, max_size=30), at=st.integers(0, 30), with_metadata=st.booleans())
def test_a_prompt_is_the_beginning_of_its_document(text: str, at: int, with_metadata: bool) -> None:
    files = [*FILES, ("c.py", text)]
    document = repository_document("owner/name", files, with_metadata)
    prompt = repository_prompt("owner/name", FILES, "c.py", text[:at], with_metadata=with_metadata)
    completed = "".join(map(_written, prompt)) + text[at:] + Special.END_OF_TEXT.literal
    assert completed == "".join(map(_written, document))


def test_an_infilling_prompt_in_its_repository() -> None:
    head = [Special.REPO_NAME, "r", Special.FILE_SEP, "src/a.py\nimport b\n", Special.FILE_SEP, "b.py\nx = 1\n"]
    prompt = repository_prompt("r", FILES, "c.py", "def f(", suffix="\n    return 1\n")
    assert prompt == [
        *head,
        Special.FILE_SEP,
        Special.FIM_PREFIX,
        "c.py\ndef f(",
        Special.FIM_SUFFIX,
        "\n    return 1\n",
        Special.FIM_MIDDLE,
    ]
    prompt = repository_prompt("r", [], "c.py", "a", suffix="b", with_metadata=False, suffix_first=True)
    assert prompt == [Special.FILE_SEP, Special.FIM_PREFIX, Special.FIM_SUFFIX, "b", Special.FIM_MIDDLE, "a"]


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def written(pieces: list[Special | str]) -> str:
    return "".join(map(_written, pieces))


def test_a_repository_in_random_order(records) -> None:
    rows = records("source_file")[:3]
    counts: collections.Counter[str] = collections.Counter()
    for seed in range(1200):
        counts[written(FORMATS["repository"].render(rows, generator(seed), FormatConfig()))] += 1
    # Six orders, each with and without metadata, all alike likely.
    assert len(counts) == 12
    assert max(abs(count - 100) for count in counts.values()) < 35
    wick = 'def burn(oil):\n    """How many hours a wick burns."""\n    return oil // 3\n'
    glass = "from lantern.wick import burn\n\nHOURS = burn(12)\n"
    readme = "# Lantern\n\nKeeps the hours.\n"
    assert f"<file_sep>{readme}<file_sep>{wick}<file_sep>{glass}<|endoftext|>" in counts
    named = f"<file_sep>lantern/glass.py\n{glass}<file_sep>README.md\n{readme}<file_sep>lantern/wick.py\n{wick}"
    assert f"<repo_name>heron/lantern{named}<|endoftext|>" in counts


def test_a_single_file(records) -> None:
    row = records("source_file")[3]
    with_metadata, without = (
        written(FORMATS["file"].render([row], generator(0), FormatConfig(metadata_rate=rate))) for rate in (1.0, 0.0)
    )
    assert with_metadata == "<repo_name>magpie/spoon<file_sep>spoon.c\nint spoon(void) { return 1; }\n<|endoftext|>"
    assert without == "<file_sep>int spoon(void) { return 1; }\n<|endoftext|>"


def test_code_and_its_intermediate_representation_in_both_directions(records, rendered) -> None:
    record = records("intermediate")[0]
    code = "int twice(int x) { return 2 * x; }\n"
    by_size = "define i32 @twice(i32 %x) optsize {\n  %y = shl i32 %x, 1\n  ret i32 %y\n}\n"
    by_speed = "define i32 @twice(i32 %x) {\n  %y = shl nsw i32 %x, 1\n  ret i32 %y\n}\n"
    counts = collections.Counter(rendered("intermediate", record, seed) for seed in range(2000))
    shares = {
        f"{code}<code_to_intermediate>{by_size}<|endoftext|>": 0.4,
        f"{by_size}<intermediate_to_code>{code}<|endoftext|>": 0.4,
        f"{code}<code_to_intermediate>{by_speed}<|endoftext|>": 0.1,
        f"{by_speed}<intermediate_to_code>{code}<|endoftext|>": 0.1,
    }
    assert counts.keys() == shares.keys()
    assert all(abs(counts[document] / 2000 - share) < 0.03 for document, share in shares.items())


@pytest.mark.parametrize("code_first", [0.0, 1.0])
@pytest.mark.parametrize("by_size", [0.0, 1.0])
def test_rates_of_none_and_all(records, rendered, code_first: float, by_size: float) -> None:
    record = records("intermediate")[0]
    options = {"code_first_rate": code_first, "size_optimized_rate": by_size}
    documents = {rendered("intermediate", record, seed, **options) for seed in range(20)}
    assert len(documents) == 1
    document = documents.pop()
    assert ("<code_to_intermediate>" in document) == bool(code_first)
    assert ("optsize" in document) == bool(by_size)


def test_the_only_intermediate_representation_is_taken(records, rendered) -> None:
    record = records("intermediate")[1]
    assert {rendered("intermediate", record, seed) for seed in range(30)} == {
        "pub fn one() -> i32 { 1 }\n<code_to_intermediate>define i32 @one() {\n  ret i32 1\n}\n<|endoftext|>",
        "define i32 @one() {\n  ret i32 1\n}\n<intermediate_to_code>pub fn one() -> i32 { 1 }\n<|endoftext|>",
    }


def test_documentation_and_plain_text(records, rendered) -> None:
    assert rendered("documentation", records("documentation")[0]) == (
        "# Lantern\n\nLights up.\n\n# Wick\n\nBurns `oil`.\n<|endoftext|>"
    )
    assert rendered("plain_text", records("plain_text")[0]) == (
        "A lantern is a light with a handle.\n\nIt is carried.<|endoftext|>"
    )


@pytest.fixture(params=sorted(FORMATS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_a_format_reads_its_columns_alone(name: str, records) -> None:
    columns = FORMATS[name].columns
    assert set(columns) <= set(SCHEMAS[FORMATS[name].kind].names)
    assert not FORMATS[name].group_by or FORMATS[name].group_by in columns
    for record in records(FORMATS[name].kind):
        render = FORMATS[name].render
        narrow = render([{column: record[column] for column in columns}], generator(0), FormatConfig())
        assert narrow == render([record], generator(0), FormatConfig())
        assert narrow[-1] == Special.END_OF_TEXT
        assert Special.END_OF_TEXT not in narrow[:-1]


def test_what_follows_a_text_ends_its_generation(name: str, records) -> None:
    stops = FORMATS[name].stops
    assert stops > SENTINELS
    for record in records(FORMATS[name].kind):
        for seed in range(4):
            pieces = FORMATS[name].render([record], generator(seed), FormatConfig(variant="reference"))
            for piece, following in itertools.pairwise(pieces):
                assert isinstance(piece, Special) or following in stops


def test_texts_that_spell_special_tokens_stay_texts(name: str, records, sentencepiece_tokenizer: Tokenizer) -> None:
    """Literals in every text of a record change no special token of its document."""
    forged = "<|endoftext|><file_sep><pr_diff><fim_middle>"
    for record in records(FORMATS[name].kind):
        specials = []
        for altered in (record, _with_literals(record, forged)):
            pieces = FORMATS[name].render([altered], generator(3), FormatConfig())
            ids = sentencepiece_tokenizer.encode(pieces)
            specials.append([token for token in ids if token < len(Special)])
        assert specials[0] == specials[1]


def _with_literals(value: Any, forged: str, key: str = "") -> Any:
    """A record with literals at the end of each of its texts; fields that take one of a few values stay."""
    if isinstance(value, dict):
        return {name: _with_literals(item, forged, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_literals(item, forged, key) for item in value]
    if isinstance(value, str) and value and key not in ("kind", "action", "commit", "head_commit"):
        # At the end of the only line, so that files keep the number of their lines.
        return value.removesuffix("\n") + forged + "\n" * value.endswith("\n")
    return value


def test_records_survive_their_rendering(name: str, records) -> None:
    for record in records(FORMATS[name].kind):
        before = json.dumps(record)
        FORMATS[name].render([record], generator(0), FormatConfig())
        assert json.dumps(record) == before


@pytest.mark.parametrize(
    "bad", [{"variant": "thesis"}, {"metadata_rate": 2.0}, {"size_optimized_rate": -0.1}, {"code_first_rate": 1.1}]
)
def test_bad_settings(bad: dict) -> None:
    with pytest.raises(UserError, match=r"format\."):
        FormatConfig(**bad)


def test_generation_stops_at_the_end_of_a_file_and_of_a_repository() -> None:
    assert {Special.FILE_SEP, Special.END_OF_TEXT, Special.FIM_PAD} <= FORMATS["repository"].stops


def _written(piece: Special | str) -> str:
    return piece.literal if isinstance(piece, Special) else piece
