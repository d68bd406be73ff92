"""The features that a record may have: names, types, shapes, and how each is written when it is missing.

A feature exists in a data set if any of its records has it. The records that lack it hold the missing value: NaN, -1,
an empty list or text, or 255 in a mask. Pixel coordinates: x right, y down, (0, 0) is the centre of the first pixel.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float32, Int32

MISSING_CLASS = 255  # of the pixels of a mask that are not annotated, or lie outside of the image
ORIGINAL_MASK = "original_mask"  # what a transform may keep of a mask: bytes of a PNG, as it is stored
ALONE = "identities_with_one_image"  # key of the meta: how many have one in the training split; missing if none
SPLITS = ("train", "validation", "test")

# name -> dtype and shape of features that are numbers; a word in a shape stands for a size of the data set
Numbers = Mapping[str, tuple[type, tuple[int | str, ...]]]
NUMBERS: Numbers = {
    "bbox": (np.float32, (4,)),  # x0 y0 x1 y1; a width is x1 - x0
    "landmarks": (np.float32, ("landmarks", 2)),  # x y in pixels
    "visible": (np.int32, ("landmarks",)),  # 0 or 1
    "landmarks_3d": (np.float32, ("landmarks", 3)),  # x y in pixels, z on their scale
    "identity": (np.int32, ()),  # index into meta["identities"]
    "session": (np.int32, ()),  # which of the identity's sessions: pictures of one occasion
    "frame": (np.int32, ()),  # place in the session, in order of time
    "attributes": (np.float32, ("attributes",)),  # in the order of meta["attributes"]
    "action_units": (np.float32, ("action_units",)),  # 0 to 5, in the order of meta["action_units"]
    "expression": (np.int32, ()),  # index into meta["expressions"]
    "valence": (np.float32, ()),  # -1 to 1
    "arousal": (np.float32, ()),  # -1 to 1
    "age": (np.float32, ()),  # years
    "skin_tone": (np.float32, ()),  # individual typology angle in degrees: the higher, the lighter
    "occlusion": (np.float32, ()),  # share of the face's landmarks that something in front of it covers, 0 to 1
    "blur": (np.float32, ()),  # standard deviation of a Gaussian, as a share of the image's side
    "vertices": (np.float32, ("vertices", 3)),  # x y in pixels, z on their scale
    "camera": (np.float32, (3, 4)),  # from the vertices' world to pixels
}
NAMES = ("id", "image", "caption", "oracle_caption", "mask", *NUMBERS)
NO_MORE: Numbers = MappingProxyType({})


def features_dict(
    names: Iterable[str], sizes: Mapping[str, int], more: Numbers = NO_MORE
) -> tfds.features.FeaturesDict:
    """The TFDS features of these names. Images and masks are encoded bytes, which pass through untouched.

    Args:
        names: of `NAMES` and of `more`.
        sizes: of the words in shapes.
        more: features that this vocabulary lacks.
    """
    special = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(None, None, 3)),  # without encoding_format: PNG and JPEG alike
        "caption": tfds.features.Sequence(tfds.features.Text()),
        "oracle_caption": tfds.features.Text(),  # one that tells all there is to tell
        "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
    }
    numbers = {**NUMBERS, **more}

    def feature(name: str) -> tfds.features.FeatureConnector:
        if name in special:
            return special[name]
        dtype, dimensions = numbers[name]
        return tfds.features.Tensor(shape=shape(dimensions, sizes), dtype=dtype)

    return tfds.features.FeaturesDict({name: feature(name) for name in names})


def shape(dimensions: tuple[int | str, ...], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """A shape with the sizes of a data set in place of words."""
    return tuple(sizes[n] if isinstance(n, str) else n for n in dimensions)


def missing(
    name: str, sizes: Mapping[str, int], more: Numbers = NO_MORE
) -> Float32[np.ndarray, "..."] | Int32[np.ndarray, "..."]:
    """The missing value of a feature that is numbers: NaN, or -1 if they are integers."""
    dtype, dimensions = {**NUMBERS, **more}[name]
    return np.full(shape(dimensions, sizes), np.nan if dtype is np.float32 else -1, dtype)


def check_more(more: Numbers) -> None:
    """Checks the features that a data set adds to the vocabulary.

    Raises:
        ValueError: a name is taken or is no identifier, or a type is neither float32 nor int32.
    """
    for name, (dtype, _) in more.items():
        if name in NAMES or not name.isidentifier():
            raise ValueError(f"feature {name!r} must be an identifier that is none of {', '.join(NAMES)}")
        if dtype not in (np.float32, np.int32):
            raise ValueError(f"feature {name!r} must be np.float32 or np.int32, not {dtype}")
