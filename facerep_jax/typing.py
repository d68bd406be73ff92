"""The contracts: what flows between data, encoders, objectives, tasks and metrics.

Shape letters, everywhere: b batch, v views, h w pixels or grid cells, c channels, n tokens, m kept tokens, d width,
l text length, k classes, prototypes or landmarks; of metrics: n rows, s statistics, r sets of weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

Batch = Mapping[str, Array]  # global over all devices; keys are the feature names of the records
Metrics = Mapping[str, Array]
Tree = Any  # a pytree of arrays
Rules = Sequence[tuple[str, tuple[str | None, ...] | str]]  # of sharding, see `train.sharding.RULES`

BATCH_AXES = ("replica", "fsdp")  # the mesh axes that the batch is split over
STATIC = {"static": True}  # marks a field of a dataclass that is no array, for jax


class Carried(nnx.Variable):
    """State that is carried from step to step but not learnt: queues, teachers, prototypes' assignments."""


class Statistics(Carried):
    """Running statistics of a network, such as batch normalisation's; an average of weights averages them too."""


class Frozen(nnx.Variable):
    """Given weights, such as a fitted codebook: never updated, never part of the training state."""


# A `jax.named_scope` in which an objective calls a frozen network, so that what that costs can be told.
FROZEN_NETWORK = "frozen_network"


def as_kind(module: Any, kind: type[nnx.Variable]) -> Any:
    """A module like `module`, all of whose variables, statistics included, are of one kind.

    `as_kind(encoder, Frozen)` is a frozen network, which shares the memory of `encoder`. `as_kind(encoder, Carried)` is
    the start of a teacher, in memory of its own since a step updates it; see `models.teachers.follow`.
    """
    graph, state = nnx.split(module)

    def turned(variable: nnx.Variable) -> nnx.Variable:
        value = variable[...]
        return kind(value if kind is Frozen else jnp.copy(value))

    return nnx.merge(graph, jax.tree.map(turned, state, is_leaf=lambda x: isinstance(x, nnx.Variable)))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class View:
    """What an encoder looks at: whole images, or some patches of them; and which of its stages are wanted as maps."""

    image: UInt8[Array, "b h w 3"] | Float[Array, "b h w 3"]  # RGB; the encoder normalises uint8 and takes float as is
    keep: Int[Array, "b m"] | None = None  # the patches that are kept; None keeps all
    masked: Bool[Array, "b n"] | None = None  # the patches whose embedding is replaced by `fill`; None replaces none
    fill: Float[Array, "d"] | None = None  # the mask token
    taps: tuple[int, ...] = field(default=(), metadata=STATIC)  # indices of the encoder's stages, from 0
    apart: bool = field(default=False, metadata=STATIC)  # whether it wants a pass of its own, see `models.views.encode`


Views = Mapping[str, View]


class Features(NamedTuple):
    """What an encoder sees."""

    pooled: Float[Array, "b d"]
    tokens: Float[Array, "b n d"]  # one per patch (or per kept patch), row-major, as the last block leaves them
    maps: Mapping[int, Float[Array, "b _ _ _"]] = {}  # "b h w d" of each tap of the view, as that stage leaves it
    cls: Float[Array, "b d"] | None = None  # the class token as the last block leaves it, if there is one
    cls_at: Mapping[int, Float[Array, "b d"]] = {}  # the class token as the stage of each tap leaves it, likewise

    def at(self, taps: tuple[int, ...]) -> tuple[Float[Array, "b _ _ _"], ...]:
        """The maps of some taps, in their order; of none, the pooled feature as a map of one cell."""
        return tuple(self.maps[tap] for tap in taps) if taps else (self.pooled[:, None, None],)


