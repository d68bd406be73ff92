"""Repeat one step of a run, and say what went wrong in it.

facerep replay --workdir runs/farl --step 1207

Rebuilds the state before the step, from the nearest earlier checkpoint and the steps since then, and the step's batch.
On the same backend and mesh, both are bit for bit what they were. If the loss or gradient is not finite, names the
first module whose output is not finite, and the records each of which alone makes the step so. Their ids go into
WORKDIR/skip_ids.STEP.txt, for --config.operational.skip_ids.

Nothing else in the workdir changes, and no run may use it at the same time. --mesh='{"replica": 2}' lays the run out on
another mesh. The exit status is 0 if the step is finite, and 1 if it is not.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags, logging
from flax import nnx
from ml_collections import ConfigDict

from facerep_jax import lock
from facerep_jax.data.pipeline import split_host
from facerep_jax.files import local_path, write
from facerep_jax.pretrain import Run, assemble, state_at
from facerep_jax.train import checkpoint, hardware, sharding
from facerep_jax.train.frozen import read_frozen
from facerep_jax.train.handover import config_of
from facerep_jax.train.model import model_maker
from facerep_jax.train.sharding import global_batch
from facerep_jax.train.state import TrainState, abstract, flat
from facerep_jax.train.step import Look, begun, look_at_views, make_loss
from facerep_jax.typing import Batch, Encoder, Objective, Tree

MOST = 8  # the most offending records that are searched for

Host = Mapping[str, np.ndarray]


def define_flags(flag_values: flags.FlagValues, argv: list[str]) -> None:
    """Declare the flags of the command line."""
    flags.DEFINE_string("workdir", None, "folder of the run", flag_values=flag_values)
    flags.DEFINE_integer("step", None, "which step, from 1", 1, flag_values=flag_values)
    flags.DEFINE_string("mesh", "", "JSON that replaces parts of the run's mesh", flag_values=flag_values)
    flags.mark_flags_as_required(["workdir", "step"], flag_values)


def run(flag_values: flags.FlagValues, words: list[str]) -> int:
    """Replay the step that the flags name, and return the exit status."""
    if words:
        raise ValueError(f"replay takes flags only, but got {words[0]!r}")
    workdir, step = local_path("workdir", flag_values.workdir), flag_values.step
    config = ConfigDict(config_of(workdir))
    if step > config.steps:
        raise ValueError(f"{workdir} is a run of {config.steps} steps; there is no step {step}")
    config.mesh.update(json.loads(flag_values.mesh or "{}"))
    hardware.check()
    with lock.held(workdir):
        return replay(config, workdir, step)


def replay(config: ConfigDict, workdir: Path, step: int) -> int:
    """Repeat a step, print its metrics and what is not finite in it, and return the exit status."""
    again = assemble(config)
    frozen, digest = read_frozen(again.frozen_shapes, workdir)
    frozen = jax.device_put(frozen, sharding.replicated(again.mesh))
    with closing(again.stream), jax.set_mesh(again.mesh):
        state = state_before(step, again, frozen, digest, workdir)
        batch, host = split_host(next(iter(again.stream)))
        kept = jax.tree.map(np.array, state)  # a copy, since the step donates its state's buffers
        _, metrics = again.step(state, frozen, global_batch(batch, again.mesh))
    values = {name: float(value) for name, value in metrics.items()}
    print(f"step {step}: " + ", ".join(f"{name} {value:.7g}" for name, value in values.items()))
    if math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"]):
        print("loss and gradient are finite")
        return 0
    kept, frozen = jax.tree.map(jnp.asarray, (kept, jax.device_get(frozen)))  # on one device
    where = first_module(config, kept, frozen, batch) or first_gradient(config, kept, frozen, batch)
    print(f"first not finite: {where}")
    rows = offenders(config, kept, frozen, batch)
    if len(rows) in (0, len(batch["position"])):
        print("every record alone causes it: the weights are at fault" if rows else "no record alone causes it")
        return 1
    names = [str(host["id"][row]) for row in rows]
    path = workdir / f"skip_ids.{step}.txt"
    write(path, "".join(f"{name}\n" for name in names))
    print(f"records that alone cause it: {', '.join(names)}{' (there may be more)' if len(rows) >= MOST else ''}")
    print(f"resume without them: --config.operational.skip_ids={path}")
    return 1


def state_before(step: int, again: Run, frozen: Tree, digest: Mapping[str, str], workdir: Path) -> TrainState:
    """Restore the state before a step, and move the stream to the step's batch."""
    whole = [saved for saved in checkpoint.steps_in(workdir) if saved < step]
    start = checkpoint.find(f"{workdir}@{whole[-1]}")[1] if whole else None
    with closing(checkpoint.Checkpoints(workdir / "checkpoints")) as checkpoints:
        state = state_at(start, again, checkpoints, workdir, digest)
    batches = iter(again.stream)
    for number in range(int(state.step) + 1, step):
        batch, _ = split_host(next(batches))
        state, _ = again.step(state, frozen, global_batch(batch, again.mesh))
        logging.info("step %d again", number)
    return state


