"""Images to train on that look like images held out for evaluation, by the cosines of an encoder's features.

Hashes (`data.near_duplicates`) find what was resized, encoded anew, mirrored or cropped a little. An encoder finds
more, if it is one that gives copies of a picture more equal features than other faces: from which cosine on two images
are copies is found from what is held out, and whether that finds copies is tried on copies that are planted.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float16, Float32, Int, UInt8
from PIL import Image
from tqdm import tqdm

from facerep_jax.data.arrays import ahead
from facerep_jax.data.library import Dataset
from facerep_jax.data.near_duplicates import TRAIN, Held, blocks, least_bits, records_of, splits_held
from facerep_jax.data.perceptual_hash import squared, views_of
from facerep_jax.data.planted import KINDS
from facerep_jax.data.transforms import CropToBox, decode_image, text_of
from facerep_jax.evaluation.cache import extractor
from facerep_jax.evaluation.devices import count_of
from facerep_jax.evaluation.finite import require_finite
from facerep_jax.inference.loading import Loaded
from facerep_jax.inference.model import THREADS

BLOCK = 512  # images that are read, encoded and compared at a time
COLUMNS = 4096  # of those held out, with which they are compared at a time
SAMPLE = 2000  # images held out, at most, that the least cosine of copies is found from
FEWEST = 20  # of them
SHARE = 0.01  # of images held out that may be taken for copies though they are none
TAIL = 0.1  # of images, those nearest to others, that tell how cosines go on beyond what was seen
NEAREST = 8  # others of an image that are looked at until one is no copy of it
NOTHING = -2.0  # in place of a cosine
PLANTED = 200  # images held out, at most, that are copied
COPIED = 32  # at a time


class Near(NamedTuple):
    """An image to train on, and one that is held out, whose features are near."""

    record: int  # number in the split to train on
    id: str
    row: int  # of the one that is held out
    cosine: float


class Least(NamedTuple):
    """The cosine from which on two images are copies, and what it rests on."""

    cosine: float
    seen: float  # that `SHARE` of images held out reach with another one that is no copy


class Embedder:
    """An encoder that turns whole pictures into vectors of length one, on so many devices; 0 is for all.

    `centre` is subtracted from the vectors before they are made of length one again: what all faces have in common, for
    most encoders a large part, tells no copy from another face.
    """

    def __init__(self, loaded: Loaded, devices: int = 0):
        self.name, self.size = loaded.name, loaded.image_size
        self.centre: Float32[np.ndarray, "d"] | None = None
        self._square = CropToBox(size=self.size, whole=True)
        self._extract = extractor(loaded.encoder, (), count_of(devices))

    def square(self, pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "s s 3"]:
        """What the encoder sees of a picture."""
        return self._square({"id": "", "image": pixels}, np.random.default_rng(0))["image"]

    def vectors(self, images: UInt8[np.ndarray, "n s s 3"], names: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Pooled features, of length one. Raises ValueError, which names images, if some are not finite."""
        features = self._extract(images)["pooled"].astype(np.float32)
        require_finite(features, names)
        found = unit(features)
        return found if self.centre is None else unit(found - self.centre[None])

    def pictures(self, dataset: Dataset, split: str) -> Iterator[tuple[range, list[str], UInt8[np.ndarray, "n s s 3"]]]:
        """All of a split, in blocks which are read while those before them are used: numbers, ids, what is seen."""
        records, todo = records_of(dataset, split, ("id", "image")), blocks(dataset.splits.get(split, 0), BLOCK)

        def read(index: int) -> tuple[str, UInt8[np.ndarray, "s s 3"]]:
            record = records[index]
            return text_of(record["id"]), self.square(decode_image(record["image"]))

        with ThreadPoolExecutor(THREADS) as pool:
            parts = ahead((block, [*pool.map(read, block)]) for block in todo)
            what = f"encoding {dataset.name}"
            for block, seen in tqdm(parts, what, len(todo), unit=f" x {BLOCK} images", leave=False, disable=None):
                yield block, [name for name, _ in seen], np.stack([image for _, image in seen])


def held_vectors(embedder: Embedder, datasets: Sequence[Dataset]) -> Float16[np.ndarray, "2 n d"]:
    """Vectors of the images that `data.near_duplicates.held_out` gives, and of their mirror images.

    Their mean becomes the encoder's centre, unless they are fewer than `FEWEST`.
    """
    found = list[np.ndarray]()
    for dataset in datasets:
        for split in splits_held(dataset):
            for _, ids, images in embedder.pictures(dataset, split):
                names = [f"{dataset.name} {split} {name}" for name in ids]
                ways = [embedder.vectors(each, names) for each in (images, np.ascontiguousarray(images[:, :, ::-1]))]
                found.append(np.stack(ways).astype(np.float16))
    if (count := sum(part.shape[1] for part in found)) >= FEWEST:
        centre = sum(part.sum((0, 1), dtype=np.float64) for part in found) / (2 * count)
        embedder.centre = centre.astype(np.float32)
        found = [unit(part - centre.astype(np.float32)).astype(np.float16) for part in found]
    return np.concatenate(found, axis=1)


