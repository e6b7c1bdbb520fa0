"""seqio and TensorFlow, imported without their greetings; modules that need them take them from here."""

import contextlib
import os
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Hides what native code writes to standard error, unless an exception is raised."""
    original = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        except Exception:
            captured.seek(0)
            os.write(original, captured.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)


# TensorFlow reports the accelerators that it does not find, whatever its log level is.
with _unheard():
    import seqio
    import tensorflow as tf

    # TensorFlow would claim every accelerator for itself.
    tf.config.set_visible_devices([], "GPU")
    tf.config.set_visible_devices([], "TPU")

__all__ = ["seqio", "tf"]
