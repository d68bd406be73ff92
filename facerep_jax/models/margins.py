"""Margins of face recognition: how much closer a face has to be to its own class than to all others.

A margin is a module with a `scale`; called with the cosine between each example and its class, and with the norm of
each example's vector, it gives the cosine that takes that one's place in the softmax.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from facerep_jax.typing import Carried


class CosFace(nnx.Module):
    """cos(t) - margin. Source: 1801.09414, equation 4; a margin of 0.4 and a scale of 64, as insightface has it."""

    def __init__(self, *, margin: float = 0.4, scale: float = 64.0):
        self.margin, self.scale = margin, scale

    def __call__(self, cosine: Float[Array, "b"], norms: Float[Array, "b"]) -> Float[Array, "b"]:
        return cosine - self.margin


class ArcFace(nnx.Module):
    """cos(t + margin); beyond an angle of pi - margin, where that would rise, cos(t) - margin sin(margin).

    Source: 1801.07698, equation 3; insightface, recognition/arcface_torch/losses.py.
    """

    def __init__(self, *, margin: float = 0.5, scale: float = 64.0):
        self.margin, self.scale = margin, scale

    def __call__(self, cosine: Float[Array, "b"], norms: Float[Array, "b"]) -> Float[Array, "b"]:
        sine = jnp.sqrt(jnp.maximum(1 - jnp.square(cosine), 1e-12))  # whose gradient is finite at 1, too
        turned = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        return jnp.where(cosine > math.cos(math.pi - self.margin), turned, cosine - self.margin * math.sin(self.margin))


class AdaFace(nnx.Module):
    """cos(t - margin z) - margin (1 + z), where z tells the quality of a face by the norm of its vector.

    z is how many deviations the norm is above its running mean, times `concentration`, within -1 and 1: faces of good
    quality get an additive margin, poor ones an angular one. It has no gradient.

    Source: 2204.00964, equations 12 to 15; mk-minchul/AdaFace, head.py.
    Changed: there, all cosines are kept 0.001 away from -1 and 1, here those of the own classes.
    """

    def __init__(
        self, *, margin: float = 0.4, scale: float = 64.0, concentration: float = 0.333, momentum: float = 0.99
    ):
        self.margin, self.scale, self.concentration, self.momentum = margin, scale, concentration, momentum
        self.mean, self.deviation = Carried(jnp.float32(20)), Carried(jnp.float32(100))

    def __call__(self, cosine: Float[Array, "b"], norms: Float[Array, "b"]) -> Float[Array, "b"]:
        norms = jax.lax.stop_gradient(jnp.clip(norms, 1e-3, 100))
        for running, now in ((self.mean, norms.mean()), (self.deviation, norms.std(ddof=1))):
            running.set_value(self.momentum * running[...] + (1 - self.momentum) * now)
        quality = (norms - self.mean[...]) / (self.deviation[...] + 1e-3)
        quality = jnp.clip(self.concentration * quality, -1, 1)
        angle = jnp.arccos(jnp.clip(cosine, -1 + 1e-3, 1 - 1e-3)) - self.margin * quality
        return jnp.cos(jnp.clip(angle, 1e-3, math.pi - 1e-3)) - self.margin * (1 + quality)
