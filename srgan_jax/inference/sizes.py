"""The requested size of an output."""

from typing import NamedTuple


class Size(NamedTuple):
    """A requested size; if all fields are None, the size that the network gives.

    Attributes:
      scale: size of the output over that of the input.
      width: width in pixels; without `height`, the height keeps the aspect ratio.
      height: height in pixels; without `width`, the width keeps the aspect ratio.
      max_side: upper limit of the longer side in pixels.
    """

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    max_side: int | None = None

    def of(self, height: int, width: int, factor: int) -> tuple[int, int]:
        """Height and width of the output.

        Args:
          height: height of the input.
          width: width of the input.
          factor: the network's scale.

        Raises:
          ValueError: the output is larger than `factor` times the input.
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
                f"{factor * width}x{factor * height} (x{factor}); ask for a smaller "
                "size"
            )
        return size
