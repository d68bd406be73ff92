"""Pre-train an encoder.

facerep pretrain --config configs/pretrain/farl.py:variant=B/16 --workdir runs/farl [--config.a.b=x]

Started again with the same workdir, a run goes on where its last checkpoint stands, on as many devices and hosts as
there are then. On many hosts start it once on each: TPU, SLURM, Open MPI and Kubernetes tell the processes of each
other; else say --coordinator=HOST:PORT --processes=N --process=I. The workdir is a folder that all of them see.

The exit status is 0 when all steps are done, 75 when a signal stopped the run after a save (start it again), 2 on bad
input and 1 on anything else.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors
import safetensors.numpy
from absl import flags, logging
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict, config_flags

from facerep_jax import clock, lock, pictures
from facerep_jax.config import build, command_line, difference, plain
from facerep_jax.data.library import open_dataset
from facerep_jax.data.pipeline import Part, Stream, build_transforms, split_host
from facerep_jax.files import local_path, write
from facerep_jax.models.layers import remat_policy
from facerep_jax.train import account, checkpoint, compilation, digests, distributed, loop, sharding
from facerep_jax.train.flops import flops
from facerep_jax.train.optim import Optimizer
from facerep_jax.train.profile import Profile
from facerep_jax.train.samples import Ledger
from facerep_jax.train.state import Model, TrainState, abstract, count, flat, initial, path_of, split
from facerep_jax.train.step import make_step
from facerep_jax.train.writer import Writer, lines_of
from facerep_jax.typing import Tree

MAY_CHANGE = ("log_every", "checkpoint_", "mesh", "sharding", "operational")  # on resume, by how a path begins
FROZEN = "frozen.safetensors"
FIT_IMAGES = 2000  # that tokenizers are fitted on
STOPPED = 75  # exit status: saved after a signal


def define_flags(flag_values: flags.FlagValues, argv: list[str]) -> None:
    """Declare what the command line takes."""
    config_flags.DEFINE_config_file(
        "config", None, "recipe, FILE[:args]; --config.a.b=x overrides", flag_values, lock_config=True, sys_argv=argv
    )
    flags.DEFINE_string("workdir", None, "folder of the run", flag_values=flag_values)
    flags.DEFINE_string("coordinator", "", "of many processes: HOST:PORT of the first", flag_values=flag_values)
    flags.DEFINE_integer("processes", 0, "of many processes: how many there are", 0, flag_values=flag_values)
    flags.DEFINE_integer("process", -1, "of many processes: which this is, from 0", -1, flag_values=flag_values)
    flags.mark_flags_as_required(["config", "workdir"], flag_values)


def run(flag_values: flags.FlagValues, words: list[str]) -> int:
    """The entry point; gives the exit status."""
    if words:
        raise ValueError(f"pretrain takes no {words[0]!r}; all is said by flags")
    workdir = local_path("workdir", flag_values.workdir)
    distributed.initialize(
        flag_values.coordinator,
        flag_values.processes,
        flag_values.process,
        expected=flag_values.config.operational.processes,
    )
    try:
        pretrain(flag_values.config, workdir, command_line("pretrain", flag_values))
    except loop.Stopped as stopped:
        if distributed.first():
            print(f"facerep pretrain: {stopped}", flush=True)
        return STOPPED
    except (loop.NonFinite, checkpoint.SaveFailed) as error:
        print(f"facerep pretrain: {error}", file=sys.stderr)
        return 1
    return 0


class Run(NamedTuple):
    """All that a config's steps need, laid out on a mesh."""

    mesh: Mesh
    stream: Stream
    optimizer: Optimizer
    frozen: Tree  # on the devices
    digest: Mapping[str, str]  # of the file that `frozen` is kept in
    shapes: TrainState
    layout: TrainState  # shardings
    start: Callable[[], TrainState]  # the state before the first step
    step: jax.stages.Wrapped  # a `Step`, jitted; it eats its state


