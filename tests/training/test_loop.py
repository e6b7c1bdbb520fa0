"""The loop: interrupted anywhere and started again, it ends as if nothing had happened."""

import dataclasses
import hashlib
import io
import json
import os
import shutil
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from tqdm import tqdm

from sc2jax.checkpoint.checkpoints import Checkpoints
from sc2jax.errors import UserError
from sc2jax.model.loss import next_token_loss
from sc2jax.model.params import parameter_table
from sc2jax.parallel.config import MeshConfig
from sc2jax.parallel.mesh import create_mesh
from sc2jax.training.config import TrainingConfig
from sc2jax.training.log_files import LogFiles
from sc2jax.training.loop import train
from sc2jax.training.metrics import METRICS, TIMING, MetricsLog, read_metrics
from sc2jax.training.objective import Objective


@pytest.fixture(scope="module")
def mesh():
    return create_mesh(MeshConfig(), jax.devices()[:1])


def run(folder, feed, model, training, mesh, key="a key"):
    loss = next_token_loss(model, training.loss_chunk, mesh)
    objective = Objective(parameter_table(model), loss, seed=5)
    return train(feed, objective, training, mesh, row_length=model.context_length, folder=str(folder), key=key)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, model, training, mesh, make_feed):
    """The folder of a finished run, and its result."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, run(folder, make_feed(), model, training, mesh)


@pytest.fixture
def whole(finished, tmp_path):
    """A copy of that folder, `tmp_path / "whole"`, and the result."""
    shutil.copytree(finished[0], tmp_path / "whole")
    return tmp_path / "whole", finished[1]


def test_interrupted_runs_end_like_an_uninterrupted_one(tmp_path, model, training, mesh, make_feed):
    """Checkpoints fall between two lines; the last step ends neither a line nor those between checkpoints."""
    training = dataclasses.replace(training, steps=7, log_every=3, checkpoint_every=2)
    whole = run(tmp_path / "whole", make_feed(), model, training, mesh)
    for stop_after in (1, 3, 5):
        feed = make_feed()
        feed.stop_after = stop_after
        folder = tmp_path / f"stopped after {stop_after}"
        with pytest.raises(KeyboardInterrupt):
            run(folder, feed, model, training, mesh)
        again = run(folder, make_feed(), model, training, mesh)
        assert again == whole
        assert (folder / METRICS).read_bytes() == (tmp_path / "whole" / METRICS).read_bytes()
    lines = read_metrics(str(tmp_path / "whole"))
    assert [row["step"] for row in lines] == [3, 6, 7]
    assert [row["feed"]["batches"] for row in lines] == [3, 6, 7]
    # What was counted in the steps since the last line.
    once = sum(range(training.batch_size))
    assert [row["feed"]["counts"] for row in lines] == [[steps * once] for steps in (3, 3, 1)]
    assert lines[-1]["feed"]["ever"] == 7 * once
    assert sorted(path.name for path in (tmp_path / "whole/checkpoints").iterdir()) == ["6", "7"]


@pytest.mark.parametrize("terminal", [False, True])
def test_without_a_terminal_lines_say_how_far_it_is(
    tmp_path, model, training, mesh, make_feed, monkeypatch, capsys, terminal
):
    monkeypatch.setattr("sc2jax.training.live_progress._AT_MOST_EVERY", 0.0)
    monkeypatch.setattr(
        "sc2jax.training.live_progress.progress", lambda **how: tqdm(**how, file=io.StringIO(), disable=not terminal)
    )
    run(tmp_path, make_feed(), model, dataclasses.replace(training, steps=4, log_every=1), mesh)
    lines = capsys.readouterr().out.splitlines()
    losses = [f"loss {row['loss']:.3f}, " for row in read_metrics(str(tmp_path))[:-1]]
    steps = [] if terminal else [f"      step {n} of 4" for n in (1, 2, 3)]
    assert [line.split(", ")[0] for line in lines] == steps
    assert all(loss in line for loss, line in zip(losses, lines, strict=not terminal))


def test_resumes_onto_another_mesh(tmp_path, whole, model, training, make_feed):
    """From the checkpoint that the run on one device left at step 6."""
    folder, result = whole
    expected = read_metrics(str(folder))
    shutil.rmtree(folder / "checkpoints/8")
    eight = create_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    assert run(folder, make_feed(), model, training, eight).steps == result.steps
    found = read_metrics(str(folder))
    assert [row["step"] for row in found] == [row["step"] for row in expected]
    np.testing.assert_allclose([row["loss"] for row in found], [row["loss"] for row in expected], rtol=1e-4)


def test_a_finished_run_does_nothing_more(whole, model, training, mesh, make_feed):
    feed = make_feed()
    assert run(whole[0], feed, model, training, mesh) == whole[1]
    assert feed.count == 8  # put at the end, and nothing drawn


def test_a_run_that_has_gone_further_does_not_end_before_it(whole, model, training, mesh, make_feed):
    """It would be written down with the parameters of a later step."""
    shorter = dataclasses.replace(training, steps=7, horizon_tokens=8 * training.batch_size * model.context_length)
    with pytest.raises(UserError, match=r"holds a run of 8 steps, which training\.steps 7 lies before; set it to 8 or"):
        run(whole[0], make_feed(), model, shorter, mesh)


def test_a_checkpoint_of_another_run_among_them_is_refused_and_kept(whole, model, training, mesh, make_feed):
    """The oldest ones are deleted as new ones come: one that is not ours must not be."""
    shutil.rmtree(whole[0] / "checkpoints/6")
    folder = whole[0].parent / "theirs"
    shorter = dataclasses.replace(training, steps=4)
    run(folder, make_feed(), model, shorter, mesh, key="their key")
    theirs = whole[0] / f"checkpoints/{shorter.steps}"
    shutil.rmtree(theirs, ignore_errors=True)
    shutil.copytree(folder / f"checkpoints/{shorter.steps}", theirs)
    with pytest.raises(UserError, match=rf"another config or other inputs \(step {shorter.steps}\)"):
        run(whole[0], make_feed(), model, training, mesh)
    assert theirs.is_dir()


def test_another_key_is_refused(whole, model, training, mesh, make_feed):
    with pytest.raises(UserError, match="another config or other inputs"):
        run(whole[0], make_feed(), model, training, mesh, key="another key")


def stored_parameters(checkpoint):
    """What TensorStore finds of a checkpoint's parameters, without fingerprints; None if it cannot read them."""
    checkpoints = Checkpoints(str(checkpoint.parent), 2)
    step = int(checkpoint.name)
    try:
        paths = [tuple(name.split("/")) for name in checkpoints.read_fingerprints(step)]
        return [checkpoints.open_array(step, path).read().result().tobytes() for path in paths]
    except (UserError, ValueError):
        return None
    finally:
        checkpoints.close()


