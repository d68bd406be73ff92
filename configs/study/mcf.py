r"""Which part of MCF teaches an encoder about faces: a frozen network's features, the contrast, or the masks?

facerep study mcf --config configs/study/mcf.py:faces=$FACEREP_FACES

Encoders of one size see equally many images, from three seeds each: masked pixels (mae), masked features alone
(features), contrast alone (contrast), both (mcf), both with a random frozen network (mcf_random, a control), and mae
and mcf whose masks hide a part of the face wholly (mae_regions, mcf_regions). The frozen network M1 is the encoder of
mae from seed 0: a student must beat this row, which is its teacher's. mae_long has as many steps as make it compute as
much as mcf and its M1 together. Beside them stands FaRL (farl), which reads captions, with a CLIP-like encoder; it
computes as much as those two.
Each kind has its learning rate chosen among `study.RATES`, from one seed, by validation faces; see `facerep study`.
They are judged by linear heads on landmarks and parsing of another generator's faces and, where `faces` names the
folder of a manifest, on landmarks of those, at 10 % of the labels, three subsets each, and at 100 %, beside encoders
that were never trained (random), k-means features of patches (patch_kmeans) and, on the drawn faces at 10 %, networks
trained from nothing on the same labels (scratch).

Arguments: faces, steps of each pre-training, images to pre-train on, seeds of each encoder; encoders, names joined by
+, where not all are wanted (mae comes with those that need it); one_rate for that of the recipe alone; smoke: two steps
on few faces, one seed, mae and mcf alone, to try the way out.
"""

from typing import Any

from ml_collections import ConfigDict

from facerep_jax.config import parse_arg, pick
from facerep_jax.study import kind_of

RECIPE = "configs/pretrain/mcf_nano.py"
FARL = "configs/pretrain/farl_nano.py"
LONG = 4.04  # steps of mae, in those of mcf and its M1 together, by their operations
M1 = "m1={mae}"  # filled in by `facerep study`

EXAMPLES = ("faces=elsewhere", "encoders=mcf+contrast", "one_rate", "smoke")


def get_config(arg: str | None = None) -> ConfigDict:
    """The study; `arg` is what follows the colon."""
    args = parse_arg(arg, faces="", steps=500, images=16_000, seeds=3, encoders="", one_rate=False, smoke=False)
    labelled = "generated_faces:world=evaluate,size=80,train=2000,validation=500,test=1000,seed=1"
    if args.smoke:
        args.steps, args.images, args.seeds, args.encoders = 2, 128, 1, args.encoders or "mae+mcf"
        labelled = "generated_faces:world=evaluate,size=48,train=200,validation=20,test=20,seed=1"
    fractions = (0.1, 1.0)

    web, after = "dataset=generated_faces/web", dict(after=("mae",))
    of_all: dict[str, Any] = dict(seeds=args.seeds, one_rate=args.one_rate)

    def nano(objective: str, *more: str, steps: int = args.steps) -> dict[str, Any]:
        return kind_of(RECIPE, web, f"objective={objective}", f"steps={steps}", *more, **of_all)

    pretrain = dict(
        mae=nano("mae"),
        mae_long=nano("mae", steps=round(LONG * args.steps)),
        mae_regions=nano("mae", "masks=regions"),
        features=nano("features", M1) | after,
        contrast=nano("contrast"),
        mcf=nano("mcf", M1) | after,
        mcf_random=nano("mcf", "m1=random"),
        mcf_regions=nano("mcf", M1, "masks=regions") | after,
        farl=kind_of(FARL, web, f"steps={args.steps}", **of_all),
    )
    if args.encoders:
        chosen = {name: pick("encoder", name, pretrain) for name in args.encoders.split("+")}
        needed = {name for recipe in chosen.values() for name in recipe.get("after", ())}
        pretrain = {name: recipe for name, recipe in pretrain.items() if name in chosen or name in needed}
    config = ConfigDict(
        dict(
            prepare=dict(web=f"generated_faces:size=80,validation=0,test=0,train={args.images}", labelled=labelled),
            manual_dirs={},
            pretrain=pretrain,
            search=dict(evaluation="landmarks", fraction=0.1),
            random=args.seeds,
            untrained=dict(
                arguments=("variant=Nano/8", "stem=384", "size=48"), flags=("--config.encoder.flavour=mae",)
            ),
            scratch=("--config.scratch.steps=6",) if args.smoke else ("--config.scratch.steps=1000",),
            rivals=("patch_kmeans",),
            subsets=("--config.seeds=(0,1,2)",),
            whole=("--config.seeds=(0,)",),  # all subsets of 100 % are the same
            against=("random", *(name for name in ("mae", "mae_long", "mcf") if name in pretrain)),
            evaluate=dict(
                landmarks=dict(
                    config="configs/evaluate/landmarks.py:dataset=generated_faces/labelled,small,protocol=ridge",
                    fractions=fractions,
                    scratch=(0.1,),
                ),
                parsing=dict(
                    config="configs/evaluate/parsing.py:dataset=generated_faces/labelled,small",
                    fractions=fractions,
                    scratch=(0.1,),
                ),
            ),
        )
    )
    if args.smoke:
        config.evaluate.parsing.config += ",steps=6"
    if args.faces:
        config.prepare.real = "manifest"
        config.manual_dirs.real = args.faces
        config.evaluate.real_landmarks = dict(
            config="configs/evaluate/landmarks.py:dataset=manifest/real,protocol=ridge", fractions=fractions
        )
    return config