@runtime_checkable
class Encoder(Protocol):
    """Views to features; what is pre-trained and handed over. A ViT and a ResNet are used alike, at any resolution.

    Built as `Class(..., dtype=dtype, remat=remat, rngs=rngs)`. A view with kept or masked patches may be refused by an
    encoder without patches (ValueError).
    """

    width: int  # of `pooled` and `tokens`
    stages: int  # how many stages can be tapped: blocks of a ViT, groups of a ResNet
    dtype: str  # of the matrix products
    remat: str  # name of the rematerialisation policy
    no_matter: tuple[str, ...]  # names of its arguments that its features do not depend on, such as "drop_path"
    rules: Mapping[str, Rules]  # name of a sharding -> rules for its own paths, see `train.sharding.rules_of`

    def tap_widths(self, taps: tuple[int, ...]) -> tuple[int, ...]: ...

    def tap_strides(self, taps: tuple[int, ...]) -> tuple[int, ...]: ...

    def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of tokens for an image of (height, width); ValueError if the image does not fit."""
        ...

    def __call__(self, view: View, *, train: bool = False, rng: Key[Array, "b"] | None = None) -> Features:
        """Features of a view. `rng` holds one key per example, so that nothing random depends on the row.

        The keys are needed only if `train` is set, which also updates running statistics.
        """
        ...


@runtime_checkable
class Objective(Protocol):
    """An encoder and a batch to a loss; owns heads, queues and teachers.

    Built as `Class(encoder, ..., rngs=rngs)`; a class that takes `steps` is given the length of the run, for schedules.
    Draws of one objective come from streams of `rng` by name, see `facerep_jax.streams`.
    """

    needs: tuple[str, ...]  # keys of the batch
    offers: tuple[tuple[str, str], ...]  # modules that a checkpoint can hand over: (name, path within this objective)

    def begin(self, encoder: Encoder, step: Int[Array, ""]) -> None:
        """Runs before the forward pass, outside the gradient; may write this objective's own state."""
        ...

    def views(self, batch: Batch, *, encoder: Encoder, rng: Key[Array, "b"]) -> Views:
        """What the encoder shall look at, by name; what `loss` will see may hold more, from `combined.Combined`."""
        ...

    def loss(
        self,
        seen: Mapping[str, Features],
        views: Views,
        batch: Batch,
        *,
        encoder: Encoder,
        step: Int[Array, ""],
        rng: Key[Array, "b"],
    ) -> tuple[Float[Array, ""], Metrics]:
        """The loss and metrics of a batch, from the features of the views; `rng` is that of `views`.

        Metrics have plain names, such as `accuracy`; a sum of objectives puts the name of the term in front.
        """
        ...


@runtime_checkable
class Divisible(Objective, Protocol):
    """An objective whose batch can be looked at in micro-batches, without any change of its loss; see `train.step`.

    `loss` is then `loss_at_once`. An objective that needs all features of a batch at once may say why in `indivisible`,
    part of a sentence.
    """

    def representations(
        self,
        seen: Mapping[str, Features],
        views: Views,
        batch: Batch,
        *,
        encoder: Encoder,
        step: Int[Array, ""],
        rng: Key[Array, "b"],
    ) -> Tree:
        """What the loss needs of the examples: arrays with one row for each, which no other example changes.

        What is large is done here: text towers, decoders, logits of patches. It may not write state.
        """
        ...

    def loss_of(self, representations: Tree, batch: Batch, *, step: Int[Array, ""]) -> tuple[Float[Array, ""], Metrics]:
        """The loss and metrics of the representations of a whole batch; may write state."""
        ...


def why_indivisible(objective: Any) -> str:
    """Why an objective needs all features of a batch at once, part of a sentence; empty if it does not."""
    if reason := getattr(objective, "indivisible", ""):
        return str(reason)
    return "" if isinstance(objective, Divisible) else "it has no representations of single examples (typing.Divisible)"


def loss_at_once(
    self: Divisible,
    seen: Mapping[str, Features],
    views: Views,
    batch: Batch,
    *,
    encoder: Encoder,
    step: Int[Array, ""],
    rng: Key[Array, "b"],
) -> tuple[Float[Array, ""], Metrics]:
    """The `loss` of a `Divisible` objective: that of the representations of all of the batch."""
    rows = self.representations(seen, views, batch, encoder=encoder, step=step, rng=rng)
    return self.loss_of(rows, batch, step=step)


