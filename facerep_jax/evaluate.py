r"""Score an encoder on a task.

facerep evaluate --config configs/evaluate/landmarks.py:dataset=manifest/faces,fraction=0.1 \
    --checkpoint runs/farl --workdir results/farl_landmarks

--checkpoint is the workdir of a pre-training (its newest step, or WORKDIR@STEP), which brings the encoder's
architecture, normalisation and image size along; or `random`, an encoder before any training, which every result should
be held against and which the config's arguments must describe (variant=B/16,size=224). `config.weights` says which
weights are taken: params, or ema if the pre-training kept an average.

`config.baselines` are learnt on the same labels: those of the task that need no network; `random`, the encoder before
any training, by the same protocol; and `scratch`, encoder and head trained as a whole from random initialisation, by
the protocol `config.scratch`.

Writes results.json, subsets.json (the labelled examples), examples.parquet (statistics of each test example),
predictions.parquet (at most `config.predictions` test examples, on the image that the encoder saw), command.txt, and
sheets of test faces: overlays.png (predictions), worst.png (the ten worst) and tokens.png (what the encoder sees).
"""

import contextlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from flax import nnx
from ml_collections import ConfigDict, config_flags
from PIL import Image
from tqdm import tqdm

from facerep_jax import pictures
from facerep_jax.config import Spec, build, build_with, command_line, difference, locate, nearest, plain, taken
from facerep_jax.data.library import Dataset, open_dataset
from facerep_jax.data.meta import CROPS
from facerep_jax.data.pipeline import build_transforms, load
from facerep_jax.evaluation import selection, sheets
from facerep_jax.evaluation.labels import Labels, draw, labelled
from facerep_jax.evaluation.problem import Arrays, Problem, size, take
from facerep_jax.evaluation.protocols import Protocol
from facerep_jax.evaluation.results import JUDGED, NETWORKS, RANDOM, SCRATCH
from facerep_jax.evaluation.selection import Outcome
from facerep_jax.evaluation.statistics import summary
from facerep_jax.evaluation.tables import PerSubset, evenly, write_predictions, write_statistics
from facerep_jax.files import local_path, write
from facerep_jax.train import handover
from facerep_jax.train.handover import tuples
from facerep_jax.train.model import arrays_of, filled
from facerep_jax.train.state import abstract, count, merge, split
from facerep_jax.typing import Encoder, Metric, Task

SPECS = {RANDOM: "protocol", SCRATCH: "scratch"}  # of the config, by which they learn
SCRATCH_LABELS = 16  # that scratch needs at least
DEFAULTS = {  # of what a config need not say
    "selection": "validation",
    "validation_minimum": 10,  # validation labels, however small the fraction
    "baselines": None,  # all of the task's
    "predictions": 1000,  # test examples, evenly spaced, whose predictions are kept
}
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
    config, seconds = completed(config), dict[str, float]()
    selection.check(config.selection)
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    specs = {JUDGED: config.protocol}
    specs |= {name: config[SPECS[name]] for name in NETWORKS if name in (config.baselines or ())}
    protocols = {who: build(spec) for who, spec in specs.items()}
    folder = folder_for(workdir)
    with timed(seconds, "load"):
        dataset = open_dataset(config.data.dataset, config.data.data_dir)
        loaded = load_encoder(config, checkpoint_name)
        encoder, origin = loaded.encoder, loaded.origin
        config = settled(config, dataset, loaded)
        problem = make_problem(config, dataset, encoder, folder)
    labels = draw(problem, config.fraction, config.seeds, config.validation_minimum)
    if SCRATCH in protocols and len(labels[0].train) < SCRATCH_LABELS:
        raise ValueError(
            f"the baseline scratch learns a whole network and needs {SCRATCH_LABELS} labels, there are "
            f"{len(labels[0].train)}: raise the fraction or leave it out of the baselines"
        )
    if config.selection == "test_best":
        print("warning: test_best selects on the test set itself: no fair number comes of it", file=sys.stderr)
    subsets = [ids_of(problem, subset) for subset in labels]
    problem, labels = labelled(problem, labels)

    with timed(seconds, "baselines"):
        fixed = predicted(config, problem, labels, dataset.meta)
    outcomes = {JUDGED: learnt(protocols.pop(JUDGED), problem, labels, origin_name(origin), seconds)}
    for who, protocol in protocols.items():
        start = problem._replace(encoder=random_encoder(config))
        outcomes[who] = learnt(protocol, start, labels, who, seconds, f"_{who}")
    predictions = {who: [outcome.prediction for outcome in of] for who, of in outcomes.items()} | fixed
    with timed(seconds, "score"):
        statistics = {who: [problem.metric.examples(x, problem.test) for x in of] for who, of in predictions.items()}
        metrics = {who: summarised(problem.metric, of) for who, of in statistics.items()}
    scores: dict[str, dict[str, Any]] = {who: {"metrics": of} for who, of in metrics.items()}
    for who, of in outcomes.items():
        scores[who]["protocol"] = locate(specs[who]).name
        scores[who]["protocol_settings"] = settings_of(specs[who])
        scores[who]["validation_labels"] = len(labels[0].validation) if "validation" in of[0].selected else 0
        for subset, outcome in zip(subsets, of, strict=True):
            subset["selected" if who == JUDGED else f"selected_{who}"] = outcome.selected

    results = {
        "task": locate(config.task).__module__.rpartition(".")[2],
        "dataset": dataset.name,
        "dataset_digest": dataset.digest,
        "encoder": described(config, encoder, origin),
        "head": in_words(plain(config.task.head)) if "head" in config.task else "",
        "selection": config.selection,
        "fraction": config.fraction,
        "labels": len(labels[0].train),
        "test_images": size(problem.test),
        "predictions": min(config.predictions, size(problem.test)),
        "seeds": list(config.seeds),
        "headline": problem.metric.headline,
        "lower_is_better": problem.metric.lower_is_better,
        **scores.pop(JUDGED),
        "baselines": scores,
        "metric": plain(locate(config.task).metric(dataset.meta)),
        "checkpoint": origin,
        "seconds": {phase: round(spent, 3) for phase, spent in seconds.items()},
        "config": plain(config),
        "versions": versions,
    }
    drawn = sheets.sheets(locate(config.task), problem, predictions[JUDGED][0], statistics[JUDGED][0])
    save(workdir, results, subsets, drawn, statistics, predictions, problem.test["id"])
    return results


