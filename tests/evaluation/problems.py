"""A small problem that protocols learn, and what their tests measure on it."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from facerep_jax.evaluation import metrics
from facerep_jax.evaluation.tasks.landmarks import Landmarks
from facerep_jax.models.vit import ViT
from facerep_jax.train.state import flat
from facerep_jax.typing import Statistics

SIZE = 32
ROWS, HELD_OUT = np.arange(1, 48), np.arange(16)


def make_encoder(**settings):
    sizes = dict(variant="Nano/8", image_size=SIZE, width=32, depth=2, heads=2)
    return ViT(**sizes, **settings, dtype="float32", remat="none", rngs=nnx.Rngs(0))


class Counting(Landmarks):
    """Landmarks whose prediction is a count of the training steps that were taken, carried as batch statistics are."""

    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        self.steps = Statistics(jnp.zeros(()))

    def loss(self, seen, views, batch, **keywords):
        self.steps.set_value(self.steps[...] + 1)
        return super().loss(seen, views, batch, **keywords)

    def predict(self, seen, batch):
        return 0 * super().predict(seen, batch) + self.steps[...]


def error(problem, prediction) -> float:
    metric, test = problem.metric, problem.splits["test"]
    return metrics.score(metric, metric.rows(prediction, test).statistics)[metric.headline]


def weights(problem) -> dict[str, np.ndarray]:
    return {path: np.array(x) for path, x in flat(nnx.to_pure_dict(nnx.state(problem.encoder))).items()}


def mean_shape_error(problem, rows) -> float:
    mean = problem.splits["train"]["landmarks"][rows].mean(0)
    return error(problem, np.broadcast_to(mean, problem.splits["test"]["landmarks"].shape))
