"""The names and shapes of published sizes, as their libraries build them, without weights: which layout they are of."""

import numpy as np
import pytest

from facerep_jax import weights

torch, timm, open_clip, transformers = (
    pytest.importorskip(library, reason=f"{library} is not installed; the extra `parity` has it")
    for library in ("torch", "timm", "open_clip", "transformers")
)
pytestmark = pytest.mark.slow


def of_open_clip(name):
    config = {key: each for key, each in open_clip.get_model_config(name).items() if key != "custom_text"}
    return lambda: open_clip.CustomTextCLIP(**config)


def of_timm(name):
    return lambda: timm.create_model(name)


def of_transformers(name, **settings):
    return lambda: getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**settings))


def arrays_of(make):
    """Zeros that take no memory, by name."""
    with torch.device("meta"):
        built = make()
    return {name: np.broadcast_to(np.float32(0), tuple(x.shape)) for name, x in built.state_dict().items()}


@pytest.mark.parametrize(
    ("make", "layout", "sizes"),
    [
        (of_open_clip("ViT-B-16-SigLIP"), "open_clip_siglip", (768, 12, 224)),
        (of_open_clip("ViT-B-16-SigLIP2"), "open_clip_siglip", (768, 12, 224)),
        (of_open_clip("ViT-L-16-SigLIP2-256"), "open_clip_siglip", (1024, 24, 256)),
        (of_open_clip("ViT-SO400M-14-SigLIP"), "open_clip_siglip", (1152, 27, 224)),
        (of_timm("vit_base_patch16_siglip_224"), "timm", (768, 12, 224)),
        (of_timm("vit_small_patch16_dinov3"), "timm_dinov3", (384, 12, 224)),
        (of_timm("vit_large_patch16_dinov3_qkvb"), "timm_dinov3", (1024, 24, 224)),
        (of_transformers("Siglip"), "hf_siglip", (768, 12, 224)),
    ],
)
def test_a_published_size_is_recognised(make, layout, sizes):
    arrays = arrays_of(make)
    assert weights.recognised(arrays) is weights.load(layout)
    spec = weights.load(layout).encoder(arrays)
    assert (spec["width"], spec["depth"], spec["image_size"]) == sizes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (of_transformers("Siglip2"), "the layout of the weights is not known"),
        (of_timm("vit_huge_plus_patch16_dinov3"), "it resembles .*dinov3.*, but: "),
    ],
)
def test_what_is_not_read_is_told_by_what_it_resembles(make, message):
    with pytest.raises(ValueError, match=message):
        weights.recognised(arrays_of(make))