def unit(vectors: Float[np.ndarray, "*n d"]) -> Float32[np.ndarray, "*n d"]:
    """Vectors of length one; those of no length stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)


def near_duplicates(
    embedder: Embedder, train: Dataset, held: Float16[np.ndarray, "2 n d"], least: float
) -> Iterator[Near]:
    """All pairs with this cosine or more, in the order of the images to train on."""
    for block, ids, images in embedder.pictures(train, TRAIN):
        vectors = embedder.vectors(images, [f"{train.name} {TRAIN} {name}" for name in ids])
        found = list[Near]()
        for columns, cosine in cosines(vectors, held):
            for i, j in np.argwhere(cosine >= least).tolist():
                found.append(Near(block[i], ids[i], columns[j], float(cosine[i, j])))
        yield from sorted(found)


def cosines(
    vectors: Float[np.ndarray, "r d"], held: Float16[np.ndarray, "2 n d"]
) -> Iterator[tuple[range, Float32[np.ndarray, "r c"]]]:
    """Of images and those held out or their mirror images, whichever are nearer; some columns at a time."""
    rows = vectors.astype(np.float32)
    for some in blocks(held.shape[1], COLUMNS):
        one, other = held[:, some.start : some.stop].astype(np.float32)
        yield some, np.maximum(rows @ one.T, rows @ other.T)


def nearest_others(
    vectors: Float16[np.ndarray, "2 n d"], held: Held, bits: int, most: int = SAMPLE
) -> Float32[np.ndarray, "_"]:
    """Of images held out, the cosine of each with the nearest other one that is no copy.

    Another one is a copy if the hashes differ in `bits` at most; images of the same person are passed over too. Images
    of which nothing is left so are left out.
    """
    rows, found = sampled(len(held.names), most), list[float]()
    for part in (rows[some.start : some.stop] for some in blocks(len(rows), BLOCK)):
        values: list[np.ndarray] = [np.full((len(part), NEAREST), NOTHING, np.float32)]
        places: list[np.ndarray] = [np.zeros((len(part), NEAREST), np.int64)]
        for some, cosine in cosines(vectors[0, part], vectors):
            columns = np.arange(some.start, some.stop)
            cosine[held.of_one_person(part, columns) | (part[:, None] == columns)] = NOTHING
            values, places = [*values, cosine], [*places, np.broadcast_to(columns, cosine.shape)]
            whole = np.concatenate(values, axis=1)
            best = np.argpartition(-whole, NEAREST - 1, axis=1)[:, :NEAREST]
            values = [np.take_along_axis(whole, best, axis=1)]
            places = [np.take_along_axis(np.concatenate(places, axis=1), best, axis=1)]
        for row, near, others in zip(part.tolist(), *values, *places, strict=True):
            left = near[(near > NOTHING) & (held.bits(row, others) > bits)]
            found += [float(left.max())] if len(left) else []
    return np.array(found, np.float32)


def least_cosine(nearest: Float32[np.ndarray, "n"], others: int, train: int) -> Least:
    """The cosine that `SHARE` of images, at most, reach with one of `train` others that are no copies of them.

    Of `others` it is seen. If there are more to train on, the nearest of them are nearer, and how much is told by the
    tail: the share of images with another one within a distance r goes as a power of r, and as the number of others.

    Source: B. M. Hill (1975) for the power, on distances as in "Estimating Local Intrinsic Dimensionality" (Amsaleg et
    al., 2015), equation 4.

    Args:
        nearest: cosines with the nearest of the others.
    """
    count = len(nearest)
    reached = np.sort(np.minimum(nearest.astype(np.float64), 1.0))[::-1]
    seen = cosine = reached[int(SHARE * count)]
    if train > others:
        top = min(max(round(TAIL * count), 10), count - 1)
        far = np.sqrt(np.maximum(2 - 2 * reached[: top + 1], 1e-12))
        inverse_power = np.log(far[top] / far[:top]).mean()
        within = far[top] * (SHARE * others / train / (top / count)) ** inverse_power
        cosine = max(cosine, 1 - within**2 / 2)
    return Least(float(np.nextafter(np.float32(cosine), np.float32(2))), float(seen))


def recalls(
    embedder: Embedder,
    datasets: Sequence[Dataset],
    held: Held,
    vectors: Float16[np.ndarray, "2 n d"],
    *,
    least: float,
    bits: int,
) -> tuple[Mapping[str, tuple[float, float]], int]:
    """Of each kind of copy, the shares that are found by hashes and by cosines; and how many images were copied."""
    places = [
        (dataset, split, index)
        for dataset in datasets
        for split in splits_held(dataset)
        for index in range(dataset.splits[split])
    ]
    rows, found = sampled(len(places), PLANTED), {kind: list[tuple[bool, bool]]() for kind in KINDS}
    parts = [rows[some.start : some.stop] for some in blocks(len(rows), COPIED)]
    for part in tqdm(parts, "trying copies", unit=f" x {COPIED} images", leave=False, disable=None):
        images = [_image(*places[row]) for row in part]
        for kind, copy in KINDS.items():
            copies = [copy(image, np.random.default_rng(int(row))) for image, row in zip(images, part, strict=True)]
            seen = np.stack([embedder.square(np.asarray(each)) for each in copies])
            names = [f"{held.names[row]}, {kind}" for row in part]
            cosine = np.einsum("nd,wnd->wn", embedder.vectors(seen, names), vectors[:, part].astype(np.float32)).max(0)
            for row, near, each in zip(part, cosine, copies, strict=True):
                differ = least_bits(views_of(squared(each.convert("L")))[None], held.views[:, [row]])
                found[kind].append((bool(differ.item() <= bits), bool(near >= least)))
    return {kind: tuple(np.mean(each, axis=0).tolist()) for kind, each in found.items()}, len(rows)


def _image(dataset: Dataset, split: str, index: int) -> Image.Image:
    return Image.fromarray(decode_image(records_of(dataset, split, ("id", "image"))[index]["image"]))


def sampled(count: int, most: int) -> Int[np.ndarray, "_"]:
    """Numbers below `count`, in order: all, or so many of them, always the same."""
    return np.sort(np.random.default_rng(0).choice(count, min(count, most), replace=False))
