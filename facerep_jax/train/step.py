"""One training step as a pure function; the only place where modules and trees of arrays meet."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key

from facerep_jax.train.state import Model, TrainState, averaged, merge, split
from facerep_jax.typing import Batch, Encoder, Features, Metrics, Objective, Tree, View, pin

See = Callable[[Encoder, Objective, Batch, Array], Mapping[str, Features]]
Step = Callable[[TrainState, Tree, Batch], tuple[TrainState, Metrics]]


def make_step(
    graph: Any,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    ema: float = 0.0,
    see: See | None = None,
) -> Step:
    """The step (state, frozen, batch) -> (state, metrics) of a model whose graph is given.

    Everything random in it is a function of the seed, the step and each example's `position`. `ema` is the decay of the
    average; 0 keeps none. A step whose loss or gradient is not finite changes nothing but the number of steps done.
    `see` is as of `make_loss`.
    """
    loss_of = make_loss(graph, seed=seed, see=see)

    def step(state: TrainState, frozen: Tree, batch: Batch) -> tuple[TrainState, Metrics]:
        params, variables = begun(graph, state, frozen)
        value_and_gradient = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (metrics, variables)), gradients = value_and_gradient(params, variables, frozen, batch, state.step)
        updates, opt_state = optimizer.update(gradients, state.opt_state, params)
        params = optax.apply_updates(params, updates)
        average = state.ema
        if ema:
            average = jax.tree.map(lambda a, x: ema * a + (1 - ema) * x, state.ema, averaged(params, variables))
        metrics = {"loss": loss, "gradient_norm": optax.tree.norm(gradients), **metrics}
        finite = jnp.isfinite(loss) & jnp.isfinite(metrics["gradient_norm"])
        after = TrainState(state.step, params, variables, opt_state, average)
        after = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, state)
        return after._replace(step=state.step + 1), metrics

    return step


def begun(graph: Any, state: TrainState, frozen: Tree) -> tuple[Tree, Tree]:
    """The params and variables that a step's loss is taken at: the state's, once the objective has begun the step."""
    model: Model = merge(graph, state.params, state.variables, frozen)
    model.objective.begin(model.encoder, state.step)
    _, params, variables, _ = split(model)
    return params, variables


def make_loss(graph: Any, *, seed: int, see: See | None = None) -> Callable[..., tuple[Array, tuple[Metrics, Tree]]]:
    """The loss (params, variables, frozen, batch, step) -> (loss, (metrics, variables after it)) of a model.

    `see` gives the features that the objective's loss reads: by default the encoder's of the objective's views.
    """
    see = see or look

    def loss_of(
        params: Tree, variables: Tree, frozen: Tree, batch: Batch, step: Array
    ) -> tuple[Array, tuple[Metrics, Tree]]:
        step_key = jax.random.fold_in(jax.random.key(seed), step)
        rng = jax.vmap(jax.random.fold_in, (None, 0))(step_key, batch["position"])
        model: Model = merge(graph, params, variables, frozen)
        seen = see(model.encoder, model.objective, batch, rng)
        loss, metrics = model.objective.loss(seen, batch, encoder=model.encoder, step=step, rng=rng)
        return loss, (metrics, split(model)[2])

    return loss_of


def look(encoder: Encoder, objective: Objective, batch: Batch, rng: Key[Array, "b"]) -> dict[str, Features]:
    """The encoder's features of each of the objective's views."""
    return encode(encoder, objective.views(batch, rng), taps=objective.taps, train=True, rng=rng)


def encode(
    encoder: Encoder,
    views: Mapping[str, View],
    *,
    taps: tuple[int, ...] = (),
    train: bool = False,
    rng: Key[Array, "b"] | None = None,
) -> dict[str, Features]:
    """Features of each view, by name. Views of equal shape share one pass of an encoder without batch statistics.

    FaRL's clean and masked copies are such: one pass over twice the batch. Copies of one example lie side by side in
    that pass, so that a batch split over devices stays where it is.
    """
    keys = {
        name: None if rng is None else jax.vmap(jax.random.fold_in, (0, None))(rng, index)
        for index, name in enumerate(sorted(views))
    }
    groups: dict[Any, list[str]] = {}
    for name in sorted(views):
        view = views[name]
        alone = name if getattr(encoder, "batch_statistics", False) else None
        shape = None if view.keep is None else view.keep.shape
        groups.setdefault((view.image.shape, view.image.dtype, shape, alone), []).append(name)
    seen: dict[str, Features] = {}
    for names in groups.values():
        if len(names) == 1:
            (name,) = names
            seen[name] = encoder(views[name], taps=taps, train=train, rng=keys[name])
            continue
        together = interleave_views([views[name] for name in names], encoder)
        key = interleave([k for name in names if (k := keys[name]) is not None]) if rng is not None else None
        features = encoder(together, taps=taps, train=train, rng=key)
        seen |= zip(names, deinterleave(features, len(names)), strict=True)
    return seen


def interleave(arrays: list[Array]) -> Array:
    """Arrays of equal shape as one: row 0 of each, then row 1 of each, and so on."""
    stacked = jnp.stack(arrays, axis=1)
    return stacked.reshape(-1, *stacked.shape[2:])


def deinterleave(tree: Tree, parts: int) -> list[Tree]:
    """The trees whose arrays `interleave` made one of."""

    def part(index: int) -> Tree:
        return jax.tree.map(lambda x: pin(x.reshape(-1, parts, *x.shape[1:])[:, index]), tree)

    return [part(index) for index in range(parts)]


def interleave_views(views: list[View], encoder: Encoder) -> View:
    """Views of equal shape as one; those without masks take part with empty ones."""
    masks = [view.masked for view in views]
    fills = [view.fill for view in views if view.fill is not None]
    if len(fills) > 1:
        raise ValueError("views with mask tokens of their own cannot share a pass")
    masked = None
    if fills:
        b, h, w, _ = views[0].image.shape
        rows, columns = encoder.grid((h, w))
        none = jnp.zeros((b, rows * columns), bool)
        masked = interleave([none if mask is None else mask for mask in masks])
    return View(
        image=pin(interleave([view.image for view in views])),
        keep=None if views[0].keep is None else interleave([v.keep for v in views if v.keep is not None]),
        masked=masked,
        fill=fills[0] if fills else None,
    )
