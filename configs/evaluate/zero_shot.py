r"""Zero-shot: attributes by prompts, or retrieval between images and captions. Nothing is trained.

facerep evaluate --config configs/evaluate/zero_shot.py:dataset=manifest/faces \
    --checkpoint runs/farl --workdir results/zero_shot

Arguments: see configs/evaluate/landmarks.py for those that are there too; --checkpoint is a pre-training with captions,
or a file of CLIP's, FaRL's or SigLIP's weights, whose text tower is read.
target: attributes of the data set, which become prompts; or captions, of which each image has one or several.
tower: WORKDIR[@STEP] or FILE[@LAYOUT] of another text tower than that of --checkpoint.
tokenizer: SigLIP's file of SentencePiece, such as tokenizer.model or spiece.model, which its text tower needs.
Prompts of an attribute may be given: --config.task.words='{"Bald": (("a bald man.",), ("a man with hair.",))}'.
"""

from ml_collections import ConfigDict

from facerep_jax.config import pick, spec
from facerep_jax.evaluation.protocols.zero_shot import ZeroShot
from facerep_jax.evaluation.tasks import zero_shot
from facerep_jax.evaluation.trial import compared, shown_args

EXAMPLES = ("target=captions", "crop=whole", "variant=S/16", "variant=Nano/8,stem=384")


def get_config(arg: str | None = None) -> ConfigDict:
    """The evaluation; `arg` is what follows the colon."""
    args = shown_args(arg, target="attributes", tower="", tokenizer="")
    words = dict(tokenizer=args.tokenizer) if args.tokenizer else {}
    targets = dict(
        attributes=dict(task=spec(zero_shot.ZeroShotAttributes, **words), baseline="most_frequent", read=()),
        captions=dict(task=spec(zero_shot.Captions), baseline="chance", read=(spec(zero_shot.AllCaptions, **words),)),
    )
    target = pick("target", args.target, targets)
    return compared(
        args,
        task=target["task"],
        baselines=(target["baseline"],),
        protocol=spec(ZeroShot, tower=args.tower),
        read=target["read"],
    )
