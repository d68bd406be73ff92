"""Losses of pairs of embeddings, image i with text i, of which all other combinations of the batch are negatives.

`gather` compares all with all at once: each device holds its rows of the logits against the whole batch, whose
embeddings it gathers. `ring` passes the texts from device to device: each hop compares those that are there, so that a
device holds a square of logits of its own part of the batch, whatever the number of devices. The backward pass goes
around once more and computes each square again; between the two passes there are two numbers an example. Both are the
loss of the global batch, and equal.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float

from facerep_jax.typing import BATCH_AXES, on_batch_axes

SPLIT, WHOLE = PartitionSpec(BATCH_AXES), PartitionSpec()
Result = tuple[Float[Array, ""], Bool[Array, "b"]]  # the loss, and which images are closer to their text than to others


def softmax_gather(images: Float[Array, "b e"], texts: Float[Array, "b e"], scale: Float[Array, ""]) -> Result:
    """InfoNCE: mean cross-entropy of each image among all texts, and of each text among all images, halved.

    Source: 2103.00020, figure 3.
    """
    logits, own = products(images, texts, scale), scale * of_pairs(images, texts)
    loss = (jax.nn.logsumexp(logits, 1) + jax.nn.logsumexp(logits, 0)).mean() / 2 - own.mean()
    return loss, own > best_other(logits, True)


def sigmoid_gather(
    images: Float[Array, "b e"], texts: Float[Array, "b e"], scale: Float[Array, ""], bias: Float[Array, ""]
) -> Result:
    """SigLIP: - log sigmoid(z (scale x . y + bias)), z = 1 for pairs and -1 otherwise, summed over b^2, divided by b.

    Source: 2303.15343, equation 1 and algorithm 1.
    """
    logits, own = products(images, texts, scale) + bias, scale * of_pairs(images, texts) + bias
    loss = jax.nn.softplus(-signs(logits, True) * logits).sum() / len(logits)
    return loss, own > best_other(logits, True)


@jax.custom_vjp
def softmax_ring(images: Float[Array, "b e"], texts: Float[Array, "b e"], scale: Float[Array, ""]) -> Result:
    """`softmax_gather`, by a ring over the devices of the current mesh; the whole batch at once where none is set."""
    return _softmax_forward(images, texts, scale)[0]


def _softmax_forward(images: Array, texts: Array, scale: Array) -> tuple[Result, Any]:
    def local(images: Array, texts: Array, scale: Array) -> tuple[Array, ...]:
        def hop(kept: Any, moving: Any, first: Array) -> tuple[Any, Any]:
            best, of_images = kept
            texts, of_texts = moving
            logits = products(images, texts, scale)
            best = jnp.maximum(best, best_other(logits, first))
            of_images = jnp.logaddexp(of_images, jax.nn.logsumexp(logits, 1))
            return (best, of_images), (texts, jnp.logaddexp(of_texts, jax.nn.logsumexp(logits, 0)))

        none = varying(jnp.full(len(images), -jnp.inf))
        (best, of_images), (_, of_texts) = around(hop, (none, none), (texts, none))
        own = scale * of_pairs(images, texts)
        loss = summed((of_images + of_texts).sum() / 2 - own.sum())
        return loss, own > best, of_images, of_texts

    loss, hits, *sums = on_parts(local, (SPLIT, SPLIT, WHOLE), (WHOLE, SPLIT, SPLIT, SPLIT))(images, texts, scale)
    return (loss / len(images), hits), (images, texts, scale, *sums)


def _softmax_backward(residuals: Any, cotangents: Any) -> tuple[Array, ...]:
    *given, of_images, of_texts = residuals

    def slopes(logits: Array, first: Array, of_images: Array, of_texts: Array) -> Array:
        among = jnp.exp(logits - of_images[:, None]) + jnp.exp(logits - of_texts[None])
        return among / 2 - identity(logits, first)

    return _backward(slopes, cotangents[0], given, None, (of_images,), (of_texts,))[:3]


softmax_ring.defvjp(_softmax_forward, _softmax_backward)


@jax.custom_vjp
def sigmoid_ring(
    images: Float[Array, "b e"], texts: Float[Array, "b e"], scale: Float[Array, ""], bias: Float[Array, ""]
) -> Result:
    """`sigmoid_gather`, by a ring over the devices of the current mesh; the whole batch at once where none is set."""
    return _sigmoid_forward(images, texts, scale, bias)[0]


def _sigmoid_forward(images: Array, texts: Array, scale: Array, bias: Array) -> tuple[Result, Any]:
    def local(images: Array, texts: Array, scale: Array, bias: Array) -> tuple[Array, ...]:
        def hop(kept: Any, moving: Any, first: Array) -> tuple[Any, Any]:
            best, losses = kept
            (texts,) = moving
            logits = products(images, texts, scale) + bias
            best = jnp.maximum(best, best_other(logits, first))
            return (best, losses + jax.nn.softplus(-signs(logits, first) * logits).sum(1)), moving

        none = varying(jnp.full(len(images), -jnp.inf))
        (best, losses), _ = around(hop, (none, jnp.zeros_like(none)), (texts,))
        return summed(losses.sum()), scale * of_pairs(images, texts) + bias > best

    loss, hits = on_parts(local, (SPLIT, SPLIT, WHOLE, WHOLE), (WHOLE, SPLIT))(images, texts, scale, bias)
    return (loss / len(images), hits), (images, texts, scale, bias)


def _sigmoid_backward(residuals: Any, cotangents: Any) -> tuple[Array, ...]:
    *given, bias = residuals

    def slopes(logits: Array, first: Array) -> Array:
        sign = signs(logits, first)
        return -sign * jax.nn.sigmoid(-sign * logits)

    return _backward(slopes, cotangents[0], given, bias, (), ())


sigmoid_ring.defvjp(_sigmoid_forward, _sigmoid_backward)


def _backward(
    slopes: Callable[..., Array],
    cotangent: Array,
    given: list[Array],
    bias: Array | None,
    of_images: tuple[Array, ...],
    of_texts: tuple[Array, ...],
) -> tuple[Array, ...]:
    """Gradients of images, texts, scale and bias, once around, from the slopes of b times the loss by the logits.

    `of_images` and `of_texts` are what `slopes` needs of each image and of each text.
    """
    bias = jnp.zeros(()) if bias is None else bias

    def local(images: Array, texts: Array, scale: Array, bias: Array, of_images: Any, of_texts: Any) -> Any:
        def hop(kept: Any, moving: Any, first: Array) -> tuple[Any, Any]:
            of_image, of_scale, of_bias = kept
            texts, of_texts, of_text = moving
            cosines = products(images, texts, jnp.ones(()))
            slope = slopes(scale * cosines + bias, first, *of_images, *of_texts)
            of_image = of_image + scale * matmul(slope, texts)
            of_text = of_text + scale * matmul(slope.T, images)
            # By row, which the sum over devices follows: one number that grows with b^2 would lose digits.
            return (of_image, of_scale + (slope * cosines).sum(1), of_bias + slope.sum(1)), (texts, of_texts, of_text)

        rows = varying(jnp.zeros(len(images)))
        kept, (_, _, of_text) = around(
            hop, (jnp.zeros_like(images), rows, rows), (texts, of_texts, jnp.zeros_like(texts))
        )
        of_image, of_scale, of_bias = kept
        return of_image, of_text, summed(of_scale.sum()), summed(of_bias.sum())

    mapped = on_parts(local, (SPLIT, SPLIT, WHOLE, WHOLE, SPLIT, SPLIT), (SPLIT, SPLIT, WHOLE, WHOLE))
    gradients = mapped(*given, bias, of_images, of_texts)
    factor = cotangent / len(given[0])
    return tuple(factor * gradient for gradient in gradients)


def around(hop: Callable[..., tuple[Any, Any]], kept: Any, moving: Any) -> tuple[Any, Any]:
    """Pass `moving` once around all devices, until it is back, and call hop(kept, moving, whether it is one's own)."""
    if not on_batch_axes():
        return hop(kept, moving, jnp.bool_(True))
    count = jax.lax.axis_size(BATCH_AXES)
    ring = [(device, (device + 1) % count) for device in range(count)]

    def body(carry: Any, index: Array) -> tuple[Any, None]:
        kept, moving = hop(*carry, index == 0)
        return (kept, jax.tree.map(lambda x: jax.lax.ppermute(x, BATCH_AXES, ring), moving)), None

    return jax.lax.scan(body, (kept, moving), jnp.arange(count))[0]


def on_parts(function: Callable[..., Any], given: tuple, result: tuple) -> Callable[..., Any]:
    """`function` on each device's part of the batch; `function` itself where no mesh is set."""
    return jax.shard_map(function, in_specs=given, out_specs=result) if on_batch_axes() else function


def summed(x: Float[Array, ""]) -> Float[Array, ""]:
    """The sum over the parts of the batch."""
    return jax.lax.psum(x, BATCH_AXES) if on_batch_axes() else x


def varying(x: Array) -> Array:
    """A constant as an array that may differ between the parts of the batch."""
    return jax.lax.pcast(x, BATCH_AXES, to="varying") if on_batch_axes() else x


def products(images: Float[Array, "b e"], texts: Float[Array, "c e"], scale: Float[Array, ""]) -> Float[Array, "b c"]:
    """Scaled products of all images with all texts, in float32."""
    return scale * matmul(images, texts.T)


def of_pairs(images: Float[Array, "b e"], texts: Float[Array, "b e"]) -> Float[Array, "b"]:
    """Products of images with their own texts, in float32: the diagonal, which no device has to gather."""
    return (images.astype(jnp.float32) * texts.astype(jnp.float32)).sum(1)


matmul = partial(jnp.matmul, preferred_element_type=jnp.float32)


def identity(logits: Float[Array, "b c"], own: bool | Bool[Array, ""]) -> Float[Array, "b c"]:
    """1 where a text is the image's own, 0 elsewhere; `own` says whether texts are those of the images at all."""
    return jnp.eye(logits.shape[0], logits.shape[1]) * jnp.float32(own)


def signs(logits: Float[Array, "b c"], own: bool | Bool[Array, ""]) -> Float[Array, "b c"]:
    """1 where a text is the image's own, -1 elsewhere."""
    return 2 * identity(logits, own) - 1


def best_other(logits: Float[Array, "b c"], own: bool | Bool[Array, ""]) -> Float[Array, "b"]:
    """The largest logit of each image with a text that is not its own."""
    return jnp.where(identity(logits, own) > 0, -jnp.inf, logits).max(1)
