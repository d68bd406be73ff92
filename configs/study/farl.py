r"""What teaches an encoder about faces: captions, masked patches, or both?

facerep study farl --config configs/study/farl.py:faces=$FACEREP_FACES

Encoders of one size see equally many images, from three seeds each: contrast with captions (itc), masked tokens (mim)
and both (farl); farl with every caption taken from another face (farl_shuffled, a control), with captions that say more
(farl_informative) and with one complete and true caption for each face (farl_oracle, an upper bound). The two alone
with twice the steps (itc_twice, mim_twice) compute as much as farl, which encodes an image and its masked copy. Where
`faces` names the folder of a manifest, masked tokens learn from those faces too (mim_real), or from as many of them as
of drawn ones (mim_both).
Each kind has its learning rate chosen among `study.RATES`, from one seed, by validation faces; see `facerep study`.
All are judged on landmarks, parsing and attributes of another generator's faces by linear heads at 10 % of the labels,
three subsets each, landmarks and attributes at 100 % too; the first three also by FaRL's head on the frozen encoder
(farl_head, one subset, narrow) and by fine-tuning, where `scratch` is a network that learns from nothing in as many
steps, from the same images and their shifts and zooms, at a rate of 1e-3; finetuned has a tenth of that for the
encoder, finetuned_alike all of it. These, and those that saw `faces`, are judged on the landmarks of `faces`. Beside
them stand encoders that were never trained (random), such with blocks that act at their width (random_scaled) and
k-means features of patches (patch_kmeans).

Arguments: faces, steps of each pre-training, images to pre-train on, seeds of each encoder and of random; encoders,
names joined by +, where not all are wanted; one_rate for that of the recipe alone.
"""

from typing import Any

from ml_collections import ConfigDict

from facerep_jax.config import parse_arg, pick
from facerep_jax.study import kind_of

FACES = "generated_faces:size=80,validation=0,test=0"
RECIPE = "configs/pretrain/farl_nano.py"
PROBE = "variant=Nano/8,stem=384,size=48"  # of random encoders too
MAIN = ("itc", "mim", "farl")
STEPS = 480  # of a head or of a whole network

EXAMPLES = ("faces=elsewhere", "encoders=mim+farl", "one_rate")


def get_config(arg: str | None = None) -> ConfigDict:
    """The study; `arg` is what follows the colon."""
    args = parse_arg(arg, faces="", steps=500, images=16_000, seeds=3, encoders="", one_rate=False)
    web, shuffled, informative, labelled = (
        f"generated_faces/{name}" for name in ("web", "shuffled", "informative", "labelled")
    )
    drawn = {
        web: f"{FACES},train={args.images}",
        shuffled: f"{FACES},train={args.images},mismatched=1.0",
        informative: f"{FACES},train={args.images},informativeness=1.0",
    }

    def nano(dataset: str, *more: str, steps: int = args.steps) -> dict[str, Any]:
        return kind_of(RECIPE, f"dataset={dataset}", f"steps={steps}", *more, seeds=args.seeds, one_rate=args.one_rate)

    pretrain = dict(
        itc=nano(web, "objective=itc"),
        mim=nano(web, "objective=mim"),
        farl=nano(web),
        farl_shuffled=nano(shuffled),
        farl_informative=nano(informative),
        farl_oracle=nano(web, "captions=oracle_caption"),
        itc_twice=nano(web, "objective=itc", steps=2 * args.steps),
        mim_twice=nano(web, "objective=mim", steps=2 * args.steps),
    )
    if args.faces:
        pretrain["mim_real"] = nano("manifest/real", "objective=mim")
        pretrain["mim_both"] = nano(f"{web}+manifest/real", "objective=mim")
    if args.encoders:
        pretrain = {name: pick("encoder", name, pretrain) for name in args.encoders.split("+")}

    on_drawn = f"dataset={labelled},small,{PROBE}"
    config = ConfigDict(
        dict(
            prepare={name.rpartition("/")[2]: text for name, text in drawn.items() if used(name, pretrain)}
            | {"labelled": "generated_faces:world=evaluate,size=80,train=2000,validation=500,test=1000,seed=1"},
            manual_dirs={},
            pretrain=pretrain,
            search=dict(evaluation="landmarks", fraction=0.1),
            random=args.seeds,
            scratch=(f"--config.scratch.steps={STEPS}",),
            rivals=("patch_kmeans", "random_scaled"),
            subsets=("--config.seeds=(0,1,2)",),
            whole=("--config.seeds=(0,)",),  # all subsets of 100 % are the same
            against=("random", *(name for name in MAIN if name in pretrain)),
            evaluate=dict(
                landmarks=dict(config=f"configs/evaluate/landmarks.py:{on_drawn},protocol=ridge", fractions=(0.1, 1.0)),
                parsing=dict(config=f"configs/evaluate/parsing.py:{on_drawn}", fractions=(0.1,)),
                attributes=dict(
                    config=f"configs/evaluate/attributes.py:{on_drawn},protocol=ridge", fractions=(0.1, 1.0)
                ),
                finetuned=dict(
                    config=f"configs/evaluate/landmarks.py:{on_drawn},protocol=finetune,steps={STEPS}",
                    fractions=(0.1,),
                    scratch=(0.1,),
                    rivals=(),  # there is nothing in them to fine-tune
                    encoders=MAIN,
                ),
                finetuned_alike=dict(
                    config=f"configs/evaluate/landmarks.py:{on_drawn},protocol=finetune,steps={STEPS}",
                    fractions=(0.1,),
                    rivals=(),
                    encoders=MAIN,
                    flags=("--config.protocol.optimizer.multipliers=()",),
                ),
                farl_head=dict(
                    config=f"configs/evaluate/landmarks.py:{on_drawn},head=farl,protocol=frozen,steps={STEPS}",
                    fractions=(0.1,),
                    encoders=MAIN,
                    subsets=("--config.seeds=(0,)",),
                    flags=(
                        "--config.task.head.size=24",
                        "--config.task.head.dense.channels=32",
                        "--config.protocol.optimizer.learning_rate=1e-2",
                    ),
                ),
            ),
        )
    )
    if args.faces:
        config.prepare.real = "manifest"
        config.manual_dirs.real = args.faces
        config.evaluate.real_landmarks = dict(
            config=f"configs/evaluate/landmarks.py:dataset=manifest/real,{PROBE},protocol=ridge",
            fractions=(0.1, 1.0),
            encoders=(*MAIN, "mim_real", "mim_both"),
        )
    return config


def used(dataset: str, pretrain: dict[str, dict[str, Any]]) -> bool:
    """Whether a recipe reads a data set."""
    return any(dataset in recipe["config"] for recipe in pretrain.values())
