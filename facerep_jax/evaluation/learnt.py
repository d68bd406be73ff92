"""What an evaluation learnt, in a file: the network of the first subset of the labels, for `facerep predict`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx
from ml_collections import ConfigDict

from facerep_jax.config import build_with
from facerep_jax.evaluation.network import Weights
from facerep_jax.evaluation.problem import Problem
from facerep_jax.evaluation.protocols import Protocol
from facerep_jax.suggestions import nearest
from facerep_jax.train.handover import digest_of
from facerep_jax.train.model import arrays_of, filled, path_of_variable
from facerep_jax.train.state import flat
from facerep_jax.typing import Encoder, Frozen, Task

FILE = "learnt.safetensors"
LEARNT, ALL, NOTHING = "learnt", "all", "nothing"
KEEPS = (LEARNT, ALL, NOTHING)  # what was learnt; the encoder too where it was not; no file at all
ABOUT = "facerep_jax"  # key of the file's metadata
BELOW_ENCODER, BELOW_TASK = "encoder/", "objective/"
UNUSED = ("identities", "digest")  # of a data set's meta: names of people are nobody's business here


class Learnt(NamedTuple):
    """What predicts beside an encoder, and what it takes to build it again."""

    arrays: Mapping[str, np.ndarray]  # by path in the network: `objective/...`, and `encoder/...` if that is kept
    seed: int  # of the subset of the labels
    label_shape: tuple[int, ...]  # of one label
    image_size: int  # pixels of a side of the images
    rounds: bool  # whether the head reads features as a cache rounds them
    encoder_digest: str  # SHA-256 of the encoder that the head was put on, before it learnt with it
    meta: Mapping[str, Any]  # of the data set

    @property
    def digest(self) -> str:
        """SHA-256 of the arrays and their paths."""
        return digest_of(self.arrays)

    @property
    def megabytes(self) -> float:
        """Size of the arrays."""
        return sum(x.nbytes for x in self.arrays.values()) / 1e6

    @property
    def told(self) -> dict[str, Any]:
        """What results.json tells of it."""
        return {"file": FILE, "seed": self.seed, "megabytes": round(self.megabytes, 3), "digest": self.digest}

    @property
    def encoder(self) -> dict[str, np.ndarray]:
        """The arrays of the encoder by their paths in it; empty if it is not kept."""
        return below(self.arrays, BELOW_ENCODER)

    def task(self, config: ConfigDict, encoder: Encoder) -> Task:
        """The task of an evaluation's config, with what it learnt. Raises ValueError if that does not fit it."""
        offered = {"label_shape": self.label_shape}
        rngs = nnx.Rngs(params=self.seed)
        task = build_with(config.task, offered, encoder, image_size=self.image_size, meta=self.meta, rngs=rngs)
        given = {path_of_variable(path): x.get_value() for path, x in nnx.to_flat_state(nnx.state(task, Frozen))}
        return filled(task, given | below(self.arrays, BELOW_TASK), FILE)


def check(keep: str) -> None:
    """Raise ValueError if `keep` is none of KEEPS."""
    if keep not in KEEPS:
        raise ValueError(f"keep is {', '.join(KEEPS[:-1])} or {KEEPS[-1]}, not {keep!r}; {nearest(keep, KEEPS)}")


def learnt_by(
    problem: Problem, protocol: Protocol, weights: Weights | None, seed: int, meta: Mapping[str, Any], keep: str
) -> Learnt | None:
    """What is to be kept of a problem that a protocol learnt; None if nothing is, or if nothing was learnt.

    Modules of the task that it names in `only_learns` are left out: nothing is predicted with them, and a task that is
    built for this meta, which names no persons, does not have them.
    """
    if weights is None or keep == NOTHING:
        return None
    only_learns = tuple(f"{BELOW_TASK}{name}/" for name in getattr(problem.task, "only_learns", ()))
    every = {path: x for tree in weights for path, x in flat(tree).items()}
    arrays = {path: np.asarray(x) for path, x in every.items() if not path.startswith(only_learns)}
    if keep == ALL:
        arrays = {f"{BELOW_ENCODER}{path}": np.asarray(x) for path, x in arrays_of(problem.encoder).items()} | arrays
    images, labels = problem.splits["test"]["image"], problem.splits["test"][problem.task.label]
    return Learnt(
        arrays=arrays,
        seed=seed,
        label_shape=tuple(labels.shape[1:]),
        image_size=images.shape[1],
        rounds=bool(getattr(protocol, "rounds_features", False)),
        encoder_digest=digest_of_encoder(problem.encoder),
        meta={name: value for name, value in meta.items() if name not in UNUSED},
    )


def save(learnt: Learnt, path: Path) -> None:
    """Write the file."""
    about = {name: value for name, value in learnt._asdict().items() if name != "arrays"}
    arrays = {name: np.ascontiguousarray(x).reshape(x.shape) for name, x in learnt.arrays.items()}
    path.write_bytes(safetensors.numpy.save(arrays, metadata={ABOUT: json.dumps(about)}))


def load(path: Path, digest: str) -> Learnt:
    """Read a file whose arrays have this digest.

    Raises:
        ValueError: it is damaged, or not that file.
    """
    try:
        with safetensors.safe_open(path, "np") as file:
            about = json.loads((file.metadata() or {})[ABOUT])
            about["label_shape"] = tuple(about["label_shape"])
            found = Learnt(arrays={name: file.get_tensor(name) for name in file.keys()}, **about)  # noqa: SIM118
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged, or was not written by facerep evaluate: {error}") from None
    if found.digest != digest:
        raise ValueError(f"{path} is not what results.json beside it tells of: evaluate again")
    return found


def digest_of_encoder(encoder: Encoder) -> str:
    """SHA-256 of an encoder's arrays and their paths."""
    return digest_of({path: np.asarray(x) for path, x in arrays_of(encoder).items()})


def below(arrays: Mapping[str, np.ndarray], path: str) -> dict[str, np.ndarray]:
    """The arrays whose paths begin with this one, by the rest of their paths."""
    return {name.removeprefix(path): x for name, x in arrays.items() if name.startswith(path)}
