"""Workdirs written from the description of their formats (DESIGN section 7), not by our own writers."""

import io
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from facerep_jax.evaluation.metrics import F1, NME, score
from facerep_jax.evaluation.statistics import summary
from facerep_jax.reporting import layout, workdirs

NORMALISER = {"kind": "inter_ocular", "left": 36, "right": 45}
CLASSES = ["background", "skin", "brows", "eyes", "nose", "mouth", "hair"]
IMAGES = 60


class Written:
    """Writes workdirs."""

    images = IMAGES
    farl = {"path": "runs/farl", "step": 20000, "weights": "ema", "digest": "9f31c2d47ab0"}  # noqa: RUF012
    nme = {"call": "facerep_jax.evaluation.metrics:NME", "normaliser": NORMALISER}  # noqa: RUF012
    f1 = {"call": "facerep_jax.evaluation.metrics:F1", "classes": CLASSES}  # noqa: RUF012

    landmark_words = {  # noqa: RUF012
        "task": {"title": "Landmarks", "drawn": "truth green (ring), prediction red (dot)"},
        "columns": ["nme_inter_ocular", "nme_box", "nme_diagonal"],
        "names": {"nme_inter_ocular": "NME, inter-ocular", "nme_box": "NME, box", "nme_diagonal": "NME, diagonal"},
        "counts": ["images", "images_left_out_inter_ocular", "images_left_out_box", "images_left_out_diagonal"],
        "metrics": ["NME: the mean error.", "Box: the error as a share of the box."],
        "protocols": {"linear_probe": "Linear probe: a head learns.", "finetune": "Fine-tuning: all of it learns."},
        "unit": "image",
        "error_limit": 0.1,
        "per_row": True,
    }
    parsing_words = {  # noqa: RUF012
        "task": {"title": "Parsing", "drawn": "image, truth, prediction"},
        "columns": ["f1_mean_foreground", "miou", "accuracy"],
        "names": {"f1_mean_foreground": "F1, mean of the foreground", "miou": "mIoU", "f1_skin": "F1 skin"},
        "counts": ["images"],
        "metrics": ["F1: 2 · right / (predicted + true)."],
        "protocols": {"frozen": "Frozen: the head learns from augmented images."},
        "unit": "image",
        "error_limit": None,
        "per_row": False,
    }

    @staticmethod
    def landmark_statistics(level, seeds, rng_seed):
        """Errors of each image in three units, what counts, what fails (nothing); some images are hard for all."""
        rng = np.random.default_rng(rng_seed)
        hard = np.random.default_rng(99).lognormal(0, 0.35, (1, IMAGES, 1))
        spread = 1 + 0.02 * rng.normal(size=(len(seeds), 1, 1))
        errors = level * hard * spread * rng.lognormal(0, 0.12, (len(seeds), IMAGES, 1)) * [1.0, 0.55, 0.4]
        ones, none = np.ones((len(seeds), IMAGES, 4)), np.zeros((len(seeds), IMAGES, 2))
        return np.concatenate([errors, ones, none], axis=2)

    @staticmethod
    def parsing_statistics(level, seeds, rng_seed):
        """True positives, predicted and true pixels of seven classes."""
        rng = np.random.default_rng(rng_seed)
        true = np.random.default_rng(98).uniform(200, 4000, (1, IMAGES, 7)) * np.ones((len(seeds), 1, 1))
        hits = true * np.clip(level + 0.05 * rng.normal(size=true.shape), 0, 1)
        return np.round(np.concatenate([hits, 0.5 * (hits + true), true], axis=2))

    @staticmethod
    def image(size=(1200, 150), seed=0):
        x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
        shades = np.stack([(x // 150 * 37 + seed) % 256, y % 256, (x + y) % 256], axis=-1).astype(np.uint8)
        drawn = io.BytesIO()
        Image.fromarray(shades).save(drawn, "PNG")
        return drawn.getvalue()

    @classmethod
    def evaluation(
        cls, folder, level, *, checkpoint, seeds=(0, 1, 2), baselines=None, parts=("parquet", "png"), **over
    ):
        """An evaluation workdir; returns results.json and the statistics."""
        parsing = over.get("task") == "parsing"
        metric = F1(CLASSES) if parsing else NME(NORMALISER)
        words = cls.parsing_words if parsing else cls.landmark_words
        statistics_of = cls.parsing_statistics if parsing else cls.landmark_statistics

        def scored(statistics):
            values = [score(metric, s) for s in statistics]
            return {name: summary([v[name] for v in values]) for name in values[0]}

        folder.mkdir(parents=True)
        statistics = {"encoder": statistics_of(level, seeds, round(1e4 * level))}
        statistics |= {name: statistics_of(at, seeds, 5) for name, at in (baselines or {}).items()}
        results = {
            "task": "landmarks",
            "dataset": "civil_us",
            "protocol": "linear_probe",
            "selection": "validation",
            "fraction": 0.1,
            "seeds": list(seeds),
            "metrics": scored(statistics["encoder"]),
            "headline": metric.headline,
            "lower_is_better": metric.lower_is_better,
            "metric": cls.f1 if parsing else cls.nme,
            "checkpoint": checkpoint,
            "config": {"fraction": 0.1},
            "versions": {"facerep_jax": "0.1.0", "jax": "0.10.2"},
            "labels": 42,
            "validation_labels": 10,
            "encoder": {"name": "ViT B/16"},
            "head": "Regression (cells 7)",
            "test_images": IMAGES,
            "baselines": {name: {"metrics": scored(statistics[name])} for name in baselines or {}},
            "words": words,
        } | over
        (folder / "results.json").write_text(json.dumps(results))
        if "parquet" in parts:
            cls.statistics(folder, seeds, statistics)
        if "png" in parts:
            (folder / "overlays.png").write_bytes(cls.image())
        return results, statistics

    @staticmethod
    def statistics(folder, subsets, statistics, ids=None):
        ids = ids or [f"face_{i:03d}.jpg" for i in range(IMAGES)]
        rows = [
            {"id": name, "subset": subset, "encoder": encoder, "statistics": one.tolist()}
            for encoder, values in statistics.items()
            for subset, of_subset in zip(subsets, values, strict=True)
            for name, one in zip(ids, of_subset, strict=True)
        ]
        np.random.default_rng(0).shuffle(rows)  # no order is promised
        pq.write_table(pa.Table.from_pylist(rows), folder / "examples.parquet")

    @staticmethod
    def pretraining(folder, steps=120, every=10, resumed_at=60):
        """A log with two losses, in which the steps after a resume repeat."""
        folder.mkdir(parents=True)
        rng = np.random.default_rng(0)

        def line(step):
            x = step / (steps * every)
            contrastive = 6.2 * math.exp(-2.2 * x) + 0.4 + 0.06 * rng.normal()
            tokens = 5.4 + 3.4 * math.exp(-5 * x) + 0.04 * rng.normal()
            return {
                "step": step,
                "loss": contrastive + tokens,
                "contrastive/loss": contrastive,
                "contrastive/temperature": 0.07 - 0.04 * x,
                "masked_tokens/loss": tokens,
                "masked_tokens/unigram": 6.31,
                "images_per_second": 2870 + 40 * rng.normal(),
                "input_wait": abs(0.012 + 0.004 * rng.normal()),
                "learning_rate": 1e-3 * min(1, 10 * x) * 0.5 * (1 + math.cos(math.pi * x)),
            }

        logged = [line(every * i) for i in range(1, resumed_at + 20)] + [
            line(every * i) for i in range(resumed_at, steps + 1)
        ]
        for i, entry in enumerate(logged):
            down = 200 * (i >= resumed_at + 19)
            entry |= {"time": 1e9 + 10 * (i + 1) + down, "steps": every, "seconds/step": 9.0, "seconds/input": 1.0}
        (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in logged))
        described = {
            "seed": 7,
            "steps": steps * every,
            "data": {"dataset": "civil_us", "batch_size": 256},
            "encoder": {"call": "facerep_jax.models.vit:ViT", "variant": "Ti/16"},
            "objective": {
                "call": "facerep_jax.objectives.combined:Combined",
                "terms": {"contrastive": {"call": "x:y"}, "masked_tokens": {"call": "x:y"}},
            },
        }
        (folder / "config.json").write_text(json.dumps(described))
        return logged


@pytest.fixture(scope="session")
def written() -> type[Written]:
    return Written


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Two encoders and a random one on landmarks at three fractions, two on parsing, and a pre-training run."""
    root = tmp_path_factory.mktemp("runs")
    other = Written.farl | {"path": "runs/supervised", "weights": "params", "digest": "07aa41"}
    for fraction, labels, easier in ((0.01, 4, 1.6), (0.1, 42, 1.0), (1.0, 424, 0.7)):
        shared = {
            "fraction": fraction,
            "labels": labels,
            "baselines": {"mean_shape": 0.16, "linear_pixels": 0.11 * easier},
        }
        at = root / "landmarks" / str(fraction)
        Written.evaluation(at / "farl", 0.062 * easier, checkpoint=Written.farl, **shared)
        Written.evaluation(at / "supervised", 0.0625 * easier, checkpoint=other, **shared)
        Written.evaluation(at / "random", 0.101 * easier, checkpoint="random", **shared)
    shared = {"task": "parsing", "protocol": "frozen", "selection": "last", "baselines": {"most_frequent_class": 0.1}}
    shared["validation_labels"] = 0
    Written.evaluation(root / "parsing" / "farl", 0.81, checkpoint=Written.farl, seeds=(0,), **shared)
    Written.evaluation(root / "parsing" / "random", 0.62, checkpoint="random", seeds=(0,), **shared)
    for seed, name in enumerate(("farl", "random")):
        at = root / "landmarks" / "1.0" / name
        (at / "worst.png").write_bytes(Written.image(seed=seed))
        (at / "tokens.png").write_bytes(Written.image(seed=seed))
        (root / "parsing" / name / "tokens.png").write_bytes(Written.image(seed=seed))
    at = root / "landmarks" / "1.0" / "farl"
    (at / "command.txt").write_text("facerep evaluate --config=a.py --checkpoint=runs/farl --workdir=w")
    chosen = [{"seed": s, "train": [], "selected": {"validation": 0.05, "step": 40.0}} for s in (0, 1, 2)]
    (at / "subsets.json").write_text(json.dumps(chosen))
    Written.pretraining(root / "pretrain" / "farl")
    (root / "pretrain" / "farl" / "masked.png").write_bytes(Written.image())
    return root


@pytest.fixture(scope="session")
def laid_out(runs):
    return layout.page(*workdirs.read([runs]))
