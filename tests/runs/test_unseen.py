"""What is said of scores on another corpus."""

import pytest

from sc2jax.runs.unseen import OtherCorpus, caveat


@pytest.mark.parametrize(
    ("left_out", "rest"),
    [
        (0, "it was trained on none of its held-out files"),
        (1234, "1,234 of its held-out files, which the model was trained on, are left out"),
        ("unknown", "which of its files the model was trained on is not known, for that corpus is gone"),
    ],
)
def test_what_was_trained_on_is_said(left_out, rest):
    assert (
        caveat(OtherCorpus(trained_on=False, left_out=left_out))
        == f"measured on another corpus than the model was trained on; {rest}"
    )
