"""Frozen networks: how they get their weights before a run, and the workdir's file that keeps them.

Variables of kind `Frozen` are not part of the training state: a checkpoint holds only the digest of the file. A run
that resumes does not need the files of weights that it began with.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
import safetensors.numpy
from flax import nnx
from jaxtyping import UInt8

from facerep_jax import weights
from facerep_jax.files import write
from facerep_jax.train import handover
from facerep_jax.train.model import arrays_of, filled
from facerep_jax.train.resume import has_begun
from facerep_jax.train.state import Model, abstract, flat, merge, mismatch, path_of, split
from facerep_jax.typing import Frozen, Tree, as_kind

FILE = "frozen.safetensors"
FIT_IMAGES = 2000  # training images that networks are fitted on
RANDOM = "random"  # names the weights of a network that keeps its random start, as a control


@runtime_checkable
class Given(Protocol):
    """A module of an objective that holds a network with weights from elsewhere, such as a tokenizer or a teacher."""

    weights: str  # FILE[@LAYOUT] or WORKDIR[@STEP], see `train.handover`; or `random`
    network: Any  # a module, all of whose variables are `Frozen`


@runtime_checkable
class Fitted(Protocol):
    """A module of an objective that fits its `Frozen` variables to training images before the run."""

    def fit_images(self, images: UInt8[np.ndarray, "b h w 3"]) -> None: ...


def write_frozen(make: Callable[[], Model], examples: Callable[[int], list[Any]], workdir: Path) -> None:
    """Make the frozen networks of a model and write their file, unless the run has it or the model has none.

    The run has begun once there is a config.json; a file without one was left by a start that came to nothing, perhaps
    of another config. Call it under the lock of the workdir. `examples(n)` gives n training examples; it is called only
    if something is fitted.
    """
    path = workdir / FILE
    if path.exists() and has_begun(workdir):
        return
    path.unlink(missing_ok=True)
    graph, params, variables, shapes = abstract(make)
    if not jax.tree.leaves(shapes):
        return
    model = merge(graph, params, variables, jax.jit(lambda: split(make())[3])())
    networks = [(path_of(place), module) for place, module in nnx.iter_modules(model)]
    origins = {name: given_weights(name, module) for name, module in networks if isinstance(module, Given)}
    fitted = [module for _, module in networks if isinstance(module, Fitted)]
    if fitted:
        # A float image may hold a number that is not finite, which would spoil the fit for all others.
        images = np.stack([x["image"] for x in examples(FIT_IMAGES) if np.isfinite(x["image"]).all()])
        for module in fitted:
            module.fit_images(images)
    arrays = {name: np.ascontiguousarray(array) for name, array in flat(split(model)[3]).items()}
    content = safetensors.numpy.save(arrays, {"weights": json.dumps(origins, sort_keys=True)})
    write(path, lambda unfinished: unfinished.write_bytes(content))


def check_given(make: Callable[[], Model]) -> None:
    """Find out whether each network can be given its weights, and write nothing.

    Raises ValueError or FileNotFoundError, which name the network.
    """
    for place, module in nnx.iter_modules(nnx.eval_shape(make)):
        if isinstance(module, Given):
            given_weights(path_of(place), module)


def given_weights(name: str, module: Given) -> str:
    """Give a network its weights and return their origin as text; error messages begin with `name`."""
    if not module.weights:
        raise ValueError(f"{name} has no weights; give a file of weights or a pre-training's WORKDIR[@STEP]")
    if module.weights == RANDOM:
        return RANDOM
    try:
        handed = handover.encoder(module.weights)
        arrays = arrays_of(handed.encoder)
        network = filled(module.network, arrays, module.weights)
        handover.require_same_settings(handed.encoder, network, module.weights)
        module.network = as_kind(network, Frozen)
    except FileNotFoundError:
        message = f"{name}: {module.weights} is neither a file of weights nor a pre-training's WORKDIR[@STEP]"
        raise FileNotFoundError(f"{message} with a checkpoint") from None
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    origin = handed.origin
    at = "" if origin["step"] is None else f"@{origin['step']}"
    return f"{origin['path']}{at} sha256:{origin['digest']}"


def read_frozen(shapes: Tree, workdir: Path) -> tuple[Tree, dict[str, str]]:
    """The frozen networks that a workdir keeps, as a tree like `shapes`, and {file name: digest}.

    Raises:
        FileNotFoundError: if they are not there.
        ValueError: if the file is no safetensors file, or an array is missing, unknown, or of another shape or type.
    """
    path = workdir / FILE
    if not jax.tree.leaves(shapes):
        return shapes, {}
    if not path.is_file():
        raise FileNotFoundError(f"{workdir} has no {FILE}, which holds the frozen networks of its config")
    arrays = weights.read(path)
    if problem := mismatch(arrays, flat(shapes)):
        raise ValueError(f"{path} holds other frozen networks than the config's: {problem}")
    leaves = [arrays[name] for name in flat(shapes)]
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves), dict(digests(workdir))


def digests(workdir: Path) -> Iterator[tuple[str, str]]:
    """Name and SHA-256 of the workdir's file of frozen networks, if there is one."""
    path = workdir / FILE
    if path.is_file():
        yield FILE, hashlib.sha256(path.read_bytes()).hexdigest()
