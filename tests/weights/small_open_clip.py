"""The layout `open_clip` for the small model of tests/parity, whose 4 heads of 16 no array shows."""

from facerep_jax.weights import open_clip

imported, exported = open_clip.imported, open_clip.exported


def encoder(arrays):
    return {**open_clip.encoder(arrays), "heads": 4}
