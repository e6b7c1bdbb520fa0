"""A run that is asked to end saves after the step under way, and goes on from there as if it had not been."""

import dataclasses
import os
import signal

import jax
import pytest

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.model.loss import next_token_loss
from sc2jax.model.params import parameter_table
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.hosts import AgreedError, Hosts
from sc2jax.parallel.mesh import create_mesh
from sc2jax.training.evaluation import BitsPerByte
from sc2jax.training.goodput import read_totals
from sc2jax.training.loop import train
from sc2jax.training.metrics import METRICS, read_metrics
from sc2jax.training.objective import Objective
from sc2jax.training.termination import TerminatedError


class SignalledError(Exception):
    pass


class AskedByAnother(Hosts):
    """Of several processes, as one sees it of which another was sent the signal in step 3."""

    count = 2

    def stops_after(self, step: int) -> bool:
        return step >= 3


def run(folder, feed, model, training, **how):
    mesh = create_mesh(MeshConfig(), jax.devices()[:1])
    objective = Objective(parameter_table(model), next_token_loss(model, training.loss_chunk, mesh), seed=5)
    where = {"row_length": model.context_length, "folder": str(folder), "key": "a key"}
    return train(feed, objective, training, mesh, **where, **how)


@pytest.fixture(scope="module")
def longer(training):
    return dataclasses.replace(training, steps=7, log_every=4, checkpoint_every=100)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, model, longer, make_feed):
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder, make_feed(), model, longer)


@pytest.fixture
def signalled():
    def end(number, frame):
        raise SignalledError

    before = signal.signal(signal.SIGTERM, end)
    yield SignalledError
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("at", [2, 5])
def test_sigterm_saves_and_the_log_keeps_its_bytes(tmp_path, model, longer, make_feed, whole, signalled, at):
    """Between two lines of the log, and before a checkpoint was due."""
    feed = make_feed()
    draw = type(feed).__next__

    class Interrupting(type(feed)):
        def __next__(self):
            if self.count + 1 == at:
                os.kill(os.getpid(), signal.SIGTERM)
            return draw(self)

    feed.__class__ = Interrupting
    with pytest.raises(TerminatedError, match=f"saved up to step {at}"):
        run(tmp_path, feed, model, longer)
    assert Checkpoints(str(tmp_path / "checkpoints")).steps() == [at]
    assert run(tmp_path, make_feed(), model, longer) == whole[1]
    assert (tmp_path / METRICS).read_bytes() == (whole[0] / METRICS).read_bytes()


def test_where_another_process_was_asked_this_one_says_so(tmp_path, model, longer, make_feed, whole):
    with pytest.raises(AgreedError, match="saved up to step 3, and the same command goes on"):
        run(tmp_path, make_feed(), model, longer, hosts=AskedByAnother())
    assert run(tmp_path, make_feed(), model, longer) == whole[1]
    assert (tmp_path / METRICS).read_bytes() == (whole[0] / METRICS).read_bytes()


def test_where_the_time_went_is_kept_over_starts(tmp_path, model, longer, make_feed):
    for stop_after in (5, 10**9):
        feed = make_feed()
        feed.stop_after = stop_after
        try:
            run(tmp_path, feed, model, dataclasses.replace(longer, log_every=1, checkpoint_every=3))
        except KeyboardInterrupt:
            continue
    totals = read_totals(str(tmp_path))
    assert totals["lost"] > 0  # step 4, which was done twice
    assert {"step", "compilation", "preparation", "restore", "save", "lost"} <= totals.keys()


def test_evaluations_end_a_line_and_choose_the_best_checkpoint(tmp_path, model, longer, make_feed):
    measured = iter([3.0, 1.0, 2.0, 2.5])

    def evaluate(params, frozen):
        assert frozen == {}
        return BitsPerByte(bits_per_byte=next(measured), by_source={"a": 1.0}, by_language={})

    longer = dataclasses.replace(longer, evaluate_every=2, checkpoint_every=2, checkpoints_kept=1, keep_best=1)
    run(tmp_path, make_feed(), model, longer, evaluate=evaluate)
    rows = read_metrics(str(tmp_path))
    assert [row["step"] for row in rows] == [2, 4, 6, 7]
    assert [row["evaluation"]["bits_per_byte"] for row in rows if "evaluation" in row] == [3.0, 1.0, 2.0, 2.5]
    assert Checkpoints(str(tmp_path / "checkpoints")).steps() == [4, 7]
