r"""Attributes, yes-or-no properties of a face, at a fraction of the labels.

facerep evaluate --config configs/evaluate/attributes.py:dataset=manifest/faces,protocol=ridge \
    --checkpoint runs/farl --workdir results/attributes

Arguments: see configs/evaluate/landmarks.py; the data set has attributes. head: linear, of the pooled feature; or
facer, a weighted mean of what four stages of the encoder give, as facer's head for FaRL has it (2112.03109), which
descends a gradient. In facer's crop the face takes up about a third of a side, as with margin=1.
Changed: facer reads the stages that its weights name, in those that it gave out the last alone:
--config.task.taps='(1.0,)'.
"""

from ml_collections import ConfigDict

from facerep_jax.config import spec
from facerep_jax.evaluation.tasks import attributes
from facerep_jax.evaluation.trial import learnt, learnt_args, one_vector

EXAMPLES = (
    "head=facer",
    "protocol=finetune,layer_decay=0.75",
    "protocol=ridge",
    "protocol=knn",
    "selection=last",
    "crop=whole",
    "variant=Nano/8,stem=384",
)


def get_config(arg: str | None = None) -> ConfigDict:
    """The evaluation; `arg` is what follows the colon."""
    args = learnt_args(arg)
    return learnt(
        args,
        task=spec(attributes.Attributes, **one_vector(args.head)),
        baselines=("most_frequent", "linear_pixels"),
    )