def damage_parameters(checkpoint, damage):
    """Damages one file so that the parameters are no longer what was stored.

    Not every byte of the files matters: Orbax leaves index nodes in them that later ones replaced, and where, and in
    which of the files, depends on how its writes were timed.
    """
    intact = stored_parameters(checkpoint)
    assert intact is not None
    files = [path for path in (checkpoint / "params").rglob("*") if path.is_file()]
    for file in sorted(files, key=lambda path: path.stat().st_size, reverse=True):
        content = file.read_bytes()
        half = len(content) // 2
        for place in [*range(half, len(content), 97), *range(0, half, 97)] if damage == "flip" else [half]:
            if damage == "flip":
                file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            elif damage == "truncate":
                file.write_bytes(content[:half])
            else:
                file.unlink()
            if stored_parameters(checkpoint) != intact:
                return
            file.write_bytes(content)
    pytest.fail("no file of the checkpoint holds its parameters")


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_serves(whole, model, training, mesh, make_feed, damage):
    folder, result = whole
    newest = folder / "checkpoints" / "8"
    damage_parameters(newest, damage)
    with pytest.raises(UserError, match=r"checkpoints/8 cannot be restored.*delete that folder to go on from step 6"):
        run(folder, make_feed(), model, training, mesh)
    shutil.rmtree(newest)
    assert run(folder, make_feed(), model, training, mesh) == result


