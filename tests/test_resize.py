"""MATLAB's bicubic, against its files, an exact implementation, and algebra."""

import math
from fractions import Fraction
from pathlib import Path

import hypothesis
import numpy as np
import PIL.Image
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from srgan_jax.data import resize

SHARED = Path(__file__).parents[1] / ".." / "shared" / "data"
BORDERS = ("mirrored", "clamped")

images = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=3, max_side=9))
scales = st.sampled_from([Fraction(1, 2), Fraction(1, 3), Fraction(1, 4), 2, 3, 4, 0.7])


def read(path: Path) -> np.ndarray:
    if not path.exists():
        pytest.skip(f"needs {path.name} of the shared data folder")
    return np.asarray(PIL.Image.open(path))


def test_div2k_low_resolution_is_reproduced():
    hr = read(SHARED / "div2k" / "0802.png")
    lr = read(SHARED / "div2k" / "0802x4.png")
    np.testing.assert_array_equal(resize.imresize(hr, 0.25), lr)


@pytest.mark.parametrize("number", range(1, 6))
def test_set5_low_resolution_is_reproduced(number):
    hr = read(SHARED / "set5" / f"img_{number:03}_SRF_4_HR.png")
    lr = read(SHARED / "set5" / f"img_{number:03}_SRF_4_LR.png")
    made = resize.imresize(hr, Fraction(1, 4), border="clamped")
    np.testing.assert_array_equal(made, lr)


def keys(x: Fraction) -> Fraction:
    x = abs(x)
    if x <= 1:
        return (3 * x**3 - 5 * x**2 + 2) / 2
    if x <= 2:
        return (-(x**3) + 5 * x**2 - 8 * x + 4) / 2
    return Fraction(0)


def scalar_line(line: list[int], scale: Fraction, border: str) -> list[int]:
    """The definition, computed pixel by pixel in exact arithmetic."""
    n, stretch = len(line), max(Fraction(1), 1 / scale)
    out = []
    for i in range(1, math.ceil(n * scale) + 1):
        u = i / scale + (1 - 1 / scale) / 2
        first, last = math.floor(u - 2 * stretch) - 1, math.ceil(u + 2 * stretch) + 1
        total = weight_sum = Fraction(0)
        for position in range(first, last + 1):
            weight = keys((u - position) / stretch)
            at = position
            while not 1 <= at <= n:
                if border == "clamped":
                    at = min(max(at, 1), n)
                else:
                    at = 1 - at if at < 1 else 2 * n + 1 - at
            total += weight * line[at - 1]
            weight_sum += weight
        out.append(min(max(math.floor(total / weight_sum + Fraction(1, 2)), 0), 255))
    return out


def scalar_imresize(image: np.ndarray, scale: Fraction, border: str) -> np.ndarray:
    rows = np.array([scalar_line(c, scale, border) for c in image.T.tolist()]).T
    return np.array([scalar_line(r, scale, border) for r in rows.tolist()])


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)),
    st.sampled_from([Fraction(1, 2), Fraction(1, 3), Fraction(1, 4), Fraction(1, 8)])
    | st.sampled_from([Fraction(2), Fraction(3), Fraction(4), Fraction(7, 10)]),
    st.sampled_from(BORDERS),
)
def test_equals_the_definition_in_exact_arithmetic(image, scale, border):
    np.testing.assert_array_equal(
        resize.imresize(image, scale, border=border),
        scalar_imresize(image, scale, border),
    )


def test_values_computed_by_hand():
    # At x2 the weights are -3, 29, 111, -9 over 128 and their mirror image, so that a
    # step of 128 gives 0 - 9, 29 - 3, 111 - 9, 128 + 9, 128 + 3; below 0 is clipped.
    step = np.array([[0, 0, 128, 128]] * 4, np.uint8)
    expected = [[0, 0, 0, 26, 102, 137, 131, 128]] * 8
    np.testing.assert_array_equal(resize.imresize(step, 2), expected)
    np.testing.assert_array_equal(resize.imresize(step.T, 2), np.transpose(expected))


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("scale", [Fraction(1, 2), Fraction(1, 3), Fraction(1, 4), 3])
def test_resizing_equals_two_matrix_products(scale, border):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (24, 36), np.uint8)
    down = resize.resize_matrix(24, scale, border=border)
    across = resize.resize_matrix(36, scale, border=border)

    def to_8_bits(x):
        return np.clip(np.floor(x + 0.5 + 1e-9), 0, 255)

    expected = to_8_bits(to_8_bits(down @ image) @ across.T)
    made = resize.imresize(image, scale, border=border)
    np.testing.assert_array_equal(made, expected)


