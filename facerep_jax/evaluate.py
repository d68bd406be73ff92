r"""Score an encoder on a task.

facerep evaluate --config configs/evaluate/landmarks_manifest.py:dataset=manifest/faces,fraction=0.1 \
    --checkpoint runs/farl --workdir results/farl_landmarks

--checkpoint is the workdir of a pre-training (its newest step, or WORKDIR@STEP), or `random`: the same encoder before
any training, which every result should be held against. The config's encoder must be that of the checkpoint.
Writes results.json, subsets.json (the labelled examples), examples.parquet (each test example), command.txt, and sheets
of test faces: overlays.png (predictions), worst.png (the ten worst) and tokens.png (what the encoder sees).
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from absl import flags
from flax import nnx
from ml_collections import ConfigDict, config_flags
from tqdm import tqdm

from facerep_jax.config import build, command_line, locate, plain
from facerep_jax.data.features import Dataset, open_dataset
from facerep_jax.data.pipeline import build_transforms, load
from facerep_jax.evaluation import pictures
from facerep_jax.evaluation.protocols import Problem, take
from facerep_jax.evaluation.statistics import label_subset, summary
from facerep_jax.files import local_path, write
from facerep_jax.train import checkpoint
from facerep_jax.train.state import abstract, flat, merge
from facerep_jax.typing import Encoder, Metric, Task

WEIGHTS = {"params": ("params", "encoder"), "ema": ("ema", "params", "encoder")}  # where a checkpoint holds them
PACKAGES = ("facerep_jax", "jax", "flax", "numpy", "scikit-learn")


def define_flags(flag_values: flags.FlagValues, argv: list[str]) -> None:
    """Declare what the command line takes."""
    config_flags.DEFINE_config_file(
        "config",
        None,
        "evaluation, FILE[:args]; --config.a.b=x overrides",
        flag_values,
        lock_config=True,
        sys_argv=argv,
    )
    flags.DEFINE_string("checkpoint", None, "WORKDIR[@STEP] or random", flag_values=flag_values)
    flags.DEFINE_string("workdir", None, "folder of the result", flag_values=flag_values)
    flags.mark_flags_as_required(["config", "checkpoint", "workdir"], flag_values)


def run(flag_values: flags.FlagValues, words: list[str]) -> None:
    """The entry point."""
    if words:
        raise ValueError(f"evaluate takes no {words[0]!r}; all is said by flags")
    workdir = local_path("workdir", flag_values.workdir)
    results = evaluate(flag_values.config, flag_values.checkpoint, workdir)
    write(workdir / "command.txt", command_line("evaluate", flag_values))
    print(headline_of(results))


def evaluate(config: ConfigDict, checkpoint_name: str, workdir: Path) -> dict[str, Any]:
    """Learn the task on every subset of the labels, score it on the test split, and write all of it to the workdir."""
    dataset = open_dataset(config.data.dataset, config.data.data_dir)
    encoder, origin = load_encoder(config, checkpoint_name)
    task, metric = locate(config.task), locate(config.task).metric(dataset.meta)
    problem = make_problem(config, dataset, encoder, build(metric))
    protocol = build(config.protocol)
    learn = protocol.prepare(problem)

    subsets: list[dict[str, Any]] = []
    statistics: dict[str, list[np.ndarray]] = {}  # of the encoder and each baseline: one array (examples, s) per subset
    for seed in tqdm(config.seeds, f"{origin_name(origin)}: label subsets", disable=None):
        train, validation = (label_subset(d["id"], config.fraction, seed) for d in (problem.train, problem.validation))
        rows = indices_of(train, problem.train), indices_of(validation, problem.validation)
        outcome = learn(*rows, seed)
        predictions = {"encoder": outcome.prediction}
        predictions |= task.baselines(
            take(problem.train, rows[0]), take(problem.validation, rows[1]), problem.test, dataset.meta
        )
        for name, prediction in predictions.items():
            statistics.setdefault(name, []).append(problem.metric.examples(prediction, problem.test))
        subsets.append({"seed": seed, "train": train, "validation": validation, "selected": outcome.selected})
        if len(subsets) == 1:
            sheets = pictures.sheets(task, problem, outcome.prediction, statistics["encoder"][0])

    scores = {name: summarised([problem.metric.compute(x.sum(0)) for x in xs]) for name, xs in statistics.items()}
    results = {
        "task": task.__module__.rpartition(".")[2],
        "dataset": dataset.name,
        "dataset_digest": dataset.digest,
        "protocol": protocol.name,
        "selection": "validation",
        "fraction": config.fraction,
        "labels": len(subsets[0]["train"]),
        "test_images": len(problem.test["id"]),
        "seeds": list(config.seeds),
        "headline": problem.metric.headline,
        "lower_is_better": problem.metric.lower_is_better,
        "metrics": scores.pop("encoder"),
        "baselines": {name: {"metrics": metrics} for name, metrics in scores.items()},
        "metric": plain(metric),
        "checkpoint": origin,
        "config": plain(config),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    workdir.mkdir(parents=True, exist_ok=True)
    write(workdir / "subsets.json", json.dumps(subsets, indent=1))
    write(workdir / "examples.parquet", lambda path: write_table(path, statistics, problem.test["id"]))
    pictures.save(workdir, sheets)
    write(workdir / "results.json", json.dumps(results, indent=2, allow_nan=False))
    return results


def load_encoder(config: ConfigDict, name: str) -> tuple[Encoder, Any]:
    """The config's encoder with the weights that `--checkpoint` names, and where they came from, for the results."""
    if name == "random":
        return make_encoder(config), "random"
    if config.weights not in WEIGHTS:
        raise ValueError(f"weights are {' or '.join(WEIGHTS)}, not {config.weights!r}")
    folder, step = checkpoint.find(name)
    graph, shapes, _, _ = abstract(lambda: make_encoder(config))
    weights = checkpoint.load_part(folder, step, WEIGHTS[config.weights], shapes)
    digest = hashlib.sha256()
    for path, array in flat(weights).items():
        digest.update(path.encode() + np.asarray(array).tobytes())
    origin = {"path": str(folder), "step": step, "weights": config.weights, "digest": digest.hexdigest()}
    return merge(graph, weights, {}, {}), origin