@pytest.mark.parametrize(("bad", "good"), [(1, "there is no checkpoint yet"), (5, "the checkpoint of step 4 is good")])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, model, training, mesh, make_feed, bad, good):
    """In its very step, which ends no line of the log, and before the next checkpoint."""
    feed, training = make_feed(), dataclasses.replace(training, log_every=8)
    draw = type(feed).__next__

    class Poisoned(type(feed)):
        def __next__(self):
            batch = draw(self)
            return batch | {"weights": batch["weights"] * (np.nan if self.count == bad else 1)}

    feed.__class__ = Poisoned
    with pytest.raises(UserError, match=rf"not finite at step {bad} \(loss nan.*; {good}: lower"):
        run(tmp_path, feed, model, training, mesh)
    assert Checkpoints(str(tmp_path / "checkpoints")).latest_step() == (4 if bad == 5 else None)


@pytest.mark.parametrize(("bad", "good"), [(1, "there is no checkpoint yet"), (5, "the checkpoint of step 4 is good")])
def test_whatever_else_ends_a_run_says_how_far_it_is_saved(tmp_path, model, training, mesh, make_feed, bad, good):
    feed = make_feed()
    draw = type(feed).__next__

    class Broken(type(feed)):
        def __next__(self):
            batch = draw(self)
            if self.count == bad:
                time.sleep(1.0)  # the save before it ends
                raise OSError(5, "Input/output error", "tokens")
            return batch

    feed.__class__ = Broken
    with pytest.raises(OSError, match="Input/output") as info:
        run(tmp_path, feed, model, training, mesh)
    assert info.value.__notes__ == [good]


def metrics(loss: float, tokens: float, gradient_norm: float = 9.0, learning_rate: float = 0.2) -> dict[str, float]:
    figures = {"gradient_norm": gradient_norm, "learning_rate": learning_rate, "skipped_steps": gradient_norm}
    return {"loss": loss, "tokens": tokens, **figures}


def test_a_line_weighs_each_step_by_its_tokens(tmp_path):
    log = MetricsLog(LogFiles(str(tmp_path)), step=0)
    for step, (loss, tokens) in enumerate([(2.0, 30.0), (4.0, 10.0), (7.0, 0.0)], start=1):
        log.add(metrics(loss, tokens, gradient_norm=float(step), learning_rate=0.1 * step))
    assert not read_metrics(str(tmp_path))  # taking a step writes nothing
    log.write(3, {"padding": 3}, {"seconds": 6.0})
    log.add(metrics(1.0, 5.0))
    log.write(4, {"padding": 4, "text_bytes": 50}, {"seconds": 1.0})
    log.add(metrics(3.0, 20.0))
    log.write(5, {"text_bytes": 80}, {"seconds": 2.0})
    first, second, third = read_metrics(str(tmp_path))
    assert first == {
        "step": 3,
        "loss": 2.5,
        "gradient_norm": 2.0,
        "learning_rate": pytest.approx(0.3),
        "skipped_steps": 3,
        "tokens": 40,
        "feed": {"padding": 3},
    }
    assert (second["loss"], second["tokens"], second["gradient_norm"]) == (1.0, 45, 9.0)
    assert second.get("bits_per_byte") == pytest.approx(5 / 50 / np.log(2))
    assert third.get("bits_per_byte") == pytest.approx(3 * 20 / 30 / np.log(2))
    with Path(tmp_path, TIMING).open("a") as file:
        file.write('{"step": 5, "seconds": 4.0}\n{"step": 6, "sec')
    assert log.timing() == {
        3: {"step": 3, "seconds": 6.0},
        4: {"step": 4, "seconds": 1.0},
        5: {"step": 5, "seconds": 4.0},  # done again
    }


