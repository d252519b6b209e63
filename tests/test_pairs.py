"""LR/HR pairs: files are matched by name, and LR files are used unchanged."""

import re
from fractions import Fraction

import numpy as np
import PIL.Image
import pytest

from srgan_jax.data.evaluation_sets import evaluation_pairs
from srgan_jax.data.resize import imresize
from srgan_jax.images.image import ImageError


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def save(folder, **images) -> str:
    for name, array in images.items():
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(array).save(path)
    return str(folder)


@pytest.mark.parametrize("border", ["mirrored", "clamped"])
def test_lr_is_made_from_the_cropped_hr(tmp_path, border):
    hr = image(23, 34)
    folder = save(tmp_path, one=hr)
    (pair,) = evaluation_pairs(f"folder:{folder}", scale=4, border=border)
    assert pair.name == "one"
    assert not pair.grey
    np.testing.assert_array_equal(pair.hr, hr[:20, :32])
    made = imresize(hr[:20, :32], Fraction(1, 4), border=border)
    np.testing.assert_array_equal(pair.lr, made)


def test_lr_files_are_used_unchanged(tmp_path):
    hr, lr = image(23, 34), image(5, 8, 1)
    folder = save(tmp_path, img_001_SRF_4_HR=hr, img_001_SRF_4_LR=lr)
    (pair,) = evaluation_pairs(f"folder:{folder}", scale=4)
    assert pair.name == "img_001_SRF_4"
    np.testing.assert_array_equal(pair.lr, lr)
    np.testing.assert_array_equal(pair.hr, hr[:20, :32])


@pytest.mark.parametrize(
    ("hr_name", "lr_name"),
    [
        ("0802", "0802x4"),
        ("a_HR", "a_LR"),
        ("a", "a_LR"),
        ("a", "a"),
        ("sub/a", "sub/a"),
    ],
)
def test_files_of_two_folders_match_by_name(tmp_path, hr_name, lr_name):
    originals = [image(20, 32, seed) for seed in (0, 1)]
    small = [image(5, 8, seed) for seed in (2, 3)]
    hr_dir = save(
        tmp_path / "hr", **{hr_name: originals[0], f"b{hr_name}": originals[1]}
    )
    lr_dir = save(tmp_path / "lr", **{lr_name: small[0], f"b{lr_name}": small[1]})
    found = evaluation_pairs(f"pairs:{hr_dir},{lr_dir}", scale=4)
    assert len(found) == 2
    for pair in found:
        which = pair.name.startswith("b") or np.array_equal(pair.hr, originals[1])
        np.testing.assert_array_equal(pair.hr, originals[which])
        np.testing.assert_array_equal(pair.lr, small[which])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16", "P", "RGB", "RGBA"])
def test_grey_is_true_for_files_with_a_single_channel(tmp_path, mode):
    values = np.zeros((8, 8), np.uint16 if mode == "I;16" else np.uint8)
    file = PIL.Image.fromarray(values)
    if mode != "I;16":
        file = file.convert("RGB").convert(mode)
    file.save(tmp_path / "a.png")
    (pair,) = evaluation_pairs(f"folder:{tmp_path}", scale=4)
    assert pair.grey == (mode in ("1", "L", "LA", "I;16"))
    assert pair.hr.shape == (8, 8, 3)


def test_the_astronaut_is_an_evaluation_set():
    (pair,) = evaluation_pairs("astronaut", scale=4)
    assert pair.name == "astronaut"
    assert pair.lr.shape == (128, 128, 3)
    assert pair.hr.shape == (512, 512, 3)


def refusal(folder, lr_dir=None) -> str:
    spec = f"pairs:{folder},{lr_dir}" if lr_dir else f"folder:{folder}"
    with pytest.raises(ValueError, match=re.escape(str(folder.parent))) as caught:
        evaluation_pairs(spec, scale=4)
    return str(caught.value)


def test_sizes_that_do_not_match_are_refused(tmp_path):
    save(tmp_path, a_HR=image(20, 32), a_LR=image(10, 16))
    message = refusal(tmp_path)
    assert "a_HR.png of 32x20 pixels is not 4 times" in message
    assert "a_LR.png of 16x10" in message


def test_files_without_a_partner_are_refused(tmp_path):
    save(tmp_path / "a", a_HR=image(8, 8), b_HR=image(8, 8), a_LR=image(2, 2))
    assert "b_HR.png has 0 LR files" in refusal(tmp_path / "a")
    save(tmp_path / "b", a_HR=image(8, 8), a_LR=image(2, 2), b_LR=image(2, 2))
    assert "b_LR.png has no HR file" in refusal(tmp_path / "b")
    save(tmp_path / "c", a_HR=image(8, 8), a_LR=image(2, 2), thumbs=image(8, 8))
    assert "thumbs.png is neither" in refusal(tmp_path / "c")
    save(tmp_path / "hr", a=image(8, 8))
    save(tmp_path / "lr", a=image(2, 2), ax4=image(2, 2))
    assert "a.png has 2 LR files" in refusal(tmp_path / "hr", lr_dir=tmp_path / "lr")


def test_missing_folders_and_files_are_refused(tmp_path):
    assert "no folder" in refusal(tmp_path / "absent")
    assert "holds no image" in refusal(tmp_path)
    save(tmp_path, a=image(8, 8))
    assert "no folder" in refusal(tmp_path, lr_dir=tmp_path / "absent")
    save(tmp_path, a=image(3, 8))
    assert "fewer than 4x4 pixels" in refusal(tmp_path)


def test_an_unreadable_file_raises_an_error_that_names_it(tmp_path):
    save(tmp_path, a=image(8, 8))
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"b\.png"):
        evaluation_pairs(f"folder:{tmp_path}", scale=4)
