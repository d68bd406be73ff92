"""Types and shapes that signatures promise, while faces of both worlds are drawn; other tests check none of them."""

import subprocess
import sys

DRAW = """
from jaxtyping import install_import_hook
install_import_hook("facerep_jax.face_world", "beartype.beartype")
from facerep_jax import face_world
from facerep_jax.face_world.sampling import Settings
for world in ("pretrain", "evaluate"):
    for index in range(8):
        face = face_world.face(0, 9 * index, 48, Settings(world=world))
try:
    face_world.face(0, "one", 48, Settings())
except Exception as error:
    print(type(error).__name__)
"""


def test_signatures_hold_while_faces_are_drawn():
    done = subprocess.run([sys.executable, "-c", DRAW], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["TypeCheckError"]
