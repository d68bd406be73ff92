"""Folders that `facerep convert` writes, loaded by the stock call of each library, and the frozen outputs anew."""

import numpy as np
import pytest
from layouts import CASES, CLIP, SIZE, SIZES, drawn, frozen, kept, pixels, text
from published import assert_close

from facerep_jax import cli
from facerep_jax.weights._torch_save import save
from tests.parity import exports

torch, timm, open_clip, transformers = (
    pytest.importorskip(library, reason=f"{library} is not installed; the extra `parity` has it")
    for library in ("torch", "timm", "open_clip", "transformers")
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A CLIP in each layout."""
    root = tmp_path_factory.mktemp("exports")
    save({"state_dict": exports.clip()}, root / "clip.pth")
    for layout in ("hf_clip", "open_clip", "timm", "farl"):
        file = f"{root / 'clip.pth'}@open_clip"
        assert cli.main(["facerep", "convert", file, str(root / layout), f"--layout={layout}"]) == 0
    return root


@torch.no_grad()
def test_each_library_loads_its_own_and_they_agree(folders):
    x, words = pixels(SIZE, CLIP), torch.from_numpy(text())
    hf, said = transformers.CLIPModel.from_pretrained(folders / "hf_clip", output_loading_info=True)
    assert not any(said.values())
    hf = hf.double().eval()
    seen = hf(input_ids=words, pixel_values=x)
    ours = open_clip.create_model(f"local-dir:{folders / 'open_clip'}").double().eval()
    images, texts = ours.encode_image(x, normalize=True), ours.encode_text(words, normalize=True)
    logits = ours.logit_scale.exp() * images @ texts.T
    theirs = {"images": seen.image_embeds, "texts": seen.text_embeds, "logits": seen.logits_per_image}
    found = {"images": images, "texts": texts, "logits": logits}
    assert_close({key: y.numpy() for key, y in found.items()}, {key: y.numpy() for key, y in theirs.items()})
    network = timm.create_model(f"local-dir:{folders / 'timm'}", pretrained=True).double().eval()
    pooled = network.forward_head(network.forward_features(x), pre_logits=True)
    expected = hf.vision_model.post_layernorm(seen.vision_model_output.last_hidden_state[:, 0])
    assert_close({"pooled": pooled.numpy()}, {"pooled": expected.numpy()})
    state = torch.load(folders / "farl" / "farl.pth", weights_only=True)["state_dict"]
    ours.load_state_dict(state)  # FaRL's loaders take what CLIP's network takes
    processor = transformers.AutoImageProcessor.from_pretrained(folders / "hf_clip")
    np.testing.assert_allclose(processor.image_mean, CLIP[0])


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_frozen_outputs_are_what_the_libraries_give(name):
    shapes, fixed = kept(name)
    for size in SIZES:
        outputs = CASES[name].theirs(drawn(shapes, fixed), size, pixels(size, CASES[name].normalisation))
        expected = frozen(name, size)
        assert outputs.keys() == expected.keys()
        for key, value in outputs.items():
            np.testing.assert_allclose(expected[key], value.numpy(), rtol=1e-5, atol=1e-5)