def pretrain(config: ConfigDict, workdir: Path, command: str) -> None:
    """Run a config in a workdir, from its newest checkpoint where there is one; `command` is kept beside it."""
    changes = changes_since_start(config, workdir)
    run = assemble(config, workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(closing(run.stream))
        distributed.by_first("its lock", lambda: stack.enter_context(lock.held(workdir)))
        keep = config.operational.keep_checkpoints
        checkpoints = stack.enter_context(closing(checkpoint.Checkpoints(workdir / "checkpoints", keep=keep)))
        writer = stack.enter_context(closing(Writer(workdir)))
        samples = None
        if config.operational.sample_ledger:
            samples = stack.enter_context(closing(Ledger(workdir / "sample_ledger.jsonl")))
        stack.enter_context(jax.set_mesh(run.mesh))
        state = state_at(checkpoints.latest(), run, checkpoints, workdir)
        size: dict[str, int] = {}
        if distributed.first():
            write_config(config, changes, workdir, step=int(state.step))
            write(workdir / "command.txt", command)
            size = describe(config, run.stream, count(run.shapes.params), workdir)
        peak = config.operational.peak_flops or account.peak_flops(jax.devices()[0].device_kind)
        meter = account.Meter(
            config.data.batch_size,
            lines_of(workdir),
            began=clock.began(),
            flops_per_image=size.get("flops_per_image", 0),
            peak_flops=peak * run.mesh.size,
        )
        stack.enter_context(closing(meter))
        profile = Profile(workdir / "profile", config.operational.profile_steps)
        stack.enter_context(closing(profile))
        logging.info("%s parameters on %s devices", f"{count(run.shapes.params):,}", run.mesh.size)
        loop.run(
            run.step,
            state,
            run.frozen,
            run.stream,
            steps=config.steps,
            mesh=run.mesh,
            checkpoints=checkpoints,
            meta=lambda: {"data": run.stream.state, "config": plain(config), "frozen": run.digest},
            writer=writer,
            faults=loop.Faults(workdir, config.operational.nonfinite_steps),
            meter=meter,
            profile=profile,
            samples=samples,
            schedule=run.optimizer.schedule,
            log_every=config.log_every,
            checkpoint_every=config.checkpoint_every,
            checkpoint_minutes=config.checkpoint_minutes,
        )
    if distributed.first() and meter.account.total:
        print(f"facerep pretrain: {config.steps} steps; {meter.account.summary()}", flush=True)


def assemble(config: ConfigDict, workdir: Path) -> Run:
    """What a config's steps need; makes the frozen networks where the workdir has none."""
    if config.operational.compilation_cache:
        compilation.keep(workdir / "compilation_cache")
    mesh = sharding.make_mesh(plain(config.mesh))
    sharding.check_batch(config.data.batch_size, mesh)
    rules = sharding.rules_by_name(config.sharding)
    make = model_maker(config)
    graph, _, _, frozen_shapes = abstract(make)
    optimizer = build(config.optimizer, steps=config.steps)

    def start() -> TrainState:
        return initial(make, optimizer.transform.init, ema=config.ema > 0)

    shapes = jax.eval_shape(start)
    layout = sharding.shardings(shapes, mesh, rules)
    whole, batches = sharding.replicated(mesh), sharding.batch_sharding(mesh)
    step = jax.jit(
        make_step(graph, optimizer.transform, seed=config.seed, ema=config.ema),
        in_shardings=(layout, whole, batches),
        out_shardings=(layout, whole),
        donate_argnums=0,
    )
    stream = open_stream(config, needs=nnx.eval_shape(make).objective.needs)
    distributed.by_first("its frozen networks", lambda: keep_frozen(make, frozen_shapes, stream, workdir))
    frozen, digest = frozen_networks(frozen_shapes, workdir)
    return Run(mesh, stream, optimizer, jax.device_put(frozen, whole), digest, shapes, layout, start, step)


def state_at(step: int | None, run: Run, checkpoints: checkpoint.Checkpoints, workdir: Path) -> TrainState:
    """The state that was saved at a step, or that before the first; the stream is moved to where it goes on."""
    if step is None:
        return jax.jit(run.start, out_shardings=run.layout)()
    state, meta = checkpoints.restore(step, run.shapes, run.layout)
    if meta["frozen"] != run.digest:
        raise ValueError(f"{workdir / FROZEN} is not what step {step} was trained with")
    run.stream.state = meta["data"]
    logging.info("resuming at step %d", step)
    return state


def model_maker(config: ConfigDict) -> Callable[[], Model]:
    """A function that builds the config's encoder and objective, the same each time."""
    dtype = compute_dtype(config.dtype)
    remat_policy(config.remat)  # a wrong name is found here, before anything is written

    def make() -> Model:
        rngs = nnx.Rngs(params=config.seed)
        encoder = build(config.encoder, dtype=dtype, remat=config.remat, rngs=rngs)
        return Model(encoder, build(config.objective, encoder, rngs=rngs))

    return make


def describe(config: ConfigDict, stream: Stream, parameters: int, workdir: Path) -> dict[str, int]:
    """Write what the encoder sees, masked.png, and how large the model is, model.json, once; gives the latter."""
    path = workdir / "model.json"
    if not path.exists():
        examples = stream.peek(pictures.FACES)
        pictures.save(workdir, pictures.masked(examples))
        size = {"parameters": parameters, "flops_per_image": flops_per_image(config, examples[0])}
        write(path, json.dumps(size) + "\n")
    return json.loads(path.read_text())


def flops_per_image(config: ConfigDict, example: Mapping[str, np.ndarray]) -> int:
    """Operations of a training step for each image of the batch; what `remat` computes again does not count."""
    make = model_maker(ConfigDict({**config, "remat": "none"}))
    graph, _, _, frozen = abstract(make)
    optimizer = build(config.optimizer, steps=config.steps).transform
    state = jax.eval_shape(lambda: initial(make, optimizer.init, ema=False))
    shapes = {
        name: jax.ShapeDtypeStruct((config.data.batch_size, *x.shape), x.dtype)
        for name, x in split_host(example)[0].items()
    }
    step = make_step(graph, optimizer, seed=config.seed)
    return flops(step, state, frozen, shapes) // config.data.batch_size


def compute_dtype(name: str) -> str:
    """The type of matrix products; `auto` is bfloat16 on TPU and GPU, float32 on CPU."""
    if name == "auto":
        return "float32" if jax.default_backend() == "cpu" else "bfloat16"
    if name not in ("float32", "bfloat16"):
        raise ValueError(f"dtype is auto, float32 or bfloat16, not {name!r}")
    return name


def open_stream(config: ConfigDict, needs: tuple[str, ...]) -> Stream:
    """The training data as the config describes it, holding what the objective needs."""
    parts = []
    for name in config.data.dataset.split("+"):
        dataset = open_dataset(name, config.data.data_dir)
        transforms = build_transforms(config.data.transforms, dataset.meta)
        parts.append(Part(dataset.source(config.data.split), transforms, dataset.name))
    return Stream(
        parts,
        needs,
        weights=config.data.weights,
        batch_size=config.data.batch_size,
        seed=config.seed,
        skip_ids=ids_in(config.operational.skip_ids),
        threads=config.operational.threads,
        workers=config.operational.workers,
    )


def ids_in(path: str) -> frozenset[str]:
    """The ids that a file holds, one per line; none where no file is named."""
    return frozenset(local_path("skip_ids", path).read_text().split("\n")) - {""} if path else frozenset()


def keep_frozen(make: Callable[[], Model], shapes: Tree, stream: Stream, workdir: Path) -> None:
    """Make the networks that are never trained, once, and keep them in `frozen.safetensors`.

    Those with `weights` are given them, those with `fit` are fitted on training images. So a run goes on without the
    files that it began with; the header names those.
    """
    path = workdir / FROZEN
    if path.exists() or not jax.tree.leaves(shapes):
        return
    model, origins = nnx.eval_shape(make), {}
    networks = [(path_of(place), module) for place, module in nnx.iter_modules(model)]
    for name, module in networks:
        if hasattr(module, "load"):
            origins[name] = load_weights(name, module)
    images = np.stack([x["image"] for x in stream.peek(FIT_IMAGES) if np.isfinite(x["image"]).all()])
    for _, module in networks:
        if hasattr(module, "fit"):
            module.fit(images)
    arrays = {name: np.ascontiguousarray(array) for name, array in flat(split(model)[3]).items()}
    header = {"weights": json.dumps(origins, sort_keys=True)}
    workdir.mkdir(parents=True, exist_ok=True)
    content = safetensors.numpy.save(arrays, header)
    write(path, lambda unfinished: unfinished.write_bytes(content))


def frozen_networks(shapes: Tree, workdir: Path) -> tuple[Tree, dict[str, str]]:
    """Arrays of the networks that are never trained, as `keep_frozen` left them, and their digest."""
    path = workdir / FROZEN
    if not jax.tree.leaves(shapes):
        return shapes, {}
    arrays = safetensors.numpy.load_file(path)
    leaves = [arrays[name] for name in flat(shapes)]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves), {path.name: digest}


