"""What a notebook runs on is told by drivers and files, and too little memory by one message before the work begins."""

import json
import stat
from pathlib import Path

import pytest

from sc2jax.errors import UserError
from sc2jax.notebook.runtime import GIB, Runtime, find_runtime, parameters_of, refuse_little


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 12 GiB free, and no program that tells of GPUs."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "dev").mkdir()
    (tmp_path / "programs").mkdir()
    free = 12 * GIB // 1024
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable:   {free} kB\nHugePages_Total: 0\n")
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    return tmp_path


def nvidia_smi(root: Path, output: str, status: int = 0) -> None:
    program = root / "programs/nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{output}'\nexit {status}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_without_anything_else_it_is_cpus(root: Path) -> None:
    found = find_runtime({}, root)
    assert found == Runtime("cpu", "CPU", 1, 12 * GIB, 12 * GIB, "", "float32")


def test_a_t4_has_float16_and_colabs_driver_cuda_12(root: Path) -> None:
    nvidia_smi(root, "Tesla T4, 15360, 550.54.15\\n")
    found = find_runtime({}, root)
    assert found == Runtime("gpu", "Tesla T4", 1, 12 * GIB, 15 * GIB * 3 // 4, "cuda12", "float16")


@pytest.mark.parametrize(("driver", "extra"), [("579.99", "cuda12"), ("580.65.06", "gpu"), ("610.1", "gpu")])
def test_a_newer_driver_takes_cuda_13(root: Path, driver: str, extra: str) -> None:
    nvidia_smi(root, f"NVIDIA L4, 23034, {driver}\\nNVIDIA L4, 23034, {driver}\\n")
    found = find_runtime({}, root)
    assert (found.extra, found.devices, found.compute_dtype) == (extra, 2, "bfloat16")
    assert found.device_bytes == 2 * (23034 << 20) * 3 // 4


@pytest.mark.parametrize(("output", "status"), [("", 9), ("No devices were found\\n", 6), ("", 0), ("a, b, c\\n", 9)])
def test_the_driver_s_program_without_a_gpu_is_no_gpu(root: Path, output: str, status: int) -> None:
    nvidia_smi(root, output, status)
    assert find_runtime({}, root).kind == "cpu"


@pytest.mark.parametrize(
    ("accelerator", "devices_found", "name", "devices", "gib"),
    [
        ("v5e-1", 1, "TPU v5e", 1, 16),
        ("v5litepod-8", 8, "TPU v5e", 8, 128),
        ("v5e-8", 0, "TPU v5e", 8, 128),  # its devices lie elsewhere
        ("v6e-1", 1, "TPU v6e", 1, 32),
        ("v9-1", 1, "TPU", 1, 0),
    ],
)
def test_a_tpu_is_known_by_its_devices_or_its_name(root, accelerator, devices_found, name, devices, gib) -> None:
    for number in range(devices_found):
        (root / f"dev/accel{number}").touch()
    found = find_runtime({"TPU_ACCELERATOR_TYPE": accelerator}, root)
    assert found == Runtime("tpu", name, devices, 12 * GIB, gib * GIB, "tpu", "bfloat16")


def test_devices_alone_or_colabs_own_word_are_a_tpu(root: Path) -> None:
    nvidia_smi(root, "Tesla T4, 15360, 550.54.15\\n")  # a TPU comes before all else
    assert find_runtime({"COLAB_TPU_1VM": "1"}, root) == Runtime("tpu", "TPU", 1, 12 * GIB, 0, "tpu", "bfloat16")
    (root / "dev/accel0").touch()
    (root / "dev/accel1").touch()
    found = find_runtime({}, root)
    assert (found.kind, found.devices, found.extra) == ("tpu", 2, "tpu")


def test_a_container_s_limit_counts(root: Path) -> None:
    (root / "sys/fs/cgroup").mkdir(parents=True)
    limit = root / "sys/fs/cgroup/memory.max"
    limit.write_text("max\n")
    assert find_runtime({}, root).host_bytes == 12 * GIB
    limit.write_text(f"{2 * GIB}\n")
    assert find_runtime({}, root).host_bytes == 2 * GIB
    limit.write_text(f"{20 * GIB}\n")
    assert find_runtime({}, root).host_bytes == 12 * GIB


def test_without_linux_files_all_memory_counts(tmp_path: Path) -> None:
    assert find_runtime({}, tmp_path).host_bytes > GIB


THREE_BILLION = 3_030_371_328


@pytest.mark.parametrize(
    ("use", "gib", "fits"),
    [
        ("complete", 18.5, False),  # 6 x 3,030,371,328 bytes are 16.93 GiB, and 1.65 beside
        ("complete", 18.7, True),
        ("adapt", 12.9, False),
        ("adapt", 13.0, True),
        ("train", 46.7, False),
        ("train", 46.9, True),
        ("train", 0, True),  # not known
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_it_is_read(use, gib, fits) -> None:
    runtime = Runtime("gpu", "Tesla T4", 1, 12 * GIB, int(gib * GIB), "cuda12", "float16")
    if fits:
        runtime.refuse_model(THREE_BILLION, use)
        return
    with pytest.raises(UserError) as raised:
        runtime.refuse_model(THREE_BILLION, use)
    message = str(raised.value)
    assert f"to {use} a model of 3,030,371,328 parameters takes at least" in message
    assert f"has {gib:.1f} GiB (1 x Tesla T4)" in message and "choose" in message


def test_a_model_that_fits_exactly_is_taken() -> None:
    there = 8 * 10**9 + int(1.65 * GIB)
    Runtime("cpu", "CPU", 1, 0, there, "", "float32").refuse_model(10**9, "complete")
    with pytest.raises(UserError):
        Runtime("cpu", "CPU", 1, 0, there - 1, "", "float32").refuse_model(10**9, "complete")


def test_an_unknown_use_is_refused() -> None:
    runtime = Runtime("cpu", "CPU", 1, 0, 0, "", "float32")
    with pytest.raises(UserError, match=r"^there is no use 'infill' of a model; give one of complete, adapt, train$"):
        runtime.refuse_model(1, "infill")  # type: ignore[arg-type]


def test_shards_of_eight_chips_are_counted_together() -> None:
    Runtime("tpu", "TPU v5e", 8, 12 * GIB, 128 * GIB, "tpu", "bfloat16").refuse_model(THREE_BILLION, "train")


def test_little_memory_says_what_is_needed_and_what_is_there() -> None:
    refuse_little("memory", 3 * GIB, 3 * GIB)
    with pytest.raises(UserError, match=r"takes 3\.0 GiB of memory, and this runtime has 2\.5 GiB free; .* choose"):
        refuse_little("memory", 3 * GIB, 2.5 * GIB)


def safetensors(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header


def test_parameters_are_counted_in_the_headers(tmp_path: Path) -> None:
    one = {"__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [3, 5], "data_offsets": [0, 60]}}
    two = {"b": {"dtype": "BF16", "shape": [7], "data_offsets": [0, 14]}, "c": {"dtype": "F32", "shape": []}}
    for number, header in enumerate((one, two)):
        (tmp_path / f"model-{number}.safetensors").write_bytes(safetensors(json.dumps(header).encode()) + bytes(60))
    assert parameters_of(tmp_path) == 15 + 7 + 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        *map(safetensors, (b"{", b"[1]", b'{"a": 1}', b'{"a": {"shape": [-2, 3]}}', b'{"a": {"shape": [2.5]}}')),
    ],
)
def test_a_damaged_header_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        parameters_of(tmp_path)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no \.safetensors file"):
        parameters_of(tmp_path)
