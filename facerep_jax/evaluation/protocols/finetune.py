"""Fine-tuning: encoder and head trained together on augmented images."""

from facerep_jax import schedules
from facerep_jax.config import Spec, spec
from facerep_jax.evaluation.problem import Problem
from facerep_jax.evaluation.protocols import ENCODER, Learn
from facerep_jax.evaluation.training import HEAD, Training, learner
from facerep_jax.train.optim import adamw

WHOLE = HEAD | {"multipliers": ((ENCODER, 0.1),)}  # the optimizer unless told otherwise


class FineTune:
    """Encoder and head trained together on augmented images.

    The arguments are those of `training.Training`. By default the encoder's learning rate is a tenth of the head's.
    """

    name = "finetune"
    explains = (
        "Fine-tuning: encoder and head learn together from the labels; the random encoder is then one that was "
        "trained from scratch."
    )
    trains_encoder = True
    compares = False

    def __init__(
        self, *, steps: int = 1000, rounds: int = 5, batch_size: int = 32, optimizer: Spec = WHOLE, ema: float = 0.0
    ):
        self.training = Training(optimizer=optimizer, steps=steps, rounds=rounds, batch_size=batch_size, ema=ema)

    def prepare(self, problem: Problem) -> Learn:
        return learner(self.training, problem, problem.encoder)


PROTOCOL = FineTune


def from_scratch(*, steps: int = 10_000, batch_size: int = 40) -> Spec:
    """The spec by which encoder and head are trained from random initialisation, all at one learning rate."""
    schedule = spec(schedules.warmup_cosine, warmup_steps=200)
    optimizer = spec(adamw, learning_rate=1e-3, weight_decay=0.05, clip_norm=1.0, schedule=schedule)
    return spec(FineTune, steps=steps, batch_size=batch_size, optimizer=optimizer)
