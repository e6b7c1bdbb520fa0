# pyright: reportAttributeAccessIssue=false
# (protobuf makes the classes of a module when it is imported)
"""Files of tokenizers, damaged in many ways: each is refused in one message, or encodes and decodes texts as it should.

Flips and cuts damage bytes; changes of a field keep the file's shape, so that they reach what is behind its parser.
"""

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from nested_values import places  # pyright: ignore[reportMissingImports]
from sentencepiece import sentencepiece_model_pb2
from tokenizers import models, pre_tokenizers

from sc2jax.errors import UserError
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import load_tokenizer
from sc2jax.text.tokenizer_json import tokenizer_json

TEXT = "def f(a, b):\n    return 'é\U0001f600' \u2581 \x10\x11 123  # <file_sep>\n"
Mutate = Callable[[bytes, random.Random], bytes]


def damaged_bytes(whole: bytes, rng: random.Random) -> bytes:
    content = bytearray(whole)
    for _ in range(rng.choice([1, 1, 1, 3, 10])):
        at = rng.randrange(len(content) + 1)
        what = rng.randrange(6)
        if what < 3 and at < len(content):
            content[at] ^= 1 << rng.randrange(8)
        elif what == 3:
            del content[at : at + rng.choice([1, 2, 50])]
        elif what == 4:
            content[at:at] = content[at : at + rng.choice([1, 5, 300])]
        elif what == 5:
            content = content[: max(at, 1)]
    return bytes(content)


PIECES = [
    "",
    "a",
    "\u2581",
    "é",
    "<0x41>",
    "<0x4>",
    "<unk>",
    "x" * 3000,
    "\0",
    " ",
    "a b",
    "ab\u2581c",
    "<|endoftext|>",
]
SCORES = [float("nan"), float("inf"), float("-inf"), 0.0, 1e38, -1e38]
IDS = [-1, 0, 1, 37, 38, 39, 10**9, 2**31 - 1, -(2**31)]


def changed_model(whole: bytes, rng: random.Random) -> bytes:
    model = sentencepiece_model_pb2.ModelProto.FromString(whole)
    for _ in range(rng.choice([1, 1, 2, 4])):
        piece = model.pieces[rng.randrange(len(model.pieces))]
        what = rng.randrange(9)
        if what < 2:
            piece.piece = rng.choice(PIECES)
        elif what == 2:
            piece.type = rng.randrange(1, 7)
        elif what == 3:
            piece.score = rng.choice(SCORES)
        elif what == 4:
            model.pieces.remove(piece)
        elif what == 5:
            model.pieces.add().CopyFrom(piece)
        elif what == 6:
            model.trainer_spec.model_type = rng.randrange(1, 5)
        elif what == 7:
            setattr(model.trainer_spec, rng.choice(["vocab_size", "unk_id", "bos_id", "eos_id"]), rng.choice(IDS))
        else:
            noise = rng.randbytes(rng.choice([1, 4, 200]))
            model.normalizer_spec.precompiled_charsmap = rng.choice([b"", (8).to_bytes(4, "little")]) + noise
    return model.SerializeToString()


VALUES = [None, "", 0, -1, 2**31, 2**63, 1e300, True, [], {}, "x" * 1000, "a", [[]], [None], "WordLevel", "Unigram"]
VALUES += ["Sequence", ["a", "b"], "a b", "<|endoftext|>", {"type": "NFC"}, {"type": "ByteLevel"}, 0.5]


def changed_json(whole: bytes, rng: random.Random) -> bytes:
    fields = json.loads(whole)
    for _ in range(rng.choice([1, 1, 2, 3])):
        found = list(places(fields))
        few = [path for path in found if path[0] not in ("added_tokens", "model") or len(path) < 3]
        path = list(rng.choice(rng.choice([found, few])))
        last = path.pop()
        node: Any = fields
        for name in path:
            node = node[name]
        if rng.random() < 0.2:
            del node[last]
        else:
            node[last] = copy.deepcopy(rng.choice(VALUES))
    return json.dumps(fields).encode()


