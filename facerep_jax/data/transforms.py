"""What happens to one example on the host: `transform(example, rng) -> example`, on dicts of NumPy arrays.

Whatever moves the image moves its mask, landmarks, box, vertices and camera with it, as far as they are there. Other
features, which a data set names in `more`, stay as they are, but for those whose names end in `_px`. These are in
pixels and are left out as soon as the image moves: nothing here knows how to move them.

Pixel coordinates: x right, y down, the centre of the first pixel is (0, 0), so that a whole image is the box
[-0.5, -0.5, w - 0.5, h - 0.5].
"""

import html
import io
import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Protocol, runtime_checkable

import ftfy
import instant_clip_tokenizer
import numpy as np
import simplejpeg
from jaxtyping import Bool, Float, Int32, UInt8
from PIL import Image

from facerep_jax.data.features import MISSING_CLASS
from facerep_jax.data.records import Example

PADDED = 8  # times the image's or the crop's pixels, above which no image is padded to its box
START = 49_406  # CLIP's start-of-text token; the end-of-text token is the next and last

CAPTION_LETTERS = 20_000  # of a caption that are looked at
TOKEN_LETTERS = 32  # none of CLIP's tokens has more letters
SPECIAL = re.compile("<(?=(start|end)_of_text>)", re.IGNORECASE)  # of what the tokenizer takes for a token of its own

# What captions call the sides: words that begin with left or right, "(L) and (R)", and what others are often called.
# Not what only begins alike: health (sağlık), government (правительство), a lion (лев), who went on stage (오른).
SIDES = re.compile(
    r"(?<![a-z0-9])((left|right)[a-z]*|(anti|counter)?-?clockwise"
    r"|gauche|droite|links|rechts|izquierd[oa]|derech[oa]|esquerd[oa]|direit[oa]|sinistr[oa]|destr[oa]"
    r"|kiri(nya)?|kanan(nya)?|sağ(a|lak|da\w*|ı([mn]\w*)?)?|sol(ak|da(n|ki\w*)?|u[mn](a|u|da\w*)))(?![a-z])"
    r"|(?<![a-z0-9'\u2019.])[lr](?![a-z0-9'\u2019])"
    r"|^(?=.*(?-i:[ğışĞİŞ])).*(?<![a-z0-9])sola?(?![a-z])"  # in Turkish; in Spanish it is the sun
    r"|(?<![а-яё])(с(лева|права)|(в|на)(лево|право)"
    r"|(лев|прав)(ый|ая|о[ейм]|ого|ому|ую|ы[ехм]|ыми|ее|(ш|орук|осторон)[а-яё]*))(?![а-яё])"
    r"|左|右|왼|오른 ?([쪽편손발팔눈귀볼뺨]|다리|어깨)|[좌우]측|좌우"
    r"|يسار(?!ع)|يمين|يسرى|يمنى|ال[أا]ي(سر|من)",
    re.IGNORECASE,
)


@runtime_checkable
class Transform(Protocol):
    """What is done to an example. All that is random comes from `rng`."""

    reads: tuple[str, ...] | None  # features that are looked at, beside id and image; None for all

    def __call__(self, example: Example, rng: np.random.Generator) -> Example: ...


def decode(example: Example) -> Example:
    """The example with `image` as uint8 RGB (h, w, 3) and `mask` as uint8 (h, w), which were encoded bytes."""
    decoded = dict(example)
    decoded["image"] = decode_image(example["image"])
    if "mask" in example:
        decoded["mask"] = decode_image(example["mask"], "L")
    return decoded


def decode_image(encoded: bytes, mode: str = "RGB") -> UInt8[np.ndarray, "..."]:
    """Pixels of a JPEG or PNG file; ValueError if they cannot be read."""
    if mode == "RGB" and simplejpeg.is_jpeg(encoded):
        return simplejpeg.decode_jpeg(encoded, colorspace="RGB")
    with Image.open(io.BytesIO(encoded)) as image:
        return np.array(image.convert(mode))


