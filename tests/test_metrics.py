"""Protocols equal published scores and independent implementations."""

import math
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from benchmarks import protocols
from srgan_jax.data import resize
from srgan_jax.evaluation import metrics
from srgan_jax.images.decode import read_image

SET5 = pathlib.Path(__file__).parents[1] / "../shared/data/set5"


def _noisy_pair(seed: int, height: int = 40, width: int = 52):
    rng = np.random.default_rng(seed)
    hr = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    noise = rng.integers(-30, 31, hr.shape)
    return np.clip(hr + noise, 0, 255).astype(np.uint8), hr


@pytest.fixture(scope="module")
def set5():
    """Set5 as `{name: [(sr, hr), ...]}` for the two built-in interpolations."""
    if not SET5.is_dir():
        pytest.skip("Set5 is not part of the project")
    pairs = {"bicubic": [], "nearest": []}
    for path in sorted(SET5.glob("*_HR.png")):
        hr = read_image(path)
        lr = read_image(path.with_name(path.name.replace("HR", "LR")))
        pairs["bicubic"].append((resize.imresize(lr, 4), hr))
        pairs["nearest"].append((lr.repeat(4, axis=0).repeat(4, axis=1), hr))
    return pairs


@pytest.mark.parametrize(
    ("name", "protocol", "psnr", "ssim"),
    [
        ("bicubic", "standard", 28.418, 0.8101),
        ("bicubic", "paper", 28.434, 0.8213),
        ("bicubic", "rgb", 26.693, 0.7731),
        ("nearest", "standard", 26.250, 0.7372),
        ("nearest", "paper", 26.257, 0.7550),
        ("nearest", "rgb", 24.556, 0.6998),
    ],
)
def test_scores_on_set5_equal_recorded_ones(set5, name, protocol, psnr, ssim):
    options = {"protocol": protocol, "scale": 4}
    scores = [
        (metrics.psnr(sr, hr, **options), metrics.ssim(sr, hr, **options))
        for sr, hr in set5[name]
    ]
    mean_psnr, mean_ssim = np.mean(scores, axis=0)
    assert mean_psnr == pytest.approx(psnr, abs=0.003)
    assert mean_ssim == pytest.approx(ssim, abs=0.0002)


@pytest.mark.parametrize(
    ("name", "psnr", "ssim"),
    [("bicubic", 28.43, 0.8211), ("nearest", 26.26, 0.7552)],
)
def test_paper_protocol_reproduces_rows_of_table_2(set5, name, psnr, ssim):
    options = {"protocol": "paper", "scale": 4}
    mean_psnr = np.mean([metrics.psnr(sr, hr, **options) for sr, hr in set5[name]])
    mean_ssim = np.mean([metrics.ssim(sr, hr, **options) for sr, hr in set5[name]])
    assert mean_psnr == pytest.approx(psnr, abs=0.015)
    assert mean_ssim == pytest.approx(ssim, abs=0.0012)


@pytest.mark.parametrize(
    ("name", "psnr", "ssim"), [("bicubic", 28.430, 0.8221), ("nearest", 26.258, 0.7631)]
)
def test_scores_of_other_repositories_on_set5_are_reproduced(set5, name, psnr, ssim):
    """They use unrounded luma and SSIM with a 7x7 box."""
    scores = []
    for pair in set5[name]:
        x, y = (16 + image[4:-4, 4:-4] @ metrics.LUMA_601 for image in pair)
        box = structural_similarity(np.round(x), np.round(y), data_range=255)
        scores.append((10 * np.log10(255**2 / np.mean((x - y) ** 2)), box))
    mean_psnr, mean_ssim = np.mean(scores, axis=0)
    assert mean_psnr == pytest.approx(psnr, abs=0.003)
    assert mean_ssim == pytest.approx(ssim, abs=0.0002)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000), st.integers(20, 150), st.integers(20, 150))
