r"""Retrieval: which test images show the same person? Nothing is trained.

facerep evaluate --config configs/evaluate/knn.py:dataset=manifest/faces \
    --checkpoint runs/farl --workdir results/knn

Arguments: see configs/evaluate/landmarks.py for those that are there too; the data set has identities. unmirrored:
features of images alone, without those of their mirror images.
"""

from ml_collections import ConfigDict

from facerep_jax.config import spec
from facerep_jax.evaluation.tasks import knn
from facerep_jax.evaluation.trial import compared, compared_args

EXAMPLES = ("crop=whole", "variant=S/16", "variant=Nano/8,stem=384")


def get_config(arg: str | None = None) -> ConfigDict:
    """The evaluation; `arg` is what follows the colon."""
    return compared(compared_args(arg), task=spec(knn.KNN))
