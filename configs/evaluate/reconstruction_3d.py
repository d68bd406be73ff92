r"""Reconstruction in 3D, the vertices of a face's mesh, at a fraction of the labels.

facerep evaluate --config configs/evaluate/reconstruction_3d.py:dataset=manifest/faces,protocol=ridge \
    --checkpoint runs/farl --workdir results/reconstruction_3d

Arguments: see configs/evaluate/landmarks.py; the data set has `vertices`, and its meta `vertex_landmarks`, which of
them are the 68 landmarks, for errors of these and errors as a share of the distance of the eyes.
target: mesh; or landmarks, the 68 of `landmarks_3d` judged in the image plane, which is AFLW2000-3D's sparse alignment:
dataset=aflw2000/default,train=w300lp/default,target=landmarks.
head: linear, of the pooled feature; facer, a weighted mean of what four stages of the encoder give; or basis, facer's
for the coefficients of a linear model of the training meshes. The last two descend a gradient.
"""

from ml_collections import ConfigDict

from facerep_jax.config import pick, spec
from facerep_jax.evaluation.tasks import reconstruction_3d
from facerep_jax.evaluation.trial import learnt, learnt_args
from facerep_jax.models import pooled, taps

EXAMPLES = (
    "target=landmarks",
    "head=facer",
    "head=basis",
    "protocol=finetune,layer_decay=0.75",
    "protocol=ridge",
    "selection=last",
    "crop=whole",
    "variant=Nano/8,stem=384",
)


def get_config(arg: str | None = None) -> ConfigDict:
    """The evaluation; `arg` is what follows the colon."""
    args = learnt_args(arg, target="mesh")
    layers = spec(pooled.Layers)
    heads = dict(
        linear=dict(taps=(), head=spec(pooled.Linear)),
        facer=dict(taps=taps.QUARTERS, head=layers),
        basis=dict(taps=taps.QUARTERS, head=spec(reconstruction_3d.Basis, inner=layers)),
    )
    targets = dict(mesh=reconstruction_3d.Reconstruction3D, landmarks=reconstruction_3d.SparseAlignment)
    return learnt(
        args,
        task=spec(pick("target", args.target, targets), **pick("head", args.head, heads)),
        baselines=("mean", "linear_pixels"),
        read=(spec(reconstruction_3d.Yaw),),
    )
