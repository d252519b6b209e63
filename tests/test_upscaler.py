"""The upscaler, compared with the generator applied to whole images."""

import functools
import itertools
import pickle
import pydoc
import threading
from types import SimpleNamespace

import jax
import numpy as np
import PIL.Image
import pytest
import tiny
from hypothesis import example, given, settings
from hypothesis import strategies as st

import srgan_jax
from srgan_jax.inference import tiles
from srgan_jax.inference import upscaler as upscaler_module
from srgan_jax.inference.upscaler import MIRROR, Upscaler
from srgan_jax.kernels.dispatch import force_platform
from srgan_jax.models.generator import Generator
from srgan_jax.weights import catalog, store

LENGTHS = st.one_of(st.integers(1, 12), st.integers(1, 70))
VARIANTS = {
    "paper": {},
    "x2 krasserm": {
        "scale": 2,
        "prelu": "per_channel",
        "conv_bias": True,
        "output": "tanh",
        "bn_epsilon": 1e-3,
    },
    "x8 lornatang": {"scale": 8, "output": "clip", "output_range": "unit"},
    "imagenet input": {"blocks": 0, "input_range": "imagenet"},
    "deep": {"blocks": 12},  # its receptive field is wider than the mirrored border
}


@functools.cache
def network(variant: str) -> tuple[Generator, dict]:
    """A small generator whose biases and statistics make wrong padding visible."""
    model = Generator(**{"blocks": 1, "channels": 4} | VARIANTS[variant])
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 8, 8, 3)))
    rng = np.random.default_rng(1)

    def perturb(array: jax.Array) -> np.ndarray:
        noise = rng.uniform(0.1, 0.5, array.shape).astype(np.float32)
        return np.asarray(array) + (noise if array.ndim == 1 else 0)

    return model, jax.tree.map(perturb, variables)


@functools.cache
def upscaler(variant: str, tile: int | None, padding: str = "zero") -> Upscaler:
    model, variables = network(variant)
    return Upscaler(tiny.settings_of(model), variables, tile=tile, padding=padding)


@functools.cache
def whole(variant: str) -> jax.stages.Wrapped:
    model, variables = network(variant)
    return jax.jit(lambda lr: model.apply(variables, lr))


def expected(variant: str, image: np.ndarray, padding: str = "zero") -> np.ndarray:
    top = np.iinfo(image.dtype).max
    height, width, _ = image.shape
    border = 0
    if padding == "symmetric":
        border = MIRROR
        margins = (border, border), (border, border), (0, 0)
        image = np.pad(image, margins, mode="symmetric")
    sr = np.asarray(whole(variant)(image[None].astype(np.float32) / top))[0]
    scale = network(variant)[0].scale
    rows, columns = (
        slice(scale * border, scale * (border + n)) for n in (height, width)
    )
    sr = sr[rows, columns]
    return np.clip(np.floor((sr + 1) * (top / 2) + 0.5), 0, top).astype(image.dtype)


def photo(height: int, width: int, dtype: type = np.uint8) -> np.ndarray:
    rng = np.random.default_rng(height * 1000 + width)
    return rng.integers(0, np.iinfo(dtype).max, (height, width, 3), dtype, True)


def assert_same(sr: np.ndarray, truth: np.ndarray) -> None:
    """Allows a difference of one level at one value in 10,000, and at least at one."""
    assert (sr.shape, sr.dtype) == (truth.shape, truth.dtype)
    difference = np.abs(sr.astype(int) - truth.astype(int))
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= max(1, difference.size / 10_000)