@pytest.fixture(scope="module")
def json_file() -> bytes:
    """A tokenizer.json like StarCoder2's, with few words, which tiktoken encodes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    characters = [chr(code) for code in printable] + [chr(0x100 + place) for place in range(256 - len(printable))]
    words = [token.literal for token in Special] + characters + ["re", "ret", "de", "def"]
    merges = [("r", "e"), ("re", "t"), ("d", "e"), ("de", "f")]
    tokenizer = tokenizers.Tokenizer(models.BPE({word: place for place, word in enumerate(words)}, merges))
    cuts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    tokenizer.add_special_tokens([tokenizers.AddedToken(token.literal, normalized=False) for token in Special])
    return tokenizer.to_str().encode()


MUTATIONS: list[tuple[str, Mutate]] = [
    (".model", damaged_bytes),
    (".model", changed_model),
    (".json", damaged_bytes),
    (".json", changed_json),
]


def try_mutations(whole: bytes, path: Path, mutate: Mutate, count: int) -> int:
    """How many files were refused."""
    rng = random.Random(count)
    refused = 0
    for _ in range(count):
        path.write_bytes(mutate(whole, rng))
        try:
            tokenizer = load_tokenizer(str(path))
            if path.suffix == ".model":
                tokenizer_json(str(path), path.read_bytes())
        except UserError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            assert tokenizer.decode(tokenizer.encode([Special.FILE_SEP, TEXT])) == f"<file_sep>{TEXT}"
    return refused


@pytest.mark.parametrize(("suffix", "mutate"), MUTATIONS)
def test_damaged_files(suffix: str, mutate: Mutate, model_file: Path, json_file: bytes, tmp_path: Path) -> None:
    whole = model_file.read_bytes() if suffix == ".model" else json_file
    (tmp_path / f"whole{suffix}").write_bytes(whole)
    assert load_tokenizer(str(tmp_path / f"whole{suffix}")).vocab_size > 256
    assert 20 < try_mutations(whole, tmp_path / f"damaged{suffix}", mutate, 50) <= 50


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "mutate"), MUTATIONS)
def test_a_thousand_damaged_files(
    suffix: str, mutate: Mutate, model_file: Path, json_file: bytes, tmp_path: Path
) -> None:
    try_mutations(
        model_file.read_bytes() if suffix == ".model" else json_file, tmp_path / f"damaged{suffix}", mutate, 1000
    )


def test_what_is_wrong_is_named(model_file: Path, json_file: bytes, tmp_path: Path) -> None:
    model = sentencepiece_model_pb2.ModelProto.FromString(model_file.read_bytes())
    no_text = model_file.read_bytes().replace(b"<file_sep>", b"<file\xffsep>")
    model.pieces[100].piece = "<0xZZ>"
    fields = json.loads(json_file)
    gap = copy.deepcopy(fields)
    gap["model"]["vocab"]["def"] += 1
    twice = copy.deepcopy(fields)
    twice["model"]["vocab"]["def"] -= 1
    wrong = copy.deepcopy(fields)
    wrong["model"]["vocab"]["def"] = "297"
    cases = [
        ("empty.model", b"", "it is empty"),
        ("text.model", no_text, "its token 6 is no UTF-8"),
        ("bytes.model", model_file.read_bytes().replace(b"<0x57>", b"<0x57\xbe"), "invalid start byte"),
        ("byte.model", model.SerializeToString(), "byte piece <0xZZ> is invalid"),
        ("gap.json", json.dumps(gap).encode(), "the ids of its vocabulary and added tokens are not 0, 1, 2 and so on"),
        ("twice.json", json.dumps(twice).encode(), "the ids of its vocabulary and added tokens are not 0, 1, 2"),
        ("wrong.json", json.dumps(wrong).encode(), r"Expected `int`, got `str` - at `\$.model.vocab\[...\]`"),
        ("nested.json", b'{"normalizer":' + b'{"a":' * 100_000, "(recursion|nested)"),
    ]
    for name, content, what in cases:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            UserError, match=rf"{name} is damaged: .*{what}.*; delete it and train or download it again"
        ):
            load_tokenizer(str(tmp_path / name))


def test_a_vocabulary_without_a_byte_of_text_is_refused(json_file: bytes, tmp_path: Path) -> None:
    """The 14 bytes that StarCoder2's own file lacks may be missing: no text of today's Unicode is made of them."""
    path = tmp_path / "tokenizer.json"
    opened = 0
    for name in pre_tokenizers.ByteLevel.alphabet():
        fields = json.loads(json_file)
        fields["model"]["vocab"]["zz"] = fields["model"]["vocab"].pop(name)
        fields["model"]["merges"] = []
        path.write_text(json.dumps(fields))
        try:
            opened += bool(load_tokenizer(str(path)))
        except UserError as error:
            assert "changes text: " in str(error)
    assert opened == 14


class Panic(BaseException):
    """What the library raises for a panic: no Exception."""


@pytest.mark.parametrize(
    ("raised", "expected", "what"),
    [
        (Panic("index out of bounds"), UserError, "is damaged: index out of bounds; delete it"),
        (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
    ],
)
def test_a_panic_of_the_library_is_a_damaged_file(
    json_file: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    expected: type[BaseException],
    what: str,
) -> None:
    class Raising:
        @staticmethod
        def from_str(_: str) -> None:
            raise raised

    path = tmp_path / "tokenizer.json"
    path.write_bytes(json_file)
    monkeypatch.setattr(tokenizers, "Tokenizer", Raising)
    with pytest.raises(expected, match=what):
        load_tokenizer(str(path))
