"""Compare the speed of FaRL's training step here and in PyTorch, with the same mathematics and on the same machine.

python benchmarks/train_step.py --case Ti [--remat none] [--unroll 12] [--sides ours,eager] [--rounds 7] [--steps 2]
    [--cores 1] [--trace DIR]

The step consists of image-text contrast and masked tokens: clean and masked copies pass through a ViT as one batch, and
there are a text tower, a block for the masked copies, the k-means tokenizer (timed on both sides), the gradient and
AdamW. Everything is in float32, on one fixed batch of noise with block-wise masks. PyTorch (`torch_farl.py`, eager and
with torch.compile) comes with `pip install .[parity]`; without it, only our figures are printed. torch.compile needs a
C++ compiler.

Each side is a process of its own. Before anything is timed, all sides load the same weights. They must have the same
number of parameters, and the losses of their first three steps must agree within 1e-4, so that gradients and optimizer
are compared too. Then the sides take turns in rounds of a few steps. The first step of a turn is not timed, since it
gets memory back from the system that other sides used in between.

A ratio is the median over rounds of the ratio within a round, with its range in brackets. On a machine that does other
work too, only ratios are meaningful, and most of all those of processor time with `--cores 1`: torch's threads wait for
each other, and lose far more than ours if cores are shared. Memory is the largest resident set of the process,
compilation included. "of products" is the share of the rate of large matrix products in the faster library, measured in
every round. Operations are counted on our trace, without what `--remat` computes again.
"""

import importlib.util
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags
from farl_step import CASES, OPTIMIZER, Case, batch_of, ours, torch_sizes

NAMES = {"ours": "facerep_jax", "eager": "torch eager", "compiled": "torch.compile"}
CHECKED = 3  # number of first steps whose losses are compared
TOLERANCE = 1e-4
SIDE = 3072  # rows and columns of the matrices whose product measures the machine's rate


flags.DEFINE_enum("case", "Ti", list(CASES), "Ti: Ti/16 at 112 px, batch 64; B: B/16 at 224 px, batch 8; Nano: a trial")
flags.DEFINE_integer("rounds", 7, "rounds of steps; the sides take turns", lower_bound=1)
flags.DEFINE_integer("steps", 2, "steps of a side in a round", lower_bound=1)
flags.DEFINE_integer("cores", None, "number of cores that each side may use; all by default", lower_bound=1)
flags.DEFINE_list("sides", list(NAMES), "which sides take part")
flags.DEFINE_string("remat", "dots_with_no_batch_dims_saveable", "our rematerialisation policy")
flags.DEFINE_integer("unroll", 12, "how many blocks each iteration of our towers' loops lays out")
flags.DEFINE_string("trace", None, "folder for a profile of our step; prints its ten most expensive operations")
flags.DEFINE_string("serve", None, "used by the benchmark itself: the side that this process is")
flags.DEFINE_string("weights", None, "used by the benchmark itself: the file of the common weights")
FLAGS = flags.FLAGS


def main(argv: list[str]) -> int:
    """Run the benchmark, or one side of it in a process of its own."""
    if argv[1:]:
        raise app.UsageError(f"the benchmark takes flags only, but got {argv[1]!r}")
    case = CASES[FLAGS.case]
    if FLAGS.serve:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: FLAGS.cores])
        serve((our_side if FLAGS.serve == "ours" else torch_side)(case))
        return 0
    sides = available(FLAGS.sides)
    with tempfile.TemporaryDirectory() as folder:
        started: dict[str, Side] = {}
        for name in sides:  # ours comes first, since it writes the weights
            started[name] = Side(name, Path(folder) / "weights.safetensors")
        agree(started)
        rounds = alternate(started, FLAGS.rounds, FLAGS.steps)
        print(table(case, started, rounds))
        if FLAGS.trace:
            print(started["ours"].ask("trace", FLAGS.trace)["kinds"])
        for side in started.values():
            side.close()
    return 0


