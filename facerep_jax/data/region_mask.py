"""Masks of patches that follow the parts of a face."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from facerep_jax.data.features import MISSING_CLASS
from facerep_jax.data.records import Example
from facerep_jax.data.transforms import require

PARTS = (
    ("left_brow", "right_brow"),
    ("left_eye", "right_eye"),
    ("nose",),
    ("upper_lip", "inner_mouth", "lower_lip", "mouth"),
)
SKIN, AROUND = "skin", ("hair", "background")


class RegionMask:
    """`masked`, bool (rows * columns,): patches to mask, of which one part of the face is masked wholly.

    The part is one of brows, eyes, nose, mouth, the face's outline and hair, at random. The outline is where skin meets
    hair or background in a patch. Of each other region, skin and background included, the same share is masked at
    random, such that the number of masked patches is always the same; patches are added or taken away at random where
    rounding misses it. If the part alone has more patches, some of it, at random, stay visible.

    Any objective of masked patches can use it: one that reads `masked`, such as masked tokens, or through
    `models.views.UnmaskedPatches` one that reads the patches that are kept. Put it behind what moves the image.
    Source: CRFR-P of FSFM (2412.12032), collate_fn_crfrp in wolo-wolo/FSFM-CVPR25.
    Changed: each image draws a part of its own, since nothing random here depends on the batch, for which the published
    code draws one. Pixels without an annotation are background, so that a face without a mask is masked at random.

    Args:
        grid: patches of a side.
        share: of the patches that stay visible; at least one does.
        parts: names of the classes of each part; those that a data set lacks are passed over.
        meta: of the data set, with its `classes`.
    """

    reads = ("mask",)

    def __init__(
        self,
        *,
        grid: int = 14,
        share: float = 0.25,
        parts: tuple[tuple[str, ...], ...] = PARTS,
        meta: Mapping[str, Any],
    ):
        if not 0 < share < 1:
            raise ValueError(f"RegionMask: the share of visible patches is above 0 and below 1, not {share}")
        classes = list(meta.get("classes", ()))
        if SKIN not in classes:
            known = ", ".join(classes) or "none"
            raise ValueError(f"RegionMask needs masks of a class {SKIN!r}; the data set's classes are: {known}")
        self.grid, self.count = grid, grid * grid - max(1, int(grid * grid * share))
        self.parts = [found for names in parts if (found := indices(classes, names))]
        if not self.parts:
            raise ValueError(f"RegionMask: none of the parts is a class of the data set: {', '.join(classes)}")
        self.skin, self.hair = indices(classes, (SKIN,)), indices(classes, AROUND[:1])
        self.background = [*indices(classes, AROUND[1:]), MISSING_CLASS]

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        require(example, "mask", "RegionMask")
        regions = self.regions(example["mask"])
        return {**example, "masked": self.draw(regions, int(rng.integers(len(regions) - 2)), rng)}

    def regions(self, mask: UInt8[np.ndarray, "h w"]) -> list[Bool[np.ndarray, "n"]]:
        """Which patches hold each region: the parts, the outline, hair, skin and background."""
        holds = [self.patches(mask, classes) for classes in (*self.parts, self.hair, self.skin, self.background)]
        *parts, hair, skin, background = holds
        return [*parts, skin & (hair | background), hair, skin, background]

    def patches(self, mask: UInt8[np.ndarray, "h w"], classes: Sequence[int]) -> Bool[np.ndarray, "n"]:
        """Which patches hold a pixel of these classes."""
        side, rest = divmod(mask.shape[0], self.grid)
        if rest or mask.shape[0] != mask.shape[1]:
            raise ValueError(
                f"RegionMask: a mask of {mask.shape} pixels is no grid of {self.grid} x {self.grid} patches"
            )
        tiles = np.isin(mask, classes).reshape(self.grid, side, self.grid, side)
        return tiles.any((1, 3)).reshape(-1)

    def draw(self, regions: list[Bool[np.ndarray, "n"]], which: int, rng: np.random.Generator) -> Bool[np.ndarray, "n"]:
        """A mask of `count` patches that masks one of the regions wholly, if it is not larger."""
        whole = regions[which]
        masked, seen = whole.copy(), whole.copy()
        wanted = self.count - int(whole.sum())
        if wanted > 0:
            share = wanted / (len(whole) - whole.sum())
            for region in (*regions[:which], *regions[which + 1 :]):
                free = region & ~seen
                masked[some_of(free, round(share * free.sum()), rng)] = True
                seen |= region
        changes = self.count - int(masked.sum())
        if changes >= 0:
            masked[some_of(~masked, changes, rng)] = True
        else:
            masked[some_of(masked & ~whole if wanted > 0 else masked, -changes, rng)] = False
        return masked


def indices(classes: list[str], names: Sequence[str]) -> list[int]:
    """The numbers of the classes of these names, without those that there are not."""
    return [classes.index(name) for name in names if name in classes]


def some_of(among: Bool[np.ndarray, "n"], count: int, rng: np.random.Generator) -> Any:
    """The places of `count` of the patches that are true, drawn at random."""
    return rng.permutation(np.flatnonzero(among))[:count]
