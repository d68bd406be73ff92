"""Encoding of views: which views share a pass of the encoder, and views that several objectives can share."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from facerep_jax.streams import stream
from facerep_jax.typing import Batch, Encoder, Features, Tree, View, Views, pin


class Seen(dict[str, Features]):
    """Features by the name of their view. A missing name raises ValueError, which lists the names that exist."""

    def __missing__(self, name: str) -> Features:
        raise ValueError(f"no view is called {name!r}; there are: {', '.join(sorted(self)) or 'none'}")


jax.tree_util.register_pytree_node(
    Seen,
    lambda seen: (tuple(seen[name] for name in sorted(seen)), tuple(sorted(seen))),
    lambda names, features: Seen(zip(names, features, strict=True)),
)


def encode(encoder: Encoder, views: Views, *, train: bool = False, rng: Key[Array, "b"] | None = None) -> Seen:
    """Features of each view, by name, in as few passes of the encoder as the views allow.

    Views of equal shape share one pass: FaRL's clean and masked copies, SwAV's crops of one resolution. Batch
    normalisation then takes its statistics over all of them, and running statistics move once per pass. Views
    that are `apart`, and views with mask tokens of their own, take further passes.

    Each view has its own random draws, even if several show the same image. Copies of one example lie side by side in a
    shared pass, so that a batch that is split over devices does not move between them.
    """
    seen = Seen()
    for names in shared_passes(views):
        taps = tuple(sorted({tap for name in names for tap in views[name].taps}))
        view = interleaved_views([views[name] for name in names], taps, encoder)
        keys = None if rng is None else interleaved([stream(rng, name) for name in names])
        features = encoder(view, train=train, rng=keys)
        seen |= zip(names, deinterleaved(features, len(names)), strict=True)
    return seen


def shared_passes(views: Views) -> list[list[str]]:
    """The names of the views that share each pass."""
    shapes: dict[Any, list[str]] = {}
    for name, view in sorted(views.items()):
        kept = None if view.keep is None else view.keep.shape
        shapes.setdefault((view.image.shape, view.image.dtype, kept, name if view.apart else None), []).append(name)
    passes = []
    for names in shapes.values():  # a pass has one mask token; views without masks go with the first
        by_fill: dict[int | None, list[str]] = {}
        for name in names:
            fill = views[name].fill
            by_fill.setdefault(None if fill is None else id(fill), []).append(name)
        unmasked = by_fill.pop(None, [])
        first, *others = list(by_fill.values()) or [[]]
        passes += [sorted(unmasked + first), *others]
    return passes


def interleaved_views(views: list[View], taps: tuple[int, ...], encoder: Encoder) -> View:
    """Views of equal shape as one view with these taps; views without masks get empty ones if others have some."""
    fill = next((view.fill for view in views if view.fill is not None), None)
    masked = None
    if fill is not None:
        b, h, w, _ = views[0].image.shape
        rows, columns = encoder.grid((h, w))
        none = jnp.zeros((b, rows * columns), bool)
        # a mask without a token replaces nothing, and must not take the token of another view
        masked = interleaved([none if view.masked is None or view.fill is None else view.masked for view in views])
    keep = None if views[0].keep is None else interleaved([view.keep for view in views if view.keep is not None])
    return View(pin(interleaved([view.image for view in views])), keep, masked, fill, taps)


def interleaved(arrays: list[Array]) -> Array:
    """Arrays of equal shape as one: row 0 of each, then row 1 of each, and so on."""
    if len(arrays) == 1:
        return arrays[0]
    stacked = jnp.stack(arrays, axis=1)
    return stacked.reshape(-1, *stacked.shape[2:])


def deinterleaved(tree: Tree, parts: int) -> list[Tree]:
    """The trees that `interleaved` combined, one for each view."""
    if parts == 1:
        return [tree]

    def part(index: int) -> Tree:
        return jax.tree.map(lambda x: pin(x.reshape(-1, parts, *x.shape[1:])[:, index]), tree)

    return [part(index) for index in range(parts)]


class RandomPatches:
    """A view of random patches of each image, drawn anew at each step, for objectives that share one masked pass.

    Args:
        share: share of the patches that are kept, above 0; at least one patch is kept.
        image: key of the batch that holds the images.
    """

    def __init__(self, *, share: float, image: str = "image"):
        self.share, self.image, self.needs = checked_share(share), image, (image,)

    def __call__(self, batch: Batch, *, encoder: Encoder, rng: Key[Array, "b"]) -> View:
        image = batch[self.image]
        count = math.prod(encoder.grid((image.shape[1], image.shape[2])))
        return View(image, keep=random_patches(rng, count, kept_of(count, self.share)))


class UnmaskedPatches:
    """A view of the patches that `masked` of the batch leaves, for objectives that share one masked pass.

    Masks come from the pipeline: `data.region_mask.RegionMask`, or blocks. Where one masks fewer patches than is to be
    left out, the first that it leaves are kept; where it masks more, the first of the masked ones are kept too.

    Args:
        share: share of the patches that are kept, above 0; at least one patch is kept.
        image: key of the batch that holds the images.
    """

    def __init__(self, *, share: float, image: str = "image"):
        self.share, self.image, self.needs = checked_share(share), image, (image, "masked")

    def __call__(self, batch: Batch, *, encoder: Encoder, rng: Key[Array, "b"]) -> View:
        image, masked = batch[self.image], batch["masked"]
        count = math.prod(encoder.grid((image.shape[1], image.shape[2])))
        if masked.shape[1] != count:
            raise ValueError(f"masks of {masked.shape[1]} patches are not for images of {count}: give them that grid")
        first = jnp.argsort(masked, axis=1, stable=True)[:, : kept_of(count, self.share)]
        return View(image, keep=jnp.sort(first, axis=1))


def checked_share(share: float) -> float:
    """A share of kept patches. Raises ValueError if it is not above 0 and at most 1."""
    if not 0 < share <= 1:
        raise ValueError(f"the share of kept patches is above 0 and at most 1, not {share}")
    return share


def kept_of(count: int, share: float) -> int:
    """How many of `count` patches a share is, rounded down, but at least one."""
    return max(1, int(count * share))


def random_patches(rng: Key[Array, "b"], count: int, kept: int) -> Int[Array, "b m"]:
    """The indices of the `kept` out of `count` patches that each example keeps, drawn at random and sorted."""

    def draw(key: Array) -> Array:
        return jnp.sort(jnp.argsort(jax.random.uniform(key, (count,)))[:kept])

    return jax.vmap(draw)(rng)
