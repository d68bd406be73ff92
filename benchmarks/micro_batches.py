"""Memory of FaRL's training step by the number of micro-batches, from compiled programs that are not run.

python -m benchmarks.micro_batches [--case B] [--batch 5120] [--micro_batches 1,16,64]

Prints the temporaries of each in GiB, compiled for one device of the platform that jax uses, and the time to compile.
"""

import time
from collections.abc import Sequence

import jax
from absl import app, flags

from benchmarks.farl_step import CASES, batch_of, ours

CASE = flags.DEFINE_enum("case", "B", list(CASES), "sizes of the networks")
BATCH = flags.DEFINE_integer("batch", 5120, "examples of a step", 1)
MICRO_BATCHES = flags.DEFINE_list(
    "micro_batches", ["1", "16", "64"], "into how many they are divided, one after another"
)
DTYPE = flags.DEFINE_string("dtype", "float32", "of matrix products")
REMAT = flags.DEFINE_string("remat", "dots_with_no_batch_dims_saveable", "name of a rematerialisation policy")


def main(_: Sequence[str]) -> None:
    """Compile and print each number."""
    case = CASES[CASE.value]
    rows = batch_of(case._replace(batch=1))
    batch = {name: jax.ShapeDtypeStruct((BATCH.value, *x.shape[1:]), x.dtype) for name, x in rows.items()}
    for number in map(int, MICRO_BATCHES.value):
        side = ours(case, remat=REMAT.value, dtype=DTYPE.value, micro_batches=number)
        state = jax.eval_shape(side.first_state)
        began = time.perf_counter()
        compiled = jax.jit(side.step, donate_argnums=0).lower(state, side.frozen, batch).compile()
        memory, seconds = compiled.memory_analysis(), time.perf_counter() - began
        print(
            f"{number} x {BATCH.value // number}: temporaries {memory.temp_size_in_bytes / 2**30:.2f} GiB, "
            f"state and batch {memory.argument_size_in_bytes / 2**30:.2f} GiB, compiled in {seconds:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    app.run(main)
