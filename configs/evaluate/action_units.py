r"""Facial action units, how strong they are or whether they act, at a fraction of the labels.

facerep evaluate --config configs/evaluate/action_units.py:dataset=manifest/faces,protocol=ridge \
    --checkpoint runs/farl --workdir results/action_units

Arguments: see configs/evaluate/landmarks.py; the data set has action units. head: linear, of the pooled feature; or
facer, a weighted mean of what four stages of the encoder give, which descends a gradient.
target: intensity; or detection of the units that act, with an intensity of `least`, 2 unless given, or more. For labels
of occurrence, 0 and 1, take least=1.
"""

from ml_collections import ConfigDict

from facerep_jax.config import pick, spec
from facerep_jax.evaluation.tasks import action_units
from facerep_jax.evaluation.trial import learnt, learnt_args, one_vector

EXAMPLES = (
    "target=detection",
    "target=detection,protocol=knn",
    "target=detection,least=1",
    "head=facer",
    "protocol=finetune,layer_decay=0.75",
    "protocol=ridge",
    "selection=last",
    "crop=whole",
    "variant=Nano/8,stem=384",
)


def get_config(arg: str | None = None) -> ConfigDict:
    """The evaluation; `arg` is what follows the colon."""
    args = learnt_args(arg, target="intensity", least=2.0)
    occurs = spec(action_units.Occurrence, least=args.least)
    targets = dict(
        intensity=dict(task=action_units.Intensity, baseline="mean", read=()),
        detection=dict(task=action_units.Detection, baseline="always", read=(occurs,)),
    )
    target = pick("target", args.target, targets)
    return learnt(
        args,
        task=spec(target["task"], **one_vector(args.head)),
        baselines=(target["baseline"], "linear_pixels"),
        read=target["read"],
    )
