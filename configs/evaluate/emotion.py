r"""Emotion, valence and arousal or the class of the expression, at a fraction of the labels.

facerep evaluate --config configs/evaluate/emotion.py:dataset=manifest/faces,protocol=ridge \
    --checkpoint runs/farl --workdir results/emotion

Arguments: see configs/evaluate/landmarks.py; the data set has valence and arousal, or expressions.
head: linear, of the pooled feature; or facer, a weighted mean of what four stages of the encoder give, which descends a
gradient.
target: affect, valence and arousal; or expression.
"""

from ml_collections import ConfigDict

from facerep_jax.config import pick, spec
from facerep_jax.evaluation.tasks import emotion
from facerep_jax.evaluation.trial import learnt, learnt_args, one_vector

EXAMPLES = (
    "target=expression",
    "target=expression,protocol=knn",
    "head=facer",
    "protocol=finetune,layer_decay=0.75",
    "protocol=ridge",
    "selection=last",
    "crop=whole",
    "variant=Nano/8,stem=384",
)


def get_config(arg: str | None = None) -> ConfigDict:
    """The evaluation; `arg` is what follows the colon."""
    args = learnt_args(arg, target="affect")
    targets = dict(
        affect=dict(task=emotion.Affect, baseline="mean", read=(spec(emotion.Circumplex),)),
        expression=dict(task=emotion.Expression, baseline="most_frequent", read=()),
    )
    target = pick("target", args.target, targets)
    return learnt(
        args,
        task=spec(target["task"], **one_vector(args.head)),
        baselines=(target["baseline"], "linear_pixels"),
        read=target["read"],
    )
