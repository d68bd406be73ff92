"""The section of a pre-training run: its losses, its speed, what it masked."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from facerep_jax.evaluation.monitor import scores_in
from facerep_jax.reporting import attachments, explanations, wording
from facerep_jax.reporting.cards import pretraining_card
from facerep_jax.reporting.charts import Picture, bar_chart, curve
from facerep_jax.reporting.page import Block, Cards, Gallery, Row, Section, Table
from facerep_jax.reporting.workdirs import Pretraining
from facerep_jax.train.account import NAMES, Account, duration
from facerep_jax.train.collapse import NEAR, PATIENCE, chance_of, patience_of

# Scalars that are drawn after the losses: what they are, the label of the axis, a factor.
SPEED = {
    "images_per_second": ("Throughput, ↑ higher is better", "images per second", 1.0),
    "input_wait": ("Waiting for input, ↓ lower is better", "share of the time (%)", 100.0),
    "mfu": ("Model FLOPs utilisation, ↑ higher is better", "share of the devices' peak (%)", 100.0),
    "learning_rate": ("Learning rate", "learning rate", 1.0),
}


def section(run: Pretraining, allowed: int) -> Section:
    """The section of one run.

    Args:
        run: as it was read.
        allowed: bytes that each image may have.
    """
    scalars = run.scalars
    terms = [name for name in sorted(scalars) if name.endswith("/loss")]
    losses = [name for name in ("loss", *terms) if name in scalars]
    blocks: list[Block] = []
    patience = patience_of(run.config.get("steps", PATIENCE))
    pictures = [_loss(name, scalars, patience) for name in losses]
    pictures += [_score(name, title, scalars[name]) for name, title in scores_in(scalars)]
    pictures += [_speed(name, scalars[name]) for name in SPEED if name in scalars]
    if pictures:
        blocks.append(Gallery("Curves", "", tuple(pictures)))
    if run.account.total:
        blocks.append(Gallery("Where the wall time went", "", (_times(run.account),)))
    masked = run.folder / "masked.png"
    if masked.exists():
        alt = f"Training images of {run.folder.name} beside the same images with the patches hidden that were masked."
        caption = "Training images, each as it is and as the encoder saw it, with masked patches hidden"
        picture = Picture(caption, alt, uri=attachments.data_uri(masked, allowed))
        blocks.append(Gallery("What was masked", "", (picture,)))
    blocks += [_scalars(run, [*losses, *(name for name in SPEED if name in scalars)])]
    blocks += [Cards("How the run was made, and how to make it again", (pretraining_card(run),))]
    facts = " · ".join(part for part in (_facts(run.config), _speed_facts(scalars)) if part)
    return Section(run.folder.name, facts, tuple(blocks), explanations.PRETRAINING)


def _loss(name: str, scalars: Mapping[str, tuple[np.ndarray, np.ndarray]], patience: int) -> Picture:
    """A loss, and beside it the loss of chance if that is logged.

    The loss of chance is that of a guess which does not look at the image. An objective that logs its loss as `X/loss`
    logs chance as `X/chance`, or as `X/unigram` if the guess knows how often each answer occurs.
    """
    x, y = scalars[name]
    chance = chance_of(name, scalars)
    beside = ("chance", *scalars[chance]) if chance else None
    caption = "Total loss" if name == "loss" else f"Loss of {name.removesuffix('/loss').replace('_', ' ')}"
    if chance and (since := _at_chance_since(x, y, scalars[chance][1], patience)) is not None:
        caption += f", at chance since step {since:,}"
    alt = f"{caption} against steps: {_ends(x, y)}."
    return curve(x, y, caption=f"{caption}, ↓ lower is better", y_label="loss", alt=alt, beside=beside)


def _at_chance_since(x: np.ndarray, y: np.ndarray, chance: np.ndarray, patience: int) -> int | None:
    """The step since which a loss has been that of chance; None if it is not, or for fewer steps than `patience`."""
    if y.shape != chance.shape or not len(y) or not y[-1] > NEAR * chance[-1]:
        return None
    below = np.flatnonzero(~(y > NEAR * chance))
    first = below[-1] + 1 if below.size else 0
    return int(x[first]) if x[-1] - x[first] >= patience else None


def _score(name: str, title: str, scalar: tuple[np.ndarray, np.ndarray]) -> Picture:
    """A score of the encoder, and beside it that before the first step."""
    x, y = scalar
    beside = ("before training", x, np.full(len(y), y[0])) if x[0] == 0 else None
    alt = f"{title} against steps: {_ends(x, y)}."
    return curve(x, y, caption=title, y_label=name.rpartition("/")[2].replace("_", " "), alt=alt, beside=beside)


def _speed(name: str, scalar: tuple[np.ndarray, np.ndarray]) -> Picture:
    caption, label, factor = SPEED[name]
    x, y = scalar[0], factor * scalar[1]
    alt = f"{caption} against steps: {_ends(x, y)}."
    return curve(x, y, caption=caption, y_label=label, alt=alt, from_zero=name != "learning_rate")


def _times(account: Account) -> Picture:
    """Shares of the time since the first start, that of training steps first, then the largest."""
    spent = {kind: seconds for kind, seconds in account.seconds.items() if seconds >= 0.0005 * account.total}
    order = sorted(spent, key=lambda kind: (kind != "step", -spent[kind]))
    shares = {NAMES[kind]: spent[kind] / account.total for kind in order}
    caption = f"{duration(account.total)} since the first start; goodput {account.goodput:.1%}"
    return bar_chart(shares, caption=caption, alt=f"Shares of the wall time: {account.summary()}.")


def _ends(x: np.ndarray, y: np.ndarray) -> str:
    known = np.flatnonzero(np.isfinite(y))
    if not known.size:
        return "no finite value"
    first, last = known[0], known[-1]
    return f"{y[first]:.4g} at step {x[first]:,}, {y[last]:.4g} at step {x[last]:,}"


def _scalars(run: Pretraining, first: list[str]) -> Table:
    """Every scalar's first, middle and last value."""
    rows = []
    for name in dict.fromkeys([*first, *sorted(run.scalars)]):
        values = run.scalars[name][1]
        known = values[np.isfinite(values)]
        numbers = (values[0], np.median(known) if known.size else np.nan, values[-1])
        rows.append(Row((name, *(wording.number(float(v)) for v in numbers))))
    steps = np.unique(np.concatenate([steps for steps, _ in run.scalars.values()])) if run.scalars else np.zeros(0, int)
    caption = f"{run.folder.name} · {wording.plural(len(steps), 'logged step')}"
    caption += f", {steps[0]:,} to {steps[-1]:,}" if len(steps) else ""
    notes = (run.note,) if run.note else ()
    return Table("All logged scalars", caption, ("Scalar", "First", "Median", "Last"), tuple(rows), notes, folded=True)


def _facts(described: Mapping[str, Any]) -> str:
    """The facts of a config that a reader wants to know first, as far as it has them."""

    def get(*keys: str) -> Any:
        value: Any = described
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def called(key: str) -> str:
        return str(get(key, "call") or "").rpartition(":")[2]

    encoder = " ".join(str(part) for part in (called("encoder"), get("encoder", "variant")) if part)
    terms = get("objective", "terms")
    objective = " + ".join(terms) if isinstance(terms, Mapping) else called("objective")
    facts = [encoder, objective, get("data", "dataset")]
    facts += [f"batch {get('data', 'batch_size'):,}"] if isinstance(get("data", "batch_size"), int) else []
    facts += [f"{get('steps'):,} steps"] if isinstance(get("steps"), int) else []
    return " · ".join(str(fact) for fact in facts if fact)


def _speed_facts(scalars: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """Median throughput and input wait."""
    facts = []
    for name, text in (("images_per_second", "{:,.0f} images/s"), ("input_wait", "{:.1%} of the time waiting")):
        known = scalars[name][1][np.isfinite(scalars[name][1])] if name in scalars else np.zeros(0)
        facts += [text.format(np.median(known))] if known.size else []
    return f"median {', '.join(facts)}" if facts else ""
