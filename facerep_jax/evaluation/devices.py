"""Examples spread over several devices; on one, all stays as it is."""

from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from facerep_jax.train.sharding import batch_sharding, make_mesh, replicated
from facerep_jax.typing import Tree


def count_of(wanted: int) -> int:
    """How many devices compute; 0 is for all. Raises ValueError if there are fewer."""
    there = len(jax.devices())
    if not 0 <= wanted <= there:
        raise ValueError(f"devices is 0, for all, or up to the {there} that are here, not {wanted}")
    return wanted or there


def mesh_of(devices: int, batch_size: int) -> Mesh | None:
    """A mesh of as many devices as split batches of this size evenly; None if it is one."""
    count = max(n for n in range(1, devices + 1) if batch_size % n == 0)
    return None if count == 1 else make_mesh({"fsdp": count}, jax.devices()[:count])


def everywhere(tree: Tree, mesh: Mesh | None) -> Tree:
    """A copy of a tree on each device of a mesh."""
    return tree if mesh is None else jax.device_put(tree, replicated(mesh))


def spread(batch: Mapping[str, Any], mesh: Mesh | None) -> Mapping[str, Any]:
    """A batch, its rows split over the devices of a mesh."""
    return batch if mesh is None else jax.device_put(dict(batch), batch_sharding(mesh))
