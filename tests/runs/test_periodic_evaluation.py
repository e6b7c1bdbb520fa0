"""Held-out rows of a training, and bits per byte on them, beside the measure that scores file by file."""

import dataclasses
import hashlib
import json
import math
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pytest

from sc2jax.errors import UserError
from sc2jax.evaluation.config import BitsPerByteConfig
from sc2jax.evaluation.heldout import CodeFile
from sc2jax.evaluation.measures.bits_per_byte import measure
from sc2jax.feed.config import FeedConfig
from sc2jax.feed.sources import FeedInputs
from sc2jax.inference.loaded_model import LoadedModel
from sc2jax.model.config import ModelConfig
from sc2jax.model.loss import target_losses
from sc2jax.model.params import init_params, param_shardings, parameter_table
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh
from sc2jax.records.dataset import write_part
from sc2jax.records.edits import edits_sha256
from sc2jax.records.manifest import Manifest, commit
from sc2jax.records.schemas import PLAIN_TEXT, SOURCE_FILE
from sc2jax.runs.periodic_evaluation import heldout_rows
from sc2jax.text.config import FimConfig, FormatConfig
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer
from sc2jax.training.evaluation import Evaluation, Group, HeldoutRows, bits_per_byte

TOKENIZER = Tokenizer(
    vocab_size=len(Special) + 256,
    digest="bytes",
    _encode=lambda text: [len(Special) + (byte ^ ord("x")) for byte in text.encode()],
    _token_bytes=[b""] * len(Special) + [bytes([byte ^ ord("x")]) for byte in range(256)],
    _escapes=False,
)
"""One token a byte; the first text token is that of a letter that occurs."""

MODEL = ModelConfig(
    vocab_size=TOKENIZER.vocab_size, context_length=64, embed_dim=16, num_layers=1, num_heads=4, num_kv_heads=2,
    window=24, init_stddev=0.3, compute_dtype="float32",
)  # fmt: skip

FILES = [
    CodeFile(
        f"repository{number % 7}", f"{number}", ["Python", "C", "Go"][number % 3], f"x{number} = é{'y' * number}\n"
    )
    for number in range(40)
]


def files_table(files: list[CodeFile]) -> pa.Table:
    rows = [
        {
            "repository": file.repository, "path": file.path, "content": file.text, "language": file.language,
            "swhid": "swh:1:cnt:" + hashlib.sha1(file.text.encode()).hexdigest(), "revision": "",
            "source_bytes": file.bytes, "encoding": "utf-8", "licenses": [], "license_type": "no_license",
            "text_sha256": hashlib.sha256(file.text.encode()).hexdigest(), "edits": [],
            "edits_sha256": edits_sha256([]),
        }
        for file in files
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, SOURCE_FILE)


def text_table(texts: list[str]) -> pa.Table:
    empty = {field.name: [] if pa.types.is_list(field.type) else "" for field in PLAIN_TEXT}
    return pa.Table.from_pylist([empty | {"text": text, "license_type": "no_license"} for text in texts], PLAIN_TEXT)


def write_dataset(folder: Path, schema: pa.Schema, **splits: list[pa.Table]) -> None:
    outputs = [write_part(str(folder), split, 0, tables, schema) for split, tables in splits.items()]
    commit(str(folder), Manifest("curate", {}, {}, tuple(outputs), {}))


def inputs_of(folder: Path, mixture: str = "repositories") -> FeedInputs:
    return FeedInputs(str(folder), TOKENIZER, FeedConfig(mixture=mixture), 64, FormatConfig(), FimConfig(), seed=3)


@pytest.fixture(scope="module")
def code(tmp_path_factory) -> FeedInputs:
    """A corpus that holds FILES out, in four row groups."""
    folder = tmp_path_factory.mktemp("corpus")
    groups = [files_table(FILES[at : at + 10]) for at in range(0, 40, 10)]
    write_dataset(folder, SOURCE_FILE, train=[files_table([CodeFile("a", "b", "Python", "seen")])], heldout=groups)
    return inputs_of(folder)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> FeedInputs:
    """Source code and texts, of which one set holds nothing out."""
    folder = tmp_path_factory.mktemp("mixed")
    write_dataset(folder / "code", SOURCE_FILE, heldout=[files_table(FILES)])
    write_dataset(folder / "texts", PLAIN_TEXT, heldout=[text_table(["", "z", "a text of ours\n" * 9, "another text"])])
    write_dataset(folder / "more", PLAIN_TEXT, train=[text_table(["all of it is trained on"])])
    sources = [
        {"name": name, "folder": name, "format": form, "share": 1.0}
        for name, form in (("code", "repository"), ("texts", "plain_text"), ("more", "plain_text"))
    ]
    mixture = folder / "mixture.json"
    mixture.write_text(json.dumps({"sources": sources}))
    return inputs_of(folder, str(mixture))


