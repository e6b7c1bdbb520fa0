"""SIGTERM while training."""

import os
import signal
import threading

import pytest

from sc2jax.parallel.hosts import AgreedError
from sc2jax.training.termination import TerminatedError, postponed_termination


class EndedError(Exception):
    pass


@pytest.fixture(autouse=True)
def handled():
    """What handles the signal outside of training."""

    def end(number, frame):
        raise EndedError

    before = signal.signal(signal.SIGTERM, end)
    yield end
    signal.signal(signal.SIGTERM, before)


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def test_the_first_asks_and_comes_again_at_the_end():
    asked, done = [], False
    with pytest.raises(EndedError), postponed_termination(lambda: asked.append(1)):
        terminate()
        done = True
    assert asked == [1]
    assert done


def test_a_second_one_acts_at_once():
    asked, done = [], False
    with pytest.raises(EndedError), postponed_termination(lambda: asked.append(1)):
        terminate()
        terminate()
        done = True
    assert asked == [1]
    assert not done


def test_without_one_nothing_is_changed(handled):
    with postponed_termination(lambda: None):
        assert signal.getsignal(signal.SIGTERM) is not handled
    assert signal.getsignal(signal.SIGTERM) is handled
    with pytest.raises(EndedError):
        terminate()


def test_an_error_passes_and_the_signal_is_handled_as_before(handled):
    with pytest.raises(ValueError), postponed_termination(lambda: None):
        raise ValueError
    assert signal.getsignal(signal.SIGTERM) is handled


def test_an_end_that_all_agree_on_is_that_of_the_signal_where_it_came():
    with pytest.raises(TerminatedError, match="saved") as raised, postponed_termination(lambda: None):
        terminate()
        raise AgreedError("saved")
    assert raised.value.status == 143
    with pytest.raises(AgreedError), postponed_termination(lambda: None):
        raise AgreedError  # of another process that was asked


def test_another_thread_changes_nothing(handled):
    seen = []

    def work():
        with postponed_termination(lambda: None):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [handled]
