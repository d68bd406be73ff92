"""The two worlds of generated faces, one to train on and one to evaluate on, which share no face.

Properties of faces (anatomy, expressions, poses, skin tones, attributes) have the same distribution in both worlds;
properties of a generator (bounds of head shapes, hair styles, textures, backgrounds, cameras, names) differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass

Bounds = tuple[float, float]  # low and high of a uniform distribution


@dataclass(frozen=True)
class Style:
    """A hair style: bounds of the fields of `scene.Hair`, and how often people have the style."""

    weight: float  # relative to the other styles
    volume: Bounds
    lift: Bounds
    length: Bounds
    hairline: Bounds
    temples: Bounds = (0.15, 0.3)
    parting: Bounds = (-0.1, 0.1)
    curl: float = 0.0
    wave: Bounds = (0.0, 0.02)
    back: Bounds = (0.0, 0.0)
    bun: Bounds = (0.0, 0.0)


@dataclass(frozen=True)
class World:
    """All that differs between the worlds. Lengths of heads are in head units, of images in shares of their side."""

    number: int  # part of every seed
    shape: Mapping[str, Bounds]  # of the head of a person, by the names of fields of `Head`
    styles: tuple[Style, ...]
    scale: Bounds  # half the height of the head
    shift: float  # standard deviation of the place of the head
    ambient: Bounds  # share of the light that comes from everywhere
    sidewards: float  # standard deviation of the tangent of the angle between lamp and camera, to the side
    blurred: float  # share of sessions whose pictures are blurred
    blur: Bounds  # standard deviation of the blur, if there is any
    noise: Bounds  # standard deviation of the noise, of 255
    chroma: float  # noise of the colours, as a share of that of the brightness
    grain: tuple[int, ...]  # side of a grain of noise in pixels, one of these
    gamma: Bounds
    vignette: Bounds
    quality: tuple[int, int]  # of the JPEG file, low and high
    first_names: str  # separated by spaces
    last_names: str
    events: tuple[str, ...]


PRETRAIN = World(
    number=0,
    shape={
        "width": (0.66, 0.77),
        "depth": (0.78, 0.9),
        "chin": (0.97, 1.12),
        "jaw": (0.0, 0.5),
        "eye_x": (0.27, 0.32),
        "eye_y": (-0.05, 0.05),
        "eye_width": (0.12, 0.155),
        "eye_tilt": (-0.01, 0.022),
        "eye_rest": (0.5, 0.85),
        "brow_y": (-0.225, -0.18),  # relative to the eyes
        "brow_arch": (0.005, 0.045),
        "brow_thickness": (0.02, 0.048),
        "nose_rest_y": (0.35, 0.45),
        "nose_width": (0.135, 0.19),
        "nose_relief": (0.7, 1.25),
        "mouth_rest_y": (0.22, 0.27),  # relative to the nostrils
        "mouth_width": (0.21, 0.27),
        "upper_lip": (0.042, 0.078),
        "lower_lip": (0.06, 0.1),
        "cheeks": (0.6, 1.4),
        "ridge": (0.3, 1.6),
    },
    styles=(
        Style(1.0, (0.03, 0.06), (0.0, 0.02), (0.05, 0.2), (-0.7, -0.6)),  # cropped
        Style(1.6, (0.06, 0.12), (0.03, 0.12), (0.05, 0.3), (-0.68, -0.56), parting=(-0.25, 0.25)),  # short
        Style(0.7, (0.05, 0.1), (0.0, 0.08), (0.05, 0.25), (-0.82, -0.72), temples=(-0.1, 0.1)),  # receding
        Style(0.7, (0.08, 0.14), (0.03, 0.1), (0.1, 0.4), (-0.42, -0.32), temples=(0.0, 0.1)),  # short with a fringe
        Style(1.3, (0.09, 0.17), (0.02, 0.1), (1.0, 1.7), (-0.7, -0.58), parting=(-0.3, 0.3), back=(1.1, 1.8)),  # long
        Style(0.8, (0.1, 0.16), (0.02, 0.08), (0.8, 1.4), (-0.42, -0.32), (0.0, 0.1), back=(1.05, 1.6)),  # with fringe
        Style(0.9, (0.1, 0.2), (0.05, 0.15), (0.1, 0.4), (-0.66, -0.54), curl=1.0),  # short curls
        Style(0.6, (0.16, 0.26), (0.04, 0.14), (0.8, 1.5), (-0.66, -0.54), curl=1.0, back=(1.05, 1.7)),  # long curls
    ),
    scale=(0.23, 0.34),
    shift=0.045,
    ambient=(0.3, 0.62),
    sidewards=0.8,
    blurred=0.3,
    blur=(0.003, 0.009),
    noise=(1.0, 6.0),
    chroma=0.3,
    grain=(1,),
    gamma=(0.75, 1.15),
    vignette=(0.0, 0.3),
    quality=(55, 95),
    first_names=(
        "Ada Aino Amara Amir Anders Bela Carlos Chiara Daniel Elif Emeka Eva Farid Greta Hana Ines Ivan Jonas Kofi "
        "Lena Luis Mara Mei Milan Nadia Noor Omar Paula Ravi Rosa Samir Sofia Tariq Tomas Vera Yara"
    ),
    last_names=(
        "Abara Almeida Bauer Berg Castillo Chen Costa Demir Diallo Ekström Fischer Garcia Haddad Hansen Ito Ivanova "
        "Jansen Kaya Kowalski Lindqvist Mbeki Moreau Nakamura Novak Okafor Olsen Park Petrov Rossi Santos Sharma "
        "Silva Tanaka Varga Weber Yilmaz"
    ),
    events=(
        *("at the park", "at the office", "at a wedding", "on stage at the festival", "at the press conference"),
        *("in the city", "at home", "at the airport", "during the match", "at the premiere", "in the classroom"),
        *("at the awards night", "on holiday", "at the summer party", "after the concert", "at the station"),
    ),
)

EVALUATE = World(
    number=1,
    shape={
        "width": (0.7, 0.82),
        "depth": (0.74, 0.95),
        "chin": (1.0, 1.17),
        "jaw": (0.1, 0.6),
        "eye_x": (0.265, 0.335),
        "eye_y": (-0.03, 0.07),
        "eye_width": (0.115, 0.165),
        "eye_tilt": (-0.018, 0.028),
        "eye_rest": (0.48, 0.9),
        "brow_y": (-0.235, -0.175),
        "brow_arch": (0.0, 0.055),
        "brow_thickness": (0.018, 0.05),
        "nose_rest_y": (0.34, 0.47),
        "nose_width": (0.13, 0.205),
        "nose_relief": (0.6, 1.35),
        "mouth_rest_y": (0.21, 0.28),
        "mouth_width": (0.2, 0.285),
        "upper_lip": (0.036, 0.085),
        "lower_lip": (0.052, 0.108),
        "cheeks": (0.4, 1.7),
        "ridge": (0.1, 2.0),
    },
    styles=(
        Style(1.4, (0.04, 0.1), (0.08, 0.2), (0.0, 0.15), (-0.75, -0.6), temples=(-0.05, 0.15)),  # swept back
        Style(0.7, (0.12, 0.17), (0.0, 0.06), (0.3, 0.55), (-0.45, -0.36), temples=(-0.05, 0.05)),  # bowl
        Style(1.2, (0.07, 0.12), (0.0, 0.05), (0.1, 0.3), (-0.68, -0.56), bun=(0.22, 0.38)),  # with a bun
        Style(0.8, (0.24, 0.38), (0.1, 0.2), (0.4, 0.75), (-0.68, -0.56), curl=1.0),  # a round cloud
        Style(
            1.2, (0.08, 0.15), (0.0, 0.06), (0.9, 1.6), (-0.8, -0.66), (0.35, 0.6), wave=(0.03, 0.09), back=(1.05, 1.9)
        ),  # parted in the middle, waves
        Style(0.6, (0.12, 0.2), (0.0, 0.1), (0.7, 1.2), (-0.44, -0.36), (-0.1, 0.05), back=(1.02, 1.3), curl=1.0),
        Style(0.8, (0.02, 0.04), (0.0, 0.0), (0.1, 0.35), (-0.74, -0.62), temples=(-0.2, 0.0)),  # shorn
        Style(0.8, (0.07, 0.12), (0.05, 0.15), (0.0, 0.3), (-0.46, -0.38), (0.0, 0.1), parting=(-0.35, 0.35)),  # swept
    ),
    scale=(0.2, 0.37),
    shift=0.06,
    ambient=(0.22, 0.7),
    sidewards=1.0,
    blurred=0.4,
    blur=(0.004, 0.012),
    noise=(1.5, 7.0),
    chroma=0.5,
    grain=(1, 2),
    gamma=(0.65, 1.3),
    vignette=(0.0, 0.5),
    quality=(35, 95),
    first_names=(
        "Aisha Alma Anton Bruno Clara Dalia Dario Edda Emil Fatima Felix Gita Hugo Ilse Isak Jana Jorge Karim Leila "
        "Lino Malik Marta Nils Nina Olga Pavel Petra Rana Sami Selma Simon Tova Uma Viktor Wanda Zeno"
    ),
    last_names=(
        "Acosta Adeyemi Aydin Becker Bianchi Cohen Cruz Dahl Dubois Eriksen Farah Gupta Holm Horvat Ibarra Jung "
        "Kimura Koch Laine Lopez Marin Meyer Nguyen Nilsen Ortiz Pereira Popov Ramos Reyes Sato Suarez Toth Vega "
        "Wolff Yusuf Zhou"
    ),
    events=(
        *("at the market", "in the library", "at the finish line", "at a birthday", "in the kitchen", "by the sea"),
        *("at the conference", "on the bus", "at the museum", "in the studio", "at the launch", "in the mountains"),
        *("before the game", "at the school fair", "at the theatre", "on the balcony"),
    ),
)
WORLDS = {"pretrain": PRETRAIN, "evaluate": EVALUATE}
