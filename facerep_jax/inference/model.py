"""An encoder in use: batches of faces over all devices, their features, and what was learnt to predict from these."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float
from tqdm import tqdm

from facerep_jax.data.arrays import ahead
from facerep_jax.data.transforms import Lacking, Transform
from facerep_jax.evaluation.cache import rounded
from facerep_jax.evaluation.devices import count_of, everywhere, mesh_of, spread
from facerep_jax.inference import faces as sources
from facerep_jax.inference import loading
from facerep_jax.inference.crops import Crop, cropped
from facerep_jax.inference.faces import Boxes, Face, Pictures
from facerep_jax.inference.loading import BOX, WHOLE, Loaded
from facerep_jax.suggestions import nearest
from facerep_jax.typing import Features, Named, View

BATCH = 64  # faces of a batch
THREADS = 8  # that read pictures
POOLED = "pooled"
Keep = Callable[[np.ndarray], Any]  # what is kept of a picture, from its pixels


class Seen(NamedTuple):
    """A face that was read, and what it came to."""

    face: Face
    crop: Crop
    box: np.ndarray | None  # of the face in the picture, if it is known
    kept: Any  # what `keep` made of the picture
    outputs: Mapping[str, np.ndarray] = {}


class Skipped(NamedTuple):
    """A face that was not read, and why."""

    id: str
    reason: str


class Model:
    """An encoder that can be given pictures; if it comes from an evaluation, with what that learnt.

    Args:
        loaded: what `loading.load` gives.
        devices: that compute, 0 for all.
        batch_size: faces of a batch, at most.
    """

    def __init__(self, loaded: Loaded, *, devices: int = 0, batch_size: int = BATCH):
        if batch_size < 1:
            raise ValueError(f"batch_size is at least 1, not {batch_size}")
        self.loaded, self.devices, self.batch_size = loaded, count_of(devices), batch_size
        graph, state = nnx.split((loaded.encoder, loaded.task))
        self._state, rounds = state, loaded.rounds

        def outputs(state: Any, images: Array, names: tuple[str, ...], predicts: bool) -> dict[str, Array]:
            encoder: Any
            task: Any
            encoder, task = nnx.merge(graph, state)
            taps = {tap for name in names if (tap := tap_of(name)) is not None}
            wanted = tuple(sorted(taps | set(task.taps if predicts else ())))
            features: Features = encoder(View(images, taps=wanted))
            found = {name: part(features, name).astype(jnp.float32) for name in names}
            if predicts:
                seen = {"image": rounded(features) if rounds else features}
                found["prediction"] = task.predict(seen, {"image": images})
            return found

        self._outputs = jax.jit(outputs, static_argnums=(2, 3))

    def embed(self, pictures: Pictures, boxes: Boxes | None = None) -> Float[np.ndarray, "n d"]:
        """The pooled feature of each picture, or of a box [x0, y0, x1, y1] in it.

        Raises:
            ValueError: a picture cannot be read.
        """
        return self.features(pictures, boxes)[POOLED]

    def features(
        self,
        pictures: Pictures,
        boxes: Boxes | None = None,
        names: Sequence[str] = (POOLED,),
    ) -> dict[str, np.ndarray]:
        """Features by name, see `check_names`, in float32."""
        self.check_names(names)
        seen = self._strictly(pictures, boxes, names=tuple(names), predicts=False)
        return {name: np.stack([each.outputs[name] for each in seen]) for name in names}

    def predict(self, pictures: Pictures, boxes: Boxes | None = None) -> list[dict[str, Any]]:
        """What was learnt to predict of each picture, or of a box in it: points and masks in pixels of the picture.

        Raises:
            ValueError: a picture cannot be read, or nothing was learnt that predicts.
        """
        self.require_task()
        return [self.told(each) for each in self._strictly(pictures, boxes, names=(), predicts=True)]

    def require_task(self) -> Any:
        """The task that was learnt. Raises ValueError if there is none."""
        if self.loaded.task is None:
            raise ValueError(
                f"{self.loaded.name} holds nothing that predicts: give the workdir of a facerep evaluate that learnt a "
                "task and keeps it (config.keep)"
            )
        return self.loaded.task

    def told(self, seen: Seen) -> dict[str, Any]:
        """A prediction with names, by feature; points and masks in pixels of the picture."""
        task, prediction = self.require_task(), seen.outputs["prediction"]
        if task.label == "landmarks":
            return {"landmarks": seen.crop.back(prediction)}
        if task.label == "mask":
            return {"mask": seen.crop.classes_back(prediction)}
        if isinstance(task, Named):
            return task.named(prediction, self.loaded.meta)
        return {task.label: prediction.tolist()}

    def check_names(self, names: Sequence[str]) -> None:
        """Check names of features: `pooled`, `tokens`, `cls`, and `mapN`, the map that stage N leaves, from 0.

        Raises ValueError if there is no such feature.
        """
        stages = self.loaded.encoder.stages
        known = (POOLED, "tokens", "cls", *(f"map{stage}" for stage in range(stages)))
        for name in names or ("",):
            if name not in known:
                raise ValueError(f"no feature {name!r} of an encoder of {stages} stages; {nearest(name, known)}")

    def run(
        self,
        faces: Sequence[Face],
        transforms: Sequence[Transform],
        *,
        names: tuple[str, ...] = (),
        predicts: bool = False,
        keep: Keep = lambda pixels: None,
        what: str = "faces",
    ) -> Iterator[Seen | Skipped]:
        """All faces in order, with their outputs; those that cannot be read are skipped.

        Batches are of one size, of a power of two, and are read while the one before them is computed.
        """
        size = min(self.batch_size, 2 ** max(len(faces) - 1, 0).bit_length())
        size = -(-size // self.devices) * self.devices if size >= self.devices else size
        mesh = mesh_of(self.devices, size)
        state = everywhere(self._state, mesh)
        with ThreadPoolExecutor(THREADS) as pool, tqdm(total=len(faces), desc=what, unit=" faces", disable=None) as bar:

            def read(face: Face) -> Seen | Skipped:
                return seen_of(face, transforms, keep)

            starts = range(0, len(faces), size)
            for batch in ahead(list(pool.map(read, faces[start : start + size])) for start in starts):
                there = [each for each in batch if isinstance(each, Seen)]
                outputs: dict[str, np.ndarray] = {}
                if there:
                    images = np.stack(
                        [each.crop.image for each in there] + [there[-1].crop.image] * (size - len(there))
                    )
                    spread_out = spread({"image": images}, mesh)["image"]
                    outputs = jax.device_get(self._outputs(state, spread_out, names, predicts))
                places = iter(range(len(there)))
                for each in batch:
                    if isinstance(each, Seen):
                        place = next(places)
                        yield each._replace(outputs={name: x[place] for name, x in outputs.items()})
                    else:
                        yield each
                bar.update(len(batch))

    def _strictly(self, pictures: Pictures, boxes: Any, **wanted: Any) -> list[Seen]:
        """`run` on pictures that must all be readable."""
        if isinstance(pictures, str | Path) or (isinstance(pictures, np.ndarray) and pictures.ndim != 4):
            raise ValueError("a sequence of images is expected, not one: [image]")
        faces = sources.in_memory(pictures, boxes)
        if not faces:
            raise ValueError("there are no images")
        found = []
        for each in self.run(faces, self.loaded.transforms(WHOLE if boxes is None else BOX), **wanted):
            if isinstance(each, Skipped):
                raise ValueError(f"{each.id}: {each.reason}")
            found.append(each)
        return found


def load(path: str | Path, **settings: Any) -> Model:
    """A `Model` from a path: an evaluation's workdir, WORKDIR[@STEP] of a pre-training, or FILE[@LAYOUT] of weights.

    Args:
        settings: those of `loading.load`, and `devices` and `batch_size` of `Model`.
    """
    own = {name: settings.pop(name) for name in ("devices", "batch_size") if name in settings}
    return Model(loading.load(str(path), **settings), **own)


def seen_of(face: Face, transforms: Sequence[Transform], keep: Keep) -> Seen | Skipped:
    """A face read and cropped, or why it cannot be."""
    try:
        example = face.read()
    except Exception as error:  # whatever a decoder says of broken bytes
        return Skipped(face.id, " ".join(str(error).split()) or type(error).__name__)
    try:
        crop = cropped(example, transforms)
    except Lacking as error:
        return Skipped(face.id, str(error))
    box = example.get("bbox")
    return Seen(face, crop, None if box is None or not np.isfinite(box).all() else box, keep(example["image"]))


def tap_of(name: str) -> int | None:
    """The stage whose map a feature is; None if it is no map."""
    return int(name.removeprefix("map")) if name.startswith("map") else None


def part(features: Features, name: str) -> Array:
    """A feature by its name. Raises ValueError if the encoder has none of this name."""
    found = features.maps[tap] if (tap := tap_of(name)) is not None else getattr(features, name)
    if found is None:
        raise ValueError(f"the encoder has no {name}")
    return found
