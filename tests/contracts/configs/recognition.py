"""Recognition, or attributes, by plug-ins alone (tests/contracts/recognition.py)."""

from ml_collections import ConfigDict

from facerep_jax.config import OPEN, parse_arg, spec
from facerep_jax.data import transforms
from facerep_jax.evaluation import protocols
from facerep_jax.evaluation.trial import trial
from facerep_jax.face_world import META
from tests.contracts import recognition

FACES = "tests.contracts.pairs_of_faces:size=48,train=48,validation=12,test=24,sessions=1,frames=4"
MODULE = "tests.contracts.recognition"


def get_config(arg: str | None = None) -> ConfigDict:
    """The evaluation; `arg` is what follows the colon."""
    args = parse_arg(arg, task="recognition", protocol="linear_probe", run="")
    tasks = dict(recognition=recognition.Recognition, attributes=recognition.Attributes)
    settings = dict(
        linear_probe=dict(steps=12, batch_size=16, learning_rates=(1e-2,)),
        k_nearest=dict(k=3),
        zero_shot=dict(run=args.run, names=tuple(META["attributes"])),
    )
    classes = dict(k_nearest=f"{MODULE}:KNearest", zero_shot=f"{MODULE}:ZeroShot")
    protocol = protocols.by_name(classes.get(args.protocol, args.protocol))
    return trial(
        task=spec(tasks[args.task]),
        protocol=spec(protocol, **settings[args.protocol]),
        selection="last",
        seeds=(0,),
        fraction=1.0,
        dataset=FACES,
        transforms=(spec(transforms.CropToBox, margin=0.25, whole=OPEN),),
        augmentations=(spec(transforms.CropToBox, margin=0.25, whole=OPEN),),
    )
