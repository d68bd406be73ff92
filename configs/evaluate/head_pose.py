r"""Head pose, yaw, pitch and roll, at a fraction of the labels.

facerep evaluate --config configs/evaluate/head_pose.py:dataset=manifest/faces,protocol=ridge \
    --checkpoint runs/farl --workdir results/head_pose

Arguments: see configs/evaluate/landmarks.py; the data set has `head_pose`, in degrees, or cameras.
head: linear, of the pooled feature; or facer, a weighted mean of what four stages of the encoder give, which descends a
gradient.
"""

from ml_collections import ConfigDict

from facerep_jax.config import spec
from facerep_jax.evaluation.tasks import head_pose
from facerep_jax.evaluation.trial import learnt, learnt_args, one_vector

EXAMPLES = (
    "head=facer",
    "protocol=finetune,layer_decay=0.75",
    "protocol=ridge",
    "selection=last",
    "crop=whole",
    "variant=Nano/8,stem=384",
)


def get_config(arg: str | None = None) -> ConfigDict:
    """The evaluation; `arg` is what follows the colon."""
    args = learnt_args(arg)
    return learnt(
        args,
        task=spec(head_pose.HeadPose, **one_vector(args.head)),
        baselines=("mean", "linear_pixels"),
        read=(spec(head_pose.Pose),),
    )
