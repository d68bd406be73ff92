"""The layout `timm` for the small model of tests/parity, whose 4 heads of 16 no array shows."""

from facerep_jax.weights import timm

imported, exported = timm.imported, timm.exported


def encoder(arrays):
    return {**timm.encoder(arrays), "heads": 4}