def test_standard_ssim_equals_scikit_image_over_whole_windows(seed, height, width):
    sr, hr = _noisy_pair(seed, height, width)
    x, y = (
        np.floor(16 + image[4:-4, 4:-4] @ metrics.LUMA_601 + 0.5) for image in (sr, hr)
    )
    _, similarity = structural_similarity(
        x,
        y,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        full=True,
    )
    ours = metrics.ssim(sr, hr, protocol="standard", scale=4)
    assert ours == pytest.approx(similarity[5:-5, 5:-5].mean(), abs=1e-12)


def test_standard_psnr_equals_scikit_image_on_rounded_luma():
    sr, hr = _noisy_pair(4)
    x, y = (np.round(rgb2ycbcr(image)[4:-4, 4:-4, 0]) for image in (sr, hr))
    expected = peak_signal_noise_ratio(y, x, data_range=255)
    assert metrics.psnr(sr, hr, protocol="standard", scale=4) == pytest.approx(expected)


def test_rgb_equals_scikit_image_over_channels():
    sr, hr = _noisy_pair(0)
    x, y = (image[4:-4, 4:-4].astype(float) for image in (sr, hr))
    expected = peak_signal_noise_ratio(y, x, data_range=255)
    assert metrics.psnr(sr, hr, protocol="rgb", scale=4) == pytest.approx(expected)
    _, similarity = structural_similarity(
        x,
        y,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        full=True,
    )
    ours = metrics.ssim(sr, hr, protocol="rgb", scale=4)
    assert ours == pytest.approx(similarity[5:-5, 5:-5].mean(), abs=1e-12)


def _torch_images(*images):
    torch = pytest.importorskip(
        "torch", reason="the parity extra (PyTorch) is not installed"
    )
    return [
        torch.tensor(image, dtype=torch.float64).permute(2, 0, 1)[None]
        for image in images
    ]


def test_rgb_equals_torchmetrics_over_whole_windows():
    """torchmetrics crops nothing and includes windows that it pads by reflection."""
    functional = pytest.importorskip(
        "torchmetrics.functional.image",
        reason="the parity extra (torchmetrics) is not installed",
    )
    sr, hr = _noisy_pair(5, 60, 70)
    x, y = _torch_images(sr[4:-4, 4:-4], hr[4:-4, 4:-4])
    psnr = functional.peak_signal_noise_ratio(x, y, data_range=255.0)
    _, similarity = functional.structural_similarity_index_measure(
        x, y, data_range=255.0, return_full_image=True
    )
    ssim = similarity[..., 5:-5, 5:-5].mean()
    options = {"protocol": "rgb", "scale": 4}
    assert metrics.psnr(sr, hr, **options) == pytest.approx(float(psnr), abs=1e-5)
    assert metrics.ssim(sr, hr, **options) == pytest.approx(float(ssim), abs=1e-6)


@pytest.mark.parametrize("negated", [False, True])
def test_pyiqa_equals_its_formulas_in_pytorch(negated):
    """pyiqa's `psnry` and `ssim`, written down again from its definitions.

    The package itself needs a language model's libraries, so it is not a test's
    requirement.
    """
    sr, hr = _noisy_pair(6)
    if negated:  # Negative structure, which pyiqa sets to 0.
        sr = 255 - hr
    images = _torch_images(sr, hr)
    weights = images[0].new_tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)
    x, y = ((image / 255 * weights).sum(1, keepdim=True) for image in images)
    psnr = 10 * (1 / (((x - y) ** 2).mean() + 1e-8)).log10()
    ours = metrics.psnr(sr, hr, protocol="pyiqa", scale=4)
    assert ours == pytest.approx(float(psnr), abs=1e-4)

    from torch.nn.functional import conv2d

    x, y = (255 * x).round(), (255 * y).round()
    line = (-((x.new_tensor(range(11)) - 5) ** 2) / (2 * 1.5**2)).exp()
    window = (line[:, None] * line)[None, None]
    window /= window.sum()
    mean = [conv2d(z, window) for z in (x, y, x * x, y * y, x * y)]
    variances = mean[2] - mean[0] ** 2 + mean[3] - mean[1] ** 2
    structure = (2 * (mean[4] - mean[0] * mean[1]) + 58.5225) / (variances + 58.5225)
    luminance = (2 * mean[0] * mean[1] + 6.5025) / (
        mean[0] ** 2 + mean[1] ** 2 + 6.5025
    )
    ssim = (luminance * structure.clamp(min=0)).mean()
    ours = metrics.ssim(sr, hr, protocol="pyiqa", scale=4)
    # Float errors decide how pyiqa rounds half levels.
    assert ours == pytest.approx(float(ssim), abs=1e-5)