def make_encoder(config: ConfigDict) -> Encoder:
    """The config's encoder before any training."""
    return build(config.encoder, dtype="float32", remat=config.remat, rngs=nnx.Rngs(params=config.encoder_seed))


def origin_name(origin: Any) -> str:
    """A checkpoint as people name it."""
    return origin if isinstance(origin, str) else f"{origin['path']}@{origin['step']}"


def make_problem(config: ConfigDict, dataset: Dataset, encoder: Encoder, metric: Metric) -> Problem:
    """The task on the data set's three splits, which are loaded into memory."""
    task = locate(config.task)
    needed = (config.data.train_split, config.data.validation_split, config.data.test_split)
    if missing := [split for split in needed if not dataset.splits.get(split)]:
        there = ", ".join(f"{name} ({count})" for name, count in dataset.splits.items())
        raise ValueError(
            f"an evaluation needs the splits {', '.join(needed)}; {missing[0]!r} of {dataset.name!r} is empty: {there}"
        )
    transforms = build_transforms(config.data.transforms)
    train, validation, test = (load(dataset.source(s), transforms, task.needs, name=dataset.name) for s in needed)
    size = train["image"].shape[1]

    def make_task(seed: int) -> Task:
        return build(config.task, encoder, image_size=size, meta=dataset.meta, rngs=nnx.Rngs(params=seed))

    augment = build_transforms(config.data.augmentations)
    return Problem(encoder, make_task, metric, train, validation, test, dataset.source(needed[0]), augment)


def indices_of(ids: Sequence[str], data: Mapping[str, Any]) -> np.ndarray:
    """Where ids stand in a split."""
    place = {name: index for index, name in enumerate(data["id"])}
    return np.array([place[name] for name in ids])


def summarised(values: list[dict[str, float]]) -> dict[str, Any]:
    """{metric: mean, standard deviation and values over subsets}."""
    return {name: summary([v[name] for v in values]) for name in values[0]}


def write_table(path: Path, statistics: Mapping[str, Sequence[np.ndarray]], ids: Sequence[str]) -> None:
    """The statistics of every test example under every subset, of the encoder and the baselines."""
    rows = [
        {"id": name, "subset": subset, "encoder": encoder, "statistics": row}
        for encoder, subsets in statistics.items()
        for subset, examples in enumerate(subsets)
        for name, row in zip(ids, examples, strict=True)
    ]
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def headline_of(results: Mapping[str, Any]) -> str:
    """The result in a few lines, for the terminal."""
    name = results["headline"]
    scores = {origin_name(results["checkpoint"]): results["metrics"]}
    scores |= {baseline: of["metrics"] for baseline, of in results["baselines"].items()}
    head = (
        f"{results['task']} on {results['dataset']} by {results['protocol']}, {name} in %: "
        f"{results['labels']} labels ({results['fraction']:.0%}), {len(results['seeds'])} subsets of them, "
        f"{results['test_images']} test images"
    )
    lines = [f"  {who:32s} {100 * of[name]['mean']:6.2f} ± {100 * of[name]['std']:.2f}" for who, of in scores.items()]
    return "\n".join([head, *lines])
