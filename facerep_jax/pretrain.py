"""Pre-train an encoder.

facerep pretrain --config configs/pretrain/farl.py:variant=B/16 --workdir runs/farl [--config.a.b=x]

If a run is started again with the same workdir, it resumes from its last checkpoint, on as many devices and hosts as
there are then. To train on several hosts, start the command once on each; it uses all GPUs there. TPU, SLURM, Open MPI
and Kubernetes tell the processes about each other; elsewhere give --coordinator=HOST:PORT --processes=N --process=I.
All processes must see the workdir.

The exit status is 0 if all steps are done, 75 if a signal (SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2) stopped the run
after a save (start it again), 2 on bad input, and anything else if it failed, such as 1 for a full disk or, before
training began, 143 for SIGTERM and 130 for Ctrl-C.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags, logging
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict, config_flags

from facerep_jax import clock, lock, pictures
from facerep_jax.cells import STOPPED
from facerep_jax.command_line import command_line, require_kind
from facerep_jax.config import build, plain
from facerep_jax.data.library import open_dataset
from facerep_jax.data.meta import may_show_images
from facerep_jax.data.pipeline import Part, Stream, build_transforms, split_host
from facerep_jax.evaluation.monitor import Monitor
from facerep_jax.files import local_path, read_object, writable_folder, write
from facerep_jax.train import (
    account,
    checkpoint,
    collapse,
    compilation,
    distributed,
    handover,
    hardware,
    loop,
    sharding,
)
from facerep_jax.train.flops import of_jaxpr
from facerep_jax.train.frozen import FILE as FROZEN
from facerep_jax.train.frozen import check_given, read_frozen, write_frozen
from facerep_jax.train.model import Arrays, arrays_of, filled, model_maker
from facerep_jax.train.optim import Optimizer
from facerep_jax.train.profile import Profile
from facerep_jax.train.resume import changes_since_start, check_datasets, has_begun, keep_start, write_config
from facerep_jax.train.samples import Ledger
from facerep_jax.train.state import Model, TrainState, count, initial, split
from facerep_jax.train.step import make_step
from facerep_jax.train.writer import Writer, lines_of
from facerep_jax.train.writers import specs_of
from facerep_jax.train.writers.feed import Feeds
from facerep_jax.typing import FROZEN_NETWORK, Tree

OF_WORKDIRS = "locks, no files that grow and no folders that are renamed at once"


def define_flags(flag_values: flags.FlagValues, argv: list[str]) -> None:
    """Declare the flags of the command line."""
    config_flags.DEFINE_config_file(
        "config", None, "recipe, FILE[:args]; --config.a.b=x overrides", flag_values, lock_config=True, sys_argv=argv
    )
    flags.DEFINE_string("workdir", None, "folder of the run", flag_values=flag_values)
    flags.DEFINE_string("coordinator", "", "with several processes: HOST:PORT of the first", flag_values=flag_values)
    flags.DEFINE_integer("processes", 0, "with several processes: how many there are", 0, flag_values=flag_values)
    flags.DEFINE_integer("process", -1, "with several processes: which this is, from 0", -1, flag_values=flag_values)
    flags.mark_flags_as_required(["config", "workdir"], flag_values)


def run(flag_values: flags.FlagValues, words: list[str]) -> int:
    """Join the other processes, pre-train, and return the exit status."""
    if words:
        raise ValueError(f"pretrain takes flags only, but got {words[0]!r}")
    require_kind(flag_values.config, "pretrain", "objective", "operational")
    workdir = local_path("workdir", flag_values.workdir, needs=OF_WORKDIRS)
    distributed.initialize(
        flag_values.coordinator,
        flag_values.processes,
        flag_values.process,
        expected=flag_values.config.operational.processes,
        patience=flag_values.config.operational.join_seconds,
    )
    hardware.check(flag_values.config.operational.platform)
    hardware.check_dtype(flag_values.config.dtype)
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
    """Everything that the steps of a config need, laid out on a mesh."""

    mesh: Mesh
    stream: Stream
    datasets: Mapping[str, str]  # name -> digest
    may_show: bool  # whether the licences of all data sets allow pictures of their images
    optimizer: Optimizer
    make: Callable[..., Model]
    graph: Any  # of the model, as `train.state.split` gives it
    frozen_shapes: Tree
    shapes: TrainState  # with the sharding of each array
    batch_shapes: Mapping[str, jax.ShapeDtypeStruct]  # with shardings, too
    start: Callable[[], handover.Handed | None]  # the encoder that the run starts from; None if it starts at random
    first_state: Callable[[Arrays | None], TrainState]  # makes the state before the first step, from the start's arrays
    step: jax.stages.Wrapped  # a jitted `Step`; it donates the buffers of its state

    @property
    def image_size(self) -> int | None:
        """Pixels of a side of the training images; None if the batches hold none."""
        return self.batch_shapes["image"].shape[1] if "image" in self.batch_shapes else None

    def traced(self) -> jax.stages.Traced:
        """The program of a step; the first call of `step` takes it over and does not trace again."""
        frozen = sharding.placed(self.frozen_shapes, sharding.replicated(self.mesh))
        with jax.set_mesh(self.mesh):
            return self.step.trace(self.shapes, frozen, self.batch_shapes)


def pretrain(config: ConfigDict, workdir: Path, command: str) -> None:
    """Pre-train as a config says, from the workdir's newest checkpoint if there is one; `command` is kept on file."""
    writable_folder("--workdir", workdir)  # raises where nothing can be written
    others = specs_of(config.get("writers", ()))  # raises for a package that is not installed
    run = assemble(config)
    with ExitStack() as stack:
        stack.enter_context(closing(run.stream))
        changes_since_start(config, workdir)  # raises for a config that the workdir's run does not allow
        traced = run.traced()  # raises for parts that do not fit each other
        monitor = Monitor(config.evaluate, run.graph, run.image_size, run.mesh, average=config.ema > 0)
        handed = None
        if not has_begun(workdir):
            check_given(run.make)
            handed = run.start()  # raises for wrong weights before anything is written
        # Until the lock is held, nothing is written except the folder that holds it.
        workdir.mkdir(parents=True, exist_ok=True)
        distributed.by_first("its lock", lambda: stack.enter_context(lock.held(workdir)))
        changes = changes_since_start(config, workdir)
        if config.operational.compilation_cache:
            compilation.keep(workdir / "compilation_cache")
        distributed.by_first("its frozen networks", lambda: write_frozen(run.make, run.stream.peek, workdir))
        frozen, digest = read_frozen(run.frozen_shapes, workdir)
        frozen = jax.device_put(frozen, sharding.replicated(run.mesh))
        keep = config.operational.keep_checkpoints
        checkpoints = stack.enter_context(closing(checkpoint.Checkpoints(workdir / "checkpoints", keep=keep)))
        feeds = Feeds(others if distributed.first() else (), workdir, plain(config))
        stack.enter_context(closing(feeds))
        writer = stack.enter_context(closing(Writer(workdir, collapse.patience_of(config.steps), feeds)))
        samples = None
        if config.operational.sample_ledger:
            samples = stack.enter_context(closing(Ledger(workdir / "sample_ledger.jsonl")))
        stack.enter_context(jax.set_mesh(run.mesh))
        state = state_at(checkpoints.latest(), run, checkpoints, workdir, digest, handed)
        del handed  # its arrays are in the state
        size: dict[str, int] = {}
        if distributed.first():
            write_config(config, changes, workdir, step=int(state.step))
            write(workdir / "command.txt", command)
            size = write_description(config, run, traced, workdir)
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
            frozen,
            run.stream,
            steps=config.steps,
            mesh=run.mesh,
            checkpoints=checkpoints,
            meta=lambda: {
                "data": run.stream.state,
                "datasets": run.datasets,
                "config": plain(config),
                "frozen": digest,
            },
            writer=writer,
            faults=loop.Faults(workdir, config.operational.nonfinite_steps),
            meter=meter,
            profile=profile,
            samples=samples,
            monitor=lambda done, state: monitor(state, frozen) if monitor.due(done) else {},
            schedule=run.optimizer.schedule,
            log_every=config.log_every,
            checkpoint_every=config.checkpoint_every,
            checkpoint_minutes=config.checkpoint_minutes,
        )
    if distributed.first() and meter.account.total:
        share = size.get("frozen_flops_per_image", 0) / max(size["flops_per_image"], 1)
        more = f"; frozen networks took {share:.0%} of a step's operations" if share >= 0.01 else ""
        print(f"facerep pretrain: {config.steps} steps; {meter.account.summary()}{more}", flush=True)


