"""Discrete variational autoencoder, whose encoder becomes the tokenizer of masked image modelling."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from facerep_jax import schedules
from facerep_jax.config import Spec, build, plain, spec
from facerep_jax.models.dvae import DVAEDecoder, DVAEEncoder, map_pixels, unmap_pixels
from facerep_jax.streams import stream
from facerep_jax.typing import Batch, Encoder, Features, Metrics, Tree, View, Views, loss_at_once

TEMPERATURE = plain(spec(schedules.cosine, first=1.0, last=1 / 16, duration_steps=150_000))
KL_WEIGHT = plain(spec(schedules.cosine, first=0.0, last=6.6, duration_steps=5_000))


class DiscreteVAE(nnx.Module):
    """Reconstruction of images from codes, which the Gumbel-softmax relaxes to weights of the decoder's codebook.

    The loss is the negative evidence lower bound, divided by the number of pixel values: the negative log likelihood of
    the pixels under a logit-Laplace distribution, plus the weighted divergence of the codes from the uniform
    distribution. By default, the temperature falls and the weight rises along half a cosine.
    Source: DALL-E (2102.12092), section 2.1 and appendix A; decoder and map of pixels as in openai/DALL-E. Recalled,
    not verified: logit-Laplace likelihood (A.3), division by pixel values, cosine schedules, temperature 1 to 1/16 in
    150,000 updates, weight of the divergence 0 to 6.6 in 5,000 (A.2).

    Args:
        embedding: width of a code's vector.
        temperature: spec of a schedule of values above 0, see `facerep_jax.schedules`.
        kl_weight: spec of the schedule of the divergence's weight.
        steps: length of the run.
    """

    needs = ("image",)
    offers = ()
    loss = loss_at_once

    def __init__(
        self,
        encoder: Encoder,
        *,
        embedding: int = 128,
        temperature: Spec = TEMPERATURE,
        kl_weight: Spec = KL_WEIGHT,
        steps: int,
        rngs: nnx.Rngs,
    ):
        if not isinstance(encoder, DVAEEncoder):
            raise ValueError(f"a dVAE's encoder is dvae.DVAEEncoder, not {type(encoder).__name__}")
        like = dict(dtype=encoder.dtype, remat=encoder.remat)
        self.decoder = DVAEDecoder(encoder.sizes, embedding=embedding, **like, rngs=rngs)
        self.temperature: schedules.Schedule = build(temperature, steps=steps)
        self.kl_weight: schedules.Schedule = build(kl_weight, steps=steps)
        with jax.ensure_compile_time_eval():  # so that values are known even while a model's shapes are found
            first, last = (float(self.temperature(step)) for step in (0, steps))
        if min(first, last) <= 0:
            raise ValueError(f"a dVAE's temperature is above 0 from the first step to the last, not {first} and {last}")

    def begin(self, encoder: Encoder, step: Int[Array, ""]) -> None:
        """Do nothing: no state is carried from step to step."""

    def views(self, batch: Batch, *, encoder: Encoder, rng: Key[Array, "b"]) -> Views:
        return {"image": View(batch["image"])}

    def representations(
        self,
        seen: Mapping[str, Features],
        views: Views,
        batch: Batch,
        *,
        encoder: Encoder,
        step: Int[Array, ""],
        rng: Key[Array, "b"],
    ) -> Tree:
        logits = seen["image"].tokens
        _, n, k = logits.shape
        weights = jax.nn.softmax((logits + gumbel(rng, (n, k))) / self.temperature(step))
        image = batch["image"].astype(jnp.float32) / 255
        means, log_scales = self.decode(weights, encoder.grid((image.shape[1], image.shape[2])))

        log_p = jax.nn.log_softmax(logits)
        # The divergence from the uniform distribution is the sum of p log(p k); here the mean over positions.
        kl = (jnp.exp(log_p) * (log_p + jnp.log(k))).sum(-1).mean(-1)
        return {
            "reconstruction": logit_laplace(map_pixels(image), means, log_scales).mean((1, 2, 3)),
            "squared_error": jnp.square(unmap_pixels(jax.nn.sigmoid(means)) - image).mean((1, 2, 3)),
            "kl": kl,
            # An image has n codes, and its reconstruction is a mean over pixel values: n / size makes them alike.
            "penalty": kl * n / image[0].size,
            "codes": jnp.zeros((len(logits), k)).at[jnp.arange(len(logits))[:, None], logits.argmax(-1)].add(1 / n),
        }

    def loss_of(self, representations: Tree, batch: Batch, *, step: Int[Array, ""]) -> tuple[Float[Array, ""], Metrics]:
        means = {name: rows.mean(0) for name, rows in representations.items()}
        used, kl_weight = means["codes"], self.kl_weight(step)
        loss = means["reconstruction"] + kl_weight * means["penalty"]
        return loss, {
            "loss": loss,
            **{name: means[name] for name in ("reconstruction", "squared_error", "kl")},
            "kl_weight": kl_weight,
            "temperature": self.temperature(step),
            "codes_used": (used > 0).sum().astype(jnp.float32),
            "perplexity": jnp.exp(jax.scipy.special.entr(used).sum()),
        }

    def decode(
        self, weights: Float[Array, "b n k"], grid: tuple[int, int]
    ) -> tuple[Float[Array, "b h w 3"], Float[Array, "b h w 3"]]:
        """Means and log scales of the pixels' logits, decoded from weights of codes on a grid."""
        maps = self.decoder(weights.reshape(len(weights), *grid, -1))
        return maps[..., :3], maps[..., 3:]


def logit_laplace(
    x: Float[Array, "b h w 3"], means: Float[Array, "b h w 3"], log_scales: Float[Array, "b h w 3"]
) -> Float[Array, "b h w 3"]:
    """Negative log density at x in (0, 1) of the logit-Laplace distribution: logit(x) has a Laplace distribution.

    Source: DALL-E (2102.12092), appendix A.3, recalled: f(x | m, b) = exp(-|logit(x) - m| / b) / (2 b x (1 - x)).
    """
    # The network predicts log b, so that b is positive for any output, and 1 / b and log b need no division. The term
    # log(2 x (1 - x)) does not depend on the network; with it, the loss is a true likelihood.
    distance = jnp.abs(jnp.log(x) - jnp.log1p(-x) - means)
    return distance * jnp.exp(-log_scales) + log_scales + jnp.log(2 * x * (1 - x))


def gumbel(rng: Key[Array, "b"], shape: tuple[int, int]) -> Float[Array, "b n k"]:
    """Gumbel noise, drawn with each example's own key."""
    return jax.vmap(lambda key: jax.random.gumbel(key, shape))(stream(rng, "gumbel"))
