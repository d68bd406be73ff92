r"""What teaches an encoder about faces: captions, masked patches, or both?

facerep study farl --config configs/study/farl.py:faces=$FACEREP_FACES

Encoders of one size see equally many images: contrast with captions (itc), masked tokens (mim) and both (farl), from
three seeds each. From one seed each: the two alone with twice the steps (itc_twice, mim_twice), which compute as much
as farl, for that encodes an image and its masked copy; both losses with every caption taken from another face
(farl_shuffled, a control), with one complete and true caption for each face (farl_oracle, an upper bound) and with
captions that say more (farl_informative).
Each kind has its learning rate chosen among RATES, from one seed, by validation faces (`rates`, see `facerep study`).
They are probed on landmarks and parsing of another generator's faces and, where `faces` names the folder of a manifest,
on landmarks of those, at 1 and 10 % of the labels, five subsets each, and at 100 %, beside encoders that were never
trained (random), such with blocks that act at their width (random_scaled), k-means features of patches (patch_kmeans)
and networks trained from nothing on the same labels (scratch).

Arguments: faces, steps of each pre-training, images to pre-train on, seeds (of the first three encoders and of random),
encoders, names joined by +, where not all that are pre-trained are wanted; one_rate for that of the recipe alone.
"""

from ml_collections import ConfigDict

from facerep_jax.config import parse_arg, pick

FACES = "generated_faces:size=80,validation=0,test=0"
RECIPE = "configs/pretrain/farl_nano.py"
PROBE = "variant=Nano/8,stem=384,size=48"  # of random encoders too

RATES = (2e-4, 6e-4, 2e-3)

EXAMPLES = ("faces=elsewhere", "encoders=mim+farl", "one_rate")


def get_config(arg: str | None = None) -> ConfigDict:
    """The study; `arg` is what follows the colon."""
    args = parse_arg(arg, faces="", steps=700, images=16_000, seeds=3, encoders="", one_rate=False)
    web, shuffled, informative, labelled = (
        f"dataset=generated_faces/{name}" for name in ("web", "shuffled", "informative", "labelled")
    )
    fractions = (0.01, 0.1, 1.0)
    pretrain = dict(
        itc=dict(config=f"{RECIPE}:{web},objective=itc,steps={args.steps}", seeds=args.seeds),
        mim=dict(config=f"{RECIPE}:{web},objective=mim,steps={args.steps}", seeds=args.seeds),
        farl=dict(config=f"{RECIPE}:{web},steps={args.steps}", seeds=args.seeds),
        itc_twice=dict(config=f"{RECIPE}:{web},objective=itc,steps={2 * args.steps}", seeds=1),
        mim_twice=dict(config=f"{RECIPE}:{web},objective=mim,steps={2 * args.steps}", seeds=1),
        farl_shuffled=dict(config=f"{RECIPE}:{shuffled},steps={args.steps}", seeds=1),
        farl_oracle=dict(config=f"{RECIPE}:{web},captions=oracle_caption,steps={args.steps}", seeds=1),
        farl_informative=dict(config=f"{RECIPE}:{informative},steps={args.steps}", seeds=1),
    )
    for recipe in pretrain.values():
        recipe["rates"] = () if args.one_rate else RATES
    if args.encoders:
        pretrain = {name: pick("encoder", name, pretrain) for name in args.encoders.split("+")}
    drawn = {
        web: f"{FACES},train={args.images}",
        shuffled: f"{FACES},train={args.images},mismatched=1.0",
        informative: f"{FACES},train={args.images},informativeness=1.0",
    }
    wanted = [dataset for dataset in drawn if any(f"{dataset}," in recipe["config"] for recipe in pretrain.values())]
    config = ConfigDict(
        dict(
            prepare={
                **{dataset.rpartition("/")[2]: drawn[dataset] for dataset in wanted},
                "labelled": "generated_faces:world=evaluate,size=80,train=2000,validation=500,test=1000,seed=1",
            },
            manual_dirs={},
            pretrain=pretrain,
            search=dict(evaluation="landmarks", fraction=0.1),
            random=args.seeds,
            scratch=("--config.scratch.steps=1000",),
            rivals=("patch_kmeans", "random_scaled"),
            whole=("--config.seeds=(0,)",),  # all subsets of 100 % are the same
            against=("random", *(name for name in ("itc", "mim", "farl") if name in pretrain)),
            evaluate=dict(
                landmarks=dict(
                    config=f"configs/evaluate/landmarks.py:{labelled},small,{PROBE}",
                    fractions=fractions,
                    scratch=fractions,
                ),
                parsing=dict(
                    config=f"configs/evaluate/parsing.py:{labelled},small,{PROBE}",
                    fractions=fractions,
                    scratch=fractions,
                ),
            ),
        )
    )
    if args.faces:
        config.prepare.real = "manifest"
        config.manual_dirs.real = args.faces
        config.evaluate.real_landmarks = dict(
            config=f"configs/evaluate/landmarks.py:dataset=manifest/real,{PROBE}",
            fractions=fractions,
            scratch=(0.1, 1.0),  # three labels teach a whole network nothing
        )
    return config
