"""Matching other programs' images with the originals, by name and size."""

import os
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srgan_jax.evaluation import matching


def _folder(path, *names):
    for name in names:
        file = path / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return path


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["baby", "bird"], ["baby", "bird"]),
        (["baby", "bird"], ["baby_SRGAN-VGG54", "bird_SRGAN-VGG54"]),
        (["img_001_SRF_4"], ["img_001_SRF_4_SRGAN"]),
        (["0801", "0802"], ["0801x4", "0802x4"]),
        (["baby", "bird"], ["SRGAN_baby", "SRGAN_bird"]),
        (["a", "b"], ["x4/a_out", "x4/b_out"]),
        (["img_1", "img_10"], ["img_1", "img_10"]),
        (["x/img", "y/img"], ["x/img", "y/img"]),
        (["1", "2"], ["1_1", "2_1"]),
    ],
)
def test_common_prefixes_and_suffixes_are_found(tmp_path, labels, names):
    _folder(tmp_path, *names, "readme", "other_image")
    found = matching.find_images(labels, tmp_path)
    assert found == {
        label: tmp_path / f"{name}.png"
        for label, name in zip(labels, names, strict=True)
    }


AFFIX = st.text("aZ09_-. ", max_size=5)


@given(st.sets(st.text("ab1_", min_size=1, max_size=4), min_size=1), AFFIX, AFFIX)
def test_a_match_is_correct_or_refused(tmp_path_factory, labels, prefix, suffix):
    folder = tmp_path_factory.mktemp("images")
    _folder(folder, *(f"{prefix}{label}{suffix}" for label in labels))
    try:
        found = matching.find_images(sorted(labels), folder)
    except ValueError:
        return
    for label, path in found.items():
        assert path.name == f"{prefix}{label}{suffix}.png"


def test_ambiguous_images_are_named_and_a_pattern_selects_one(tmp_path):
    _folder(tmp_path, "baby_SRGAN", "baby_SRResNet", "bird_SRGAN", "bird_SRResNet")
    with pytest.raises(ValueError, match=r"'baby' has 2 .*SRGAN\.png.*SRResNet\.png"):
        matching.find_images(["baby", "bird"], tmp_path)
    found = matching.find_images(["baby", "bird"], tmp_path / "*_SRGAN.png")
    assert [path.name for path in found.values()] == [
        "baby_SRGAN.png",
        "bird_SRGAN.png",
    ]
    for folder in (tmp_path / "jpg", tmp_path / "png"):
        _folder(folder, "a")
    (tmp_path / "jpg/a.jpg").touch()
    with pytest.raises(ValueError, match=r"a\.jpg.*a\.png"):
        matching.find_images(["a"], tmp_path / "jpg")


def test_missing_images_are_named(tmp_path):
    _folder(tmp_path, "a_x", "b_x", "img_10")
    with pytest.raises(ValueError, match="no image named 'c_x', 'd_x'"):
        matching.find_images(["a", "b", "c", "d"], tmp_path)
    with pytest.raises(ValueError, match="no image for any of the originals"):
        matching.find_images(["img_1"], tmp_path)
    with pytest.raises(ValueError, match="no image for any of the originals"):
        matching.find_images(["0"], tmp_path)
    with pytest.raises(ValueError, match="no file matches"):
        matching.find_images(["a"], tmp_path / "*.tif")
    with pytest.raises(ValueError, match="no folder"):
        matching.find_images(["a"], tmp_path / "absent")


def test_an_image_is_cropped_only_if_the_mod_crop_explains_its_size():
    hr = np.zeros((8, 12, 3), np.uint8)
    image = np.random.default_rng(0).integers(0, 256, (11, 12, 3), np.uint8)
    np.testing.assert_array_equal(matching.cut_to(image, hr, (11, 12)), image[:8])
    for height, width in [(12, 12), (7, 12), (8, 16), (2, 3), (10, 12), (8, 13)]:
        with pytest.raises(ValueError, match=f"is {width}x{height} but its original"):
            matching.cut_to(np.zeros((height, width, 3), np.uint8), hr, (11, 12))


def test_equal_names_are_told_apart_by_the_folder_of_their_data_set(tmp_path):
    _folder(tmp_path, "Set5/img_1_x", "Set14/img_1_x", "Set14/img_2_x")
    for folder in (tmp_path, tmp_path / "*/*_x.png"):
        found = matching.find_images(["img_1"], folder, "Set5")
        assert found == {"img_1": tmp_path / "Set5/img_1_x.png"}
        found = matching.find_images(["img_1", "img_2"], folder, "Set14")
        assert found["img_1"] == tmp_path / "Set14/img_1_x.png"
        with pytest.raises(ValueError, match="has 2 images"):
            matching.find_images(["img_1"], folder, "Set1")


def test_names_that_are_not_utf8_are_matched(tmp_path):
    file = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9_x.png")
    open(file, "wb").close()
    found = matching.find_images([r"caf\xe9"], tmp_path)
    assert found == {r"caf\xe9": pathlib.Path(file)}
