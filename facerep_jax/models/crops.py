"""The crops of `data.multi_crop.MultiCrop` as views: `image` and `large1`, `large2`, ...; `small0`, `small1`, ..."""

from typing import Any

from jaxtyping import Array, Key

from facerep_jax.typing import Batch, View, Views


class Crop:
    """A view of a large crop, which takes a pass of its own, for objectives that are told what to look at.

    Args:
        index: of the crop: 0 is `image`.
    """

    def __init__(self, *, index: int):
        self.index, self.needs = index, keys_of(index + 1, 0)

    def __call__(self, batch: Batch, *, encoder: Any, rng: Key[Array, "b"]) -> View:
        return View(batch["image_large"][:, self.index - 1] if self.index else batch["image"], apart=True)


def keys_of(large: int, small: int) -> tuple[str, ...]:
    """The keys of the batch that hold so many large and small crops of each example."""
    return ("image", *(("image_large",) if large > 1 else ()), *(("image_small",) if small else ()))


def names_of(large: int, small: int) -> tuple[str, ...]:
    """The names of the views, large ones first."""
    return ("image", *(f"large{i}" for i in range(1, large)), *(f"small{i}" for i in range(small)))


def views_of(batch: Batch, large: int, small: int, *, apart: bool = False) -> Views:
    """A view of each crop; those that are `apart` each take a pass, and so batch statistics, of their own.

    Raises:
        ValueError: the batch holds fewer crops.
    """
    for key, wanted, there in (
        ("count", large, 1 + (batch["image_large"].shape[1] if large > 1 else 0)),
        ("small_count", small, batch["image_small"].shape[1] if small else 0),
    ):
        if there != wanted:
            raise ValueError(f"the objective takes {wanted} crops where MultiCrop's {key} is {there}: make them alike")
    images = [batch["image"]]
    images += [batch["image_large"][:, i] for i in range(large - 1)] + [
        batch["image_small"][:, i] for i in range(small)
    ]
    return {name: View(image, apart=apart) for name, image in zip(names_of(large, small), images, strict=True)}
