"""What every test runs under: eight virtual CPU devices, strict ranks, and no network."""

import gc
import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    import pyarrow as pa

    from sc2jax.records.manifest import Output

# Deadlines measure the machine; the same examples are drawn every time.
settings.register_profile("tests", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("tests")


@pytest.fixture(scope="session")
def write_unchecked() -> "Callable[[Path, Sequence[pa.Table]], Output]":
    """A part of a dataset as another tool might write it: any tables, a row group each, unchecked."""

    def write(folder: Path, tables: "Sequence[pa.Table]", prefix: str = "train") -> "Output":
        import pyarrow.parquet as pq

        from sc2jax.records.manifest import Output

        path = folder / prefix / "part-foreign.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(path, tables[0].schema, write_page_checksum=True) as writer:
            for table in tables:
                writer.write_table(table)
        content = path.read_bytes()
        footer = content[-8 - int.from_bytes(content[-8:-4], "little") :]
        return Output(
            path=str(path.relative_to(folder)),
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            rows=sum(table.num_rows for table in tables),
            row_groups=len(tables),
            footer_sha256=hashlib.sha256(footer).hexdigest(),
        )

    return write


MOST_MAPPINGS = 6_000
"""Of memory, before compiled programs are forgotten: each has some, and Linux gives a process 65,530 by default."""


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs() -> Iterator[None]:
    """What thousands of tests compile would use up a process's mappings, and end it without a word."""
    yield
    mappings = Path("/proc/self/maps")
    if "jax" in sys.modules and mappings.exists() and mappings.read_bytes().count(b"\n") > MOST_MAPPINGS:
        import jax

        jax.clear_caches()
        gc.collect()


@pytest.fixture
def tpu_compiler(monkeypatch) -> Iterator[None]:
    """libtpu, in the environment that it needs; what it compiles is not cached, for jax could not read it again."""
    import jax

    from sc2jax.plan.environment import ENVIRONMENT

    pytest.importorskip("libtpu")
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    seconds = jax.config.values["jax_persistent_cache_min_compile_time_secs"]
    jax.config.update("jax_persistent_cache_min_compile_time_secs", float("inf"))
    yield
    jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)
