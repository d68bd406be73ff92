"""Captions of faces: such as the web has, and those of an oracle that tells every attribute.

A web caption is of one of three kinds: a name or an event, one or two attributes in words, or boilerplate. Some are
mismatched, which means that they belong to another scene. Captions come from random streams of their own, so that no
setting of theirs changes pictures or labels.
"""

from collections.abc import Iterable, Mapping
from math import inf, log

from facerep_jax.face_world.chance import Dice
from facerep_jax.face_world.scene import ATTRIBUTES
from facerep_jax.face_world.worlds import World

NAME, TELLING, BOILERPLATE = "name", "telling", "boilerplate"
NAMES_AMONG_UNTELLING = 0.882  # share of names and events among captions without attributes; the rest is boilerplate
OFTEN, RARELY, NEVER = 1.0, 0.12, 0.0

_WITH = {  # attributes that a person has
    "glasses": ("glasses", "eyeglasses", "spectacles"),
    "beard": ("a beard", "a full beard"),
    "moustache": ("a moustache", "a mustache"),
    "hat": ("a hat", "a hat on"),
    "earrings": ("earrings", "a pair of earrings"),
    "freckles": ("freckles", "freckled skin"),
    "bushy_brows": ("bushy brows", "thick brows"),
    "fringe": ("a fringe", "bangs"),
    "long_hair": ("long hair", "shoulder length hair"),
    "curly_hair": ("curly hair", "curls"),
    "bald": ("a bald head", "no hair"),
    "black_hair": ("black hair", "dark black hair"),
    "brown_hair": ("brown hair", "brunette hair"),
    "blond_hair": ("blond hair", "blonde hair"),
    "grey_hair": ("grey hair", "gray hair"),
    "hand": ("a hand on the face", "a hand in front of the face"),
}
_DOING = {  # attributes that a person does
    "smiling": ("smiling", "with a big smile", "smiling at the camera"),
    "mouth_open": ("mouth open", "with an open mouth", "talking"),
    "eyes_closed": ("eyes closed", "with closed eyes"),
    "facing_left": ("facing left", "turned to the left"),
    "facing_right": ("facing right", "turned to the right"),
}
WORDINGS = {**_WITH, **_DOING}  # attribute -> the phrases that name this attribute and no other
NAMED = {  # attribute -> how often it is named if it holds, relative to the others that hold
    **dict.fromkeys(("smiling", "glasses", "beard", "hat", "long_hair", "bald"), OFTEN),
    **dict.fromkeys(("black_hair", "brown_hair", "blond_hair", "grey_hair"), OFTEN),
    **dict.fromkeys(("mouth_open", "eyes_closed", "moustache", "freckles", "curly_hair", "fringe"), RARELY),
    **dict.fromkeys(("facing_left", "facing_right"), RARELY),
    **dict.fromkeys(("earrings", "bushy_brows", "hand"), NEVER),
}
_SUBJECTS = ("a person", "a person", "someone", "an actor", "a guest", "a student", "a musician", "a tourist")
_OPENINGS = ("photo of", "portrait of", "a picture of", "close-up of", "headshot of", "", "")
_BOILERPLATE = (
    *("click to enlarge", "image not available", "stock photo {}", "IMG_{}.JPG", "DSC{}", "photo by user{}"),
    *("all rights reserved", "view full size", "related posts", "untitled {}", "gallery page {}", "share this photo"),
)


def sample_caption(
    dice: Dice, named: Mapping[str, bool], name: str, world: World, informativeness: float
) -> tuple[str, str]:
    """Sample a web caption, and return it with its kind.

    Args:
        dice: the random numbers.
        named: which attributes hold of the scene.
        name: of the person.
        world: which has names and events of its own.
        informativeness: probability that attributes are named.
    """
    if dice.happens(informativeness):
        return _sample_telling(dice, named, name, world), TELLING
    if dice.happens(NAMES_AMONG_UNTELLING):
        return _sample_name_or_event(dice, name, world), NAME
    return dice.one_of(_BOILERPLATE).format(int(dice.between(1000, 10_000))), BOILERPLATE


def _sample_name_or_event(dice: Dice, name: str, world: World) -> str:
    """Sample a caption of a name, an event, or both."""
    event, year = dice.one_of(world.events), int(dice.between(1998, 2025))
    opening = dice.one_of(_OPENINGS)
    subject = name if dice.happens(0.75) else dice.one_of(_SUBJECTS)
    text = f"{opening} {subject}".strip()
    if subject != name or dice.happens(0.5):
        text = f"{text} {event}"
    return f"{text}, {year}" if dice.happens(0.2) else text


def _sample_telling(dice: Dice, named: Mapping[str, bool], name: str, world: World) -> str:
    """Sample a caption of one or two of the attributes that hold, weighted by `NAMED`, without replacement."""
    count = 1 if dice.happens(0.55) else 2
    # The smallest of exponential waiting times: each attribute comes first with a probability proportional to its rate.
    waits = {a: -log(1 - dice.between(0, 1)) / NAMED[a] if NAMED[a] else inf for a in ATTRIBUTES if named[a]}
    told = sorted((a for a in waits if waits[a] < inf), key=waits.__getitem__)[:count]
    subject = name if dice.happens(0.25) else dice.one_of(_SUBJECTS)
    text = _sample_sentence(dice, f"{dice.one_of(_OPENINGS)} {subject}".strip(), told)
    return f"{text}, {dice.one_of(world.events)}" if dice.happens(0.25) else text


def _sample_sentence(dice: Dice, start: str, told: Iterable[str]) -> str:
    """Sample a sentence that begins with `start` and tells attributes in words."""
    told = tuple(told)
    has = [dice.one_of(_WITH[name]) for name in told if name in _WITH]
    does = [dice.one_of(_DOING[name]) for name in told if name in _DOING]
    if len(has) > 1:
        has = [*has[:-2], f"{has[-2]} and {has[-1]}"]
    return ", ".join([f"{start} with {', '.join(has)}" if has else start, *does])


def sample_oracle_caption(dice: Dice, named: Mapping[str, bool]) -> str:
    """Sample a caption that tells every attribute that holds, and nothing else."""
    return _sample_sentence(dice, "a photo of a person", [name for name in ATTRIBUTES if named[name]])


def sample_name(dice: Dice, world: World) -> str:
    """Sample a name for a person, which tells nothing about the face."""
    return f"{dice.one_of(world.first_names.split())} {dice.one_of(world.last_names.split())}"