@given(
    height=LENGTHS,
    width=LENGTHS,
    tile=st.sampled_from([None, 1, 7, 24]),
    variant=st.sampled_from(list(VARIANTS)),
    padding=st.sampled_from(["symmetric", "zero"]),
)
@example(height=1, width=1, tile=1, variant="paper", padding="zero")
@example(height=1, width=1, tile=1, variant="paper", padding="symmetric")
@example(height=1, width=70, tile=7, variant="x8 lornatang", padding="zero")
@example(height=69, width=70, tile=7, variant="imagenet input", padding="zero")
@example(height=69, width=70, tile=7, variant="imagenet input", padding="symmetric")
@example(height=5, width=9, tile=7, variant="imagenet input", padding="zero")
@example(height=20, width=31, tile=None, variant="deep", padding="symmetric")
@example(height=9, width=70, tile=7, variant="deep", padding="symmetric")
@settings(max_examples=25, deadline=None)
def test_tiles_give_the_same_result_as_the_whole_image(
    height: int, width: int, tile: int | None, variant: str, padding: str
) -> None:
    image = photo(height, width)
    sr = upscaler(variant, tile, padding)(image)
    assert_same(sr, expected(variant, image, padding))


def test_large_images_are_tiled_automatically(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tiles, "SIDE", 48)
    image = photo(131, 60)
    plan = tiles.plan(131, 60, upscaler("paper", None).halo, None)
    assert len(plan.windows) == 3
    assert_same(upscaler("paper", None)(image), expected("paper", image))


@pytest.mark.parametrize("variant", ["paper", "x2 krasserm"])
def test_a_gpu_takes_larger_cells(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "CELL", 16)
    image, lowered = photo(70, 60), spy_on_lowering(monkeypatch)
    for platform in ("cpu", "cuda"):
        with force_platform(platform):
            assert_same(upscaler(variant, None)(image), expected(variant, image))
    cells = [cell for cell, _ in lowered]
    assert max(cells[0]) <= 16 < min(cells[1])


def test_programs_are_compiled_in_the_calling_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # JAX's contexts, such as jax.default_device, hold in one thread only.
    lowered = spy_on_lowering(monkeypatch)
    image = photo(70, 60)
    assert_same(upscaler("paper", 16)(image), expected("paper", image))
    assert [thread for _, thread in lowered] == [threading.current_thread()]


