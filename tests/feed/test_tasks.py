import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import seqio
import tensorflow as tf
from feed_corpora import Repositories, write_sources
from seqio import test_utils as seqio_tests

from sc2jax.errors import UserError
from sc2jax.feed.batches import open_batches
from sc2jax.feed.packing import FEATURES, pack_row
from sc2jax.feed.row_mixture import RowConverter
from sc2jax.feed.sources import FeedInputs
from sc2jax.feed.tasks import CuratedSource, TokenizerVocabulary, create_mixture, register_mixture
from sc2jax.text.config import FimConfig
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer

OFF = FimConfig(level="off")


@pytest.fixture(scope="module")
def mixture(inputs: FeedInputs) -> Iterator[seqio.Mixture]:
    mixture = register_mixture(dataclasses.replace(inputs, fim=OFF))
    yield mixture
    seqio.MixtureRegistry.remove(mixture.name)
    for task in mixture.tasks:
        seqio.TaskRegistry.remove(task.name)


def documents(dataset: tf.data.Dataset) -> list[list[int]]:
    return [example["targets"].tolist() for example in dataset.as_numpy_iterator()]


def names(repositories: Repositories, found: list[list[int]], tokenizer: Tokenizer) -> list[str]:
    """Which repository each document is, whether or not it says so."""
    by_texts = {tuple(sorted(text for _, text in files)): name for name, files in repositories.items()}
    recognised = []
    for ids in found:
        head, *files = tokenizer.decode(ids).removesuffix("<|endoftext|>").split("<file_sep>")
        texts = [file.split("\n", 1)[1] for file in files] if head else files
        recognised.append(by_texts[tuple(sorted(texts))])
    return recognised


def test_seqio_finds_the_mixture_and_its_task(mixture: seqio.Mixture) -> None:
    assert seqio.get_mixture_or_task("repositories") is mixture
    task = seqio.get_mixture_or_task("repositories.source_code")
    assert task is mixture.tasks[0]
    assert set(task.splits) == {"train", "heldout"}
    # Documents bring their own end of text.
    assert not task.output_features["targets"].add_eos


def test_an_epoch_of_the_task_is_every_repository(
    mixture: seqio.Mixture, repositories: Repositories, tokenizer: Tokenizer
) -> None:
    task = mixture.tasks[0]
    found = documents(task.get_dataset(split="train", shuffle=False, seed=0))
    assert names(repositories, found, tokenizer) == list(repositories)
    # Every end of text is there: id 0 was not taken for padding.
    assert all(ids[-1] == Special.END_OF_TEXT and Special.END_OF_TEXT not in ids[:-1] for ids in found)
    shuffled = names(repositories, documents(task.get_dataset(split="train", shuffle=True, seed=0)), tokenizer)
    assert shuffled != list(repositories)
    assert sorted(shuffled) == list(repositories)
    assert len(documents(task.get_dataset(split="heldout", shuffle=False, seed=0))) == 2