def assemble(config: ConfigDict, devices: Sequence[Any] | None = None) -> Run:
    """The parts that the steps of a config need, on these devices or all that jax has; writes nothing."""
    for name, value, least in (
        ("steps", config.steps, 1),
        ("checkpoint_every", config.checkpoint_every, 0),
        ("checkpoint_minutes", config.checkpoint_minutes, 0),
        ("operational.keep_checkpoints", config.operational.keep_checkpoints, 1),
    ):
        if value < least:
            raise ValueError(f"{name} is at least {least}, not {value}")
    mesh = sharding.make_mesh(plain(config.mesh), devices)
    micro_batches = config.data.get("micro_batches", 1)  # which runs of older versions do not have
    sharding.check_batch(config.data.batch_size, mesh, micro_batches)
    make = model_maker(config)
    model = nnx.eval_shape(make)
    graph, _, _, frozen_shapes = split(model)
    rules = sharding.rules_of(config.sharding, model.encoder.rules, config.get("sharding_rules", ()))
    optimizer = build(config.optimizer, steps=config.steps)

    def first_state(given: Tree) -> TrainState:
        return initial(lambda: make(given), optimizer.transform.init, ema=config.ema > 0)

    with jax.set_mesh(mesh):  # under which the state is made later on, so that this trace of it serves there too
        shapes = jax.eval_shape(first_state, None)
    sharding.check_rules(config.get("sharding_rules", ()), shapes)
    layout = sharding.shardings(shapes, mesh, rules)
    whole, batches = sharding.replicated(mesh), sharding.batch_sharding(mesh)
    step = jax.jit(
        make_step(graph, optimizer.transform, seed=config.seed, ema=config.ema, micro_batches=micro_batches),
        in_shardings=(layout, whole, batches),
        out_shardings=(layout, whole),
        donate_argnums=0,
    )
    stream, digests, may_show = open_stream(config, needs=model.objective.needs)

    def start() -> handover.Handed | None:
        if not config.get("init"):
            return None
        handed, name = handover.encoder(config.init, weights=config.init_weights), f"--config.init={config.init}"
        handed = handover.for_images_of(handed, model.encoder)
        filled(model.encoder, arrays_of(handed.encoder), name)  # raises if they do not fit
        handover.require_same_settings(handed.encoder, model.encoder, name)
        return handed

    return Run(
        mesh=mesh,
        stream=stream,
        datasets=digests,
        may_show=may_show,
        optimizer=optimizer,
        make=make,
        graph=graph,
        frozen_shapes=frozen_shapes,
        shapes=sharding.placed(shapes, layout),
        batch_shapes=sharding.batch_shapes(split_host(stream.example)[0], config.data.batch_size, mesh),
        start=start,
        first_state=jax.jit(first_state, out_shardings=layout),
        step=step,
    )


