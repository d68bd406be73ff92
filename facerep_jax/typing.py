"""The contracts: what flows between data, encoders, objectives, tasks and metrics.

Shape letters, everywhere: b batch, v views, h w pixels or grid cells, c channels, n tokens, m kept tokens, d width,
l text length, k classes, prototypes or landmarks.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
from flax import nnx
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

Batch = Mapping[str, Array]  # global over all devices; keys are the feature names of the records
Metrics = Mapping[str, Array]
Tree = Any  # a pytree of arrays

BATCH_AXES = ("replica", "fsdp")  # the mesh axes that the batch is split over


class Carried(nnx.Variable):
    """State that is carried from step to step but not learnt: queues, batch statistics, teachers."""


class Frozen(nnx.Variable):
    """Given weights, such as a fitted codebook: never updated, never part of the training state."""


class View(NamedTuple):
    """What an encoder looks at: whole images, or some patches of them."""

    image: UInt8[Array, "b h w 3"] | Float[Array, "b h w 3"]  # RGB; the encoder normalises uint8 and takes float as is
    keep: Int[Array, "b m"] | None = None  # the patches that are kept; None keeps all
    masked: Bool[Array, "b n"] | None = None  # the patches whose embedding is replaced by `fill`; None replaces none
    fill: Float[Array, "d"] | None = None  # the mask token


class Features(NamedTuple):
    """What an encoder sees."""

    pooled: Float[Array, "b d"]
    tokens: Float[Array, "b n d"]  # one per patch (or per kept patch), row-major, as the last block leaves them
    maps: tuple[Float[Array, "b _ _ _"], ...] = ()  # one "b h w d" per tap, as the tapped block leaves it
    cls: Float[Array, "b d"] | None = None  # the class token as the last block leaves it, where there is one


@runtime_checkable
class Encoder(Protocol):
    """Views to features; what is pre-trained and handed over. A ViT and a ResNet are used alike, at any resolution."""

    width: int  # of `pooled` and `tokens`
    dtype: str  # of the matrix products
    remat: str  # name of the rematerialisation policy

    def tap_widths(self, taps: tuple[int, ...]) -> tuple[int, ...]: ...

    def tap_strides(self, taps: tuple[int, ...]) -> tuple[int, ...]: ...

    def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of tokens for an image of (height, width); ValueError where the image does not fit."""
        ...

    def __call__(
        self, view: View, *, taps: tuple[int, ...] = (), train: bool = False, rng: Key[Array, "b"] | None = None
    ) -> Features:
        """`rng`: one key per example, so that nothing random depends on the row; needed only where `train` is set."""
        ...


@runtime_checkable
class Objective(Protocol):
    """An encoder and a batch to a loss; owns heads, queues and teachers. Built as `Class(encoder, ..., rngs=rngs)`."""

    needs: tuple[str, ...]  # keys of the batch
    taps: tuple[int, ...]  # the encoder's blocks whose maps `loss` reads
    micro_batches: str  # how gradients may be accumulated: "exact", "cached" or "refuse"

    def begin(self, encoder: Encoder, step: Int[Array, ""]) -> None:
        """Runs before the forward pass, outside the gradient; may write this objective's own state."""
        ...

    def views(self, batch: Batch, rng: Key[Array, "b"]) -> Mapping[str, View]: ...

    def loss(
        self,
        seen: Mapping[str, Features],
        batch: Batch,
        *,
        encoder: Encoder,
        step: Int[Array, ""],
        rng: Key[Array, "b"],
    ) -> tuple[Float[Array, ""], Metrics]: ...


@runtime_checkable
class Metric(Protocol):
    """Sums of per-example statistics, so that batches, hosts and bootstrap samples all add up exactly."""

    headline: str  # the name of the value that counts
    lower_is_better: bool

    def examples(self, prediction: Any, batch: Batch) -> Any:
        """Per-example statistics, a host array (b, s); a metric is a function of their sum."""
        ...

    def init(self) -> Tree: ...

    def update(self, state: Tree, prediction: Any, batch: Batch) -> Tree:
        """Honours `batch["valid"]` where it is there."""
        ...

    def compute(self, state: Tree) -> dict[str, float]: ...


@runtime_checkable
class Task(Objective, Protocol):
    """A downstream problem: an objective with a prediction, metrics and baselines.

    Built as `Class(encoder, ..., image_size=pixels, meta=of_the_data_set, rngs=rngs)`.
    """

    label: str  # the key of the batch that is predicted

    def calibrate(self, seen: Mapping[str, Features], batch: Batch) -> None:
        """Set what the head takes from training examples before it learns, such as means; ValueError on a misfit."""
        ...

    def predict(self, seen: Mapping[str, Features], batch: Batch) -> Array: ...

    @staticmethod
    def metric(meta: Mapping[str, Any]) -> Mapping[str, Any]:
        """The spec of the metric for a data set with this meta."""
        ...

    @staticmethod
    def baselines(train: Batch, validation: Batch, test: Batch, meta: Mapping[str, Any]) -> dict[str, Array]:
        """Predictions for the test examples without an encoder, by the name of the baseline; all are host arrays."""
        ...

    @staticmethod
    def draw(image: Array, label: Array, prediction: Array, scale: int) -> Any:
        """A PIL image of one example, each pixel of the image `scale` pixels wide."""
        ...


def pin(x: Array) -> Array:
    """`x` with axis 0 held on the batch axes of the current mesh; `x` itself where no such mesh is set."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or not set(BATCH_AXES) <= set(mesh.axis_names):
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH_AXES, *[None] * (x.ndim - 1)))
