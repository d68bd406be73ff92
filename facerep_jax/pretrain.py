"""Pre-train an encoder.

facerep pretrain --config configs/pretrain/farl.py:variant=B/16 --workdir runs/farl [--config.a.b=x]

Started again with the same workdir, a run goes on where its last checkpoint stands. The exit status is 0 when all steps
are done, 75 when a signal stopped the run after a save (start it again), 2 on bad input and 1 on anything else.
"""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from absl import flags, logging
from flax import nnx
from ml_collections import ConfigDict, config_flags

from facerep_jax.config import build, command_line, difference, plain
from facerep_jax.data.features import open_dataset
from facerep_jax.data.pipeline import Stream, build_transforms
from facerep_jax.evaluation import pictures
from facerep_jax.files import local_path, write
from facerep_jax.models.layers import remat_policy
from facerep_jax.train import checkpoint, loop, sharding
from facerep_jax.train.state import Model, abstract, count, flat, initial, split
from facerep_jax.train.step import make_step
from facerep_jax.train.writer import Writer
from facerep_jax.typing import Tree

MAY_CHANGE = ("log_every", "checkpoint_", "mesh", "sharding", "operational")  # on resume, by how a path begins
FIT_IMAGES = 2000  # that tokenizers are fitted on
STOPPED = 75  # exit status: saved after a signal


def define_flags(flag_values: flags.FlagValues, argv: list[str]) -> None:
    """Declare what the command line takes."""
    config_flags.DEFINE_config_file(
        "config", None, "recipe, FILE[:args]; --config.a.b=x overrides", flag_values, lock_config=True, sys_argv=argv
    )
    flags.DEFINE_string("workdir", None, "folder of the run", flag_values=flag_values)
    flags.mark_flags_as_required(["config", "workdir"], flag_values)


def run(flag_values: flags.FlagValues, words: list[str]) -> int:
    """The entry point; gives the exit status."""
    if words:
        raise ValueError(f"pretrain takes no {words[0]!r}; all is said by flags")
    workdir = local_path("workdir", flag_values.workdir)
    try:
        pretrain(flag_values.config, workdir, command_line("pretrain", flag_values))
    except loop.Stopped as stopped:
        print(f"facerep pretrain: {stopped}", flush=True)
        return STOPPED
    except loop.NonFinite as error:
        print(f"facerep pretrain: {error}", file=sys.stderr)
        return 1
    return 0


def pretrain(config: ConfigDict, workdir: Path, command: str) -> None:
    """Run a config in a workdir, from its newest checkpoint where there is one; `command` is kept beside it."""
    mesh = sharding.make_mesh(plain(config.mesh))
    sharding.check_batch(config.data.batch_size, mesh)
    rules = sharding.rules_by_name(config.sharding)
    changes = changes_since_start(config, workdir)

    make = model_maker(config)
    graph, _, _, frozen_shapes = abstract(make)
    optimizer = build(config.optimizer, steps=config.steps)
    stream = open_stream(config, needs=nnx.eval_shape(make).objective.needs)

    workdir.mkdir(parents=True, exist_ok=True)
    frozen, digest = frozen_networks(make, frozen_shapes, stream, workdir)
    checkpoints = checkpoint.Checkpoints(workdir / "checkpoints", keep=config.operational.keep_checkpoints)

    def start() -> Any:
        return initial(make, optimizer.transform.init, ema=config.ema > 0)

    shapes = jax.eval_shape(start)
    layout = sharding.shardings(shapes, mesh, rules)
    with jax.set_mesh(mesh):
        if (latest := checkpoints.latest()) is None:
            state = jax.jit(start, out_shardings=layout)()
        else:
            state, meta = checkpoints.restore(latest, shapes, layout)
            if meta["frozen"] != digest:
                raise ValueError(f"{workdir / 'frozen.safetensors'} is not what step {latest} was trained with")
            stream.state = meta["data"]
            logging.info("resuming at step %d", latest)
        write_config(config, changes, workdir, step=int(state.step))
        write(workdir / "command.txt", command)
        pictures.save(workdir, pictures.masked(stream.peek(pictures.FACES)))
        logging.info("%s parameters, %s devices", f"{count(shapes.params):,}", mesh.size)
        whole, batches = sharding.replicated(mesh), sharding.batch_sharding(mesh)
        step = jax.jit(
            make_step(graph, optimizer.transform, seed=config.seed, ema=config.ema),
            in_shardings=(layout, whole, batches),
            out_shardings=(layout, whole),
            donate_argnums=0,
        )
        writer = Writer(workdir)
        try:
            loop.run(
                step,
                state,
                jax.device_put(frozen, whole),
                stream,
                steps=config.steps,
                batch_size=config.data.batch_size,
                mesh=mesh,
                checkpoints=checkpoints,
                meta=lambda: {"data": stream.state, "config": plain(config), "frozen": digest},
                writer=writer,
                schedule=optimizer.schedule,
                log_every=config.log_every,
                checkpoint_every=config.checkpoint_every,
                checkpoint_minutes=config.checkpoint_minutes,
            )
        finally:
            writer.close()
            checkpoints.close()
            stream.close()