def load_weights(name: str, module: Any) -> str:
    """Give a network its weights, of a safetensors file or of the encoder of a pre-training; says which they are."""
    if not module.weights:
        raise ValueError(f"{name} has no weights; give a safetensors file or a pre-training's WORKDIR[@STEP]")
    path = local_path("weights", module.weights)
    if path.is_file():
        try:
            arrays = safetensors.numpy.load_file(path)
        except safetensors.SafetensorError as error:
            raise ValueError(f"{name}: {path} is no safetensors file: {error}") from None
        try:
            module.load(arrays)
        except ValueError as error:
            raise ValueError(f"{name}: {path}: {error}") from None
        return f"{path} sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    try:
        workdir, step = checkpoint.find(module.weights)
    except FileNotFoundError:
        message = f"{name}: {path} is neither a safetensors file nor a pre-training's WORKDIR[@STEP] with a checkpoint"
        raise FileNotFoundError(message) from None
    like = nnx.to_pure_dict(nnx.state(module.network))
    try:
        nnx.update(module.network, checkpoint.load_part(workdir, step, ("params", "encoder"), like))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return f"{workdir}@{step}"


def changes_since_start(config: ConfigDict, workdir: Path) -> list[str]:
    """Lines of what changed since the workdir's run began; ValueError where something changed that may not."""
    path = workdir / "config.json"
    if not path.exists():
        if steps := digests.all_steps(workdir / "checkpoints"):
            raise ValueError(f"{workdir} holds checkpoints ({steps[-1]}, ...) but no config.json to say of what")
        return []
    old, new = json.loads(path.read_text()), plain(config)
    changes = difference(old, new)
    step = (checkpoint.steps_in(workdir) or [0])[-1]
    more = ("data.weights:",) if extends(old["data"]["weights"], new["data"]["weights"], step) else ()
    if refused := [line for line in changes if not line.startswith(MAY_CHANGE + more)]:
        raise ValueError(f"{workdir} is the run of another config: {'; '.join(refused)}")
    return changes


def extends(old: list[Any], new: list[Any], step: int) -> bool:
    """Whether new weights of a mixture are the old ones and segments that begin at a step or later."""
    return new[: len(old)] == old and all(start >= step for start, _ in new[len(old) :]) and bool(old)


def write_config(config: ConfigDict, changes: list[str], workdir: Path, step: int) -> None:
    """Write `config.json`, and append what changed on resume to `config_changes.jsonl`."""
    if changes:
        with (workdir / "config_changes.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "changes": changes}) + "\n")
    write(workdir / "config.json", json.dumps(plain(config), indent=2) + "\n")
