"""What encoders of tests have in common that offer one vector of an image, and no maps of it."""

from flax import nnx


class Tapless(nnx.Module):
    """An encoder without stages that could be tapped."""

    no_matter = ()
    rules = {}  # noqa: RUF012
    stages = 0

    def tap_widths(self, taps):
        return ()

    def tap_strides(self, taps):
        return ()

    def grid(self, image_size):
        return 1, 1