def spy_on_lowering(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Returns a list that gets the cell and the thread of each program's lowering."""
    lower, lowered = upscaler_module._upscale.lower, []

    def spy(*arguments: object, cell: tuple[int, int]) -> jax.stages.Lowered:
        lowered.append((cell, threading.current_thread()))
        return lower(*arguments, cell=cell)

    monkeypatch.setattr(upscaler_module, "_upscale", SimpleNamespace(lower=spy))
    return lowered


def test_16_bit_images_keep_their_depth() -> None:
    image = photo(40, 30, np.uint16)
    model, variables = network("paper")
    sr = Upscaler(tiny.settings_of(model), variables, tile=24)(image)
    difference = np.abs(sr.astype(int) - expected("paper", image).astype(int))
    assert sr.dtype == np.uint16
    assert difference.max() <= 1  # float32 has 24 bits, more than 16


def test_a_grey_result_is_the_luma_of_the_rgb_result() -> None:
    grey = photo(20, 30)[..., 0]
    rgb = expected("paper", np.repeat(grey[..., None], 3, axis=-1))
    luma = rgb @ [0.299, 0.587, 0.114]
    sr = upscaler("paper", None)(grey)
    assert sr.shape == (80, 120)
    assert np.abs(sr - luma).max() <= 1.01


@pytest.mark.parametrize("variant", VARIANTS)
def test_halo_is_the_radius_of_the_receptive_field(variant: str) -> None:
    model, _ = network(variant)
    radius = upscaler(variant, None).halo
    size = 2 * radius + 3
    lr = jax.random.uniform(jax.random.key(0), (1, size, size, 3))
    middle = size // 2

    def pixel(lr: jax.Array) -> jax.Array:
        sr = whole(variant)(lr)
        near = slice(model.scale * middle, model.scale * (middle + 1))
        return sr[0, near, near].sum()

    reached = np.abs(np.asarray(jax.grad(pixel)(lr))).sum(axis=(0, 3)) > 0
    rows = np.flatnonzero(reached.any(axis=1))
    assert (rows[0], rows[-1]) == (middle - radius, middle + radius)


@given(
    length=st.integers(1, 5000),
    halo=st.integers(8, 72),
    tile=st.one_of(st.none(), st.integers(1, 300)),
    continued=st.booleans(),
)
@example(length=32, halo=16, tile=None, continued=False)
def test_windows_cover_each_pixel_once_with_a_halo(
    length: int, halo: int, tile: int | None, continued: bool
) -> None:
    border = halo if continued else 0
    plan = tiles.plan(length, 9, halo, tile, border)
    side, start, end = plan.sides[0], -border, length + border
    rows = sorted({rows for rows, _ in plan.windows})
    assert rows[0].first == 0
    assert rows[-1].end == length
    assert all(a.end == b.first for a, b in itertools.pairwise(rows))
    for part in rows:
        assert part.first < part.end
        assert part.start == start or part.first - part.start >= halo
        assert part.start + side >= end or part.start + side - part.end >= halo
        assert start <= part.start
        assert part.start + side <= max(end, start + side)
    assert len(plan.cells(plan.windows[: plan.batch])) <= plan.most_cells


def test_large_images_and_weights_of_a_generator_share_one_program(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model, variables = network("paper")
    of_model = tiny.settings_of(model)
    upscaler_module._upscale.clear_cache()
    with jax.log_compiles():
        for weights in (variables, jax.tree.map(np.copy, variables)):
            fixed = Upscaler(of_model, weights, tile=16)
            for height, width in ((140, 140), (110, 190), (150, 120)):
                fixed(photo(height, width))
    assert caplog.text.count("Compiling jit(_upscale)") == 1


def test_progress_counts_windows() -> None:
    calls: list[tuple[int, int]] = []
    upscaler("paper", 7)(photo(70, 70), lambda *call: calls.append(call))
    assert calls[-1][0] == calls[-1][1] == calls[0][1]
    assert sorted(calls) == calls


def test_float_is_upscaled_without_rounding() -> None:
    image = photo(20, 30)
    levels = upscaler("paper", None)(image)
    for dtype in (np.float32, np.float64):
        sr = upscaler("paper", None)(image.astype(dtype) / 255)
        assert (sr.dtype, sr.shape) == (dtype, (80, 120, 3))
        assert np.abs(255 * sr - levels).max() <= 0.501


@pytest.mark.parametrize(("bias", "value"), [(9, 1), (-9, 0)])
def test_float_is_clipped(bias: float, value: float) -> None:
    model, variables = network("paper")
    variables = jax.tree.map(np.copy, variables)
    variables["params"]["conv_out"]["bias"][:] = bias
    sr = Upscaler(tiny.settings_of(model), variables)(np.zeros((4, 4, 3), np.float32))
    assert (sr == value).all()


def test_colour_images_with_alpha_and_batches() -> None:
    batch = np.stack([photo(20, 30), photo(20, 30) // 2, photo(20, 30)[::-1]])
    alpha = np.full((3, 20, 30, 1), 7, np.uint8)
    sr = upscaler("paper", None)(np.concatenate([batch, alpha], axis=-1))
    assert sr.shape == (3, 80, 120, 4)
    assert (sr[..., 3] == 7).all()
    for image, result in zip(batch, sr, strict=True):
        assert_same(result[..., :3], expected("paper", image))


def test_same_kind_comes_back() -> None:
    image = photo(9, 12)
    sr = upscaler("paper", None)(image)
    of_jax = upscaler("paper", None)(jax.numpy.asarray(image))
    assert isinstance(of_jax, jax.Array)
    assert np.array_equal(of_jax, sr)
    of_pil = upscaler("paper", None)(PIL.Image.fromarray(image))
    assert of_pil.mode == "RGB"
    assert np.array_equal(of_pil, sr)


@given(
    count=st.integers(1, 9),
    height=LENGTHS,
    width=LENGTHS,
    tile=st.sampled_from([None, 7]),
    padding=st.sampled_from(["symmetric", "zero"]),
)
@settings(max_examples=8, deadline=None)
def test_batches_give_what_each_image_gives(
    count: int, height: int, width: int, tile: int | None, padding: str
) -> None:
    batch = np.stack([np.roll(photo(height, width), i) for i in range(count)])
    sr = upscaler("imagenet input", tile, padding)(batch)
    assert len(sr) == count
    for image, result in zip(batch, sr, strict=True):
        assert_same(result, expected("imagenet input", image, padding))


@given(
    height=st.integers(1, 900),
    width=st.integers(1, 900),
    tile=st.integers(1, 2000),
    border=st.sampled_from([0, 16, 40]),
    count=st.integers(1, 20),
)
@example(height=16, width=16, tile=1024, border=24, count=1)
@settings(deadline=None)
def test_a_tile_never_costs_more_pixels_than_the_image_has(
    height: int, width: int, tile: int, border: int, count: int
) -> None:
    whole = tiles.plan(height, width, 40, None, border, count)
    tiled = tiles.plan(height, width, 40, tile, border, count)
    assert all(a <= b for a, b in zip(tiled.sides, whole.sides, strict=True))
    if tile + 2 * 40 >= max(whole.sides):
        assert tiled == whole
    assert tiled.batch <= count * len(tiled.windows)


def test_windows_of_several_images_are_exact() -> None:
    plan = tiles.plan(120, 160, 40, None, 20, 400)
    assert plan.sides == (160, 200)
    assert plan.cell == (60, 54)


def test_help_and_repr_show_what_an_upscaler_is() -> None:
    shown = repr(upscaler("x2 krasserm", 7))
    assert shown.startswith("Upscaler(scale=2, tile=7, dtype='float32', padding='zero'")
    assert "'output': 'tanh'" in shown
    for described in (srgan_jax.load, Upscaler):
        assert "upscaler = srgan_jax.load()" in pydoc.render_doc(described)


def test_pickle_keeps_an_upscaler() -> None:
    image = photo(20, 30)
    ours = upscaler("paper", 24, "symmetric")
    copy = pickle.loads(pickle.dumps(ours))
    assert repr(copy) == repr(ours)
    assert np.array_equal(copy(image), ours(image))


def test_load_without_a_name_takes_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    model, variables = network("paper")
    asked = []

    def load_generator(name: str, offline: bool) -> tuple[dict, dict]:
        asked.append(name)
        return tiny.settings_of(model), variables

    monkeypatch.setattr(store, "load_generator", load_generator)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    assert srgan_jax.load().padding == "symmetric"
    assert asked == [catalog.DEFAULT_GENERATOR]


@pytest.mark.parametrize("dtype", ["int8", "float16", "nonsense", np.float64])
def test_unknown_dtype_is_refused(dtype: object) -> None:
    model, variables = network("paper")
    with pytest.raises(ValueError, match="expected one of 'float32', 'bfloat16'"):
        Upscaler(tiny.settings_of(model), variables, dtype=dtype)


def test_unknown_padding_is_refused() -> None:
    model, variables = network("paper")
    with pytest.raises(ValueError, match="padding is 'edge'"):
        Upscaler(tiny.settings_of(model), variables, padding="edge")


def test_tiles_without_pixels_are_refused() -> None:
    model, variables = network("paper")
    with pytest.raises(ValueError, match="tile is 0"):
        Upscaler(tiny.settings_of(model), variables, tile=0)


def test_bfloat16_is_close_to_float32() -> None:
    model, variables = network("paper")
    half = Upscaler(tiny.settings_of(model), variables, dtype="bfloat16")
    image = photo(20, 20)
    assert np.abs(half(image).astype(int) - expected("paper", image)).mean() < 2


def test_the_default_generator_keeps_flat_images_flat():
    upscaler = srgan_jax.load()
    saturated = itertools.product((0, 255), repeat=3)
    for colour in [*saturated, (10, 5, 8), (128, 128, 128)]:  # dark, and grey
        lr = np.broadcast_to(np.array(colour, np.uint8), (24, 32, 3))
        assert np.abs(upscaler(lr).astype(int) - colour).max() <= 3