def row(step: int) -> dict:
    figures = {"loss": 1.0, "gradient_norm": 1.0, "learning_rate": 0.1, "skipped_steps": 0}
    return {"step": step, "tokens": 10 * step, "feed": {}, **figures}


@pytest.mark.parametrize("kept", ["2 4", "4", "2", "4 2", ""])
def test_a_log_that_is_not_what_was_saved_is_refused(tmp_path, kept):
    lines = {step: json.dumps(row(step)).encode() + b"\n" for step in (2, 4, 6)}
    saved = hashlib.sha256(lines[2] + lines[4]).hexdigest()
    Path(tmp_path, METRICS).write_bytes(b"".join(lines[int(step)] for step in kept.split()) + lines[6])
    if kept == "2 4":
        assert MetricsLog(LogFiles(str(tmp_path)), 4, saved).sha256 == saved
        assert Path(tmp_path, METRICS).read_bytes() == lines[2] + lines[4]
    else:
        with pytest.raises(UserError, match=r"lines that were written up to step 4|does not come after"):
            MetricsLog(LogFiles(str(tmp_path)), 4, saved)


def in_place_of(path: Path, kind: str) -> None:
    path.unlink(missing_ok=True)
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        (path.parent / "theirs").write_text("mine")
        path.symlink_to("theirs" if kind == "a link" else path.parent.parent / "outside")


@pytest.mark.parametrize("kind", ["a pipe", "a folder", "a link", "a link that leaves"])
@pytest.mark.parametrize("name", [METRICS, TIMING])
def test_only_files_are_read_as_logs_and_added_to(tmp_path, name, kind):
    folder = tmp_path / "train"
    folder.mkdir()
    (tmp_path / "outside").write_text("mine")
    (folder / METRICS).write_text(json.dumps(row(2)) + "\n")
    in_place_of(folder / name, kind)
    for step in (0, 2) if kind != "a link" else (0,):
        with pytest.raises(UserError, match=rf"{name} is (no regular file|a link that leaves)"):
            MetricsLog(LogFiles(str(folder)), step)
    if name == METRICS and kind != "a link":
        with pytest.raises(UserError, match=r"no regular file|a link that leaves"):
            read_metrics(str(folder))
    assert (tmp_path / "outside").read_text() == "mine"
    assert kind != "a link" or (folder / "theirs").read_text() == "mine"


def test_a_new_run_begins_a_new_log(tmp_path):
    Path(tmp_path, METRICS).write_text("garbage\n")
    log = MetricsLog(LogFiles(str(tmp_path)), 0)
    log.add(metrics(1.0, 10.0))
    log.write(1, {}, {})
    content = Path(tmp_path, METRICS).read_bytes()
    assert json.loads(content)["step"] == 1
    assert log.sha256 == hashlib.sha256(content).hexdigest()


def test_an_unfinished_line_and_lines_beyond_the_checkpoint_are_dropped(tmp_path):
    rows = [json.dumps(row(step)) for step in (2, 4, 6)]
    Path(tmp_path, METRICS).write_text("\n".join(rows) + '\n{"step": 8, "tok')
    log = MetricsLog(LogFiles(str(tmp_path)), step=4)
    for step in (5, 6):
        log.add(metrics(float(step), 10.0))
    log.write(6, {"padding": 3}, {})
    assert [(row["step"], row["tokens"]) for row in read_metrics(str(tmp_path))] == [(2, 20), (4, 40), (6, 60)]
    assert read_metrics(str(tmp_path))[-1]["loss"] == 5.5
    assert read_metrics(str(tmp_path))[-1]["feed"] == {"padding": 3}


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": -1},
        {"warmup_tokens": 100, "horizon_tokens": 100},
        {"batch_size": 0},
        {"loss_chunk": -1},
        {"peak_learning_rate": -1.0},
        {"beta2": 2.0},
        {"epsilon": -1.0},
        {"max_gradient_norm": 0.0},
        {"weight_decay": -100.0},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(UserError, match="training"):
        TrainingConfig(**wrong)
