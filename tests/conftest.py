"""What every test runs under: eight virtual CPU devices, strict ranks, no network; and which tests are slow."""

import gc
import hashlib
import os
import sys
import zlib
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
# Many tests compile the same programs, small ones most of all; one may name a folder that outlives this checkout.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "jax"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    import pyarrow as pa

    from sc2jax.records.manifest import Output

# Deadlines measure the machine; the same examples are drawn every time.
settings.register_profile("tests", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("tests")


SLOW_TESTS = Path(__file__).parent / "slow_tests.txt"
"""Tests that took more than some seconds when they were last measured, an id a line; others say `slow` themselves."""
_SECONDS: dict[str, float] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", metavar="K/N", help="run the K-th of N parts of the tests, from 0 to N - 1")
    parser.addoption(
        "--list-slow", metavar="SECONDS", type=float, help=f"write the tests that take longer to {SLOW_TESTS.name}"
    )


@pytest.hookimpl(tryfirst=True)  # before marks are looked at
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow = set(SLOW_TESTS.read_text(encoding="utf-8").splitlines())
    for item in items:
        if item.nodeid in slow:
            item.add_marker(pytest.mark.slow)
    if part := config.getoption("part"):
        chosen, parts = map(int, part.split("/"))
        items[:] = [item for item in items if zlib.crc32(item.nodeid.encode()) % parts == chosen]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call":
        _SECONDS[report.nodeid] = report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    limit = session.config.getoption("list_slow")
    if limit is not None and not hasattr(session.config, "workerinput"):
        slow = sorted(test for test, seconds in _SECONDS.items() if seconds > limit)
        SLOW_TESTS.write_text("".join(f"{test}\n" for test in slow), encoding="utf-8")


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