class Lacking(ValueError):
    """An example lacks what a transform reads, which others of its data set have; it is to be left out."""

    def __init__(self, example: Mapping[str, Any], found: str):
        super().__init__(f"record {text_of(example['id'])!r} {found}")


class Resize:
    """The whole image as a square of `size` pixels."""

    reads = ()

    def __init__(self, *, size: int):
        self.size = size

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        h, w = example["image"].shape[:2]
        return crop(example, (-0.5, -0.5, w - 0.5, h - 0.5), self.size)


class RandomResizedCrop:
    """A random box of the image as a square of `size` pixels.

    Source: torchvision.transforms.RandomResizedCrop: area and log aspect ratio uniform, ten tries, then the centre.

    Args:
        scale: least and largest area, as a share of the image's.
        ratio: least and largest width / height.
    """

    reads = ()

    def __init__(self, *, size: int, scale: tuple[float, ...] = (0.9, 1.0), ratio: tuple[float, ...] = (0.75, 4 / 3)):
        self.size, self.scale, self.ratio = size, tuple(scale), tuple(ratio)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        h, w = example["image"].shape[:2]
        return crop(example, self.box(h, w, rng), self.size)

    def box(self, h: int, w: int, rng: np.random.Generator) -> tuple[float, float, float, float]:
        """A box inside an image of h x w pixels, its edges between pixels."""
        low, high = (math.log(r) for r in self.ratio)
        for _ in range(10):
            area = h * w * rng.uniform(self.scale[0], self.scale[1])
            aspect = math.exp(rng.uniform(low, high))
            bw, bh = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < bw <= w and 0 < bh <= h:
                x, y = int(rng.integers(0, w - bw + 1)), int(rng.integers(0, h - bh + 1))
                return x - 0.5, y - 0.5, x + bw - 0.5, y + bh - 0.5
        bw, bh = min(w, round(h * self.ratio[1])), min(h, round(w / self.ratio[0]))
        x, y = (w - bw) // 2, (h - bh) // 2
        return x - 0.5, y - 0.5, x + bw - 0.5, y + bh - 0.5


class CropToBox:
    """The example's own box, `bbox`, enlarged by a margin on each side, as a square of `size` pixels.

    Args:
        margin: share of the box's width and height that is added on each side; what lies outside the image is black.
        shift: largest random shift to either side, as a share of the enlarged box.
        zoom: largest random change of its width and height together, as a share of them.
        whole: whether the box is the whole image, without a margin, in place of the example's `bbox`.
    """

    def __init__(self, *, size: int, margin: float = 0.0, shift: float = 0.0, zoom: float = 0.0, whole: bool = False):
        self.size, self.shift, self.zoom, self.whole = size, shift, zoom, whole
        self.margin = 0.0 if whole else margin
        self.reads = () if whole else ("bbox",)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        x0, y0, x1, y1 = whole_box(example) if self.whole else box_of(example, "CropToBox")
        grow = 1 + 2 * self.margin
        right, down, zoom = rng.uniform(-1, 1, 3)
        w, h = grow * (x1 - x0), grow * (y1 - y0)
        x, y = (x0 + x1) / 2 + self.shift * right * w, (y0 + y1) / 2 + self.shift * down * h
        w, h = (side * (1 + self.zoom * zoom) for side in (w, h))
        return crop(example, (x - w / 2, y - h / 2, x + w / 2, y + h / 2), self.size)