def test_equal_seeds_are_equal_and_epochs_are_not(mixture: seqio.Mixture) -> None:
    task = mixture.tasks[0]
    first, again, other = (
        documents(task.get_dataset(split="train", shuffle=True, seed=seed, num_epochs=2)) for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other
    half = len(first) // 2
    assert {tuple(ids) for ids in first[:half]} != {tuple(ids) for ids in first[half:]}


def test_shards_share_the_work_and_draw_differently(
    mixture: seqio.Mixture, repositories: Repositories, tokenizer: Tokenizer
) -> None:
    task = mixture.tasks[0]
    shards = [
        documents(task.get_dataset(split="train", shuffle=False, seed=0, shard_info=seqio.ShardInfo(index, 4)))
        for index in range(4)
    ]
    assert sorted(name for shard in shards for name in names(repositories, shard, tokenizer)) == list(repositories)
    # seqio gives every shard the same seeds; the random choices of metadata must differ all the same.
    metadata = [tuple(ids[0] == Special.REPO_NAME for ids in shard[:5]) for shard in shards]
    assert len(set(metadata)) > 1


def rows_of(dataset: tf.data.Dataset, count: int) -> list[Any]:
    return list(dataset.take(count).as_numpy_iterator())


def test_the_mixture_gives_the_rows_of_training(inputs: FeedInputs, mixture: seqio.Mixture) -> None:
    """Compared with the batches that `train` reads, whatever is asked for in seqio's way."""
    with open_batches(dataclasses.replace(inputs, fim=OFF), 4) as feed:
        batches = [next(feed) for _ in range(6)]
    expected = [{name: batch[name][row] for name in FEATURES} for batch in batches for row in range(4)]
    found = rows_of(mixture.get_dataset(split="train", shuffle=False), 24)
    seqio_tests.assert_dict_values_equal({"rows": len(found)}, {"rows": 24})
    for row, wanted in zip(found, expected, strict=True):
        assert row.keys() == set(FEATURES)
        for name in FEATURES:
            np.testing.assert_array_equal(row[name], wanted[name])
            assert row[name].dtype == wanted[name].dtype
    for index in range(3):
        shard = mixture.get_dataset({"targets": 64}, shuffle=False, shard_info=seqio.ShardInfo(index, 3))
        for row, wanted in zip(rows_of(shard, 8), expected[index::3], strict=True):
            np.testing.assert_array_equal(row["targets"], wanted["targets"])
    assert rows_of(mixture.get_dataset({"targets": 16}, shuffle=False), 1)[0]["targets"].shape == (16,)


def test_the_mixture_gives_rows_with_whole_middles(inputs: FeedInputs) -> None:
    """As `train` reads them, and other ones than without."""
    fim = FimConfig(rate=1.0, whole_middles=True, line_rate=0.5)
    changed = dataclasses.replace(inputs, fim=fim)
    with open_batches(changed, 8) as feed:
        expected = next(feed)
    with open_batches(dataclasses.replace(changed, fim=FimConfig(rate=1.0)), 8) as feed:
        assert not np.array_equal(next(feed)["targets"], expected["targets"])
    found = rows_of(create_mixture(changed).get_dataset(split="train", shuffle=False), 8)
    for name in FEATURES:
        np.testing.assert_array_equal(np.stack([row[name] for row in found]), expected[name])


def test_an_epoch_of_the_mixture(mixture: seqio.Mixture) -> None:
    """Every window once, in an order that a seed tells; two epochs are twice as many; without a number no end."""

    def windows(**how: Any) -> list[tuple[int, ...]]:
        found = mixture.get_dataset({"targets": 64}, **how).as_numpy_iterator()
        return [tuple(row["tokens"].tolist()) for row in found]

    epoch = windows(shuffle=False, num_epochs=1)
    assert len(epoch) == 160
    first, again, other = (windows(shuffle=True, seed=seed, num_epochs=1) for seed in (3, 3, 4))
    assert first == again
    assert epoch != first != other
    assert sorted(first) == sorted(other) == sorted(epoch)
    assert windows(shuffle=False, num_epochs=2)[:160] == epoch
    assert len(windows(shuffle=False, num_epochs=2)) == 320
    assert len(rows_of(mixture.get_dataset({"targets": 64}, shuffle=True, seed=0), 400)) == 400
    shards = [windows(shuffle=False, num_epochs=1, shard_info=seqio.ShardInfo(index, 7)) for index in range(7)]
    assert sorted(row for shard in shards for row in shard) == sorted(epoch)


def test_the_mixture_says_what_it_has_not(mixture: seqio.Mixture, untokenized: FeedInputs) -> None:
    with pytest.raises(UserError, match=r"training rows alone, and none of the split 'heldout'; the Tasks"):
        mixture.get_dataset(split="heldout")
    with pytest.raises(UserError, match=r"leave use_cached out"):
        mixture.get_dataset(use_cached=True)
    with pytest.raises(UserError, match=r"manifest\.json"):
        create_mixture(untokenized).get_dataset(shuffle=False)


def test_numbers_that_mean_nothing_are_named(mixture: seqio.Mixture) -> None:
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"num_epochs": 0}, "num_epochs is 0; use 1 or more"),
        ({"num_epochs": -1}, "num_epochs is -1; use 1 or more"),
        ({"shard_info": seqio.ShardInfo(3, 3)}, "there is no shard 3 of 3; they are counted from 0"),
        ({"sequence_length": {"targets": 0}}, "a row of 0 tokens is none"),
    )
    for how, named in cases:
        with pytest.raises(UserError, match=named):
            mixture.get_dataset(**how)
    assert mixture.splits == ["train"]
    assert mixture.num_input_examples("train") is None  # the mixture has no cap


@pytest.mark.parametrize("length", [16, 64, 100_000])
def test_a_task_gives_long_documents_in_pieces(mixture: seqio.Mixture, tokenizer: Tokenizer, length: int) -> None:
    """The pitfall: seqio trims a document to the length that is asked for, and the rest is never seen."""
    task = mixture.tasks[0]
    whole = list(task.get_dataset(split="train", shuffle=False, seed=0).as_numpy_iterator())
    pieces = list(task.get_dataset({"targets": length}, split="train", shuffle=False, seed=0).as_numpy_iterator())
    assert max(len(piece["targets"]) for piece in pieces) <= length
    assert (
        np.concatenate([piece["targets"] for piece in pieces]).tolist()
        == np.concatenate([document["targets"] for document in whole]).tolist()
    )
    for document in [*whole[:3], *pieces[:3]]:
        assert document["targets_pretokenized"].decode() == tokenizer.decode(document["targets"])