@pytest.fixture(scope="module")
def params():
    return init_params(parameter_table(MODEL), jax.random.key(2))


def measured(rows: HeldoutRows, params, config: MeshConfig, devices: int, model: ModelConfig = MODEL, chunk: int = 7):
    mesh = create_mesh(config, jax.devices()[:devices])
    placement = param_shardings(parameter_table(model), mesh)

    def losses(params, frozen, batch):
        assert frozen == {}
        return target_losses(params, batch, model, chunk, mesh)

    return Evaluation(rows, losses, mesh, placement, {})(jax.device_put(params, placement), {})


def rows_of(inputs: FeedInputs, tokens: int) -> HeldoutRows:
    rows = heldout_rows(inputs, tokens)
    assert rows is not None
    return rows


def scored_texts(rows: HeldoutRows) -> dict[Group, bytes]:
    """The measured targets of each group, in order."""
    found = dict.fromkeys(rows.groups, b"")
    for row in zip(*(rows.features[name] for name in ("targets", "weights", "groups")), strict=True):
        for target, weight, group in zip(*row, strict=True):
            if weight:
                found[rows.groups[group]] += TOKENIZER.bytes_of([target])
    return found


def test_figures_are_those_of_the_measure_that_scores_file_by_file(code, params):
    mesh = create_mesh(MeshConfig(), jax.devices()[:1])
    loaded = LoadedModel(params, MODEL, TOKENIZER, mesh)
    splits = {"heldout": FILES, "train": FILES}
    expected = measure(loaded, splits.__getitem__, BitsPerByteConfig(), seed=0)
    assert expected["measured"] is True
    found = measured(rows_of(code, 10**5), params, MeshConfig(), 1)
    assert found["bits_per_byte"] == pytest.approx(expected["total"]["model"], rel=1e-5)
    assert found["by_source"] == {"source_code": found["bits_per_byte"]}
    assert found["by_language"].keys() == {"C", "Go", "Python"}
    for language, rate in found["by_language"].items():
        assert rate == pytest.approx(expected["by_language"][language]["model"], rel=1e-5)
    assert len({round(rate, 3) for rate in found["by_language"].values()}) == 3


@pytest.mark.parametrize(
    ("config", "devices"),
    [(MeshConfig(data=2, fsdp=2, tensor=2), 8), (MeshConfig(fsdp=2, sequence=2), 4)],
    ids=["data x fsdp x tensor", "fsdp x sequence"],
)
def test_meshes_agree(code, params, config, devices):
    """Of rows that do not fill the last batch."""
    rows = rows_of(code, 19 * 64)
    expected, found = measured(rows, params, MeshConfig(), 1), measured(rows, params, config, devices)
    assert found["bits_per_byte"] == pytest.approx(expected["bits_per_byte"], rel=1e-5)
    assert found["by_language"] == pytest.approx(expected["by_language"], rel=1e-5)


def test_all_logits_at_once_are_the_same(code, params):
    rows = rows_of(code, 640)
    found = measured(rows, params, MeshConfig(), 1, chunk=0)
    assert found["bits_per_byte"] == pytest.approx(measured(rows, params, MeshConfig(), 1)["bits_per_byte"], rel=1e-6)


def test_all_text_is_measured_once_where_there_is_room(code):
    rows = rows_of(code, 10**5)
    found = scored_texts(rows)
    for number, group in enumerate(rows.groups):
        texts = [file.text for file in FILES if file.language == group.language]
        assert sorted(found[group]) == sorted("".join(texts).encode())
        assert rows.bytes[number] == len("".join(texts).encode())
        assert all(text.encode() in found[group] for text in texts)


