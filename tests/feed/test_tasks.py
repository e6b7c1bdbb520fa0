from collections.abc import Iterator

import numpy as np
import pytest
import seqio
import tensorflow as tf
from feed_corpora import Repositories

from sc2jax.feed.config import FeedConfig
from sc2jax.feed.tasks import TokenizerVocabulary, create_mixture, register_mixture, training_sources
from sc2jax.text.config import FimConfig
from sc2jax.text.special_tokens import Special
from sc2jax.text.tokenizer import Tokenizer, load_tokenizer

OFF = FimConfig(level="off")


@pytest.fixture(scope="module")
def tokenizer(tokenizer_path: str) -> Tokenizer:
    return load_tokenizer(tokenizer_path)


@pytest.fixture(scope="module")
def mixture(corpus: str, tokenizer: Tokenizer) -> Iterator[seqio.Mixture]:
    mixture = register_mixture(corpus, tokenizer, FeedConfig(), OFF)
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
    # seqio hands every shard the same seeds: the draws for metadata must differ all the same.
    metadata = [tuple(ids[0] == Special.REPO_NAME for ids in shard[:5]) for shard in shards]
    assert len(set(metadata)) > 1


def test_the_mixture_goes_on_without_end(mixture: seqio.Mixture, repositories: Repositories) -> None:
    dataset = mixture.get_dataset(split="train", shuffle=True, seed=0)
    assert len(list(dataset.take(2 * len(repositories)).as_numpy_iterator())) == 2 * len(repositories)
    cut = mixture.get_dataset({"targets": 16}, split="train", shuffle=False, seed=0)
    assert next(cut.as_numpy_iterator())["targets"].shape == (16,)


def test_infilling_on_documents(corpus: str, tokenizer: Tokenizer) -> None:
    mixture = create_mixture(corpus, tokenizer, FeedConfig(), FimConfig(level="document", rate=1.0, file_rate=1.0))
    ids = np.concatenate(documents(mixture.tasks[0].get_dataset(split="train", shuffle=False, seed=0)))
    assert (ids == Special.FIM_MIDDLE).sum() > 20
    assert not np.isin(np.concatenate(documents(mixture.tasks[0].get_dataset(split="train"))), [Special.FIM_PAD]).any()


def test_the_stream_reads_the_same_tasks(corpus: str, tokenizer: Tokenizer, mixture: seqio.Mixture) -> None:
    (source,) = training_sources(corpus, tokenizer, FeedConfig(), OFF)
    units = mixture.tasks[0].source.list_shards("train")
    assert len(source.units) == len(units) == 8
    assert source.format == mixture.tasks[0].preprocessors[0] or source.format.tokenizer.digest == tokenizer.digest


def test_the_vocabulary(tokenizer: Tokenizer) -> None:
    vocabulary = TokenizerVocabulary(tokenizer)
    assert vocabulary.vocab_size == tokenizer.vocab_size
    text = "x = '<|endoftext|>' ▁\t😀\n"
    ids = vocabulary.encode(text)
    assert ids == tokenizer.encode_text(text)
    assert vocabulary.decode(ids) == text
    in_graph = vocabulary.encode_tf(tf.constant(text))
    assert in_graph.numpy().tolist() == ids
    assert vocabulary.decode_tf(in_graph).numpy().decode() == text
    assert vocabulary.decode_tf(tf.stack([in_graph, in_graph])).numpy().tolist() == [text.encode()] * 2
    assert vocabulary == TokenizerVocabulary(tokenizer)
    assert vocabulary.eos_id == Special.END_OF_TEXT