@pytest.mark.parametrize(
    ("program", "protocol"),
    [
        ("MATLAB scripts, KAIR (Y)", "standard"),
        ("BasicSR, mmagic, KAIR (RGB)", "rgb"),
        ("pyiqa (psnry, ssim)", "pyiqa"),
    ],
)
def test_programs_of_the_comparison_agree_with_their_protocol(program, protocol):
    sr, hr = _noisy_pair(8)
    (found,) = (p for p in protocols.PROGRAMS if p.name == program)
    psnr, ssim = protocols.score(found, sr, hr, scale=4)
    options = {"protocol": protocol, "scale": 4}
    assert metrics.psnr(sr, hr, **options) == pytest.approx(psnr, abs=1e-9)
    assert metrics.ssim(sr, hr, **options) == pytest.approx(ssim, abs=1e-9)


def test_torchmetrics_includes_reflected_windows():
    functional = pytest.importorskip(
        "torchmetrics.functional.image",
        reason="the parity extra (torchmetrics) is not installed",
    )
    sr, hr = _noisy_pair(9)
    (found,) = (p for p in protocols.PROGRAMS if p.name == "torchmetrics")
    _, ssim = protocols.score(found, sr, hr, scale=4)
    x, y = _torch_images(sr, hr)
    theirs = functional.structural_similarity_index_measure(x, y, data_range=255.0)
    assert ssim == pytest.approx(float(theirs), abs=1e-6)


def test_full_range_luma_lowers_pyiqa_by_over_a_decibel():
    sr, hr = _noisy_pair(7, 200, 200)
    standard = metrics.psnr(sr, hr, protocol="standard", scale=1)
    pyiqa = metrics.psnr(sr, hr, protocol="pyiqa", scale=1)
    assert standard - pyiqa == pytest.approx(20 * math.log10(255 / 219), abs=0.02)


@pytest.mark.parametrize("shape", [(40, 52), (9, 300), (220, 24)])
def test_paper_ssim_equals_daala_s_definition(shape):
    """The reference is a direct loop over truncated windows, as in `dump_ssim`."""
    sr, hr = _noisy_pair(3, *shape)
    x, y = (
        np.floor(16 + image[4:-4, 4:-4] @ metrics.LUMA_709 + 0.5) for image in (sr, hr)
    )
    height, width = x.shape
    sigma = 1.5 * height / 256
    inner = math.sqrt(math.pi / 2) * sigma / 256
    radius = math.floor(sigma * math.sqrt(-2 * math.log(inner)))
    pdf = [
        math.exp(-0.5 * (i / sigma) ** 2) / (math.sqrt(2 * math.pi) * sigma)
        for i in range(radius + 1)
    ]
    side = [math.floor(256 * p + 0.5) for p in pdf[1:]]
    taps = np.array([*side[::-1], 256 - 2 * sum(side), *side])
    total = weight = 0.0
    for i in range(height):
        rows = np.arange(max(0, i - radius), min(height, i + radius + 1))
        for j in range(width):
            columns = np.arange(max(0, j - radius), min(width, j + radius + 1))
            window = np.ix_(rows, columns)
            w = np.outer(taps[rows - i + radius], taps[columns - j + radius])
            a, b = (np.average(z[window], weights=w) for z in (x, y))
            power = np.average(x[window] ** 2 + y[window] ** 2, weights=w)
            product = np.average(x[window] * y[window], weights=w)
            score = (2 * a * b + metrics.C1) * (2 * (product - a * b) + metrics.C2)
            score /= a * a + b * b + metrics.C1
            score /= power - a * a - b * b + metrics.C2
            total += w.sum() * score
            weight += w.sum()
    ours = metrics.ssim(sr, hr, protocol="paper", scale=4)
    assert ours == pytest.approx(total / weight, abs=1e-10)