@pytest.mark.parametrize("tokens", [64, 127, 128, 500])
def test_there_are_no_more_tokens_than_were_asked_for(code, tokens):
    rows = rows_of(code, tokens)
    assert rows.features["tokens"].shape == (tokens // 64, 64)
    assert {name: len(text) for name, text in scored_texts(rows).items()} == dict(
        zip(rows.groups, rows.bytes, strict=True)
    )


def test_few_rows_are_of_all_row_groups(code):
    """And not of the first part of a corpus alone."""
    text = b"".join(scored_texts(rows_of(code, 4 * 64)).values()).decode()
    numbers = {int(line.partition(" ")[0].removeprefix("x")) // 10 for line in text.splitlines()}
    assert numbers == {0, 1, 2, 3}


def test_rows_are_the_same_every_time_and_follow_the_seed(code):
    first, second = rows_of(code, 256), rows_of(code, 256)
    np.testing.assert_array_equal(first.features["tokens"], second.features["tokens"])
    other = rows_of(dataclasses.replace(code, seed=4), 256)
    assert (first.features["tokens"] != other.features["tokens"]).any()


def test_sources_without_languages_count_for_themselves(mixed, params):
    """What has no token before it is not measured: the first letter of a text."""
    rows = rows_of(mixed, 10**5)
    assert rows.groups == (
        Group("code", "C"), Group("code", "Go"), Group("code", "Python"), Group("texts", ""),
    )  # fmt: skip
    text = scored_texts(rows)[Group("texts", "")]
    assert rows.bytes[3] == len(text)
    assert sorted(text) == sorted(b"nother text" + (b"a text of ours\n" * 9)[1:65])
    found = measured(rows, params, MeshConfig(), 1)
    assert found["by_source"].keys() == {"code", "texts"} and found["by_language"].keys() == {"C", "Go", "Python"}
    shares = np.array([sum(rows.bytes[:3]), rows.bytes[3]]) / sum(rows.bytes)
    assert found["bits_per_byte"] == pytest.approx(shares @ list(found["by_source"].values()))


def test_sources_share_the_tokens(mixed):
    rows = rows_of(mixed, 2 * 64)
    assert rows.features["tokens"].shape == (2, 64)
    assert {group.source for group in rows.groups} == {"code", "texts"}
    with pytest.raises(
        UserError, match=r"evaluation_tokens 127 are less than a row of 64 for each of 2 sources; use 128"
    ):
        heldout_rows(mixed, 127)


def test_documents_in_a_row_do_not_see_each_other(code, params):
    """The measure is that of each file by itself, so it does not change when the others do."""
    rows = rows_of(code, 10**5)
    features = {name: values.copy() for name, values in rows.features.items()}
    others = features["groups"] != 0
    features["tokens"][others] = len(Special)
    changed = measured(dataclasses.replace(rows, features=features), params, MeshConfig(), 1)
    before = measured(rows, params, MeshConfig(), 1)
    language = rows.groups[0].language
    assert changed["by_language"][language] == pytest.approx(before["by_language"][language], rel=1e-6)
    assert changed["bits_per_byte"] != pytest.approx(before["bits_per_byte"], rel=1e-3)


def test_rows_are_full_where_documents_fit(tmp_path):
    """A row of 64 positions has 65 tokens with its last target: here 1 + 31 + 1 and 1 + 30 + 1."""
    write_dataset(
        tmp_path, SOURCE_FILE,
        heldout=[files_table([CodeFile("a", "b", "C", "x" * 31), CodeFile("a", "c", "Go", "y" * 30)])],
    )  # fmt: skip
    rows = rows_of(inputs_of(tmp_path), 10**4)
    assert rows.features["tokens"].shape == (1, 64)
    assert scored_texts(rows) == {Group("source_code", "C"): b"x" * 31, Group("source_code", "Go"): b"y" * 30}


def test_a_record_that_is_none_is_refused_or_left_out(tmp_path, write_unchecked):
    table = files_table(FILES[:3])
    wrong = table.set_column(2, SOURCE_FILE.field("content"), pa.array(["1", "2", FILES[2].text], pa.large_string()))
    output = write_unchecked(tmp_path, [wrong])
    (tmp_path / "train").rename(tmp_path / "heldout")
    output = dataclasses.replace(output, path=output.path.replace("train", "heldout"))
    commit(str(tmp_path), Manifest("curate", {}, {}, (output,), {}))
    inputs = inputs_of(tmp_path)
    with pytest.raises(UserError, match="is damaged"):
        heldout_rows(inputs, 64)
    skipping = dataclasses.replace(inputs, config=dataclasses.replace(inputs.config, damaged="skip"))
    assert scored_texts(rows_of(skipping, 64)) == {Group("source_code", "Go"): FILES[2].text.encode()}


def test_where_nothing_is_held_out_there_is_nothing(tmp_path):
    write_dataset(tmp_path, SOURCE_FILE, train=[files_table(FILES)])
    assert heldout_rows(inputs_of(tmp_path), 64) is None
    write_dataset(tmp_path / "empty", SOURCE_FILE, heldout=[files_table([CodeFile("a", "b", "C", "")])])
    assert heldout_rows(inputs_of(tmp_path / "empty"), 64) is None


def test_bits_per_byte_by_hand():
    """Languages are those of all sources; 1 nat is 1.4427 bits."""
    groups = (Group("a", "C"), Group("a", "Go"), Group("b", "C"), Group("c", ""))
    found = bits_per_byte(HeldoutRows({}, groups, (10, 20, 30, 40)), np.array([1.0, 2.0, 6.0, 8.0]))
    bit = 1 / math.log(2)
    assert found["bits_per_byte"] == pytest.approx(17 / 100 * bit)
    assert found["by_source"] == pytest.approx({"a": 0.1 * bit, "b": 0.2 * bit, "c": 0.2 * bit})
    assert found["by_language"] == pytest.approx({"C": 7 / 40 * bit, "Go": 0.1 * bit})
