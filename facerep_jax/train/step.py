"""One training step as a pure function: modules are put together and taken apart inside, so that no caller sees one."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key

from facerep_jax.models.views import encode
from facerep_jax.streams import stream
from facerep_jax.train.state import Model, TrainState, averaged, merge, split
from facerep_jax.typing import Batch, Encoder, Features, Metrics, Objective, Tree, Views

Look = Callable[[Any, Any, Batch, Array], tuple[Views, Mapping[str, Features]]]
Step = Callable[[TrainState, Tree, Batch], tuple[TrainState, Metrics]]


def make_step(
    graph: Any,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    ema: float = 0.0,
    look: Look | None = None,
) -> Step:
    """The step (state, frozen, batch) -> (state, metrics) of a model whose graph is given.

    Everything random in it is a function of the seed, the step and each example's `position`. `ema` is the decay of the
    average; 0 keeps none. A step whose loss or gradient is not finite changes nothing but the number of steps done.
    For `look` see `make_loss`.
    """
    loss_of = make_loss(graph, seed=seed, look=look)

    def step(state: TrainState, frozen: Tree, batch: Batch) -> tuple[TrainState, Metrics]:
        params, variables = begun(graph, state, frozen)
        value_and_gradient = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (metrics, variables)), gradients = value_and_gradient(params, variables, frozen, batch, state.step)
        updates, opt_state = optimizer.update(gradients, state.opt_state, params)
        params = optax.apply_updates(params, updates)
        average = state.ema
        if ema:
            now = averaged(params, variables, state.ema)
            average = jax.tree.map(lambda a, x: ema * a + (1 - ema) * x, state.ema, now)
        metrics = {**metrics, "loss": loss, "gradient_norm": optax.tree.norm(gradients)}
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


def make_loss(graph: Any, *, seed: int, look: Look | None = None) -> Callable[..., tuple[Array, tuple[Metrics, Tree]]]:
    """The loss (params, variables, frozen, batch, step) -> (loss, (metrics, variables after it)) of a model.

    `look` gives the objective's views and their features; by default the encoder sees the views in training.
    """
    look = look or look_at_views

    def loss_of(
        params: Tree, variables: Tree, frozen: Tree, batch: Batch, step: Array
    ) -> tuple[Array, tuple[Metrics, Tree]]:
        step_key = jax.random.fold_in(jax.random.key(seed), step)
        rng = jax.vmap(jax.random.fold_in, (None, 0))(step_key, batch["position"])
        model: Model = merge(graph, params, variables, frozen)
        views, seen = look(model.encoder, model.objective, batch, rng)
        loss, metrics = model.objective.loss(seen, views, batch, encoder=model.encoder, step=step, rng=rng)
        return loss, (metrics, split(model)[2])

    return loss_of


def look_at_views(
    encoder: Encoder, objective: Objective, batch: Batch, rng: Key[Array, "b"]
) -> tuple[Views, Mapping[str, Features]]:
    """An objective's views, and the encoder's features of them in training."""
    views = objective.views(batch, encoder=encoder, rng=rng)
    return views, encode(encoder, views, train=True, rng=stream(rng, "encoder"))
