"""Contrast of two views of an image, by an encoder and a teacher that follows it: MCF's masks, MoCo's crops."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from facerep_jax import schedules
from facerep_jax.config import Spec, build, pick, plain, spec
from facerep_jax.models.projector import Projector, spread, unit
from facerep_jax.models.teachers import follow, teacher_of
from facerep_jax.models.views import RandomPatches, encode
from facerep_jax.streams import stream
from facerep_jax.typing import Batch, Features, Metrics, View, Views

MOMENTUM = plain(spec(schedules.constant, value=0.99))
PATCHES = plain(spec(RandomPatches, share=0.25))
TAUGHT = "taught"  # names the teacher's view where the encoder looks at it too
INDEPENDENT, COMPLEMENTARY, SHARED, WHOLE = PAIRS = ("independent", "complementary", "shared", "whole")


class MomentumContrast(nnx.Module):
    """InfoNCE between an encoder's view of an image and a teacher's: MCF's, which differ by masks alone, or two crops.

    The pooled feature of each passes through a projector, that of the encoder through a predictor too. The teacher and
    its projector follow the encoder's before each step; their batch normalisations take the statistics of the batch, as
    the encoder's do. An image's negatives are the others of its group. Groups are formed by consecutive rows, so which
    images they hold depends on the order of the batch, and so on the number of hosts that read it; likewise those of
    batch normalisation.

    Source: MCF (2309.03575), figure 2; all numbers and the loss are the released code's (nomewang/MCF, models_mcf.py
    forward_contrastive and contrastive_loss). Losses are multiplied by twice the temperature, as in MoCo v3
    (2104.02057). Its momentum of 0.99 is per micro-step: 8 of them make an update, whose momentum is 0.99**8.
    MoCo v3 itself (facebookresearch/moco-v3, builder.py) is `symmetric`, of two crops (`models.crops.Crop`), with
    `predictor_norm`, and in ViTs with 3 `projector_layers`.
    Changed: the whole batch is one update, in groups of as many images as its micro-batches have.

    Args:
        view: name of the shared view that the encoder sees.
        pair: what the teacher sees: "independent" patches, drawn as `patches` says; the patches that the encoder does
            not see, as many, "complementary"; the same, "shared"; or the "whole" image.
        patches: spec of the view of the teacher, or of the second one, such as `models.views.RandomPatches`.
        hidden, width: of projector and predictor.
        projector_layers: linear layers of the projector; the predictor has two.
        predictor_norm: whether the predictor's output is normalised, as the projector's is.
        temperature: divides cosines.
        symmetric: whether the encoder sees the teacher's view too, and the teacher the encoder's, and both losses are
            added, as in MoCo v3.
        contrast_group: images that are each other's negatives; 0 for the whole batch.
        norm_rows: images that share statistics of batch normalisation; 0 for the whole batch.
        momentum: spec of the schedule of the teacher's momentum.
        steps: length of the run.
    """

    offers = (("teacher", "teacher"),)
    indivisible = (
        "it contrasts and normalises images in groups of rows (contrast_group, norm_rows), and micro-batches would make"
        " other groups"
    )

    def __init__(
        self,
        encoder: Any,
        *,
        view: str = "kept",
        pair: str = INDEPENDENT,
        patches: Spec = PATCHES,
        hidden: int = 4096,
        width: int = 256,
        projector_layers: int = 2,
        predictor_norm: bool = False,
        temperature: float = 0.2,
        symmetric: bool = False,
        contrast_group: int = 512,
        norm_rows: int = 64,
        momentum: Spec = MOMENTUM,
        steps: int,
        rngs: nnx.Rngs,
    ):
        pick("pair", pair, dict.fromkeys(PAIRS))
        if symmetric and pair != INDEPENDENT:
            raise ValueError(f"a symmetric contrast has a pair of independent masks, not {pair!r}")
        if not temperature > 0:
            raise ValueError(f"temperature is above 0, not {temperature}")
        xavier = nnx.initializers.xavier_uniform()  # MCF's
        mlp = partial(Projector, hidden_bias=False, bias=False, norm_rows=norm_rows, init=xavier, rngs=rngs)
        self.projector = mlp((encoder.width, *(hidden,) * (projector_layers - 1), width), norm_out=True)
        self.predictor = mlp((width, hidden, width), norm_out=predictor_norm)
        self.teacher, self.teacher_projector = teacher_of(encoder), teacher_of(self.projector)
        self.view, self.pair, self.symmetric = view, pair, symmetric
        self.temperature, self.contrast_group = temperature, contrast_group
        self.patches = build(patches)
        self.needs = tuple(getattr(self.patches, "needs", ("image",)))
        self.momentum: schedules.Schedule = build(momentum, steps=steps)

    def begin(self, encoder: Any, step: Int[Array, ""]) -> None:
        """Move the teacher and its projector."""
        momentum = self.momentum(step)
        follow(self.teacher, encoder, momentum)
        follow(self.teacher_projector, self.projector, momentum)

    def views(self, batch: Batch, *, encoder: Any, rng: Key[Array, "b"]) -> Views:
        if not self.symmetric:
            return {}
        return {TAUGHT: self.patches(batch, encoder=encoder, rng=stream(rng, TAUGHT))}

    def loss(
        self,
        seen: Mapping[str, Features],
        views: Views,
        batch: Batch,
        *,
        encoder: Any,
        step: Int[Array, ""],
        rng: Key[Array, "b"],
    ) -> tuple[Float[Array, ""], Metrics]:
        group = group_of(len(seen[self.view].pooled), self.contrast_group)
        taught = {TAUGHT: self.taught(views, batch, encoder=encoder, rng=rng)}
        if self.symmetric:
            taught[self.view] = views[self.view]
        keys = self.keys(taught, rng)
        query = self.query(seen[self.view])
        logits = similarities(query, keys[TAUGHT], group) / self.temperature
        losses = [cross_entropy(logits)]
        if self.symmetric:
            other = similarities(self.query(seen[TAUGHT]), keys[self.view], group)
            losses.append(cross_entropy(other / self.temperature))
        loss = 2 * self.temperature * sum(losses, jnp.zeros(()))
        return loss, {
            "loss": loss,
            "chance": jnp.float32(2 * self.temperature * len(losses)) * jnp.log(jnp.float32(group)),
            "accuracy": (logits.argmax(-1) == jnp.arange(group)[None]).mean(),
            "momentum": self.momentum(step),
            "spread": spread(query),
        }

    def taught(self, views: Views, batch: Batch, *, encoder: Any, rng: Key[Array, "b"]) -> View:
        """What the teacher sees."""
        view = views[self.view]
        if self.symmetric:
            return views[TAUGHT]
        if self.pair == INDEPENDENT:
            return self.patches(batch, encoder=encoder, rng=stream(rng, TAUGHT))
        if self.pair == COMPLEMENTARY:
            rows, columns = encoder.grid(view.image.shape[1:3])
            return View(view.image, keep=complement(stream(rng, TAUGHT), view.keep, rows * columns))
        return View(view.image, keep=view.keep if self.pair == SHARED else None)

    def query(self, seen: Features) -> Float[Array, "b e"]:
        """What the encoder makes of a view, of length one."""
        return unit(self.predictor(self.projector(seen.pooled)))

    def keys(self, views: Views, rng: Key[Array, "b"]) -> dict[str, Float[Array, "b e"]]:
        """What the teacher makes of views, of length one and without a gradient."""
        seen = encode(self.teacher, views, train=True, rng=stream(rng, "teacher"))
        return {name: jax.lax.stop_gradient(unit(self.teacher_projector(seen[name].pooled))) for name in sorted(views)}


def group_of(rows: int, wanted: int) -> int:
    """The images of a contrast group. Raises ValueError if a batch of so many rows is not made of such groups."""
    group = wanted or rows
    if group < 2 or rows % group:
        nearest = max(1, round(rows / max(group, 2))) * max(group, 2)
        raise ValueError(
            f"a batch of {rows} is no multiple of contrast_group={wanted}, whose images are each other's negatives; "
            f"the nearest batch that is: {nearest}"
        )
    return group


def similarities(query: Float[Array, "b e"], key: Float[Array, "b e"], group: int) -> Float[Array, "groups k k"]:
    """Cosines of each query with all keys of its group."""
    query, key = (x.reshape(-1, group, x.shape[-1]) for x in (query, key))
    return jnp.einsum("gqe,gke->gqk", query, key)


def cross_entropy(logits: Float[Array, "groups k k"]) -> Float[Array, ""]:
    """Mean cross-entropy if row i of each group belongs to column i."""
    own = jnp.eye(logits.shape[-1])[None]  # jnp.diagonal would gather it between devices
    return -(jax.nn.log_softmax(logits) * own).sum(-1).mean()


def complement(rng: Key[Array, "b"], keep: Int[Array, "b m"] | None, count: int) -> Int[Array, "b m"]:
    """As many of `count` patches as are kept, drawn from those that are not, sorted."""
    if keep is None or 2 * keep.shape[1] > count:
        kept = count if keep is None else keep.shape[1]
        raise ValueError(f"a complementary mask needs half of the {count} patches to be masked; {kept} are kept")

    def draw(key: Array, kept: Array) -> Array:
        order = jnp.argsort(jax.random.uniform(key, (count,)).at[kept].set(2.0))  # those that are kept come last
        return jnp.sort(order[: keep.shape[1]])

    return jax.vmap(draw)(rng, keep)