class Flip:
    """The example in a mirror, with a probability, unless one of its captions speaks of sides.

    What has sides of its own is mirrored by the permutations in the data set's meta: `landmarks.flip` (for `landmarks`,
    `visible`, `landmarks_3d`), `mask_flip`, `attribute_flip`, `action_unit_flip`, `vertex_flip`. An annotation without
    its permutation cannot be told from its mirror image: it is left out of all examples, mirrored or not. The camera
    becomes that of the mirrored head, whose left is at positive x where its right was: rotations stay rotations. Yaw
    and roll of a `head_pose` change their signs. A data set's other own features stay as they are, but for those in
    pixels, which are left out of all examples too.

    Args:
        captions: the features that are searched for words such as left and right.
        meta: of the data set.
    """

    def __init__(self, *, probability: float = 0.5, captions: tuple[str, ...] = ("caption",), meta: Mapping[str, Any]):
        self.probability, self.captions = probability, tuple(captions)
        self.reads = self.captions
        points = meta.get("landmarks", {}).get("flip")
        given = dict.fromkeys(("landmarks", "visible", "landmarks_3d"), points)
        given |= {"mask": meta.get("mask_flip"), "vertices": meta.get("vertex_flip")}
        given |= {"attributes": meta.get("attribute_flip"), "action_units": meta.get("action_unit_flip")}
        self.permutations = {name: None if flip is None else np.array(flip, int) for name, flip in given.items()}

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        example = {k: v for k, v in movable(example).items() if self.permutations.get(k, ()) is not None}
        if rng.random() >= self.probability or any(
            SIDES.search(cleaned(caption)) for name in self.captions for caption in captions_of(example.get(name, ()))
        ):
            return example
        return mirrored(example, self.permutations)


def mirrored(example: Example, permutations: Mapping[str, Any]) -> Example:
    """The example in a mirror; `permutations` say which part, point or attribute becomes which, by feature."""
    flipped = {name: value[permutations[name]] for name, value in example.items() if name in permutations}
    flipped["image"] = np.ascontiguousarray(example["image"][:, ::-1])
    last = example["image"].shape[1] - 1
    if "mask" in example:
        classes = np.arange(256, dtype=np.uint8)
        classes[: len(permutations["mask"])] = permutations["mask"]
        flipped["mask"] = classes[example["mask"][:, ::-1]]
    for name in flipped.keys() & {"landmarks", "landmarks_3d", "vertices"}:
        flipped[name][:, 0] = last - flipped[name][:, 0]
    if "bbox" in example:
        x0, y0, x1, y1 = example["bbox"]
        flipped["bbox"] = np.array([last - x1, y0, last - x0, y1], np.float32)
    if "camera" in example:
        flipped["camera"] = example["camera"] * np.array([[1, -1, -1, -1], [-1, 1, 1, 1], [-1, 1, 1, 1]], np.float32)
        flipped["camera"][0, 3] += last
    if "head_pose" in example:
        flipped["head_pose"] = example["head_pose"] * np.array([-1, 1, -1], np.float32)
    if "masked" in example:
        side = math.isqrt(len(example["masked"]))
        flipped["masked"] = example["masked"].reshape(side, side)[:, ::-1].reshape(-1)
    return {**example, **flipped}


class Tokenize:
    """`text` from captions: one of them at random, as `tokens` gives it; `truncated` says whether it was cut.

    Args:
        length: number of tokens.
        buckets: size of a smaller vocabulary, see `tokens`.
        feature: the captions' name.
    """

    def __init__(self, *, length: int = 77, buckets: int = 0, feature: str = "caption"):
        self.length, self.buckets, self.feature = length, buckets, feature
        self.reads = (feature,)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        require(example, self.feature, "Tokenize")
        captions = [caption for caption in captions_of(example[self.feature]) if caption.strip()]
        if not captions:
            raise Lacking(example, f"has no {self.feature}")
        text, truncated = tokens(captions[rng.integers(len(captions))], self.length, self.buckets)
        return {**example, "text": text, "truncated": np.bool_(truncated)}


def tokens(caption: str, length: int = 77, buckets: int = 0) -> tuple[Int32[np.ndarray, " length"], bool]:
    """A caption in CLIP's tokens, padded with zeros, and whether it was cut to `length`.

    Too long a caption keeps the end-of-text token last. Captions are cleaned as CLIP does, see `cleaned`. One that
    spells the start or end token, `<end_of_text>`, is text like any other.

    Args:
        buckets: size of a smaller vocabulary that ids are folded into, 0 for CLIP's own. Words then share ids, which
            costs little where captions use few, and the embedding table of a small text tower no longer dominates a
            training step. The start and end tokens keep ids of their own, the two largest.
    """
    ids = clip_tokenizer().encode(SPECIAL.sub("< ", cleaned(caption)[: length * TOKEN_LETTERS]))
    kept = [START, *ids[: length - 2], START + 1]
    text = np.zeros(length, np.int32)
    text[: len(kept)] = kept
    return folded(text, buckets), len(ids) > length - 2