def loss_of(
    config: ConfigDict, state: TrainState, frozen: Tree, look: Look | None = None
) -> tuple[Callable[..., Any], Tree]:
    """The step's loss as a function (params, batch) of a model without rematerialisation, and the parameters."""
    graph, _, _, _ = abstract(model_maker(ConfigDict({**config.to_dict(), "remat": "none"})))
    loss = make_loss(graph, seed=config.seed, look=look)
    params, variables = begun(graph, state, frozen)
    return lambda params, batch: loss(params, variables, frozen, batch, state.step)[0], params


def first_module(config: ConfigDict, state: TrainState, frozen: Tree, batch: Host) -> str:
    """The path of the first module in the forward pass whose result is not finite; empty if all results are finite.

    Blocks of a stack have no path of their own. They are named by class and index: the third block of the encoder is
    `encoder/Block/2`.
    """
    names: dict[int, str] = {}
    held: list[Any] = []  # keeps named modules alive, so that no id is used twice
    within: list[str] = []  # names of the modules whose calls are running, outermost first
    counts: dict[tuple[str, str], int] = {}
    found: list[str] = []

    def name_all(module: Any, name: str) -> None:
        for path, part in nnx.iter_modules(module):
            names[id(part)] = "/".join([name, *map(str, path)])
            held.append(part)

    def look(encoder: Encoder, objective: Objective, batch: Batch, rng: Any) -> Any:
        name_all(encoder, "encoder")
        name_all(objective, "objective")
        return look_at_views(encoder, objective, batch, rng)

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(self: Any, *arguments: Any, **keywords: Any) -> Any:
            if id(self) not in names:  # a block of a stack, which `scan` merged from its parameters
                place = (within[-1] if within else "", type(self).__name__)
                counts[place] = counts.get(place, -1) + 1
                name_all(self, f"{place[0]}/{place[1]}/{counts[place]}".lstrip("/"))
            within.append(names[id(self)])
            result = call(self, *arguments, **keywords)
            within.pop()
            leaves = [np.asarray(x) for x in jax.tree.leaves(result) if hasattr(x, "dtype")]
            floats = [x for x in leaves if np.issubdtype(x.dtype, np.floating)]
            if not found and not all(np.isfinite(x).all() for x in floats):
                found.append(f"{names[id(self)]} ({type(self).__name__})")
            return result

        return wrapper

    kinds = {type(module) for _, module in nnx.iter_modules(nnx.eval_shape(model_maker(config)))}
    calls = {kind: kind.__dict__["__call__"] for kind in kinds if "__call__" in kind.__dict__}
    try:
        for kind, call in calls.items():
            type.__setattr__(kind, "__call__", watched(call))
        with jax.disable_jit():
            loss, params = loss_of(config, state, frozen, look)
            loss(params, on_device(batch))
    finally:
        for kind, call in calls.items():
            type.__setattr__(kind, "__call__", call)
    return found[0] if found else ""


def on_device(batch: Host) -> Batch:
    """A batch as jax arrays."""
    return {name: jnp.asarray(x) for name, x in batch.items()}


def first_gradient(config: ConfigDict, state: TrainState, frozen: Tree, batch: Host) -> str:
    """A text that names the first few parameters whose gradient is not finite."""
    loss, params = loss_of(config, state, frozen)
    gradients = jax.jit(jax.grad(loss))(params, on_device(batch))
    bad = [path for path, x in flat(gradients).items() if not np.isfinite(x).all()]
    return f"the loss, in the gradient of {', '.join(bad[:3])}{' and others' if len(bad) > 3 else ''}"


def offenders(config: ConfigDict, state: TrainState, frozen: Tree, batch: Host) -> list[int]:
    """Rows of a batch each of which alone makes the loss or gradient not finite; at most `MOST` of them.

    The rows are found by bisection: a set of rows is tried by repeating it until the batch is full.
    """
    loss, params = loss_of(config, state, frozen)
    size = len(batch["position"])

    @jax.jit
    def finite(batch: Batch) -> jax.Array:
        value, gradients = jax.value_and_grad(loss)(params, batch)
        leaves = [jnp.isfinite(x).all() for x in (value, *jax.tree.leaves(gradients))]
        return jnp.stack(leaves).all()

    def search(rows: Sequence[int], found: list[int]) -> None:
        if len(found) >= MOST:
            return
        if finite({name: x[np.resize(rows, size)] for name, x in batch.items()}):
            return
        if len(rows) == 1:
            found.append(rows[0])
            return
        search(rows[: len(rows) // 2], found)
        search(rows[len(rows) // 2 :], found)

    found: list[int] = []
    search(range(size), found)
    return found