BOTH = "\t"  # joins the names of two units that a row belongs to


class Rows(NamedTuple):
    """What a metric makes of predictions: a row for each image, each pair of images, or whatever else it scores."""

    ids: list[str]  # a name for each row; no two are alike
    # What each row belongs to that is independent of all others, such as the image or a person. A pair of two persons
    # belongs to both, joined by BOTH, and is drawn as often as the product of how often the two are.
    units: list[str]
    statistics: Float[np.ndarray, "n s"]  # float64


@runtime_checkable
class Metric(Protocol):
    """How good predictions are: a function of rows of statistics and of how much each row counts.

    With weights of one `compute` gives the metric. With the counts of a draw with replacement it gives a bootstrap of
    the metric, and from a single row the score of that row. So the statistics of a row must not depend on other rows.

    A metric some of whose values are no fractions, as errors in years and correlations are not, has `measures` too, the
    names of these values, each with its unit or "". One whose headline single rows have not, but another value, may
    name that in `ranked`, with whether lower is better, so that rows are ranked by it. One of pairs of images is
    `Compares`, one with something to say of the test set itself `Noting`, one whose rows may be millions `Coarse`.
    """

    headline: str  # the name of the value that counts
    lower_is_better: bool  # of the headline
    columns: tuple[str, ...]  # the values for a table, the headline first
    optional: tuple[str, ...]  # keys of a split that `rows` reads if they are there
    unit: str  # what a row is, a singular noun: "image", "pair", "template"
    belongs_to: str  # what the units of its rows are where rows share one, a singular noun: "person", "fold"
    per_row: bool  # whether a single row has a headline, so that rows can be ranked
    error_limit: float | None  # the largest headline of a row that still is a success; None if there is no such limit
    names: Mapping[str, str]  # how tables write a value, if not as its name with spaces
    counts: tuple[str, ...]  # the values that are counts; all others are fractions, but for what `measures` names
    explains: tuple[str, ...]  # sentences for readers, in order

    def rows(self, prediction: Any, split: Mapping[str, Any]) -> Rows:
        """Score predictions of a split's examples.

        `split` holds arrays over examples in the order of `prediction`, `id` (a list of strings), and `tables`, the
        side tables that the task names: `split["tables"][name][column]` is an array over the rows of a table. A split
        may hold some of its examples only; rows that need others are left out.
        """
        ...

    def compute(
        self, statistics: Float[np.ndarray, "n s"], weights: Float[np.ndarray, "r n"]
    ) -> Mapping[str, Float[np.ndarray, "r"]]:
        """The values of the metric for each of r sets of weights; NaN for a value that is not defined.

        A metric that is a function of sums takes `weights @ statistics`.
        """
        ...


