"""Pre-train face encoders and show what they are worth.

>>> import facerep_jax
>>> encoder = facerep_jax.load("runs/farl")
>>> features = encoder.embed(["one.jpg", "two.jpg"])
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facerep_jax.inference.model import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """What is offered here, imported only when it is asked for: jax takes seconds."""
    if name in __all__:
        from facerep_jax.inference import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
