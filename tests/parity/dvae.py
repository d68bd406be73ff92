"""Writes dvae.npz: what the published DALL-E package makes of random weights that NumPy draws again in the test.

Needs torch and DALL-E 0.1 from PyPI:  python tests/parity/dvae.py
"""

from pathlib import Path

import numpy as np

PATH = Path(__file__).with_suffix(".npz")
CODES, BLOCKS, CHANNELS, EMBEDDING, GROUPS = 512, 2, 64, 32, 4
SIZE = (24, 32)


def published(half, channels=CHANNELS, blocks=BLOCKS, codes=CODES, embedding=EMBEDDING, seed=0):
    """A state dict of the published "encoder" or "decoder", with weights large enough that every branch counts."""
    rng, state = np.random.RandomState(seed), {}

    def conv(name, width_in, width_out, side):
        fan_in = width_in * side**2
        state[f"blocks.{name}.w"] = rng.normal(0, 2 / fan_in**0.5, (width_out, width_in, side, side)).astype(np.float32)
        state[f"blocks.{name}.b"] = rng.normal(0, 0.3, width_out).astype(np.float32)

    widths = [channels * 2**group for group in range(GROUPS)]
    first, sides = widths[0], (3, 3, 3, 1)
    if half == "decoder":
        widths, first, sides = widths[::-1], embedding, sides[::-1]
    conv("input", *((3, first, 7) if half == "encoder" else (codes, first, 1)))
    before = first
    for group, width in enumerate(widths, 1):
        for block in range(1, blocks + 1):
            name = f"group_{group}.block_{block}"
            if before != width:
                conv(f"{name}.id_path", before, width, 1)
            inner = (before, width // 4, width // 4, width // 4, width)
            for index, side in enumerate(sides):
                conv(f"{name}.res_path.conv_{index + 1}", inner[index], inner[index + 1], side)
            before = width
    conv("output.conv", before, codes if half == "encoder" else 6, 1)
    return state


def inputs(size=SIZE, codes=CODES, seed=0):
    """A uint8 image and weights of codes, each of a batch of one."""
    rng = np.random.RandomState(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    waves = [127 + 90 * np.sin(x / 5 + k) * np.cos(y / 4 - k) for k in range(3)]
    image = (np.stack(waves, -1) + rng.uniform(-20, 20, (*size, 3))).clip(0, 255).astype(np.uint8)
    return image[None], rng.dirichlet(np.full(codes, 0.01), (1, size[0] // 8, size[1] // 8)).astype(np.float32)


def theirs(image, weights, channels=CHANNELS, blocks=BLOCKS, codes=CODES, embedding=EMBEDDING, seed=0):
    """Logits of the image and the picture of weights, by the published package."""
    import dall_e
    import torch

    sizes = dict(n_hid=channels, n_blk_per_group=blocks, vocab_size=codes)
    encoder, decoder = dall_e.Encoder(**sizes), dall_e.Decoder(n_init=embedding, **sizes)
    for half, module in (("encoder", encoder), ("decoder", decoder)):
        state = published(half, channels, blocks, codes, embedding, seed)
        module.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    with torch.no_grad():
        pixels = dall_e.map_pixels(torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255)
        logits = encoder(pixels).permute(0, 2, 3, 1).numpy()
        picture = decoder(torch.from_numpy(weights).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    return logits, picture


if __name__ == "__main__":
    logits, picture = theirs(*inputs())
    np.savez_compressed(PATH, logits=logits, picture=picture)
