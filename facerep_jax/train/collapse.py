"""Signs that a pre-training learns nothing: a loss that stays at that of chance, features that are all alike."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

CHANCE = ("chance", "unigram")  # names by which objectives log the loss of a guess that does not look at the image
NEAR = 0.98  # share of the loss of chance at which a loss counts as being there
PATIENCE = 1000  # steps at chance before it is said, in a long run
RANK, SPREAD, USED = "effective_rank", "spread", "prototypes_used"
LEAST = {RANK: 2.0, SPREAD: 0.01, USED: 1.5}  # below which features count as collapsed


def measures(features: Float[np.ndarray, "n d"]) -> dict[str, float]:
    """How varied the pooled features of many images are: their effective rank and their spread.

    The effective rank is the exponential of the entropy of the singular values of the centred features, as shares of
    their sum: 1 if all lie on a line, at most the smaller of n - 1 and d. Source: Roy and Vetterli 2007; RankMe
    (2210.02885), which does not centre. The spread is the standard deviation of the features scaled to length one, mean
    over dimensions, times sqrt(d): 0 if all are alike, near 1 if they point everywhere. Source: SimSiam (2011.10566).

    Features that are not finite give NaN.
    """
    x = np.asarray(features, np.float64)
    if not np.isfinite(x).all():
        return {RANK: math.nan, SPREAD: math.nan}
    singular = np.linalg.svd(x - x.mean(0), compute_uv=False)
    shares = singular / max(singular.sum(), 1e-300)
    # 0 log 0 is 0: features without any variance have the rank 1.
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1))).sum()
    directions = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return {RANK: float(np.exp(entropy)), SPREAD: float(directions.std(0).mean() * math.sqrt(x.shape[1]))}


def chance_of(name: str, scalars: Mapping[str, Any]) -> str | None:
    """The name of the loss of chance that belongs to a loss, `loss` or `X/loss`, if it is among the scalars."""
    if name.rpartition("/")[2] != "loss":
        return None
    return next((each for chance in CHANCE if (each := name.removesuffix("loss") + chance) in scalars), None)


def patience_of(steps: int) -> int:
    """Steps at chance before it is said in a run of so many: a quarter of it, at most `PATIENCE`, at least 100."""
    return max(100, min(PATIENCE, steps // 4))


class Watch:
    """Looks at what is logged, and says once of each loss and measure that it shows a collapse.

    Args:
        lines: what was logged before, by earlier runs in the same workdir.
        patience: steps at chance before it is said.
    """

    def __init__(self, lines: Iterable[Mapping[str, Any]] = (), patience: int = PATIENCE):
        self._patience = patience
        self._since: dict[str, int] = {}  # loss -> the first step of those at chance
        self._said: set[str] = set()
        for line in lines:
            self.look(line["step"], line)

    def look(self, step: int, values: Mapping[str, Any]) -> list[str]:
        """The warnings that the values of a step give rise to, a line each."""
        found = []
        for name in values:
            if chance := chance_of(name, values):
                loss, guess = values[name], values[chance]
                if loss is None or guess is None or not loss > NEAR * guess:
                    self._since.pop(name, None)
                    continue
                since = self._since.setdefault(name, step)
                if step - since >= self._patience and self._new(name):
                    found.append(
                        f"{name} has been at that of chance since step {since} ({loss:.3f}, chance is {guess:.3f}): "
                        "nothing is learnt by it so far; look at the learning rate, the batch size and the data"
                    )
            measure = name.rpartition("/")[2]
            if measure in LEAST and values[name] is not None and values[name] < LEAST[measure] and self._new(name):
                found.append(
                    f"the features of all images are nearly alike: {measure} is {values[name]:.3g} at step {step}"
                )
        return found

    def _new(self, name: str) -> bool:
        """Whether nothing was said of a scalar before."""
        new = name not in self._said
        self._said.add(name)
        return new