def state_at(
    step: int | None,
    run: Run,
    checkpoints: checkpoint.Checkpoints,
    workdir: Path,
    frozen_digest: Mapping[str, str],
    handed: handover.Handed | None = None,
) -> TrainState:
    """Restore the state and the stream as they were saved at a step, or make the state before the first step.

    `handed` is what `run.start` gave, if it was asked already: it reads a file.
    """
    if step is None:
        handed = handed or run.start()
        keep_start(handed, workdir)
        return run.first_state(None if handed is None else arrays_of(handed.encoder))
    state, meta = checkpoints.restore(step, run.shapes)
    if meta["frozen"] != frozen_digest:
        raise ValueError(f"{workdir / FROZEN} is not what step {step} was trained with")
    check_datasets(meta.get("datasets", {}), run.datasets, step)  # older checkpoints do not tell
    run.stream.state = meta["data"]
    logging.info("resuming at step %d", step)
    return state


def write_description(config: ConfigDict, run: Run, traced: jax.stages.Traced, workdir: Path) -> dict[str, int]:
    """Write what the encoder sees to masked.png and the run's sizes to model.json, once; returns the sizes."""
    path = workdir / "model.json"
    if not path.exists():
        examples = run.stream.peek(pictures.FACES)
        if run.may_show:
            pictures.save(workdir, pictures.masked(examples))
        jaxpr, images = traced.jaxpr.jaxpr, config.data.batch_size
        whole, frozen = (of_jaxpr(jaxpr, scope) // images for scope in ("", FROZEN_NETWORK))
        size = {"parameters": count(run.shapes.params), "flops_per_image": whole, "frozen_flops_per_image": frozen}
        if run.image_size:
            size["image_size"] = run.image_size
        write(path, json.dumps(size) + "\n")
    return read_object(path)


def open_stream(config: ConfigDict, needs: tuple[str, ...]) -> tuple[Stream, dict[str, str], bool]:
    """The training data that a config describes, with what the objective needs.

    With it go the digests of the data sets by name, and whether their images may be shown.
    """
    parts, digests, may_show = list[Part](), dict[str, str](), True
    for name in config.data.dataset.split("+"):
        dataset = open_dataset(name, config.data.data_dir)
        transforms = build_transforms(config.data.transforms, dataset.meta)
        absent = dataset.meta.get("absent", {}).get(config.data.split, {})
        parts.append(Part(dataset.source(config.data.split), transforms, dataset.name, absent))
        digests[dataset.name] = dataset.digest
        may_show = may_show and may_show_images(dataset.meta)
    stream = Stream(
        parts,
        needs,
        weights=config.data.weights,
        batch_size=config.data.batch_size,
        seed=config.seed,
        skip_ids=ids_in(config.operational.skip_ids),
        threads=config.operational.threads,
        workers=config.operational.workers,
    )
    return stream, digests, may_show


def ids_in(path: str) -> frozenset[str]:
    """The ids in a file with one id per line; none if `path` is empty."""
    return frozenset(local_path("skip_ids", path).read_text("utf-8-sig").split("\n")) - {""} if path else frozenset()
