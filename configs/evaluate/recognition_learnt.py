r"""Recognition by an embedding that is learnt from training persons, at a fraction of them or from few images of each.

facerep evaluate --config configs/evaluate/recognition_learnt.py:dataset=manifest/faces,pairs=drawn,shots=4 \
    --checkpoint runs/farl --workdir results/recognition_learnt

Arguments: see configs/evaluate/landmarks.py; training and validation images have identities. fraction is one of the
persons, with all of their images; shots are images of each person.
head: linear, of the pooled feature; or facer, a weighted mean of what four stages of the encoder give. Neither has a
closed form.
pairs: see configs/evaluate/recognition.py; of the test images, whose persons may be others than those of training.
loss: cosface, a margin of 0.4 on cosines (1801.09414); or arcface, of 0.5 on angles (1801.07698); both with a scale of
64, as insightface has them. --config.task.embedding=512 is the width of what is learnt.
"""

from ml_collections import ConfigDict

from facerep_jax.config import pick, spec
from facerep_jax.evaluation.tasks import recognition
from facerep_jax.evaluation.trial import learnt, learnt_args, one_vector
from facerep_jax.models import margins, pooled

EXAMPLES = (
    "loss=arcface",
    "pairs=drawn",
    "pairs=templates",
    "pairs=drawn_search",
    "head=facer",
    "protocol=finetune,layer_decay=0.75",
    "protocol=lora",
    "shots=4",
    "selection=last",
    "crop=whole",
    "variant=S/16",
    "variant=Nano/8,stem=384",
)


def get_config(arg: str | None = None) -> ConfigDict:
    """The evaluation; `arg` is what follows the colon."""
    args = learnt_args(arg, pairs="table", loss="cosface")
    tasks = dict(
        table=recognition.LearntRecognition,
        drawn=recognition.LearntDrawnPairs,
        templates=recognition.LearntTemplates,
        drawn_templates=recognition.LearntDrawnTemplates,
        search=recognition.LearntSearch,
        drawn_search=recognition.LearntDrawnSearch,
    )
    losses = dict(cosface=margins.CosFace, arcface=margins.ArcFace)
    return learnt(
        args,
        task=spec(
            pick("pairs", args.pairs, tasks),
            margin=spec(pick("loss", args.loss, losses)),
            **one_vector(args.head, linear=pooled.Projection),
        ),
        baselines=("pixels",),
    )
