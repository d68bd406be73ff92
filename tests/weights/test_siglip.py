"""SigLIP's layouts: what tells them apart, and which shapes they refuse. Outputs: tests/parity/test_layouts.py."""

import numpy as np
import pytest

from facerep_jax import weights
from facerep_jax.weights import hf_siglip, hf_siglip2, timm
from facerep_jax.weights._transformer import without
from tests.parity.layouts import state_of

PATCHES = "embeddings.patch_embedding.weight"


@pytest.fixture(scope="module")
def naflex():
    return state_of("hf_siglip2")


def test_patches_are_a_matrix_of_rows_columns_and_colours(naflex):
    assert naflex[PATCHES].shape == (128, 8 * 8 * 3)
    pixel = naflex[PATCHES][40, (5 * 8 + 2) * 3 + 1]
    assert hf_siglip2.imported(naflex)["embed/kernel"][(5 * 8 + 2) * 3 + 1, 40] == pixel
    convolution = hf_siglip.exported(hf_siglip2.imported(naflex))[f"vision_model.{PATCHES}"]
    assert convolution[40, 1, 5, 2] == pixel


def test_the_whole_model_is_read_and_its_visual_tower_comes_back_to_the_bit(naflex):
    whole = {f"vision_model.{name}": x for name, x in naflex.items()}
    beside = {"text_model.head.bias": np.zeros(8), "logit_scale": np.zeros(1), "logit_bias": np.zeros(1)}
    assert weights.recognised(whole | beside) is hf_siglip2
    assert hf_siglip2.encoder(whole | beside) == hf_siglip2.encoder(naflex)
    back = weights.exported(hf_siglip2, hf_siglip2.imported(whole | beside), hf_siglip2.encoder(whole))
    assert back.keys() == whole.keys()
    for name, x in whole.items():
        np.testing.assert_array_equal(back[name], x)


def test_layouts_that_cannot_say_how_positions_are_resized_are_refused(naflex):
    ours, spec = hf_siglip2.imported(naflex), hf_siglip2.encoder(naflex)
    for layout in (hf_siglip, timm):
        with pytest.raises(ValueError, match="cannot say that resizing is 'linear'"):
            weights.exported(layout, ours, spec)
    with pytest.raises(ValueError, match="hf_siglip2 cannot say that resizing is 'bicubic'"):
        weights.exported(hf_siglip2, ours, {**spec, "resizing": "bicubic"})


@pytest.mark.parametrize(
    ("layout", "change", "message"),
    [
        (hf_siglip2, {PATCHES: np.zeros((128, 3, 8, 8))}, r"has shape \(128, 3, 8, 8\), \(width, 3 \* patch"),
        (hf_siglip2, {PATCHES: np.zeros((128, 90))}, r"has shape \(128, 90\), \(width, 3 \* patch \* patch\) is"),
        (hf_siglip2, {"head.probe": None}, r"no array 'head\.probe'"),
        (hf_siglip2, {"embeddings.position_embedding.weight": np.zeros((15, 128))}, "15 positions are of no square"),
        (hf_siglip, {}, r"has shape \(128, 192\), \(width, 3, patch, patch\) is expected"),
    ],
)
def test_what_does_not_fit_is_named(naflex, layout, change, message):
    changed = without(naflex, *map(str, change)) | {name: x for name, x in change.items() if x is not None}
    with pytest.raises(ValueError, match=message):
        layout.encoder(changed)