def test_ties_round_up_where_weights_are_not_dyadic():
    """At x6 the exact weights are integers over 3456; float64 misses exact halves."""
    image = np.random.default_rng(0).integers(0, 256, (90, 90), np.uint8)
    weights = np.rint(3456 * resize.resize_matrix(90, 6)).astype(np.int64)
    ties = []

    def enlarge_rows(x):
        total = weights @ x
        ties.append((total % 3456 == 1728).sum())
        return np.clip((2 * total + 3456) // 6912, 0, 255)

    expected = enlarge_rows(enlarge_rows(image.astype(np.int64)).T).T
    np.testing.assert_array_equal(resize.imresize(image, 6), expected)
    assert min(ties) > 0


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("scale", [Fraction(1, 4), 2, 0.3])
def test_each_row_of_the_matrix_sums_to_one(scale, border):
    matrix = resize.resize_matrix(17, scale, border=border)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-14)


@pytest.mark.parametrize(("factor", "bits"), [(2, 8), (4, 12), (8, 16)])
def test_weights_of_powers_of_two_are_dyadic(factor, bits):
    scaled = resize.resize_matrix(10 * factor, Fraction(1, factor)) * 2**bits
    np.testing.assert_array_equal(scaled, np.round(scaled))


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(images, scales, st.sampled_from(BORDERS))
def test_shape_channels_and_flips(image, scale, border):
    made = resize.imresize(image, scale, border=border)
    assert made.dtype == np.uint8
    assert made.shape[:2] == tuple(math.ceil(n * scale) for n in image.shape[:2])
    assert made.shape[2:] == image.shape[2:]
    if image.ndim == 3:
        for channel in range(image.shape[2]):
            alone = resize.imresize(image[..., channel], scale, border=border)
            np.testing.assert_array_equal(made[..., channel], alone)
    if all(n * scale == math.ceil(n * scale) for n in image.shape[:2]):
        flipped = resize.imresize(image[::-1, ::-1], scale, border=border)
        np.testing.assert_array_equal(flipped, made[::-1, ::-1])


@pytest.mark.parametrize(
    ("border", "expected"),
    [("mirrored", [2, 1, 0, 0, 1, 2, 2, 1]), ("clamped", [0, 0, 0, 0, 1, 2, 2, 2])],
)
def test_fold_at_the_border(border, expected):
    np.testing.assert_array_equal(resize.fold(np.arange(-3, 5), 3, border), expected)


def test_mod_crop_keeps_the_top_left():
    image = np.arange(7 * 9).reshape(7, 9)
    np.testing.assert_array_equal(resize.mod_crop(image, 4), image[:4, :8])
    assert resize.mod_crop(image, 1).shape == (7, 9)


@pytest.mark.parametrize(
    ("image", "scale", "border", "words"),
    [
        (np.zeros((4, 4)), 2, "mirrored", "float64"),
        (np.zeros((1, 4, 4, 3), np.uint8), 2, "mirrored", "1, 4, 4, 3"),
        (np.zeros((0, 4), np.uint8), 2, "mirrored", "0, 4"),
        (np.zeros((4, 4), np.uint8), 0, "mirrored", "positive"),
        (np.zeros((4, 4), np.uint8), -1, "mirrored", "positive"),
        (np.zeros((4, 4), np.uint8), 2, "zero", "'zero'"),
    ],
)
def test_errors_name_the_invalid_input(image, scale, border, words):
    with pytest.raises(ValueError, match=words):
        resize.imresize(image, scale, border=border)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(7, 700), (40, 1), (33, 601), (80, 1202)])
def test_resize_to_takes_a_scale_for_each_side(dtype: type, size: tuple) -> None:
    """The image is wider than a stripe; 8 and 16 bits are rounded after each pass."""
    top = np.iinfo(dtype).max
    image = np.random.default_rng(0).integers(0, top, (40, 601), dtype, endpoint=True)
    expected = image
    for pixels in size:
        matrix = resize.resize_matrix(len(expected), Fraction(pixels, len(expected)))
        expected = np.clip(np.floor(matrix @ expected + 0.5 + 1e-9), 0, top).T
    found = resize.resize_to(image, *size)
    assert found.dtype == dtype
    assert np.array_equal(found, expected)
