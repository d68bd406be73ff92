"""One training step as a pure function of trees; modules are merged and split inside it, so that callers see none."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key, UInt32

from facerep_jax.models.views import encode
from facerep_jax.streams import stream
from facerep_jax.train.state import Model, TrainState, averaged, flat, merge, split
from facerep_jax.typing import Batch, Encoder, Features, Metrics, Objective, Tree, Views, pin, why_indivisible

Look = Callable[[Any, Any, Batch, Array], tuple[Views, Mapping[str, Features]]]
Step = Callable[[TrainState, Tree, Batch], tuple[TrainState, Metrics]]


def make_step(
    graph: Any,
    optimizer: optax.GradientTransformation,
    *,
    seed: int | UInt32[Array, ""],
    ema: float = 0.0,
    look: Look | None = None,
    micro_batches: int = 1,
) -> Step:
    """The training step (state, frozen, batch) -> (state, metrics) of the model with this graph.

    All randomness is a function of the seed, the step and each example's `position`. If the loss or gradient is not
    finite, the step leaves the state unchanged but for the number of steps done.

    Args:
        ema: decay of the moving average; 0 keeps none.
        look, micro_batches: see `make_loss`.
    """
    if not 0 <= ema < 1:
        raise ValueError(f"ema is a decay of at least 0 and less than 1, 0 for no average, not {ema}")
    loss_of = make_loss(graph, seed=seed, look=look, micro_batches=micro_batches)

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
    """The parameters and variables at which a step takes its loss: the state's, after the objective's `begin`."""
    model: Model = merge(graph, state.params, state.variables, frozen)
    model.objective.begin(model.encoder, state.step)
    _, params, variables, _ = split(model)
    return params, variables


def make_loss(
    graph: Any, *, seed: int | UInt32[Array, ""], look: Look | None = None, micro_batches: int = 1
) -> Callable[..., tuple[Array, tuple[Metrics, Tree]]]:
    """The loss of a model, a function (params, variables, frozen, batch, step) -> (loss, (metrics, new variables)).

    With several micro-batches the examples are looked at one micro-batch after the other, and the loss is taken of the
    representations of all: the forward pass keeps no more than these, and the backward pass looks at each micro-batch
    again. Loss, gradients and state are those of the whole batch, for a third more operations.
    Source: GradCache (2101.06983). Changed: derived by `jax.checkpoint` of a loop's body.

    Args:
        look: gives the objective's views and their features. By default, see `look_at_views`, the encoder computes them
            in training mode.
        micro_batches: into how many the batch is divided.

    Raises:
        ValueError: from the function, if the objective or the encoder needs the whole batch at once.
    """
    look = look or look_at_views

    def loss_of(
        params: Tree, variables: Tree, frozen: Tree, batch: Batch, step: Array
    ) -> tuple[Array, tuple[Metrics, Tree]]:
        step_key = jax.random.fold_in(jax.random.key(seed), step)
        rng = jax.vmap(jax.random.fold_in, (None, 0))(step_key, batch["position"])
        model: Model = merge(graph, params, variables, frozen)
        if micro_batches == 1:
            views, seen = look(model.encoder, model.objective, batch, rng)
            loss, metrics = model.objective.loss(seen, views, batch, encoder=model.encoder, step=step, rng=rng)
            return loss, (metrics, split(model)[2])
        require_divisible(model.objective, micro_batches)

        def represent(params: Tree, micro: tuple[Batch, Array]) -> Tree:
            batch, rng = jax.tree.map(pin, micro)
            model: Model = merge(graph, params, variables, frozen)
            views, seen = look(model.encoder, model.objective, batch, rng)
            found = model.objective.representations(seen, views, batch, encoder=model.encoder, step=step, rng=rng)
            require_same(variables, split(model)[2], micro_batches)
            return found

        # The parameters are an argument, so that what is computed from them alone is computed again, and not kept.
        represent = jax.checkpoint(represent, prevent_cse=False)
        micro = divided((batch, rng), micro_batches)
        found = jax.lax.scan(lambda _, micro: (None, represent(params, micro)), None, micro)[1]
        loss, metrics = model.objective.loss_of(joined(found), batch, step=step)
        return loss, (metrics, split(model)[2])

    return loss_of


def require_divisible(objective: Objective, micro_batches: int) -> None:
    """Raise ValueError if an objective cannot take its batch in micro-batches."""
    if reason := why_indivisible(objective):
        raise ValueError(
            f"data.micro_batches={micro_batches} would change {type(objective).__name__}: {reason}; take "
            "data.micro_batches=1, and more devices or a smaller data.batch_size"
        )


def require_same(before: Tree, after: Tree, micro_batches: int) -> None:
    """Raise ValueError if a look at a micro-batch wrote state, which then is not what the whole batch would leave."""
    now = flat(after)
    if written := [path for path, leaf in flat(before).items() if now[path] is not leaf]:
        raise ValueError(
            f"data.micro_batches={micro_batches} would change {written[0]}: running statistics, and what is normalised "
            "by those of a batch, are of the whole batch; take data.micro_batches=1, and more devices or a "
            "smaller data.batch_size"
        )


def divided(tree: Tree, parts: int) -> Tree:
    """Rows of a batch as micro-batches on a new leading axis, each of rows from all over the batch.

    Micro-batch i has rows i, i + parts, ...: a batch that is split over devices does not move between them.
    """
    return jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), tree)


def joined(tree: Tree) -> Tree:
    """The rows that `divided` took apart."""
    return jax.tree.map(lambda x: pin(x.swapaxes(0, 1).reshape(-1, *x.shape[2:])), tree)


def look_at_views(
    encoder: Encoder, objective: Objective, batch: Batch, rng: Key[Array, "b"]
) -> tuple[Views, Mapping[str, Features]]:
    """An objective's views, and the encoder's features of them in training mode."""
    views = objective.views(batch, encoder=encoder, rng=rng)
    return views, encode(encoder, views, train=True, rng=stream(rng, "encoder"))
