"""A head on the frozen encoder, trained on augmented images."""

from facerep_jax.config import Spec
from facerep_jax.evaluation.network import look_untrained
from facerep_jax.evaluation.problem import Problem
from facerep_jax.evaluation.protocols import Learn
from facerep_jax.evaluation.training import HEAD, Training, learner
from facerep_jax.typing import Frozen, as_kind


class FrozenEncoder:
    """A head on the frozen encoder, which sees augmented images anew in every step, without drop-path.

    The arguments are those of `training.Training`.

    Source: FaRL's `freeze_backbone` (github.com/FacePerceiver/FaRL).
    """

    name = "frozen"
    explains = "Frozen: the encoder stays as it is; the head learns from its features of augmented images."
    trains_encoder = False
    compares = False

    def __init__(
        self, *, steps: int = 1000, rounds: int = 5, batch_size: int = 32, optimizer: Spec = HEAD, ema: float = 0.0
    ):
        self.training = Training(optimizer=optimizer, steps=steps, rounds=rounds, batch_size=batch_size, ema=ema)

    def prepare(self, problem: Problem) -> Learn:
        return learner(self.training, problem, as_kind(problem.encoder, Frozen), look=look_untrained)


PROTOCOL = FrozenEncoder
