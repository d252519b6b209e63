"""The paper's figure: images side by side, a magnified region, scores beneath.

The magnified region repeats pixels and does not interpolate.
"""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from srgan_jax.paths import parse, replacing

WIDTH = 1660  # pixels: twice the width of a README's column, for high-density screens
LONGEST_SIDE = 1024  # pixels; larger images are cropped
GAP = 12
FONT_SIZE = 28
FRAME = (230, 30, 40)


class Panel(NamedTuple):
    """One column of a comparison: uint8 `[height, width, 3]` and the text around it."""

    label: str
    image: np.ndarray
    caption: str


class Region(NamedTuple):
    """A rectangle in pixels; (0, 0) is the top left corner of the image."""

    x: int
    y: int
    width: int
    height: int


def comparison(
    panels: Sequence[tuple[str, np.ndarray, str]],
    path: str | os.PathLike[str],
    *,
    inset: Region | None = None,
) -> None:
    """Writes the paper's figure (fig. 2): panels side by side, each with an inset.

    From top to bottom, a column holds the label, the image with a frame around the
    region, the magnified region, and the caption.

    Args:
      panels: label, uint8 image `[height, width, 3]` and caption of each column. A
        caption may have several lines.
      path: the PNG to write.
      inset: the region to magnify; by default the square where panels differ most.

    Raises:
      ValueError: the panels have different sizes, or the region is not inside the
        image.
    """
    shown = [Panel(*panel) for panel in panels]
    sizes = {panel.image.shape for panel in shown}
    if len(sizes) != 1:
        raise ValueError(
            f"a comparison needs panels of one size, not {sorted(sizes)}: "
            "crop the images to the same size first"
        )
    height, width = shown[0].image.shape[:2]
    column = (WIDTH - GAP * (len(shown) + 1)) // len(shown)
    if inset is None:
        # The magnification is a whole number, so that all pixels are equally large.
        magnification = max(1, round(4 * column / min(height, width)))
        side = min(column // magnification, height, width)
        inset = most_different([panel.image for panel in shown], side)
    _check_inside(inset, height, width)

    columns = [_column(panel, inset, column) for panel in shown]
    figure = Image.new("RGB", (WIDTH, max(drawn.height for drawn in columns)), "white")
    for index, drawn in enumerate(columns):
        figure.paste(drawn, (GAP + index * (column + GAP), 0))
    path = parse(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        figure.save(temporary, format="png")


def most_different(images: Sequence[np.ndarray], side: int) -> Region:
    """Finds the square with the largest variance between the images.

    Args:
      images: uint8 `[height, width, 3]`, all of one size.
      side: side of the square in pixels; at most the images' height and width.
    """
    stack = np.stack([image.mean(axis=2) for image in images])
    # With an integral image, four look-ups give the sum over a square.
    integral = np.pad(stack.var(axis=0).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = (
        integral[side:, side:]
        - integral[:-side, side:]
        - integral[side:, :-side]
        + integral[:-side, :-side]
    )
    y, x = np.unravel_index(sums.argmax(), sums.shape)
    return Region(int(x), int(y), side, side)


def crop_large(images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Crops large images to the square where they differ most.

    Args:
      images: maps names to uint8 `[height, width, 3]`, all of one size.

    Returns:
      A mapping from name to image. No side is longer than `LONGEST_SIDE`; images that
      are small enough are returned whole.
    """
    height, width = next(iter(images.values())).shape[:2]
    if max(height, width) <= LONGEST_SIDE:
        return dict(images)
    side = min(height, width, LONGEST_SIDE)
    x, y, _, _ = most_different(list(images.values()), side)
    return {  # copies, so that the whole images can be freed
        name: image[y : y + side, x : x + side].copy() for name, image in images.items()
    }


def insets(images: Sequence[str], regions: Sequence[str]) -> dict[str, Region | None]:
    """Parses the options that ask for figures.

    Args:
      images: names of images whose region is chosen automatically.
      regions: `IMAGE=X,Y,WIDTH,HEIGHT`, in pixels.

    Returns:
      A mapping from image name to the region to magnify; None is the automatic choice.

    Raises:
      ValueError: a region is malformed.
    """
    chosen: dict[str, Region | None] = dict.fromkeys(images)
    for region in regions:
        name, _, corners = region.rpartition("=")
        try:
            chosen[name] = Region(*map(int, corners.split(",")))
        except (TypeError, ValueError):
            raise ValueError(
                f"'{region}' is not a region: expected IMAGE=X,Y,WIDTH,HEIGHT in pixels"
            ) from None
    return chosen


def _column(panel: Panel, inset: Region, width: int) -> Image.Image:
    image = Image.fromarray(panel.image)
    zoom = width / image.width
    x, y, right, bottom = corners = (
        inset.x,
        inset.y,
        inset.x + inset.width,
        inset.y + inset.height,
    )
    whole = image.resize((width, round(image.height * zoom)), Image.Resampling.LANCZOS)
    frame = tuple(round(zoom * edge) for edge in (x, y, right - 1, bottom - 1))
    ImageDraw.Draw(whole).rectangle(frame, outline=FRAME, width=3)
    detail_size = (width, round(inset.height * width / inset.width))
    detail = image.crop(corners).resize(detail_size, Image.Resampling.NEAREST)
    ImageDraw.Draw(detail).rectangle(
        (0, 0, width - 1, detail.height - 1), outline=FRAME, width=3
    )
    label, caption = (_text(text, width) for text in (panel.label, panel.caption))
    parts = [label, whole, detail, caption]
    column = Image.new(
        "RGB", (width, GAP + sum(part.height + GAP for part in parts)), "white"
    )
    top = GAP
    for part in parts:
        column.paste(part, (0, top))
        top += part.height + GAP
    return column


def _text(text: str, width: int) -> Image.Image:
    """Draws centred lines in the largest font up to `FONT_SIZE` that fits the width."""
    font = ImageFont.load_default(FONT_SIZE)
    longest = max(font.getlength(line) for line in text.split("\n"))
    if longest > width:
        font = ImageFont.load_default(FONT_SIZE * width / longest)
    lines = text.count("\n") + 1
    drawn = Image.new("RGB", (width, round(1.3 * FONT_SIZE) * lines), "white")
    ImageDraw.Draw(drawn).multiline_text(
        (width / 2, 0), text, font=font, fill="black", anchor="ma", align="center"
    )
    return drawn


def _check_inside(region: Region, height: int, width: int) -> None:
    x, y, region_width, region_height = region
    empty = min(region_width, region_height) < 1
    if empty or min(x, y) < 0 or x + region_width > width or y + region_height > height:
        raise ValueError(
            f"region {x},{y},{region_width},{region_height} (x, y, width, height) is "
            f"not inside the image of {width}x{height} pixels"
        )
