"""What the TPU's compiler needs in the environment of a process on a machine without a TPU, before it imports jax."""

import ctypes
import os
import signal

# Without these libtpu asks for the machine's metadata and takes a lock, and jax looks for a TPU.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def end_with_parent() -> None:
    """Lets this process end with the one that began it, however that is ended; libtpu is for Linux alone, which can."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def require_environment() -> None:
    """Makes sure that it was set: without it libtpu may wait for minutes, or end the process.

    Raises:
        RuntimeError: a variable is missing or has another value.
    """
    unset = [name for name, value in ENVIRONMENT.items() if os.environ.get(name) != value]
    if unset:
        raise RuntimeError(f"set {', '.join(unset)} as in sc2jax.plan.environment.ENVIRONMENT before jax is imported")


def compute_on_cpu() -> None:
    """Lets this process's JAX look for no TPU: it only counts sizes, and libtpu may look for one for minutes."""
    import jax

    jax.config.update("jax_platforms", ENVIRONMENT["JAX_PLATFORMS"])
