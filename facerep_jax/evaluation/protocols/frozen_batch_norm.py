"""Fine-tuning in which the encoder's batch normalisation stays as it is."""

from typing import Any

from flax import nnx

from facerep_jax.config import Spec
from facerep_jax.evaluation.problem import Problem
from facerep_jax.evaluation.protocols import Learn
from facerep_jax.evaluation.protocols.finetune import WHOLE
from facerep_jax.evaluation.training import Training, learner
from facerep_jax.models.batch_norm import BatchNorm
from facerep_jax.typing import Encoder, Frozen


class FrozenBatchNorm:
    """Encoder and head trained together on augmented images, but for the encoder's batch normalisation.

    It normalises by its running statistics, in training too; these, its scales and its biases stay as they were
    pre-trained, so that batches of few or of like faces do not move them. A head's own batch normalisation learns.

    The arguments are those of `training.Training`. By default the encoder's learning rate is a tenth of the head's.

    Source: "frozen BN", as detectors are fine-tuned: torchvision.ops.FrozenBatchNorm2d.
    """

    name = "frozen_batch_norm"
    explains = (
        "Fine-tuning with frozen batch normalisation: encoder and head learn together from the labels, but for "
        "statistics, scales and biases of the encoder's batch normalisation."
    )
    trains_encoder = True
    compares = False

    def __init__(
        self, *, steps: int = 1000, rounds: int = 5, batch_size: int = 32, optimizer: Spec = WHOLE, ema: float = 0.0
    ):
        self.training = Training(optimizer=optimizer, steps=steps, rounds=rounds, batch_size=batch_size, ema=ema)

    def prepare(self, problem: Problem) -> Learn:
        return learner(self.training, problem, fixed(problem.encoder), plain=lambda encoder: encoder)


PROTOCOL = FrozenBatchNorm


def fixed(encoder: Encoder) -> Encoder:
    """An encoder like `encoder`, the batch normalisation of which is fixed and frozen.

    Raises:
        ValueError: it has none.
    """
    found: Any = nnx.clone(encoder)
    norms = [module for _, module in nnx.iter_modules(found) if isinstance(module, BatchNorm)]
    if not norms:
        raise ValueError(
            f"protocol=frozen_batch_norm keeps batch normalisation as it is, and {type(encoder).__name__} has none: "
            "choose protocol=finetune"
        )
    for norm in norms:
        norm.fixed = True
        for name in ("scale", "bias", "mean", "variance"):
            if (variable := getattr(norm, name)) is not None:
                setattr(norm, name, Frozen(variable[...]))
    return found
