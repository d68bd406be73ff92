"""The device mesh, and how parameters are laid out on it: a table of (regex on a path, mesh axes)."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from facerep_jax.suggestions import nearest
from facerep_jax.train.state import flat, path_of, require_match
from facerep_jax.typing import BATCH_AXES, Rules, Tree

AXES = (*BATCH_AXES, "model")

LARGEST = "largest"  # in place of axes: split over `fsdp` along the largest axis that divides, if there is one

# Rules are (regex on a path, mesh axis of each axis of the array). The first rule that matches an array's path and its
# number of axes counts; an array that no rule matches is replicated. Paths have the same ends in parameters, optimizer
# state and average, so that one table serves all three. The first axis of stacked blocks is their depth.
OUTSIDE_BLOCKS: Rules = (
    (r"embed/(\w+/)?kernel$", (None, "fsdp")),
    (r"head/kernel$", ("fsdp", None)),
    (r"projection$", ("fsdp", None)),
    (r"token_embedding$", ("fsdp", None)),
)
RULES: Mapping[str, Rules] = {
    "replicated": (),
    "fsdp": ((r"blocks/.*kernel$", (None, "fsdp", None)), *OUTSIDE_BLOCKS),
    # Heads and hidden units are split over `model`, so that each block sums over that axis twice. Source: 1909.08053.
    "fsdp_tensor": (
        (r"blocks/(query|key|value|up)/kernel$", (None, "fsdp", "model")),
        (r"blocks/(query|key|value|up)/bias$", (None, "model")),
        (r"blocks/(out|down)/kernel$", (None, "model", "fsdp")),
        *OUTSIDE_BLOCKS,
    ),
}


def make_mesh(sizes: Mapping[str, int], devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh with the axes replica, fsdp and model; one size may be -1, which takes the rest of the devices.

    If devices lie in several slices, which a slower network connects, `replica` is divided among the slices, or `fsdp`
    if the number of slices does not divide `replica`.
    """
    devices = jax.devices() if devices is None else devices
    for name in sizes:
        if name not in AXES:
            raise ValueError(f"mesh has no axis {name!r}; {nearest(name, AXES)}")
    shape = [sizes.get(name, 1) for name in AXES]
    known = math.prod(size for size in shape if size != -1)
    if shape.count(-1) > 1 or min(shape) < -1 or 0 in shape:
        raise ValueError(f"mesh {dict(sizes)}: sizes are positive, and one at most is -1")
    if -1 in shape and len(devices) % known == 0:
        shape[shape.index(-1)] = len(devices) // known
    if math.prod(shape) != len(devices):
        raise ValueError(f"mesh {dict(zip(AXES, shape, strict=True))} does not hold the {len(devices)} devices here")
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices == 1:
        return jax.make_mesh(tuple(shape), AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)
    along = next((axis for axis in range(len(BATCH_AXES)) if shape[axis] % slices == 0), None)
    if along is None:
        raise ValueError(f"mesh {dict(zip(AXES, shape, strict=True))}: {slices} slices divide neither replica nor fsdp")
    between = [slices if axis == along else 1 for axis in range(len(AXES))]
    within = [size // count for size, count in zip(shape, between, strict=True)]
    grid = mesh_utils.create_hybrid_device_mesh(within, between, devices)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 3)


def check_batch(batch_size: int, mesh: Mesh, micro_batches: int = 1) -> None:
    """Check that the micro-batches of a global batch can be split over the mesh. Raises ValueError if not."""
    devices = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    parts = devices * micro_batches
    if batch_size < 1:
        raise ValueError(f"data.batch_size is at least 1, not {batch_size}")
    if micro_batches < 1:
        raise ValueError(f"data.micro_batches is at least 1, not {micro_batches}")
    if batch_size % parts:
        times = f" times the {micro_batches} micro-batches" if micro_batches > 1 else ""
        raise ValueError(
            f"data.batch_size {batch_size} is not divisible by the {devices} devices that the batch is split "
            f"over{times}; the nearest that is: {max(1, round(batch_size / parts)) * parts}"
        )


