"""The size of an output, as people ask for it."""

from typing import NamedTuple


class Size(NamedTuple):
    """The size that is asked for; all None: the network's own.

    Attributes:
      scale: output over input.
      width: in pixels; the height follows unless it is given too.
      height: in pixels; the width follows unless it is given too.
      max_side: of the longer side; smaller images are not enlarged to it.
    """

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    max_side: int | None = None

    def of(self, height: int, width: int, factor: int) -> tuple[int, int]:
        """Height and width of the output for an input of the given height and width.

        Raises:
          ValueError: larger than the network's, `factor` times the input's.
        """
        if self.height is not None and self.width is not None:
            size = self.height, self.width
        else:
            ratio: float = factor
            if self.scale is not None:
                ratio = self.scale
            elif self.width is not None:
                ratio = self.width / width
            elif self.height is not None:
                ratio = self.height / height
            elif self.max_side is not None:
                ratio = min(factor, self.max_side / max(height, width))
            size = max(1, round(height * ratio)), max(1, round(width * ratio))
        if size[0] > factor * height or size[1] > factor * width:
            raise ValueError(
                f"{size[1]}x{size[0]} pixels are above the network's largest, "
                f"{factor * width}x{factor * height} (x{factor})"
            )
        return size
