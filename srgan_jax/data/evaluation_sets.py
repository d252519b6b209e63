"""Reads all LR/HR pairs of an evaluation set into memory."""

from fractions import Fraction

from srgan_jax import paths
from srgan_jax.data import pairs, sources
from srgan_jax.data.resize import imresize, mod_crop


def evaluation_pairs(
    spec: str, *, scale: int, border: str = "mirrored"
) -> list[pairs.Pair]:
    """Reads all pairs of an evaluation set.

    Args:
      spec: `folder:PATH` of HR images or of `*_HR` and `*_LR` files, `pairs:HR,LR`, or
        another source of `sources.open_source`; the default split of `tfds:NAME` is
        `validation`.
      scale: HR size over LR size.
      border: border of the bicubic that makes missing LR images, `mirrored` or
        `clamped`.

    Raises:
      SourceError: the set does not exist, a file has no partner, or sizes do not match.
      ImageError: a file cannot be read.
      ValueError: an HR image is smaller than `scale`; the message names it.
    """
    kind, _, argument = spec.partition(":")
    if kind in ("folder", "pairs") and argument:
        folder, lr_dir = paths.parse(argument).expanduser(), None
        if kind == "pairs":
            folder, lr_dir = pairs.split_folders(argument)
        files = pairs.find_pairs(folder, lr_dir)
        return [pairs.read_pair(pair, scale=scale, border=border) for pair in files]
    if kind == "tfds" and ":" not in argument:
        spec += ":validation"
    source = sources.open_source(spec, minimum_size=scale)
    made = []
    for index, label in enumerate(source.labels):
        hr = mod_crop(source.image(index), scale)
        lr = imresize(hr, Fraction(1, scale), border=border)
        made.append(pairs.Pair(label, lr, hr, grey=False))
    return made
