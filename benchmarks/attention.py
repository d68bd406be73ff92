"""Attention of a ViT on a TPU that is not here: what libtpu plans for each of the programs, forwards and backwards.

pip install '.[tpu]' && python -m benchmarks.attention [--chip v5e:2x2] [--cases 20x197x12x64,4x1025x12x64]

A case is images x tokens x heads x width of a head, in bfloat16 on one chip. Printed are the compiler's own estimate of
cycles, which leaves out what happens inside of a kernel; the operations of the kernel, whose least time is added at the
speed that the chip has for heads of 64, half of its peak; and the temporaries. Nothing is run.
"""

import os
import re
from collections.abc import Sequence
from functools import partial

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # the machine is no TPU, and need not ask whose it is
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")

import jax
import jax.numpy as jnp
from absl import app, flags
from jax.sharding import SingleDeviceSharding

from facerep_jax.models.attention import LANES, PROGRAMS
from facerep_jax.plan import tpu_devices
from facerep_jax.train.chips import topology

CHIP = flags.DEFINE_string("chip", "v5e:2x2", "CHIP:AxB[xC], of which one chip is looked at")
CASES = flags.DEFINE_list("cases", ["20x197x12x64", "8x577x12x64", "4x1025x12x64"], "images x tokens x heads x width")
PRODUCTS = 7  # of tokens by tokens: two forwards, five backwards, where scores are computed again


def main(_: Sequence[str]) -> None:
    """Compile and print each case."""
    chip, _count = topology(CHIP.value)
    where = SingleDeviceSharding(tpu_devices(chip, CHIP.value)[0])
    for case in CASES.value:
        images, tokens, heads, width = sizes = tuple(map(int, case.split("x")))
        x = jax.ShapeDtypeStruct(sizes, jnp.bfloat16, sharding=where)
        padded = -(-tokens // LANES) * LANES
        kernel = PRODUCTS * 2 * images * heads * padded**2 * width / (chip.peak / 2)
        for name in ("einsum", "splash"):

            def step(q: jax.Array, k: jax.Array, v: jax.Array, g: jax.Array, name: str = name) -> tuple:
                y, back = jax.vjp(partial(PROGRAMS[name], causal=False), q, k, v)
                return y, back(g)

            compiled = jax.jit(step).trace(x, x, x, x).lower(lowering_platforms=("tpu",)).compile()
            cycles = sum(map(int, re.findall(r'"estimated_cycles":"(\d+)"', compiled.as_text())))
            inside = f", and {1e6 * kernel:,.0f} us of its kernel at least" if name == "splash" else ""
            temporaries = compiled.memory_analysis().temp_size_in_bytes / 2**20
            print(f"{CHIP.value} {case} {name}: {cycles:,} cycles{inside}; {temporaries:.0f} MiB", flush=True)


if __name__ == "__main__":
    app.run(main)