def save(
    workdir: Path,
    results: Mapping[str, Any],
    subsets: Sequence[Mapping[str, Any]],
    sheets: Mapping[str, Image.Image],
    statistics: PerSubset,
    predictions: PerSubset,
    ids: Sequence[str],
) -> None:
    """Write all files, results.json last."""
    kept = evenly(len(ids), results["predictions"])
    some = {who: [prediction[kept] for prediction in of] for who, of in predictions.items()}
    workdir.mkdir(parents=True, exist_ok=True)
    write(workdir / "subsets.json", json.dumps(subsets, indent=1))
    write(workdir / "examples.parquet", lambda path: write_statistics(path, statistics, ids))
    write(workdir / "predictions.parquet", lambda path: write_predictions(path, some, [ids[row] for row in kept]))
    pictures.save(workdir, sheets)
    write(workdir / "results.json", json.dumps(results, indent=2, allow_nan=False))


def completed(config: ConfigDict) -> ConfigDict:
    """The config with what it leaves open; ValueError where it names a baseline that it does not describe."""
    whole = config.copy_and_resolve_references()
    with whole.unlocked():
        for name, default in DEFAULTS.items():
            whole[name] = whole.get(name, default)
    if SCRATCH in (whole.baselines or ()) and SCRATCH not in whole:
        raise ValueError("the baseline scratch needs config.scratch, the spec of the protocol that trains it")
    return whole


