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
        most = factor * height, factor * width
        if self.scale is not None:
            if self.scale > factor:
                raise ValueError(
                    f"scale {self.scale:g} is above the network's {factor}"
                )
            ratio = self.scale
        elif self.max_side is not None:
            ratio = min(factor, self.max_side / max(height, width))
        elif self.width is not None or self.height is not None:
            rows, columns = self.height, self.width
            if rows is None:
                assert columns is not None
                rows = max(1, round(height * columns / width))
            if columns is None:
                columns = max(1, round(width * rows / height))
            if rows > most[0] or columns > most[1]:
                raise ValueError(
                    f"{columns}x{rows} pixels are above the network's largest, "
                    f"{most[1]}x{most[0]} (x{factor})"
                )
            return rows, columns
        else:
            return most
        return max(1, round(height * ratio)), max(1, round(width * ratio))
