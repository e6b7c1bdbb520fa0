"""What a checkpoint says of itself is read as it was saved, or refused."""

import dataclasses
import json

import pytest

from sc2jax.checkpoint.progress import Progress, describe, read_progress
from sc2jax.errors import UserError

SAVED = Progress(20, "a key", "of the log", {"loss": 0.1}, (1, 2), 1.25)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "20/progress/metadata"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(describe(SAVED, {"params": {"a/b": 2**32 - 1}, "optimizer": {}})))
    return path


def test_it_is_read_back(tmp_path, file):
    described = read_progress(str(tmp_path), 20)
    assert described.fingerprints == {"params": {"a/b": 2**32 - 1}, "optimizer": {}}
    assert described.progress == SAVED


def test_every_flipped_bit_is_found_or_changes_nothing(tmp_path, file):
    whole = file.read_bytes()
    expected = read_progress(str(tmp_path), 20)
    for place in range(8 * len(whole)):
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        file.write_bytes(content)
        try:
            assert read_progress(str(tmp_path), 20) == expected
        except UserError as error:
            assert str(file) in str(error)


def test_that_of_another_step_is_refused(tmp_path, file):
    (tmp_path / "20").rename(tmp_path / "40")
    with pytest.raises(UserError, match="is not what was saved"):
        read_progress(str(tmp_path), 40)
    with pytest.raises(UserError, match="holds no checkpoint of step 20"):
        read_progress(str(tmp_path), 20)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), None])
def test_a_loss_that_is_no_number_is_none(tmp_path, file, loss):
    file.write_text(json.dumps(describe(dataclasses.replace(SAVED, evaluation_loss=loss), {"params": {}})))
    assert read_progress(str(tmp_path), 20).progress == dataclasses.replace(SAVED, evaluation_loss=None)