def rules_of(name: str, of_encoder: Mapping[str, Rules], more: Rules = ()) -> Rules:
    """The rules of a sharding: further rules of a config first, then those that the encoder brings, then `RULES`.

    The encoder's are for paths below `encoder`, and below `teacher`, as objectives call a copy of the encoder.

    Raises ValueError if there is no sharding of that name.
    """
    if name not in RULES and name not in of_encoder:
        raise ValueError(f"sharding has no rule set {name!r}; {nearest(name, {*RULES, *of_encoder})}")
    own = ((rf"^(?=(.*/)?(encoder|teacher)/).*?({pattern})", axes) for pattern, axes in of_encoder.get(name, ()))
    return (*more, *own, *RULES.get(name, ()))


def check_rules(more: Rules, tree: Tree) -> None:
    """Check the rules that a config adds, `sharding_rules`, against the state that they are for.

    Raises ValueError if a pattern is no regex or matches no path, axes are not those of the mesh or stand twice, or no
    array that matches has as many axes.
    """
    arrays = flat(tree)
    for pattern, axes in more:
        require_match(pattern, arrays, "sharding_rules")
        if axes == LARGEST:
            continue
        named = [axis for axis in axes if axis is not None]
        for axis in named:
            if axis not in AXES:
                raise ValueError(f"sharding_rules has {pattern!r} with mesh axis {axis!r}; {nearest(str(axis), AXES)}")
            if named.count(axis) > 1:
                raise ValueError(f"sharding_rules has {pattern!r} with mesh axis {axis!r} more than once")
        shapes = {path: array.shape for path, array in arrays.items() if re.search(pattern, path)}
        if len(axes) not in map(len, shapes.values()):
            path, shape = next(iter(shapes.items()))
            raise ValueError(
                f"sharding_rules has {pattern!r} with {len(axes)} axes, which no array has that it matches: "
                f"{path} is of shape {shape}"
            )


def shardings(tree: Tree, mesh: Mesh, rules: Rules) -> Tree:
    """A sharding for each leaf of a tree, by its path. Raises ValueError if an axis cannot be split evenly."""

    def one(path: tuple, leaf: Any) -> NamedSharding:
        name = path_of(path)
        matching = (axes for pattern, axes in rules if re.search(pattern, name))
        axes = next((axes for axes in matching if axes == LARGEST or len(axes) == leaf.ndim), ())
        if axes == LARGEST:
            axes = largest_axis(leaf.shape, mesh.shape["fsdp"])
        for index, axis in enumerate(axes):
            if axis is not None and leaf.shape[index] % mesh.shape[axis]:
                raise ValueError(
                    f"{name} of shape {leaf.shape} cannot be split {mesh.shape[axis]} ways along axis {index}; "
                    f"choose another mesh or --config.sharding=replicated"
                )
        return NamedSharding(mesh, PartitionSpec(*axes))

    return jax.tree_util.tree_map_with_path(one, tree)


def placed(shapes: Tree, shardings: Tree | NamedSharding) -> Tree:
    """A tree of shapes with their shardings, given for each leaf or one for all."""
    if isinstance(shardings, NamedSharding):
        shardings = jax.tree.map(lambda _: shardings, shapes)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)


def largest_axis(shape: tuple[int, ...], parts: int) -> tuple[str | None, ...]:
    """Mesh axes that split the largest axis of an array into `parts`; none if no axis divides."""
    dividing = [index for index, size in enumerate(shape) if size % parts == 0]
    best = max(dividing, key=lambda index: shape[index], default=None)
    return tuple("fsdp" if index == best else None for index in range(len(shape)))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding that puts a copy of the whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding that splits axis 0 over the batch axes of the mesh."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def batch_shapes(example: Mapping[str, Any], size: int, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the global batches of `size` examples like this one."""
    shapes = {
        name: jax.ShapeDtypeStruct((size, *x.shape), jax.dtypes.canonicalize_dtype(x.dtype))
        for name, x in example.items()
    }
    return placed(shapes, batch_sharding(mesh))


def global_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Global arrays over all devices, to which each process contributes its own rows of the batch."""
    sharding = batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}