def test_only_standard_compares_a_grey_file_in_full_range():
    rng = np.random.default_rng(0)
    plane = rng.integers(0, 256, (30, 30, 1), dtype=np.uint8)
    hr, sr = plane.repeat(3, axis=2), rng.integers(0, 256, (30, 30, 3), dtype=np.uint8)
    ours = np.floor(sr @ [0.299, 0.587, 0.114] + 0.5)[4:-4, 4:-4]
    error = np.mean((ours - plane[4:-4, 4:-4, 0]) ** 2)
    grey = metrics.psnr(sr, hr, protocol="standard", scale=4, grey=True)
    assert grey == pytest.approx(10 * np.log10(255**2 / error))
    # A full-range luma stretches the errors of a limited-range one by 255/219.
    limited = metrics.psnr(hr // 2, hr, protocol="standard", scale=4)
    full = metrics.psnr(hr // 2, hr, protocol="standard", scale=4, grey=True)
    assert limited - full == pytest.approx(20 * np.log10(255 / 219), abs=0.02)
    for protocol in ("paper", "rgb"):
        options = {"protocol": protocol, "scale": 4}
        for score in (metrics.psnr, metrics.ssim):
            assert score(sr, hr, grey=True, **options) == score(sr, hr, **options)


@pytest.mark.parametrize("protocol", metrics.PROTOCOLS)
def test_metrics_are_symmetric_and_largest_for_equal_images(protocol):
    sr, hr = _noisy_pair(1)
    options = {"protocol": protocol, "scale": 4}
    assert metrics.psnr(hr, hr, **options) == math.inf
    assert metrics.ssim(hr, hr, **options) == pytest.approx(1, abs=1e-12)
    for score in (metrics.psnr, metrics.ssim):
        assert score(sr, hr, **options) == pytest.approx(score(hr, sr, **options))


@pytest.mark.parametrize(
    ("protocol", "crop"), [("standard", 2), ("paper", 4), ("rgb", 2)]
)
def test_pixels_in_the_crop_do_not_count(protocol, crop):
    sr, hr = _noisy_pair(2)
    changed = sr.copy()
    inside = np.s_[crop:-crop, crop:-crop]
    changed[:] = 0
    changed[inside] = sr[inside]
    options = {"protocol": protocol, "scale": 2}
    for score in (metrics.psnr, metrics.ssim):
        assert score(changed, hr, **options) == score(sr, hr, **options)
    changed[crop, crop] ^= 255
    assert metrics.psnr(changed, hr, **options) != metrics.psnr(sr, hr, **options)


def test_images_that_cannot_be_scored_are_refused():
    image = np.zeros((30, 30, 3), np.uint8)
    options = {"protocol": "standard", "scale": 4}
    with pytest.raises(ValueError, match="28x30 and the HR image 30x30"):
        metrics.psnr(image[:, :28], image, **options)
    with pytest.raises(ValueError, match=r"the SR image is float64 \[30, 30, 3\]"):
        metrics.psnr(image.astype(float), image, **options)
    with pytest.raises(ValueError, match="the HR image is uint8"):
        metrics.ssim(image, image[..., 0], **options)
    with pytest.raises(ValueError, match="choose from standard, paper, rgb, pyiqa"):
        metrics.psnr(image, image, protocol="ycbcr", scale=4)
    with pytest.raises(ValueError, match="11x11 must fit"):
        metrics.ssim(image[:18], image[:18], **options)
    with pytest.raises(ValueError, match="leaves nothing of this image"):
        metrics.psnr(image[:8], image[:8], **options)