def folded(text: Int32[np.ndarray, "..."], buckets: int) -> Int32[np.ndarray, "..."]:
    """CLIP's tokens in a smaller vocabulary, see `tokens`; as they are if `buckets` is 0."""
    if not buckets:
        return text
    return np.where(text >= START, text - START + buckets - 2, text % (buckets - 2))


def cleaned(caption: str) -> str:
    """A caption as CLIP's tokenizer cleans it: mended by ftfy, unescaped twice, white space collapsed.

    Source: openai/CLIP, simple_tokenizer.py, basic_clean and whitespace_clean.
    Changed: no more than `CAPTION_LETTERS` are looked at, which are far more than fit into 77 tokens.
    """
    if len(caption) > CAPTION_LETTERS:
        caption = " ".join(caption.split())[:CAPTION_LETTERS]
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(caption))).split())


@cache
def clip_tokenizer() -> instant_clip_tokenizer.Tokenizer:
    """CLIP's tokenizer, one per process: it cannot be sent to workers."""
    return instant_clip_tokenizer.Tokenizer()


class BlockMask:
    """`masked`, bool (rows * columns,): patches to mask, in blocks.

    Source: BEiT's masking generator (2106.08254): blocks of random area and aspect ratio are added until `count`
    patches are masked or ten tries in a row fail, so that the count is at most `count`, often a little less.

    Args:
        grid: patches of a side.
        count: the most patches to mask.
        min_block: least area of a block, in patches.
        min_aspect: least aspect ratio; the largest is its inverse.
    """

    reads = ()

    def __init__(self, *, grid: int = 14, count: int = 75, min_block: int = 16, min_aspect: float = 0.3):
        if not 0 < count <= grid * grid:
            raise ValueError(f"BlockMask: count {count} is not within the {grid} x {grid} patches of the grid")
        if not 0 < min_block <= count or min_block > (grid - 1) ** 2:
            raise ValueError(
                f"BlockMask: no block of at least {min_block} of the {grid} x {grid} patches fits in {count}"
            )
        self.grid, self.count, self.min_block = grid, count, min_block
        self.log_aspect = (math.log(min_aspect), math.log(1 / min_aspect))

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        return {**example, "masked": self.draw(rng).reshape(-1)}

    def draw(self, rng: np.random.Generator) -> Bool[np.ndarray, "grid grid"]:
        mask = np.zeros((self.grid, self.grid), bool)
        while (remaining := self.count - mask.sum()) > 0:
            if not any(self.add_block(mask, int(remaining), rng) for _ in range(10)):
                break
        return mask

    def add_block(self, mask: Bool[np.ndarray, "grid grid"], remaining: int, rng: np.random.Generator) -> bool:
        """Try to mask one more block; whether it added between 1 and `remaining` patches, and so was kept."""
        area = self.min_block + (remaining - self.min_block) * rng.random()
        aspect = math.exp(rng.uniform(self.log_aspect[0], self.log_aspect[1]))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if h >= self.grid or w >= self.grid:
            return False
        top, left = rng.integers(0, self.grid - h + 1), rng.integers(0, self.grid - w + 1)
        block = mask[top : top + h, left : left + w]
        if not 0 < block.size - block.sum() <= remaining:
            return False
        block[:] = True
        return True