@runtime_checkable
class Compares(Protocol):
    """A metric of pairs of images: one person or two, by how alike they are."""

    def similarities(
        self, statistics: Float[np.ndarray, "n s"]
    ) -> tuple[Float[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
        """How alike the two of each pair are, and whether they show one person."""
        ...


@runtime_checkable
class Coarse(Protocol):
    """A metric that can be computed from few cells of many rows, for intervals of a great many."""

    def cells(self, statistics: Float[np.ndarray, "n s"]) -> tuple[Int[np.ndarray, "n"], Float[np.ndarray, "m s"]]:
        """The cell of each row, and rows that stand for the cells, each with the weight of all rows in it."""
        ...


@runtime_checkable
class Noting(Protocol):
    """A metric that says what of a test set a reader of its values has to know, such as labels that nobody has."""

    def notes(self, rows: Rows) -> tuple[str, ...]:
        """Sentences without a full stop, none if all is as it should be."""
        ...


@runtime_checkable
class Task(Objective, Protocol):
    """A downstream problem: an objective with a prediction, metrics and baselines.

    Built as `Class(encoder, ..., image_size=pixels, meta=of_the_data_set, rngs=rngs)`; a class that takes `label_shape`
    is given the shape of one label. Its view is named `image`; of that view a linear probe's head sees the pooled
    features and the maps of `taps` alone.
    """

    title: str  # for headings, such as "Landmarks"
    drawn: str  # how `draw` shows truth and prediction
    label: str  # the key of the batch that is predicted
    taps: tuple[int, ...]  # stages of the encoder whose maps the head reads
    splits: tuple[str, ...]  # the roles of the splits that it needs, of which `test` is predicted
    tables: tuple[str, ...]  # names of the data set's side tables that its metric reads
    drawn_by: str  # subsets of the labels are drawn over the values of this key: "id", or "identity" for whole persons

    def calibrate(self, seen: Mapping[str, Features], batch: Batch) -> None:
        """Set what the head takes from training examples before it learns, such as means.

        `batch` may hold the label of more examples than the first ones, whose features are `seen`.

        Raises:
            ValueError: the examples do not fit the head.
        """
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


@runtime_checkable
class Named(Protocol):
    """A task whose predictions have names, for readers who do not know the order of its labels.

    A task without it gives its label's name and the prediction itself; points and masks need no names.
    """

    @staticmethod
    def named(prediction: np.ndarray, meta: Mapping[str, Any]) -> dict[str, Any]:
        """One example's prediction as JSON has it; an object of numbers by name is drawn as bars."""
        ...


@runtime_checkable
class Voted(Protocol):
    """A task whose labels are classes or yes-or-no, so that neighbours can vote on them."""

    def targets(self, labels: Array) -> tuple[Float[Array, "b o"], Bool[Array, "b o"]]:
        """For each class or yes-or-no label, 1 for yes and -1 for no, and whether that is known."""
        ...

    def elected(self, votes: Float[Array, "b o"]) -> Array:
        """The prediction for means of such values, or for a head's outputs, which are above 0 for yes alike."""
        ...


@runtime_checkable
class Validated(Protocol):
    """A task whose steps and settings are chosen by another metric than the one that its test examples are scored by.

    So it is where that one needs what validation examples do not have, such as the pairs of a table.
    """

    @staticmethod
    def validation_metric(meta: Mapping[str, Any]) -> Mapping[str, Any]:
        """The spec of that metric for a data set with this meta."""
        ...


@runtime_checkable
class Choosy(Protocol):
    """A task that cannot learn from every example that has what it needs."""

    @staticmethod
    def usable(split: Mapping[str, Any], role: str) -> Int[np.ndarray, "_"]:
        """The rows of a split that it can learn from, role `train`, or be chosen by, role `validation`.

        Raises:
            ValueError: nothing can be learnt from the training examples.
        """
        ...


class Equations(NamedTuple):
    """What a linear layer should give: rows of a weighted least-squares problem, equally many for each example."""

    designs: Float[Array, "b r p"]  # what the layer reads
    targets: Float[Array, "b r o"]  # what it should give; finite, also where it does not count
    weights: Float[Array, "b r o"]  # how much a target counts; 0 where it is not known


@runtime_checkable
class ClosedForm(Protocol):
    """A head that is one linear layer, so that ridge regression has its weights in closed form."""

    linear: Any  # the layer, a `models.layers.Linear` with a bias

    def equations(self, maps: tuple[Array, ...], labels: Array) -> Equations:
        """What the layer reads of the taps' maps, and what it should give for the labels of the task."""
        ...


@runtime_checkable
class Headed(Protocol):
    """A task that predicts by a head, which reads the maps of the task's taps."""

    head: Any


def pin(x: Array) -> Array:
    """`x` with axis 0 held on the batch axes of the current mesh; `x` itself where no such mesh is set."""
    if not on_batch_axes():
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH_AXES, *[None] * (x.ndim - 1)))


def on_batch_axes() -> bool:
    """Whether a mesh is set that has the axes of the batch."""
    mesh = jax.sharding.get_abstract_mesh()
    return not mesh.empty and set(BATCH_AXES) <= set(mesh.axis_names)
