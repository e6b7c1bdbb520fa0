"""What perf/tpu_peer.py asks of the peer: the released models' shapes, and compiler flags that can be replaced."""

import jax
import numpy as np
import pytest
from tpu_peer import base_keys, memory_gib, parse


def keys(*options: str) -> dict[str, object]:
    return base_keys(parse(["--size=15b", "--slice=v5p-512", "--layers=4", "--out=x", *options]))


@pytest.mark.parametrize(
    ("size", "embed", "mlp", "heads", "kv_heads", "tied"),
    # the released config.json of each: hidden_size, intermediate_size, num_attention_heads, num_key_value_heads
    [("3b", 3072, 12288, 24, 2, True), ("7b", 4608, 18432, 36, 4, True), ("15b", 6144, 24576, 48, 4, False)],
)
def test_the_peer_is_asked_for_the_released_widths(
    size: str, embed: int, mlp: int, heads: int, kv_heads: int, tied: bool
) -> None:
    got = keys(f"--size={size}")
    assert (got["base_emb_dim"], got["base_mlp_dim"]) == (embed, mlp)
    assert (got["base_num_query_heads"], got["base_num_kv_heads"]) == (heads, kv_heads)
    assert (got["head_dim"], got["vocab_size"], got["max_target_length"]) == (128, 49152, 4096)
    assert got["logits_via_embedding"] is tied


def test_the_peer_is_asked_for_the_depth_batch_and_mesh_of_the_command() -> None:
    got = keys("--layers=8", "--rows=3", "--data=2")
    assert got["base_num_decoder_layers"] == 8
    assert (got["per_device_batch_size"], got["ici_data_parallelism"], got["ici_fsdp_parallelism"]) == (3, 2, -1)


def test_flags_come_after_the_recommended_ones_of_the_slices_chip() -> None:
    """MaxText makes a dict of them, in which the last of a name stays."""
    flags = keys("--slice=v6e-256", "--flags=--xla_tpu_scoped_vmem_limit_kib=1")["compile_xla_flags"]
    limits = [flag for flag in str(flags).split() if "scoped_vmem" in flag]
    assert limits == ["--xla_tpu_scoped_vmem_limit_kib=98304", "--xla_tpu_scoped_vmem_limit_kib=1"]
    assert "scoped_vmem" not in str(keys()["compile_xla_flags"])
    assert "megacore" in str(keys()["compile_xla_flags"])


def test_tiles_of_attention_are_those_of_the_chips_own_scripts() -> None:
    assert keys("--slice=v6e-256")["sa_block_q_dkv"] == 2048
    assert not [key for key in keys() if key.startswith("sa_block")]


def test_a_key_of_the_command_line_wins() -> None:
    got = keys("remat_policy=full", "compile_xla_flags=--a=true --b=1")
    assert got["remat_policy"] == "full"
    assert got["compile_xla_flags"] == "--a=true --b=1"


@pytest.mark.parametrize(
    ("option", "message"), [("--slice=v4-8", "v5p, v5e, v6e"), ("remat_policy", "'remat_policy' is not KEY=VALUE")]
)
def test_what_the_peer_cannot_be_asked_is_said(option: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        keys(option)
    assert message in capsys.readouterr().err


def test_memory_is_told_in_gib() -> None:
    gib = jax.ShapeDtypeStruct((2**28,), np.float32)
    memory = memory_gib(jax.jit(lambda x, y: x[: 2**27] + y[: 2**27]).lower(gib, gib).compile())
    assert (memory["argument"], memory["output"]) == (2, 0.5)
    assert memory["peak"] >= 2
