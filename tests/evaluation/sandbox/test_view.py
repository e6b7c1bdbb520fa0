"""What is to be seen inside, and what cannot be."""

import pytest

from sc2jax.evaluation.sandbox.view import View, refuse_below


def test_what_the_sandbox_s_own_folder_would_hide_is_refused() -> None:
    refuse_below(View(("/usr/lib/python3", "/tmpfiles/numpy", "/var/tmp/numpy"), ("/tmp/hidden",)), "/tmp")
    with pytest.raises(OSError, match="/tmp/venv/numpy would be hidden: inside, /tmp is"):
        refuse_below(View(("/usr/lib/python3", "/tmp/venv/numpy"), ()), "/tmp")