def test_the_converter_weights_by_position(mixture: seqio.Mixture) -> None:
    rows = mixture.get_dataset({"targets": 64}, shuffle=False)
    converted = seqio.get_dataset(mixture.name, {"targets": 64}, RowConverter(), num_epochs=None)
    names = {
        "decoder_target_tokens": "targets",
        "decoder_input_tokens": "tokens",
        "decoder_loss_weights": "weights",
        "decoder_segment_ids": "segment_ids",
        "decoder_positions": "positions",
    }
    ends = 0
    for row, model in zip(rows_of(rows, 50), rows_of(converted, 50), strict=True):
        assert model.keys() == names.keys()
        for name, ours in names.items():
            np.testing.assert_array_equal(model[name], row[ours])
        ends += int(model["decoder_loss_weights"][model["decoder_target_tokens"] == Special.END_OF_TEXT].sum())
    assert ends > 5  # seqio's own would have counted none


@pytest.mark.parametrize("length", [2, 16, 40])
def test_the_converter_takes_a_tasks_documents(mixture: seqio.Mixture, length: int) -> None:
    """By hand: every token is a target that counts, seen from the one before, which may be in the piece before.

    So the end of a text counts also where it is a piece of its own.
    """
    task = mixture.tasks[0]
    pieces = list(task.get_dataset({"targets": length}, split="train", shuffle=False, seed=0).as_numpy_iterator())
    converted = seqio.get_dataset(task.name, {"targets": length}, RowConverter(), shuffle=False, seed=0)
    before, ends = int(Special.END_OF_TEXT), 0
    for piece, model in zip(pieces, converted.as_numpy_iterator(), strict=True):
        ids, padding = piece["targets"].tolist(), length - len(piece["targets"])
        assert model["decoder_target_tokens"].tolist() == ids + [int(Special.FIM_PAD)] * padding
        wanted = [before, *ids][:length]
        assert model["decoder_input_tokens"].tolist() == wanted + [int(Special.FIM_PAD)] * (length - len(wanted))
        assert model["decoder_loss_weights"].tolist() == [1] * len(ids) + [0] * padding
        assert model["decoder_positions"].tolist()[: len(ids)] == [*range(len(ids))]
        before = ids[-1]
        ends += ids.count(Special.END_OF_TEXT)
    assert ends == 23  # documents


def test_names_are_written_in_letters_that_seqio_takes(inputs: FeedInputs, tmp_path: Path) -> None:
    path = tmp_path / "my mixture-2.json"
    path.write_text(json.dumps({"sources": [{"name": "a-b", "format": "repository", "share": 1}]}))
    config = dataclasses.replace(inputs.config, mixture=str(path))
    mixture = create_mixture(dataclasses.replace(inputs, config=config))
    assert [mixture.name, mixture.tasks[0].name] == ["my_mixture_2", "my_mixture_2.a_b"]


def test_infilling_on_documents(inputs: FeedInputs) -> None:
    mixture = create_mixture(dataclasses.replace(inputs, fim=FimConfig(level="document", rate=1.0, file_rate=1.0)))
    ids = np.concatenate(documents(mixture.tasks[0].get_dataset(split="train", shuffle=False, seed=0)))
    assert (ids == Special.FIM_MIDDLE).sum() > 20
    assert not np.isin(np.concatenate(documents(mixture.tasks[0].get_dataset(split="train"))), [Special.FIM_PAD]).any()


FILES = [{"repository": "a/b", "path": f"{name}.py", "content": f"# {name}\n"} for name in "xyz"]


def test_seqios_own_helpers_for_tasks_pass(mixture: seqio.Mixture, tokenizer: Tokenizer) -> None:
    name = mixture.tasks[0].name
    raw = {"train": {"records": json.dumps(FILES), "unit": np.int64(3), "document": np.int64(1)}}
    example = seqio_tests.test_preprocessing_single(name, raw, seed=5)
    text = tokenizer.decode(example["targets"])
    assert sorted(text.removesuffix("<|endoftext|>").split("<file_sep>")[1:]) in (
        ["# x\n", "# y\n", "# z\n"],
        ["x.py\n# x\n", "y.py\n# y\n", "z.py\n# z\n"],
    )
    (again,) = seqio_tests.test_preprocessing(name, raw, seed=5)
    seqio_tests.assert_dict_values_equal(again, example)
    assert seqio_tests.encode_str(name, "x = 1\n") == tokenizer.encode_text("x = 1\n")
    assert example["targets_pretokenized"].decode() == text


