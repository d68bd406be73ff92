import base64
import io

import numpy as np
import pytest
from PIL import Image

from facerep_jax.reporting import attachments


@pytest.fixture
def noise(tmp_path):
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 1400, 3), np.uint8)).save(path)
    return path


def opened(uri):
    kind, _, data = uri.partition(",")
    assert kind == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data))), len(base64.b64decode(data))


def test_an_image_is_made_as_small_as_it_must_be(noise):
    large, size = opened(attachments.data_uri(noise, 10_000_000))
    assert large.size == (1200, 343)
    small, smaller = opened(attachments.data_uri(noise, size // 4))
    assert smaller <= size // 4
    assert small.width < 1200
    least, _ = opened(attachments.data_uri(noise, 1))
    assert least.width == 600


def test_all_images_together_fit_the_page():
    assert attachments.bytes_each(40) * 40 * 4 / 3 <= attachments.BUDGET < 5_000_000
    assert attachments.bytes_each(0) > 0


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / "a.png").write_text("x")
    with pytest.raises(ValueError, match=r"a\.png is not an image"):
        attachments.data_uri(tmp_path / "a.png", 1)