def crop(example: Example, box: tuple[float, float, float, float], size: int) -> Example:
    """A box (x0, y0, x1, y1) of the example as a square of `size` pixels, with everything that lies in the image.

    The image is resized by an antialiased bicubic filter, the mask by its nearest pixels. `landmarks_scale` (2,) keeps
    how many pixels of the original one pixel of the result is wide and high, for errors in pixels of the original.
    """
    x0, y0, x1, y1 = box
    scale = np.array([(x1 - x0) / size, (y1 - y0) / size])
    moved = placed(example, np.diag(1 / scale), -np.array([x0, y0]) / scale - 0.5, depth=1 / scale.mean())
    moved["image"] = resample(example["image"], box, size, Image.Resampling.BICUBIC, 0)
    if "mask" in example:
        moved["mask"] = resample(example["mask"], box, size, Image.Resampling.NEAREST, MISSING_CLASS)
    moved["landmarks_scale"] = (example.get("landmarks_scale", np.ones(2)) * scale).astype(np.float32)
    return moved


def placed(
    example: Example, matrix: Float[np.ndarray, "2 2"], offset: Float[np.ndarray, "2"], *, depth: float = 1.0
) -> Example:
    """The example with its annotations where a point p of the image has moved to matrix @ p + offset.

    Depths are multiplied by `depth`. A box becomes the one around its moved corners. Image and mask stay as they are.
    """
    result = movable(example)
    for name in ("landmarks", "landmarks_3d", "vertices"):
        if name in example:
            points = np.array(example[name], np.float32)
            points[:, :2] = points[:, :2] @ matrix.T + offset
            points[:, 2:] *= depth
            result[name] = points
    if "bbox" in example:
        x0, y0, x1, y1 = (float(v) for v in example["bbox"])
        corners = np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]]) @ matrix.T + offset
        result["bbox"] = np.concatenate([corners.min(0), corners.max(0)]).astype(np.float32)
    if "camera" in example:
        space = np.diag([0.0, 0.0, depth])
        space[:2, :2] = matrix
        result["camera"] = (space @ example["camera"]).astype(np.float32)
        result["camera"][:2, 3] += offset
    return result


def movable(example: Example) -> Example:
    """The example without a data set's own features in pixels, whose names end in `_px`."""
    return {name: value for name, value in example.items() if not name.endswith("_px")}


def sampled(
    pixels: UInt8[np.ndarray, "..."],
    matrix: Float[np.ndarray, "2 2"],
    offset: Float[np.ndarray, "2"],
    size: int,
    filter: Image.Resampling,
    outside: int,
) -> UInt8[np.ndarray, "..."]:
    """A square whose point p shows the point matrix @ p + offset of an image, or `outside` beyond it."""
    edge = offset + 0.5 - matrix @ np.full(2, 0.5)  # PIL counts from the edge of the first pixel
    data = (*matrix[0], edge[0], *matrix[1], edge[1])
    image = Image.fromarray(pixels)
    fill = (outside,) * len(image.mode)
    return np.array(image.transform((size, size), Image.Transform.AFFINE, data, filter, fillcolor=fill))


def resample(
    pixels: UInt8[np.ndarray, "..."],
    box: tuple[float, float, float, float],
    size: int,
    filter: Image.Resampling,
    outside: int,
) -> UInt8[np.ndarray, "..."]:
    """A box of an image as a square; what lies outside of the image has the value `outside`.

    Memory is that of the image and of the square, however large the box.
    """
    h, w = pixels.shape[:2]
    x0, y0, x1, y1 = (edge + 0.5 for edge in box)  # PIL counts from the edge of the first pixel
    left, top = max(0, math.ceil(-x0)), max(0, math.ceil(-y0))
    right, bottom = max(0, math.ceil(x1 - w)), max(0, math.ceil(y1 - h))
    if (left + w + right) * (top + h + bottom) > PADDED * max(w * h, size * size):
        return far_away(pixels, (x0, y0, x1, y1), size, filter, outside)
    if left or top or right or bottom:
        widths = ((top, bottom), (left, right), (0, 0))[: pixels.ndim]
        pixels = np.pad(pixels, widths, constant_values=outside)
        x0, y0, x1, y1 = x0 + left, y0 + top, x1 + left, y1 + top
    if (x0, y0, x1, y1) == (0, 0, size, size) == (0, 0, pixels.shape[1], pixels.shape[0]):
        return pixels
    return np.array(Image.fromarray(pixels).resize((size, size), filter, box=(x0, y0, x1, y1)))


