"""Layer-wise decay of the learning rate: the farther below the head, the slower a layer of the encoder learns."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from facerep_jax.suggestions import examples
from facerep_jax.train.state import flat, path_of
from facerep_jax.typing import Tree

# Blocks are stacked along a leading axis of depth, or stand in lists, whose numbers follow: groups/2/0/...
BLOCK = re.compile(r"^encoder/(?:blocks|groups)/(?P<place>(?:\d+/)*)")
BELOW = re.compile(r"^encoder/(embed|stem|activation|class_token|registers|positions|norm_in)(/|$)")  # the first block


def layer_decay(decay: float) -> optax.GradientTransformation:
    """A transformation of updates that multiplies each by the factor of its layer, see `factors`; it comes last.

    Its `init` raises ValueError for parameters whose layers `factors` cannot tell.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"optimizer.layer_decay is above 0 and at most 1, not {decay:g}")

    def init(params: Tree) -> optax.EmptyState:
        factors(params, decay)
        return optax.EmptyState()

    def update(updates: Tree, state: optax.EmptyState, params: Tree | None = None) -> tuple[Tree, optax.EmptyState]:
        return jax.tree.map(jnp.multiply, updates, factors(updates, decay)), state

    return optax.GradientTransformation(init, update)


def factors(tree: Tree, decay: float) -> Tree:
    """What the learning rate of each parameter of a model is multiplied by, of a shape that goes with the parameter's.

    Block i of L blocks has decay**(L - i), counted from 0; what stands below the first, `BELOW`, such as patch
    embedding, positions and class token, has decay**(L + 1). All else has 1: what stands above the last block, heads
    and objectives. A ViT's blocks are its layers, and so are the residual blocks of all stages of a ResNet.

    Source: ELECTRA (2003.10555), BEiT (2106.08254, section 3.2); facebookresearch/mae, util/lr_decay.py; of ResNets
    timm, param_groups_layer_decay.
    Changed: registers and a norm below the first block count as the patch embedding; timm gives that norm 1.

    Raises:
        ValueError: the encoder has no `blocks` or `groups` whose order is known.
    """
    leaves = flat(tree)
    places = {path: hit["place"] for path in leaves if (hit := BLOCK.match(path))}
    listed = sorted({place for place in places.values() if place}, key=numbers_in)
    stacked = {leaves[path].shape[:1] for path, place in places.items() if not place}
    if bool(listed) + len(stacked) != 1 or () in stacked:
        there = examples("encoder/blocks/", leaves)
        raise ValueError(
            "optimizer.layer_decay needs an encoder with blocks that are stacked or listed as `blocks` or `groups`; "
            f"its model has, for example, {there}"
        )
    count = len(listed) or stacked.pop()[0]
    each = (decay ** np.arange(count, 0, -1)).astype(np.float32)

    def factor(path: tuple, x: Any) -> np.ndarray | np.float32:
        name = path_of(path)
        if name not in places:
            return np.float32(decay ** (count + 1) if BELOW.match(name) else 1)
        place = places[name]
        return each[listed.index(place)] if place else each.reshape(-1, *(1,) * (x.ndim - 1))

    return jax.tree_util.tree_map_with_path(factor, tree)


def numbers_in(place: str) -> tuple[int, ...]:
    """The numbers of a place in nested lists, such as 2/0/."""
    return tuple(map(int, place.split("/")[:-1]))
