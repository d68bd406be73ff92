"""Head pose: yaw, pitch and roll."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Float
from PIL import Image

from facerep_jax.config import Spec, spec
from facerep_jax.data.pose import angles_of, rotations
from facerep_jax.data.records import Example
from facerep_jax.data.transforms import require
from facerep_jax.evaluation import drawing
from facerep_jax.evaluation.one_vector import OneVector, mean_known
from facerep_jax.evaluation.pose_metrics import Angles
from facerep_jax.evaluation.targets import numbers, of_pixels
from facerep_jax.typing import Batch, Features


class HeadPose(OneVector):
    """Yaw, pitch and roll in degrees, from one vector of the image; `data.pose.rotations` says what they are.

    The loss is the mean squared error of each angle in units of its deviation among training faces. `Pose`, a transform
    of the data, makes the angles of a record's camera. NaN is not known.
    """

    needs = ("image", "head_pose")
    title = "Head pose"
    drawn = "axes of the head, the thick one forwards, truth green, prediction red"
    label = "head_pose"
    encode = staticmethod(numbers)
    scaled = True

    def predict(self, seen: Mapping[str, Features], batch: Batch) -> Float[Array, "b 3"]:
        """Yaw, pitch and roll in degrees."""
        return self.head(seen["image"])

    @staticmethod
    def named(prediction: np.ndarray, meta: Mapping[str, Any]) -> dict[str, Any]:
        """Yaw, pitch and roll in degrees."""
        return {"head_pose": dict(zip(("yaw", "pitch", "roll"), prediction.tolist(), strict=True))}

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Spec:
        """The metric for a data set with this meta."""
        return spec(Angles, key="head_pose")

    @staticmethod
    def baselines(
        train: Mapping[str, Any], validation: Mapping[str, Any], test: Mapping[str, Any], meta: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Angles without an encoder: the mean of training faces, and ridge regression on 32 x 32 RGB pixels."""
        found = of_pixels(train, validation, test, "head_pose", numbers, 3)
        return {"mean": np.broadcast_to(mean_known(train["head_pose"]), found.shape), "linear_pixels": found}

    @staticmethod
    def draw(image: np.ndarray, label: np.ndarray, prediction: np.ndarray, scale: int) -> Image.Image:
        """The image enlarged, with the axes of the true and of the predicted pose."""
        turned = [
            (rotations(angles), colour) for angles, colour in ((label, drawing.TRUTH), (prediction, drawing.PREDICTION))
        ]
        return drawing.with_axes(image, turned, scale)


class Pose:
    """A transform: `head_pose`, yaw, pitch and roll in degrees of the record's `camera`; a pose that is there stays.

    It stands before transforms that stretch the image, such as a crop to a box: a camera that is stretched with the
    image is no rotation any more. A crop changes no angle, turning the image does.
    """

    reads = ("camera", "head_pose")

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        if "head_pose" in example:
            return example
        require(example, "camera", "head pose")
        return {**example, "head_pose": angles_of(example["camera"]).astype(np.float32)}
