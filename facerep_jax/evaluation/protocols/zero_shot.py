"""Zero-shot: images are compared with texts, and nothing is trained."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from facerep_jax.evaluation.cache import extractor
from facerep_jax.evaluation.finite import require_finite
from facerep_jax.evaluation.network import seen
from facerep_jax.evaluation.problem import Indices, Problem
from facerep_jax.evaluation.protocols import Learn
from facerep_jax.evaluation.selection import Outcome
from facerep_jax.evaluation.text_towers import embedded_images, text_tower


@runtime_checkable
class ReadsTexts(Protocol):
    """A task that predicts from embeddings of images and a text tower."""

    def compare(self, images: np.ndarray, tower: Any, test: Mapping[str, Any]) -> np.ndarray: ...


class ZeroShot:
    """Images and texts are brought into one space by the towers of a contrastive pre-training; no label is looked at.

    Args:
        tower: WORKDIR[@STEP] or FILE[@LAYOUT] whose text tower reads the texts; by default that of `--checkpoint`.
    """

    name = "zero_shot"
    explains = "Zero-shot: images are compared with texts by both towers of a pre-training; no label is looked at."
    trains_encoder, compares = False, False

    def __init__(self, *, tower: str = ""):
        self.tower = tower

    def prepare(self, problem: Problem) -> Learn:
        task, test = problem.task, problem.splits["test"]
        if not isinstance(task, ReadsTexts):
            raise ValueError(
                f"protocol=zero_shot is of tasks that compare images with texts, and {task.title} does not"
            )
        tower = text_tower(self.tower or problem.checkpoint)
        theirs, ours = tower.widths[0], problem.encoder.width
        if theirs != ours:
            raise ValueError(
                f"the text tower goes with an encoder of {theirs} channels, the one that is judged has {ours}"
            )
        extract = extractor(problem.encoder, (), problem.devices)
        pooled = np.asarray(seen(problem, extract, "test", taps=())["pooled"], np.float32)
        require_finite(pooled, test["id"])
        found = task.compare(embedded_images(tower, pooled), tower, test)

        def learn(chosen: Indices, held_out: Indices, seed: int) -> Outcome:
            return Outcome(found, {})

        return learn


PROTOCOL = ZeroShot
