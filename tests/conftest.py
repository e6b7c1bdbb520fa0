"""What every test runs under: eight virtual CPU devices, strict ranks, and no network."""

import os
from pathlib import Path

# Read when jax is first imported, so set before any test module is.
os.environ["JAX_PLATFORMS"] = "cpu"
# Compiling is what makes tests of JAX slow: without LLVM's optimisations the same programs take two fifths of the time.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["DAFT_ANALYTICS_ENABLED"] = "0"
# Many tests compile the same programs.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(__file__).parent.parent / ".pytest_cache" / "jax")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

from hypothesis import settings

# Deadlines measure the machine; the same examples are drawn every time.
settings.register_profile("tests", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("tests")
