"""How a task is learnt and scored from some labelled examples; each module holds one protocol and names it PROTOCOL.

A protocol is prepared once for a problem, then learns on subsets of the labels: it learns from some training examples,
chooses by the problem's selection, and predicts all test examples. Gradient descent is one way to learn; a protocol may
as well compare features or solve for a head.
"""

import importlib
import pkgutil
import typing
from collections.abc import Callable
from typing import Any

from facerep_jax import schedules
from facerep_jax.config import locate, signature_of, spec
from facerep_jax.evaluation.problem import Indices, Problem
from facerep_jax.evaluation.selection import Outcome
from facerep_jax.suggestions import nearest
from facerep_jax.train.optim import adamw

ENCODER = "^encoder/"  # matches the paths of the encoder's parameters

Learn = Callable[[Indices, Indices, int], Outcome]  # (training examples, validation examples, seed)


@typing.runtime_checkable
class Protocol(typing.Protocol):
    """How a task is learnt from labels."""

    name: str  # in results, such as "linear_probe"
    explains: str  # a sentence or two for readers
    trains_encoder: bool  # or only what is put on the encoder
    compares: bool  # several trainings, of which the best on validation is chosen whatever the selection

    def prepare(self, problem: Problem) -> Learn:
        """Do what is done once for all subsets of the labels; gives what learns on one.

        The subsets are rows of `problem.splits["train"]` and of `problem.splits["validation"]`; either may be empty.
        """
        ...


def by_name(name: str) -> type[Protocol]:
    """The class of a protocol: that of a module of this package, or any that is given as MODULE:CLASS.

    Raises:
        ValueError: there is no such protocol.
    """
    if ":" in name:
        return locate({"call": name})
    known = [module.name for module in pkgutil.iter_modules(__path__)]
    if name not in known:
        raise ValueError(f"no protocol {name!r}; {nearest(name, known)}")
    return importlib.import_module(f"{__name__}.{name}").PROTOCOL


def with_steps(name: str, **settings: Any) -> dict[str, Any]:
    """Those of some settings of gradient descent that a protocol takes: all, or none if it solves for the head."""
    return {key: value for key, value in settings.items() if key in signature_of(by_name(name)).parameters}


def as_farl(name: str, *, steps: int, learning_rate: float, milestones: tuple[float, ...]) -> dict[str, Any]:
    """The settings of a protocol as FaRL learns a task with its own head; none for protocols that FaRL has not.

    The encoder's learning rate is 1e-4. FaRL's epochs are of N images at any label fraction, and so a number of steps,
    epochs * N / 40: 136,500 on LaPa, 19,750 on 300W, 75,000 on AFLW-19, 28,200 on WFLW. The rate of the head is 1e-3
    for parsing, a tenth of that after two thirds, and 1e-2 for landmarks, a tenth after 0.8 on 300W alone.

    Source: github.com/FacePerceiver/FaRL, configs of its optimizers and trainers.
    """
    if name not in ("frozen", "finetune"):
        return {}
    optimizer = spec(
        adamw,
        learning_rate=learning_rate,
        weight_decay=1e-5,
        decayed=".",
        schedule=spec(schedules.warmup_steps_down, milestones=milestones),
        multipliers=((ENCODER, 1e-4 / learning_rate),) if name == "finetune" else (),
    )
    return {"steps": steps, "batch_size": 40, "optimizer": optimizer, "ema": 0.999}
