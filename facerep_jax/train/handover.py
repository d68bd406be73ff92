"""What a checkpoint hands over: its encoder with the encoder's statistics, or a module that its objective offers.

Evaluation, frozen networks, the start of a pre-training and zero-shot tasks all load networks with these functions. A
network is named by WORKDIR[@STEP] of a pre-training, or by FILE[@LAYOUT] of published weights, see
`facerep_jax.weights`.
"""

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from facerep_jax import weights as published
from facerep_jax.config import build, difference
from facerep_jax.files import local_path, read_object
from facerep_jax.suggestions import nearest
from facerep_jax.train import checkpoint, distributed
from facerep_jax.train.model import arrays_of, filled, model_maker
from facerep_jax.train.state import Model, flat, replaced
from facerep_jax.typing import Encoder

PARAMS, AVERAGE = "params", "ema"  # which weights: those of the last step, or their moving average


class Handed(NamedTuple):
    """An encoder, and where it came from."""

    encoder: Encoder
    spec: Mapping[str, Any]  # of the encoder, as plain data
    image_size: int | None  # pixels of a side of the images that it was trained on; None if that is not known
    origin: Mapping[str, Any]  # path, step, weights, digest; written into results


def encoder(name: str, *, weights: str = PARAMS, dtype: str = "float32", remat: str = "none") -> Handed:
    """The encoder of a checkpoint or of a file of published weights.

    Args:
        name: WORKDIR[@STEP] or FILE[@LAYOUT].
        weights: `params`, `ema`, or the name of an encoder that the objective offers, such as a teacher. Published
            weights ignore it.
        dtype, remat: of the encoder that is built.
    """
    if (found := file_of(name)) is not None:
        return from_file(*found, dtype=dtype, remat=remat)
    workdir, step = checkpoint.find(name)
    config = config_of(workdir)
    spec = config["encoder"]
    if weights in (PARAMS, AVERAGE):
        part = "encoder"
    else:
        offers = dict(abstract_model(config).objective.offers)
        if weights not in offers:
            raise ValueError(f"{name} has no weights {weights!r}; {nearest(weights, (PARAMS, AVERAGE, *offers))}")
        part = below_objective(offers[weights])
    arrays = arrays_at(workdir, step, part, average=weights == AVERAGE)
    module = filled(empty_encoder(spec, dtype, remat), arrays, f"the checkpoint {workdir}@{step}")
    origin = {"path": str(workdir), "step": step, "weights": weights, "digest": digest_of(arrays)}
    return Handed(module, spec, image_size_of(workdir, spec), origin)


def offered(name: str, what: str) -> Any:
    """A module that the objective of a pre-training offers, such as a contrastive objective's text tower."""
    workdir, step = checkpoint.find(name)
    objective = abstract_model(config_of(workdir)).objective
    offers = dict(objective.offers)
    if what not in offers:
        raise ValueError(f"the objective of {name} offers {', '.join(offers) or 'nothing'}, not {what!r}")
    module = objective
    for step_down in filter(None, offers[what].split("/")):
        match module:
            case nnx.Dict():
                module = module[step_down]
            case nnx.List():
                module = module[int(step_down)]
            case _:
                module = getattr(module, step_down)
    arrays = arrays_at(workdir, step, below_objective(offers[what]))
    return filled(module, arrays, f"the checkpoint {workdir}@{step}")


def below_objective(path: str) -> str:
    """The path in a model of what lies at a path in its objective; an empty one is the objective itself."""
    return "/".join(filter(None, ("objective", path)))


def file_of(name: str) -> tuple[Path, str] | None:
    """The file and layout that a name means, FILE[@LAYOUT]; None if there is no such file."""
    path, at, layout = name.rpartition("@")
    for file, given in ((name, ""), (path, layout)) if at else ((name, ""),):
        if file and (found := local_path("checkpoint", file)).is_file():
            return found, given
    return None


def from_file(path: Path, layout: str, *, dtype: str, remat: str) -> Handed:
    """The encoder of published weights."""
    theirs, notes = published.contents(path)
    try:
        module = published.load(layout) if layout else published.recognised(theirs)
        try:
            spec, arrays = module.encoder(theirs), module.imported(theirs)
        except ValueError as error:
            raise ValueError(f"{error}{published.suggestion(theirs, layout) if layout else ''}") from None
        encoder = filled(empty_encoder(spec, dtype, remat), arrays, "it")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    name = module.__name__.rpartition(".")[2]
    if distributed.first():
        said = "; ".join((published.report(module, theirs, arrays), *notes))
        print(f"{path}: layout {name}; {said}", file=sys.stderr)
    origin = {"path": str(path), "step": None, "weights": name}
    return Handed(encoder, spec, spec.get("image_size"), {**origin, "digest": digest_of(arrays)})