def test_an_example_is_what_a_stream_reads(mixture: seqio.Mixture) -> None:
    task = mixture.tasks[0]
    assert isinstance(task.source, CuratedSource)
    units = task.source.units["train"]
    examples = list(task.source.get_dataset("train", shuffle=False).as_numpy_iterator())
    assert len(examples) == sum(len(units[index]) for index in range(len(units)))
    for example in examples:
        assert json.loads(bytes(example["records"])) == units[int(example["unit"])][int(example["document"])]


def test_every_source_of_a_mixture_is_a_task(inputs: FeedInputs, tmp_path: Path) -> None:
    names = write_sources(tmp_path)
    config = dataclasses.replace(inputs.config, mixture=str(tmp_path / "endless.json"))
    mixture = register_mixture(dataclasses.replace(inputs, corpus=str(tmp_path), config=config))
    try:
        for name in names:
            task = seqio.get_mixture_or_task(f"endless.{name}")
            found = documents(task.get_dataset(split="train", shuffle=False, seed=0).take(3))
            assert all(ids[-1] == Special.END_OF_TEXT for ids in found)
    finally:
        seqio.MixtureRegistry.remove(mixture.name)
        for task in mixture.tasks:
            seqio.TaskRegistry.remove(task.name)


def test_documents_of_equal_records_draw_differently_wherever_they_lie(mixture: seqio.Mixture) -> None:
    """The pitfall: seqio's map_over_dataset gives the nth example of every shard the same seed."""
    records = json.dumps(FILES)

    def shard(units: range) -> list[tuple[int, ...]]:
        examples = {
            "records": [records] * len(units),
            "unit": np.array(units, np.int64),
            "document": np.zeros(len(units), np.int64),
        }
        with seqio.utils.map_seed_manager(7):
            slices = tf.data.Dataset.from_tensor_slices(examples)  # pyright: ignore[reportArgumentType]
            dataset = mixture.tasks[0].preprocessors[0](slices)
        return [tuple(example["targets"].tolist()) for example in dataset.as_numpy_iterator()]

    one, other = shard(range(16)), shard(range(16, 32))
    assert one != other
    assert sum(a == b for a, b in zip(one, other, strict=True)) < 8
    assert shard(range(16)) == one


def test_the_end_of_text_survives_our_packing_and_not_seqios(mixture: seqio.Mixture, tokenizer: Tokenizer) -> None:
    """The pitfall: id 0, here the end of text, is padding to seqio."""
    found = documents(mixture.tasks[0].get_dataset(split="train", shuffle=False, seed=0))[:3]
    tokens = [token for ids in found for token in ids]
    row = pack_row(np.array(tokens), len(tokens), cross_document_attention=True)
    ends = row["targets"][: len(tokens) - 1] == Special.END_OF_TEXT
    assert ends.sum() == 3
    assert (row["weights"][:-1][ends] == 1).all()
    assert row["tokens"].tolist() == tokens
    dataset = tf.data.Dataset.from_generator(
        lambda: ({"targets": np.array(ids)} for ids in found),
        output_signature={"targets": tf.TensorSpec((None,), tf.int32)},  # pyright: ignore[reportArgumentType]
    )
    packed = seqio.utils.trim_and_pack_dataset(dataset, {"targets": len(tokens) + 8}, use_custom_ops=False)
    (stock,) = packed.as_numpy_iterator()
    weighted = stock["targets"][stock["targets_segment_ids"] > 0]
    assert (weighted == Special.END_OF_TEXT).sum() < 3


def test_the_vocabulary(tokenizer: Tokenizer) -> None:
    vocabulary = TokenizerVocabulary(tokenizer)
    assert vocabulary.vocab_size == tokenizer.vocab_size
    text = "x = '<|endoftext|>' ▁\t😀\n"
    ids = vocabulary.encode(text)
    assert ids == tokenizer.encode_text(text)
    assert vocabulary.decode(ids) == text
    in_graph = vocabulary.encode_tf(tf.constant(text))
    assert in_graph.numpy().tolist() == ids
    assert vocabulary.encode_tf(text).numpy().tolist() == ids  # pyright: ignore[reportArgumentType] (as seqio's own)
    assert vocabulary.decode_tf(in_graph).numpy().decode() == text
    assert vocabulary.decode_tf(tf.stack([in_graph, in_graph])).numpy().tolist() == [text.encode()] * 2
    assert tf.data.Dataset.from_tensors(text).map(vocabulary.encode_tf).element_spec == tf.TensorSpec((None,), tf.int32)
    assert vocabulary == TokenizerVocabulary(tokenizer)
    assert vocabulary.eos_id == Special.END_OF_TEXT