def far_away(
    pixels: UInt8[np.ndarray, "..."],
    edges: tuple[float, float, float, float],
    size: int,
    filter: Image.Resampling,
    outside: int,
) -> UInt8[np.ndarray, "..."]:
    """What `resample` gives of a box that is much larger than the image, by the same filters without a padded image.

    `edges` are those of the box, counted from the edge of the first pixel.
    """
    h, w = pixels.shape[:2]
    x0, y0, x1, y1 = edges
    across, down = (weights(*axis, size, filter) for axis in ((x0, x1, w), (y0, y1, h)))
    inside = np.tensordot(down, np.tensordot(across, pixels.astype(np.float32) - outside, (1, 1)), (1, 1))
    return np.clip(np.rint(inside + outside), 0, 255).astype(np.uint8)


def weights(start: float, end: float, count: int, size: int, filter: Image.Resampling) -> Float[np.ndarray, "size n"]:
    """How much each of `count` pixels adds to each of `size` pixels of the way from `start` to `end`.

    Source: Pillow's Resample.c: Keys' cubic of a = -0.5, wider where the image shrinks, of which only the pixels of
    image and frame are summed; or the nearest pixel.
    """
    step = (end - start) / size
    centres = (start + (np.arange(size) + 0.5) * step)[:, None]
    if filter == Image.Resampling.NEAREST:
        return (np.floor(centres) == np.arange(count)).astype(np.float32)
    first, last = min(0, math.floor(start)), max(count, math.ceil(end))  # of the pixels of image and frame
    if step <= 1:
        total = keys(np.arange(first, last) + 0.5 - centres).sum(1, keepdims=True)
    else:
        total = step * (keys_integral((last - centres) / step) - keys_integral((first - centres) / step))
    return (keys((np.arange(count) + 0.5 - centres) / max(step, 1.0)) / total).astype(np.float32)


def keys(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Keys' cubic of a = -0.5."""
    x = np.abs(x)
    return np.where(x < 1, (1.5 * x - 2.5) * x**2 + 1, np.where(x < 2, ((-0.5 * x + 2.5) * x - 4) * x + 2, 0))


def keys_integral(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The integral of `keys` from 0."""
    t = np.minimum(np.abs(x), 2)
    near = ((0.375 * t - 5 / 6) * t**2 + 1) * t
    far = (((-0.125 * t + 5 / 6) * t - 2) * t + 2) * t - 1 / 6
    return np.sign(x) * np.where(t < 1, near, far)


def whole_box(example: Example) -> tuple[float, float, float, float]:
    """The box of the whole image."""
    rows, columns = example["image"].shape[:2]
    return -0.5, -0.5, columns - 0.5, rows - 0.5


def box_of(example: Example, wanted_by: str) -> tuple[float, float, float, float]:
    """The example's `bbox`; raises Lacking if it has none, or one without an area."""
    require(example, "bbox", wanted_by)
    x0, y0, x1, y1 = (float(v) for v in example["bbox"])
    if not x1 > x0 or not y1 > y0:
        raise Lacking(example, f"has no box to crop to: bbox is {example['bbox']}")
    return x0, y0, x1, y1


def require(example: Example, name: str, wanted_by: str) -> None:
    """Raises ValueError if an example lacks a feature that a transform reads."""
    if name not in example:
        raise ValueError(f"{wanted_by} needs the feature {name!r}; the records have: {', '.join(sorted(example))}")


def text_of(value: Any) -> str:
    """A string that records hold as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def captions_of(value: Any) -> list[str]:
    """The captions that a record holds: several, or one."""
    return [text_of(value)] if isinstance(value, str | bytes) else [text_of(caption) for caption in value]
