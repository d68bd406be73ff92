"""Named streams of randomness: each draw has a key of its own, by name, so that adding one changes no other."""

import zlib

import jax
from jaxtyping import Array, Key


def stream(rng: Key[Array, "*b"], name: str) -> Key[Array, "*b"]:
    """Keys of the stream `name`, one for each of `rng`. Streams of different names are independent."""
    fold = zlib.crc32(name.encode())
    return jax.vmap(lambda key: jax.random.fold_in(key, fold))(rng) if rng.ndim else jax.random.fold_in(rng, fold)