def available(wanted: list[str]) -> list[str]:
    """The wanted sides that this machine can run, ours first; prints which ones cannot take part."""
    if unknown := set(wanted) - set(NAMES):
        raise app.UsageError(f"sides are {', '.join(NAMES)}, not {', '.join(sorted(unknown))}")
    sides = ["ours", *(name for name in NAMES if name in wanted and name != "ours")]
    if len(sides) > 1 and importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed (pip install .[parity]); only our figures follow", file=sys.stderr)
        return ["ours"]
    if "compiled" in sides and shutil.which(os.environ.get("CXX", "g++")) is None:
        print("torch.compile needs a C++ compiler and finds none; only eager mode is compared", file=sys.stderr)
        sides.remove("compiled")
    return sides


class Side:
    """A process that trains and answers requests."""

    def __init__(self, name: str, weights: Path):
        self.name = name
        command = [
            sys.executable,
            __file__,
            f"--case={FLAGS.case}",
            f"--remat={FLAGS.remat}",
            f"--unroll={FLAGS.unroll}",
        ]
        command += [f"--serve={name}", f"--weights={weights}", *([f"--cores={FLAGS.cores}"] if FLAGS.cores else [])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.hello = self.read()

    def ask(self, word: str, value: Any = None) -> dict[str, Any]:
        """Send a request and return the answer."""
        self.process.stdin.write(json.dumps([word, value]) + "\n")
        self.process.stdin.flush()
        return self.read()

    def read(self) -> dict[str, Any]:
        """Read the process's next answer. Raises RuntimeError if the process ended instead."""
        if not (line := self.process.stdout.readline()):
            raise RuntimeError(f"{NAMES[self.name]} ended with status {self.process.wait()}; see above")
        return json.loads(line)

    def close(self) -> None:
        """Let the process end, and wait for it."""
        self.process.stdin.close()
        self.process.wait()


def agree(sides: Mapping[str, Side]) -> None:
    """Check that all sides have the same number of parameters and the same first losses; RuntimeError if not."""
    ours = sides["ours"].hello
    for name, side in sides.items():
        if side.hello["parameters"] != ours["parameters"]:
            raise RuntimeError(f"{NAMES[name]} has {side.hello['parameters']} parameters, ours {ours['parameters']}")
        if not np.allclose(side.hello["losses"], ours["losses"], rtol=TOLERANCE, atol=0):
            raise RuntimeError(f"{NAMES[name]} begins with losses {side.hello['losses']}, ours with {ours['losses']}")


def alternate(sides: Mapping[str, Side], rounds: int, steps: int) -> list[dict[str, dict[str, float]]]:
    """Time all sides in turn; for each round and side, seconds of a step (clock, processor) and of a product.

    A different side begins in each round.
    """
    order, results = list(sides), []
    for _ in range(rounds):
        results.append({name: sides[name].ask("steps", steps) for name in order})
        order = [*order[1:], order[0]]
    return results


def table(case: Case, sides: Mapping[str, Side], rounds: list[dict[str, dict[str, float]]]) -> str:
    """The results as a table of text."""
    hello = sides["ours"].hello
    rate = statistics.median(max(2 * SIDE**3 / one["product"] for one in each.values()) for each in rounds)
    lines = [
        f"{FLAGS.case}: {case.variant} at {case.image_size} px, batch {case.batch}, {hello['parameters'] / 1e6:.1f} M "
        f"parameters, {hello['flops'] / 1e9:.1f} GFLOP per image, {FLAGS.cores or os.cpu_count()} cores, "
        f"float32 products at {rate / 1e9:.0f} GFLOP/s",
        f"losses of the first steps: {', '.join(f'{loss:.5f}' for loss in hello['losses'])}",
        "",
        f"{'':16}{'images/s':>10}{'of products':>13}{'memory':>11}   {'ours / it':22}by processor time",
    ]
    for name, side in sides.items():
        speed = statistics.median(case.batch / each[name]["step"] for each in rounds)
        clock, processor = ([each[name][kind] / each["ours"][kind] for each in rounds] for kind in ("step", "cpu"))
        lines.append(
            f"{NAMES[name]:16}{speed:10.2f}{speed * hello['flops'] / rate:13.0%}"
            f"{side.ask('memory')['bytes'] / 2**30:7.2f} GiB"
            + (f"   {spread(clock):22}{spread(processor)}" if name != "ours" else "")
        )
    if len(sides) > 1:
        fastest = [
            min(each[name]["step"] for name in sides if name != "ours") / each["ours"]["step"] for each in rounds
        ]
        lines += ["", f"ours / the faster torch of each round: {spread(fastest)} over {len(rounds)} rounds"]
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """The median and the range of some values, as text."""
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


class Trainer(NamedTuple):
    """What a side must offer to take part."""

    step: Callable[[], float]  # one training step; gives the loss
    product: Callable[[], Any]  # one product of two square matrices of SIDE
    hello: dict[str, Any]
    trace: Callable[[str], str]


def serve(trainer: Trainer) -> None:
    """Take the first steps, report their losses, then answer requests until the input ends."""

    def say(**answer: Any) -> None:
        print(json.dumps(answer), flush=True)

    losses = [trainer.step() for _ in range(CHECKED)]
    trainer.product()
    say(losses=losses, **trainer.hello)
    for line in sys.stdin:
        word, value = json.loads(line)
        if word == "steps":
            trainer.step()
            start, cpu = time.perf_counter(), time.process_time()
            for _ in range(value):
                trainer.step()
            middle, cpu = time.perf_counter(), time.process_time() - cpu
            trainer.product()
            say(step=(middle - start) / value, cpu=cpu / value, product=time.perf_counter() - middle)
        elif word == "memory":
            say(bytes=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        elif word == "trace":
            say(kinds=trainer.trace(value))


def our_side(case: Case) -> Trainer:
    """The side of facerep_jax, which draws the weights and writes them for the other sides."""
    import jax
    import jax.numpy as jnp

    from facerep_jax.train.flops import flops
    from facerep_jax.train.state import count

    side = ours(case, remat=FLAGS.remat, unroll=FLAGS.unroll)
    state = side.first_state()
    side.write_weights(state, FLAGS.weights)
    batch = jax.device_put(batch_of(case))
    run = jax.jit(side.step, donate_argnums=0)

    def step() -> float:
        nonlocal state
        state, metrics = run(state, side.frozen, batch)
        jax.block_until_ready(state)
        return float(metrics["loss"])

    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(SIDE, SIDE)), jnp.float32)
    product = jax.jit(jnp.matmul)

    def trace(folder: str) -> str:
        with jax.profiler.trace(folder):
            for _ in range(FLAGS.steps):
                step()
        return expensive(folder)

    hello = {"parameters": count(state.params), "flops": flops(side.step, state, side.frozen, batch) // case.batch}
    return Trainer(step, lambda: product(matrix, matrix).block_until_ready(), hello, trace)


def expensive(folder: str, most: int = 10) -> str:
    """The operations that took most time in the XLA lines of a profile, summed by name without numbers."""
    import jax

    path = max(Path(folder).glob("**/*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    seconds: dict[str, float] = {}
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            if not line.name.startswith("tf_XLA"):
                continue
            for event in line.events:
                kind = re.sub(r"(\.\d+)+|\.clone", "", event.name)
                seconds[kind] = seconds.get(kind, 0) + event.duration_ns / 1e9
    rows = sorted(seconds.items(), key=lambda item: -item[1])[:most]
    return "\n".join(f"{value:9.3f} s  {kind}" for kind, value in rows)


def torch_side(case: Case) -> Trainer:
    """The side of PyTorch, eager or compiled, with our weights."""
    import torch
    import torch_farl

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = torch_farl.model_of(FLAGS.weights, **torch_sizes(case))
    run = torch_farl.make_step(model, batch_of(case), compiled=FLAGS.serve == "compiled", **OPTIMIZER)
    matrix = torch.randn(SIDE, SIDE)
    hello = {"parameters": sum(p.numel() for p in model.parameters())}
    return Trainer(lambda: float(run()), lambda: matrix @ matrix, hello, lambda folder: "")


if __name__ == "__main__":
    app.run(main)