def for_images_of(handed: Handed, ours: Any) -> Handed:
    """The encoder with learned positions resized for the images that ours is made for, which is said."""
    theirs: Any = handed.encoder
    size, before = getattr(ours, "image_size", None), getattr(theirs, "image_size", None)
    arrays = arrays_of(theirs)
    if not size or not before or size == before or "positions" not in arrays:
        return handed
    arrays["positions"] = theirs.positions_for(*ours.grid((size, size)))
    spec = {**handed.spec, "image_size": size}
    encoder = filled(empty_encoder(spec, theirs.dtype, theirs.remat), arrays, "it")
    if distributed.first():
        print(f"{handed.origin['path']}: positions for {before} pixels resized for {size}", file=sys.stderr)
    return handed._replace(encoder=encoder, spec=spec, image_size=size)


def require_same_settings(theirs: Encoder, ours: Any, name: str) -> None:
    """Check that a network whose arrays fit another's also computes the same, such as with as many heads.

    Raises ValueError, which calls the network that arrays are taken from `name`, if a setting differs. Types of
    products, rematerialisation and what the encoder says does `no_matter` may differ.
    """
    there, here = settings(theirs), settings(ours)
    lines = difference(there, here)
    free = {"dtype", "remat", *theirs.no_matter}
    if changes := [line for line in lines if line.partition(": ")[0].rpartition("/")[2] not in free]:
        raise ValueError(f"{name} holds another network than the config's: {'; '.join(changes)}")


def settings(module: Any) -> dict[str, Any]:
    """The numbers, texts, functions and tuples of them that a network has beside its arrays, by path."""
    return {
        "/".join(map(str, (*path, name))): getattr(value, "__qualname__", value)
        for path, part in nnx.iter_modules(module)
        for name, value in vars(part).items()
        if not name.startswith("_") and is_setting(value)
    }


def is_setting(value: Any) -> bool:
    """Whether a value is a number, a text, a function, or a tuple of such."""
    if isinstance(value, tuple):
        return all(map(is_setting, value))
    return value is None or isinstance(value, bool | int | float | str | FunctionType)


def empty_encoder(spec: Mapping[str, Any], dtype: str, remat: str) -> Any:
    """The encoder of a spec, with shapes in place of arrays."""
    return nnx.eval_shape(lambda: build(spec, dtype=dtype, remat=remat, rngs=nnx.Rngs(params=0)))


def arrays_at(workdir: Path, step: int, part: str, *, average: bool = False) -> dict[str, np.ndarray]:
    """The parameters and variables below a path of a checkpoint's model, by their paths relative to it.

    With `average`, arrays that the run averaged come from the average. Raises ValueError if there are none.
    """
    paths = [(kind, *part.split("/")) for kind in ("params", "variables")]
    averages = [("ema", *path) for path in paths] if average else []
    found = checkpoint.load_parts(workdir, step, [*paths, *averages])
    if average and not any(found[len(paths) :]):
        raise ValueError(f"the checkpoint {workdir}@{step} holds no average of weights: its config.ema is 0")
    params, variables, *kept = found
    if average:
        params, variables = kept[0], replaced(variables, kept[1])
    arrays = flat(params) | flat(variables)
    if not arrays:
        raise ValueError(f"the checkpoint {workdir}@{step} holds no {part}")
    return {path: np.asarray(x) for path, x in arrays.items()}


def config_of(workdir: Path) -> dict[str, Any]:
    """The config of a pre-training workdir as plain data, with tuples for lists."""
    path = workdir / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{workdir} has no config.json; give the --workdir of a pre-training")
    return tuples(read_object(path))


def abstract_model(config: Mapping[str, Any]) -> Model:
    """The model of a config, with shapes in place of arrays."""
    return nnx.eval_shape(model_maker(config))


def image_size_of(workdir: Path, spec: Mapping[str, Any]) -> int | None:
    """Side in pixels of the images of a pre-training; None if neither model.json nor the encoder's spec names it."""
    path = workdir / "model.json"
    known = read_object(path) if path.is_file() else {}
    return known.get("image_size", spec.get("image_size"))


def digest_of(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over arrays and their paths."""
    total = hashlib.sha256()
    for path in sorted(arrays):
        total.update(path.encode() + np.asarray(arrays[path]).tobytes())
    return total.hexdigest()


def tuples(value: Any) -> Any:
    """JSON data with tuples for lists, as configs have them."""
    if isinstance(value, dict):
        return {key: tuples(each) for key, each in value.items()}
    return tuple(tuples(each) for each in value) if isinstance(value, list) else value
