r"""Recognition: do two images show one person? Nothing is trained.

facerep evaluate --config configs/evaluate/recognition.py:dataset=manifest/faces,pairs=drawn \
    --checkpoint runs/farl --workdir results/recognition

Arguments: see configs/evaluate/landmarks.py for those that are there too.
pairs: table, those of the data set's table `pairs`; drawn, from test images whose persons are known; templates, pairs
of templates of several images, those of the table `template_pairs` (IJB-B, IJB-C); search, of templates of the table
`probes` in those of `gallery`; drawn_templates and drawn_search, the same with templates that are drawn from images
whose persons are known.
unmirrored: features of images alone, without those of their mirror images.
"""

from ml_collections import ConfigDict

from facerep_jax.config import pick, spec
from facerep_jax.evaluation.tasks import recognition
from facerep_jax.evaluation.trial import compared, compared_args

EXAMPLES = (
    "pairs=drawn",
    "pairs=templates",
    "pairs=drawn_search",
    "crop=whole",
    "crop=aligned",
    "variant=S/16",
    "variant=Nano/8,stem=384",
)


def get_config(arg: str | None = None) -> ConfigDict:
    """The evaluation; `arg` is what follows the colon."""
    args = compared_args(arg, pairs="table")
    tasks = dict(
        table=recognition.Recognition,
        drawn=recognition.DrawnPairs,
        templates=recognition.Templates,
        drawn_templates=recognition.DrawnTemplates,
        search=recognition.Search,
        drawn_search=recognition.DrawnSearch,
    )
    return compared(args, task=spec(pick("pairs", args.pairs, tasks)))
