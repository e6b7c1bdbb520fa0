"""What the TPU's compiler makes of each Pallas kernel in any function, without a TPU.

Needs libtpu (`pip install "sc2jax[tpu]"`). Where `subject(1024, 512)` returns the function and a tuple of
`jax.ShapeDtypeStruct` arguments:

    python perf/tpu_regions.py v5e my_kernels.py:subject '[1024, 512]'
"""

import argparse
import json
import tempfile
from pathlib import Path

from sc2jax.plan.kernel_compilation import dump, kernels_of
from sc2jax.plan.kernel_schedule import BRANCH_DELAYS


def main() -> None:
    """Prints the regions of every Pallas kernel in a function."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("chip", choices=BRANCH_DELAYS)
    parser.add_argument("subject", help="FILE.py:FUNCTION or MODULE:FUNCTION returning (function, abstract arguments)")
    parser.add_argument("arguments", nargs="?", default="[]", help="a JSON list for the subject")
    parser.add_argument("--dump", type=Path, help="keep the compiler's dump in this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.dump or Path(scratch)).resolve()
        sizes = dump(options.chip, options.subject, json.loads(options.arguments), folder)
        print(", ".join(f"{name} {size}" for name, size in sizes.items()))
        for kernel in kernels_of(options.chip, folder).values():
            print(kernel.tree())


if __name__ == "__main__":
    main()
