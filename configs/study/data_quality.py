r"""Does pre-training want images that are broad and noisy, or narrow and clean ones?

facerep study data_quality --config configs/study/data_quality.py

FRL's first finding is that pre-training without labels on uncurated images helps most. Here two sets show the same
people in equally many images. `curated` is narrow and clean: faces are frontal and in the middle (spread 0.2), no hand
or thing covers them, and nothing is blurred, noisy, compressed or wrongly exposed (degradation 0). `uncurated` is broad
and noisy: the whole world of poses, and one and a half times its degradation.
At each of `sizes` images encoders learn without labels from either (swav_curated, swav_uncurated) and with labels from
curated ones (identity_curated), in equally many steps, from three seeds each. They are judged on landmarks and action
units of another generator's faces as they are (broad) and on such as are frontal and clean (narrow), by ridge
regression at 10 % of the labels, three subsets each, beside encoders that were never trained (random). Scores against
images get a power law with its interval (`curves`, see `facerep study`).
Controls. Negative: `permuted`, landmarks whose training labels are those of other faces, where nobody can win; and
labels_at_random, pre-trained on identities drawn at random. Positive: `full`, attributes with all labels, where
attributes_uncurated, which learnt them, must win.
Each kind has its learning rate chosen among `study.RATES` at each size, from one seed, by validation faces.

Arguments: sizes of the sets, joined by +; steps of each pre-training; seeds of each encoder and of random; one_rate for
that of the recipe alone; smoke: few images, two steps, one seed, to try the way out.
"""

from typing import Any

from ml_collections import ConfigDict

from facerep_jax.config import parse_arg
from facerep_jax.study import kind_of

NANO = "configs/pretrain/frl_nano.py"
PROBE = "variant=Nano/8,stem=384,size=48"  # of random encoders too
PERSON = 8  # images of each
QUALITIES = dict(curated="spread=0.2,degradation=0.0", uncurated="spread=1.0,degradation=1.5")
NARROW = QUALITIES["curated"]
LEARNT = ("swav_curated", "swav_uncurated", "identity_curated")

EXAMPLES = ("sizes=500+2000", "one_rate", "smoke")


def get_config(arg: str | None = None) -> ConfigDict:
    """The study; `arg` is what follows the colon."""
    args = parse_arg(arg, sizes="2000+16000", steps=500, seeds=3, one_rate=False, smoke=False)
    world = "generated_faces:world=evaluate,size=80,train=2000,validation=500,test=1000,seed=1"
    learnt: tuple[str, ...] = LEARNT
    more: tuple[str, ...] = ()
    if args.smoke:
        args.sizes, args.steps, args.seeds, args.one_rate = "64", 2, 1, True
        world = "generated_faces:world=evaluate,size=48,train=100,validation=16,test=16,seed=1"
        learnt, more = ("identity_curated",), ("--config.encoder.depth=1", "--config.encoder.unroll=1")
    sizes = [int(size) for size in args.sizes.split("+")]

    def nano(objective: str, quality: str, size: int, *own: str) -> dict[str, Any]:
        given = (f"dataset=generated_faces/{quality}_{size}", f"steps={args.steps}", f"objective={objective}", *own)
        return kind_of(NANO, *given, seeds=args.seeds, one_rate=args.one_rate) | dict(flags=more)

    def identities(size: int, *own: str) -> tuple[str, ...]:
        return (f"classes={max(2, size // PERSON)}", *own)

    pretrain: dict[str, dict[str, Any]] = {}
    for name in learnt:
        objective, quality = name.split("_")
        for size in sizes:
            own = identities(size) if objective == "identity" else ()
            pretrain[f"{name}_{size}"] = nano(objective, quality, size, *own)
    pretrain["attributes_uncurated"] = nano("attributes", "uncurated", sizes[-1])
    pretrain["labels_at_random"] = nano("identity", "curated", sizes[-1], *identities(sizes[-1], "control=random"))

    probe = f"{PROBE},small,protocol=ridge"
    tasks = dict(
        broad=dict(config=f"configs/evaluate/landmarks.py:dataset=generated_faces/broad,{probe}", fractions=(0.1,)),
        narrow=dict(config=f"configs/evaluate/landmarks.py:dataset=generated_faces/narrow,{probe}", fractions=(0.1,)),
        action_units=dict(
            config=f"configs/evaluate/action_units.py:dataset=generated_faces/broad,{probe}", fractions=(0.1,)
        ),
        full=dict(config=f"configs/evaluate/attributes.py:dataset=generated_faces/broad,{probe}", fractions=(1.0,)),
        permuted=dict(
            config=f"configs/evaluate/landmarks.py:dataset=generated_faces/permuted,{probe}", fractions=(0.1,)
        ),
    )
    faces = "generated_faces:size=80,validation=0,test=0"
    return ConfigDict(
        dict(
            prepare={
                f"{quality}_{size}": f"{faces},train={size},{dials}"
                for quality, dials in QUALITIES.items()
                for size in sizes
            }
            | dict(broad=world, narrow=f"{world},{NARROW}", permuted=f"{world},permuted=1.0"),
            manual_dirs={},
            pretrain=pretrain,
            search=dict(evaluation="broad", fraction=0.1),
            random=args.seeds,
            untrained=dict(flags=more),
            scratch=(),
            rivals=(),
            subsets=("--config.seeds=(0,1,2)",),
            whole=("--config.seeds=(0,)",),
            against=("random", *(f"swav_curated_{size}" for size in sizes[-1:] if "swav_curated" in learnt)),
            evaluate=tasks,
            curves={
                task: dict(
                    x="images of pre-training",
                    lines={name: tuple((size, task, f"{name}_{size}") for size in sizes) for name in learnt},
                    levels=("random", "labels_at_random"),
                )
                for task in ("broad", "narrow", "action_units", "permuted")
            },
        )
    )