def folder_for(workdir: Path) -> Path:
    """The nearest folder that exists, of the workdir and all above it; an error now where it could not be written."""
    there = next(path for path in (workdir.absolute(), *workdir.absolute().parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"--workdir {workdir}: {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"--workdir {workdir}: nothing can be written in {there}")
    return there


@contextlib.contextmanager
def timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    """Add to the seconds that a phase took."""
    start = time.perf_counter()
    yield
    seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - start


def predicted(
    config: ConfigDict, problem: Problem, labels: Sequence[Labels], meta: Mapping[str, Any]
) -> dict[str, list[np.ndarray]]:
    """Predictions of the baselines without a network, for each subset of the labels."""
    wanted = config.baselines
    found: dict[str, list[np.ndarray]] = {}
    for subset in labels if wanted is None or set(wanted) - {*NETWORKS} else ():
        made = locate(config.task).baselines(*baseline_splits(problem, subset), problem.test, meta)
        for name in made if wanted is None else [name for name in wanted if name not in NETWORKS]:
            if name not in made:
                raise ValueError(f"no baseline {name!r}; {nearest(name, (*made, *NETWORKS))}")
            found.setdefault(name, []).append(made[name])
    return found


def baseline_splits(problem: Problem, subset: Labels) -> tuple[Arrays, Arrays]:
    """Training and validation examples of a subset; where there is no validation, a tenth of its labels is."""
    if len(subset.validation):
        return take(problem.train, subset.train), take(problem.validation, subset.validation)
    tenth = max(1, len(subset.train) // 10)
    return take(problem.train, subset.train[tenth:]), take(problem.train, subset.train[:tenth])


def learnt(
    protocol: Protocol,
    problem: Problem,
    labels: Sequence[Labels],
    name: str,
    seconds: dict[str, float],
    suffix: str = "",
) -> list[Outcome]:
    """What comes of each subset of the labels."""
    with timed(seconds, f"prepare{suffix}"):
        learn = protocol.prepare(problem)
    with timed(seconds, f"learn{suffix}"):
        progress = tqdm(labels, f"{name}: label subsets", disable=None)
        return [learn(subset.train, subset.validation, subset.seed) for subset in progress]


class Loaded(NamedTuple):
    """An encoder, and where it came from."""

    encoder: Encoder
    spec: Mapping[str, Any]  # of the encoder
    image_size: int | None  # pixels of a side of the images that it was trained on; None if that is not known
    origin: Any  # path, step, weights and digest, or `random`


def load_encoder(config: ConfigDict, name: str) -> Loaded:
    """The encoder that `--checkpoint` names; its spec may say no other than the config's, as far as that says any."""
    if name == RANDOM:
        described = random_spec(config)
        encoder = random_encoder(with_encoder(config, described))
        return Loaded(encoder, described, described.get("image_size"), RANDOM)
    if name == SCRATCH and not Path(name).is_dir():
        raise ValueError("scratch is a baseline beside an encoder, not one: name it in --config.baselines")
    handed = handover.encoder(name, weights=config.weights, remat=config.remat)
    here = plain(config.encoder)
    if here:
        require_same(plain(handed.spec), here, name)
    described = tuples(handed.spec | here)
    encoder = nnx.eval_shape(lambda: make_encoder(with_encoder(config, described)))
    encoder = filled(encoder, arrays_of(handed.encoder), f"the checkpoint {name}")
    return Loaded(encoder, described, handed.image_size, handed.origin)


def require_same(trained: Mapping[str, Any], here: Mapping[str, Any], name: str) -> None:
    """Raises ValueError if two specs of encoders differ in a setting that both say and that features depend on."""
    shared = [key for key in here if key in trained and key not in locate(here).no_matter]
    if changes := difference({k: trained[k] for k in shared}, {k: here[k] for k in shared}):
        raise ValueError(f"the checkpoint {name} holds another encoder than config.encoder: {'; '.join(changes)}")


def random_spec(config: ConfigDict) -> dict[str, Any]:
    """The spec of the encoder before any training, which the config must say, for images of `config.data.size`."""
    described, size = config.encoder.to_dict(), config.data.get("size")
    if not described or not (size or described.get("image_size")):
        raise ValueError(
            "--checkpoint random needs an encoder and the size of its images: "
            "add variant=SIZE/PATCH,size=PIXELS to the arguments of the config"
        )
    return described | taken(described, {"image_size": size})


def make_encoder(config: ConfigDict) -> Encoder:
    """The config's encoder before any training."""
    return build(config.encoder, dtype="float32", remat=config.remat, rngs=nnx.Rngs(params=config.encoder_seed))


def random_encoder(config: ConfigDict) -> Encoder:
    """`make_encoder`, compiled: eager initialisation takes seconds."""
    graph, _, _, _ = abstract(lambda: make_encoder(config))
    return merge(graph, *jax.jit(lambda: split(make_encoder(config))[1:])())


def with_encoder(config: ConfigDict, described: Mapping[str, Any]) -> ConfigDict:
    """A config with another encoder."""
    whole = config.copy_and_resolve_references()
    with whole.unlocked():
        whole.encoder = ConfigDict(described)
    return whole


def settled(config: ConfigDict, dataset: Dataset, loaded: Loaded) -> ConfigDict:
    """A config with what it leaves to checkpoint and data set: the encoder, the size of its images, the crop."""
    whole = with_encoder(config, loaded.spec)
    size, crop = config.data.get("size") or loaded.image_size, config.data.get("crop") or dataset.meta.get("crop")
    if not size:
        raise ValueError("the checkpoint does not say the size of its images: add size=PIXELS to the arguments")
    with whole.unlocked():
        whole.data.size = size
        whole.data.crop = crop or ("box" if "bbox" in dataset.features else "whole")
    if whole.data.crop not in CROPS:
        raise ValueError(f"crop is {' or '.join(CROPS)}, not {crop!r}")
    return whole


def origin_name(origin: Any) -> str:
    """A checkpoint as people name it."""
    return origin if isinstance(origin, str) else f"{origin['path']}@{origin['step']}"


def make_problem(config: ConfigDict, dataset: Dataset, encoder: Encoder, folder: Path) -> Problem:
    """The task on the data set's three splits, which are loaded into memory.

    There may be no validation split where the selection looks at none.
    """
    task = locate(config.task)
    names = (config.data.train_split, config.data.validation_split, config.data.test_split)
    needed = names if config.selection == "validation" else (names[0], names[2])
    if missing := [split for split in needed if not dataset.splits.get(split)]:
        there = ", ".join(f"{name} ({count})" for name, count in dataset.splits.items())
        raise ValueError(
            f"an evaluation needs the splits {', '.join(needed)}; {missing[0]!r} of {dataset.name!r} is empty: {there}"
        )
    given = {"size": config.data.size, "whole": config.data.crop == "whole"}
    transforms = build_transforms(config.data.transforms, dataset.meta, **given)
    train, validation, test = (
        load(dataset.source(split), transforms, task.needs, optional=("bbox", "landmarks_scale"), name=dataset.name)
        if dataset.splits.get(split)
        else {"id": []}
        for split in names
    )
    pixels, label_shape = train["image"].shape[1], train[task.label].shape[1:]

    def make_task(seed: int) -> Task:
        rngs = nnx.Rngs(params=seed)
        offered = {"label_shape": label_shape}
        return build_with(config.task, offered, encoder, image_size=pixels, meta=dataset.meta, rngs=rngs)

    metric = build(task.metric(dataset.meta))
    augment = build_transforms(config.data.augmentations, dataset.meta, **given)
    source = dataset.source(names[0])
    return Problem(encoder, make_task, metric, train, validation, test, source, augment, config.selection, folder)


def ids_of(problem: Problem, labels: Labels) -> dict[str, Any]:
    """A subset of the labels by the ids of its examples."""
    splits = dict(train=(problem.train, labels.train), validation=(problem.validation, labels.validation))
    return {"seed": labels.seed} | {name: [data["id"][row] for row in rows] for name, (data, rows) in splits.items()}


def described(config: ConfigDict, encoder: Encoder, origin: Any) -> dict[str, Any]:
    """What the encoder is, for a reader who has only the results."""
    name = " ".join([locate(config.encoder).__name__, str(config.encoder.get("variant") or "")]).strip()
    kind = "random" if origin == "random" else "pre-trained"
    return {"kind": kind, "name": name, "parameters": count(nnx.state(encoder, nnx.Param))}


def in_words(spec: Spec) -> str:
    """A spec with its settings, those that are specs too, in words."""
    settings = {name: value for name, value in spec.items() if name != "call"}
    words = [f"{name} {in_words(x) if isinstance(x, Mapping) and 'call' in x else x}" for name, x in settings.items()]
    return spec["call"].rpartition(":")[2] + (f" ({', '.join(words)})" if words else "")


def settings_of(protocol: Spec) -> dict[str, Any]:
    """A protocol's settings, without its name."""
    return {name: value for name, value in plain(protocol).items() if name != "call"}


def summarised(metric: Metric, statistics: Sequence[np.ndarray]) -> dict[str, Any]:
    """{name: mean, standard deviation and values over subsets} from every subset's statistics of all examples."""
    values = [metric.compute(of_examples.sum(0)) for of_examples in statistics]
    return {name: summary([v[name] for v in values]) for name in values[0]}


def headline_of(results: Mapping[str, Any]) -> str:
    """The result in a few lines, for the terminal."""
    name = results["headline"]
    scores = {origin_name(results["checkpoint"]): results["metrics"]}
    scores |= {baseline: of["metrics"] for baseline, of in results["baselines"].items()}
    head = (
        f"{results['task']} on {results['dataset']} by {results['protocol']}, {name} in %: "
        f"{results['labels']} labels ({results['fraction']:.0%}), {len(results['seeds'])} subsets of them, "
        f"{results['test_images']} test images; selection: {results['selection']} "
        f"({results['validation_labels']} validation labels)"
    )
    lines = [f"  {who:32s} {100 * of[name]['mean']:6.2f} ± {100 * of[name]['std']:.2f}" for who, of in scores.items()]
    return "\n".join([head, *lines])
