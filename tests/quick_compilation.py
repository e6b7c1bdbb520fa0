"""Compiler options with which steps for TPUs are compiled in tests, where the program's speed does not matter."""

QUICK = (
    "xla_tpu_scoped_vmem_limit_kib=",
    "xla_tpu_enable_async_collective_fusion_fuse_reduce_scatter=",
    "xla_enable_async_reduce_scatter_fusion=",
)
"""With more VMEM for products the compiler takes several times as long, and the step as much memory; without it, what
fuses reduce-scatters with them has no room. As `training.compiler_options` has them: the chip's own are left out."""