def model_maker(config: ConfigDict) -> Callable[[], Model]:
    """A function that builds the config's encoder and objective, the same each time."""
    dtype = compute_dtype(config.dtype)
    remat_policy(config.remat)  # a wrong name is found here, before anything is written

    def make() -> Model:
        rngs = nnx.Rngs(params=config.seed)
        encoder = build(config.encoder, dtype=dtype, remat=config.remat, rngs=rngs)
        return Model(encoder, build(config.objective, encoder, rngs=rngs))

    return make


def compute_dtype(name: str) -> str:
    """The type of matrix products; `auto` is bfloat16 on TPU and GPU, float32 on CPU."""
    if name == "auto":
        return "float32" if jax.default_backend() == "cpu" else "bfloat16"
    if name not in ("float32", "bfloat16"):
        raise ValueError(f"dtype is auto, float32 or bfloat16, not {name!r}")
    return name


def open_stream(config: ConfigDict, needs: tuple[str, ...]) -> Stream:
    """The training data as the config describes it, holding what the objective needs."""
    dataset = open_dataset(config.data.dataset, config.data.data_dir)
    return Stream(
        dataset.source(config.data.split),
        build_transforms(config.data.transforms),
        needs,
        batch_size=config.data.batch_size,
        seed=config.seed,
        threads=config.operational.threads,
        workers=config.operational.workers,
        name=dataset.name,
    )


def frozen_networks(
    make: Callable[[], Model], shapes: Tree, stream: Stream, workdir: Path
) -> tuple[Tree, dict[str, str]]:
    """Arrays of the networks that are never trained, and their digest.

    Those that are fitted on data, such as a k-means tokenizer, are fitted once and kept in `frozen.safetensors`.
    """
    if not jax.tree.leaves(shapes):
        return shapes, {}
    path = workdir / "frozen.safetensors"
    if not path.exists():
        model = nnx.eval_shape(make)
        images = np.stack([example["image"] for example in stream.peek(FIT_IMAGES)])
        for _, module in nnx.iter_modules(model):
            if hasattr(module, "fit"):
                module.fit(images)
        arrays = {name: np.ascontiguousarray(array) for name, array in flat(split(model)[3]).items()}
        write(path, lambda unfinished: safetensors.numpy.save_file(arrays, unfinished))
    arrays = safetensors.numpy.load_file(path)
    leaves = [arrays[name] for name in flat(shapes)]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves), {path.name: digest}


def changes_since_start(config: ConfigDict, workdir: Path) -> list[str]:
    """Lines of what changed since the workdir's run began; ValueError where something changed that may not."""
    path = workdir / "config.json"
    if not path.exists():
        if steps := checkpoint.steps_in(workdir):
            raise ValueError(f"{workdir} holds checkpoints ({steps[-1]}, ...) but no config.json to say of what")
        return []
    changes = difference(json.loads(path.read_text()), plain(config))
    if refused := [line for line in changes if not line.startswith(MAY_CHANGE)]:
        raise ValueError(f"{workdir} is the run of another config: {'; '.join(refused)}")
    return changes


def write_config(config: ConfigDict, changes: list[str], workdir: Path, step: int) -> None:
    """Write `config.json`, and append what changed on resume to `config_changes.jsonl`."""
    if changes:
        with (workdir / "config_changes.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "changes": changes}) + "\n")
    write(workdir / "config.json", json.dumps(plain(config), indent=2) + "\n")
