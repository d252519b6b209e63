"""PyTorch's state dicts; what needs PyTorch itself is skipped without it."""

import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from srgan_jax.weights import files, layout
from srgan_jax.weights.formats import native, pytorch, pytorch_layouts
from srgan_jax.weights.implementations import IMPLEMENTATIONS
from srgan_jax.weights.layout import Weights, WeightsError

TINY_G = {"scale": 2, "blocks": 2, "channels": 4}
TINY_D = {"channels": 2, "hidden": 3}


def random(shapes: dict) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {k: rng.standard_normal(shape, np.float32) for k, shape in shapes.items()}


def weights(kind: str, preset: str = "lornatang", crop: int = 32, **changes) -> Weights:
    size = TINY_G if kind == "generator" else TINY_D
    settings = IMPLEMENTATIONS[preset][kind] | size | changes
    leaves = random(layout.expected(kind, settings, crop))
    return Weights(kind, settings, unflatten_dict(leaves, sep="/"))


def lornatang(kind: str) -> dict[str, np.ndarray]:
    return pytorch.state_dict(weights(kind))


def same(a: Weights, b: Weights) -> bool:
    one, other = (flatten_dict(w.variables, sep="/") for w in (a, b))
    equal = all(np.array_equal(one[k], other[k]) for k in one)
    return a[:2] == b[:2] and one.keys() == other.keys() and equal


@pytest.mark.parametrize("kind", ["generator", "discriminator"])
def test_round_trip_is_bit_identical(kind: str) -> None:
    ours = weights(kind)
    state = pytorch.state_dict(ours)
    again = pytorch.recognise(state, "a round trip")
    assert same(again, ours)
    back = pytorch.state_dict(again)
    assert all(np.array_equal(back[name], state[name]) for name in state)


def test_flattening_is_by_channel_first_there() -> None:
    """One unit of the first dense layer, at one channel and position."""
    state = lornatang("discriminator")  # 2x2 cells of 16 channels
    ours = pytorch.recognise(state, "x").variables["params"]["dense_0"]["kernel"]
    theirs = state["classifier.0.weight"]
    channel, row, column, unit = 5, 1, 0, 2
    assert theirs.shape == (3, 64)
    assert ours.shape == (64, 3)
    assert (
        ours[(row * 2 + column) * 16 + channel, unit]
        == theirs[unit, channel * 4 + row * 2 + column]
    )


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("former", [False, True])
def test_prefixes_and_former_names(prefix: str, former: bool) -> None:
    state = lornatang("generator")
    if former:  # conv1, conv2, conv3 were conv_block1, conv_block2, conv_block3
        state = {
            name.replace("conv", "conv_block") if name.startswith("conv") else name: v
            for name, v in state.items()
        }
    state = {prefix + name: value for name, value in state.items()}
    state["n_averaged"] = np.array(7)
    state[prefix + "conv2.1.num_batches_tracked"] = np.array(7)
    assert same(pytorch.recognise(state, "x"), weights("generator"))


def sgrvinod(kind: str) -> dict[str, np.ndarray]:
    if kind == "generator":
        layers = pytorch_layouts.generator("sgrvinod", blocks=2, ups=1)
    else:
        layers = pytorch_layouts.DISCRIMINATORS["sgrvinod"]
    ours = weights(kind, "sgrvinod", crop=96)
    return {
        pytorch._theirs(k, layers): pytorch._to_torch(k, np.asarray(v), 16)
        for k, v in flatten_dict(ours.variables, sep="/").items()
    }


@pytest.mark.parametrize("kind", ["generator", "discriminator"])
def test_sgrvinod(kind: str) -> None:
    state = sgrvinod(kind)
    assert same(pytorch.recognise(state, "x"), weights(kind, "sgrvinod", crop=96))
    if kind == "generator":
        prefixed = {f"net.{name}": value for name, value in state.items()}
        assert same(pytorch.recognise(prefixed, "x"), pytorch.recognise(state, "x"))


def vgg19() -> dict[str, np.ndarray]:
    wanted = layout.expected("vgg19", {"preprocessing": "torchvision"})
    layers = pytorch_layouts.vgg19()
    rng = np.random.default_rng(0)
    return {
        pytorch._theirs(name, layers): rng.random(
            pytorch._torch_shape(shape), np.float32
        )
        for name, shape in wanted.items()
    }


def test_torchvision_vgg19(tmp_path: Path) -> None:
    state = vgg19() | {"classifier.0.weight": np.zeros((2, 2), np.float32)}
    assert state["features.34.weight"].shape == (512, 512, 3, 3)
    source, target = tmp_path / "vgg19.safetensors", tmp_path / "ours.safetensors"
    safetensors.numpy.save_file(state, source)
    read = files.read(source)
    assert read.settings == {"preprocessing": "torchvision"}
    kernel = read.variables["params"]["conv2_1"]["kernel"]
    np.testing.assert_array_equal(
        kernel, state["features.5.weight"].transpose(2, 3, 1, 0)
    )
    files.convert(source, target)
    assert same(files.read(target), read)


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    state = {k: v.astype(np.float16) for k, v in lornatang("generator").items()}
    safetensors.numpy.save_file(state, tmp_path / "g.safetensors")
    read = files.read(tmp_path / "g.safetensors")
    assert read.variables["params"]["conv_in"]["kernel"].dtype == np.float32


def test_mismatches_are_all_listed() -> None:
    state = lornatang("generator")
    del state["trunk.1.rcb.3.weight"]
    state["trunk.1.rcb.9.weight"] = np.zeros(2)
    state["conv3.weight"] = np.zeros((3, 4, 5, 5))
    with pytest.raises(WeightsError) as error:
        pytorch.recognise(state, "a.pth")
    message = str(error.value)
    assert "a.pth does not fit the generator" in message
    assert "missing: trunk.1.rcb.3.weight [4, 4, 3, 3]" in message
    assert "left over: trunk.1.rcb.9.weight [2]" in message
    assert "conv3.weight [3, 4, 5, 5], expected [3, 4, 9, 9]" in message


def test_unknown_layout_is_refused_with_its_names() -> None:
    with pytest.raises(WeightsError, match=r"no layout .* encoder\.0\.weight"):
        pytorch.recognise({"encoder.0.weight": np.zeros(3)}, "a.pth")
    with pytest.raises(WeightsError, match="none"):
        pytorch.recognise({}, "a.pth")


def test_what_lornatang_cannot_hold_is_refused() -> None:
    ours = weights("generator", "sgrvinod")
    with pytest.raises(WeightsError, match=r"conv_bias=True \(False\).*output='tanh'"):
        pytorch.state_dict(ours)
    ours = weights("discriminator", input_range="symmetric")
    with pytest.raises(WeightsError, match=r"input_range='symmetric' \('unit'\)"):
        pytorch.state_dict(ours)


def test_change_of_range_is_folded_into_the_last_convolution() -> None:
    """Ours without a last activation speaks [-1, 1], theirs [0, 1]."""
    from srgan_jax.models.generator import Generator

    ours = weights("generator", output="none", output_range="symmetric")
    theirs = pytorch.recognise(pytorch.state_dict(ours), "x")
    images = np.random.default_rng(0).random((1, 5, 5, 3), np.float32)
    sr = Generator(**ours.settings).apply(ours.variables, images)
    clipped = Generator(**theirs.settings).apply(theirs.variables, images)
    scale = np.abs(sr).max()  # of random weights, so that little is inside [-1, 1]
    np.testing.assert_allclose(clipped, np.clip(sr, -1, 1), atol=1e-5 * scale)


def test_pth_without_pytorch_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "g.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(WeightsError, match="needs PyTorch"):
        files.read(tmp_path / "g.pth")


class TestWithPyTorch:
    """Pickled checkpoints."""

    @pytest.fixture(autouse=True)
    def _torch(self):
        self.torch = pytest.importorskip("torch", reason="needs the extra [parity]")

    def save(self, path: Path, **states: dict) -> Path:
        content = {
            name: {k: self.torch.from_numpy(v) for k, v in state.items()}
            for name, state in states.items()
        }
        self.torch.save(content | {"epoch": 3, "optimizer": {"lr": 1e-4}}, path)
        return path

    def test_checkpoint_raw_or_averaged(self, tmp_path: Path) -> None:
        raw = lornatang("generator")
        average = {f"module.{k}": v + 1 for k, v in raw.items()}
        path = tmp_path / "g.pth.tar"
        self.save(path, state_dict=raw, ema_state_dict=average)
        slope = files.read(path).variables["params"]["prelu_in"]["slope"]
        averaged = files.read(path, ema=True).variables["params"]["prelu_in"]["slope"]
        np.testing.assert_array_equal(averaged, slope + 1)
        self.save(path, state_dict=raw)
        with pytest.raises(WeightsError, match="has no ema_state_dict"):
            files.read(path, ema=True)

    def test_bare_state_dict(self, tmp_path: Path) -> None:
        state = {k: self.torch.from_numpy(v) for k, v in lornatang("generator").items()}
        self.torch.save(state, tmp_path / "g.pth")
        assert same(files.read(tmp_path / "g.pth"), weights("generator"))

    def test_pickled_module_is_refused_and_not_run(self, tmp_path: Path) -> None:
        path = tmp_path / "module.pth"
        self.torch.save({"model": self.torch.nn.PReLU()}, path)
        with pytest.raises(WeightsError, match=r"torch\.save\(model\.state_dict\(\)"):
            files.read(path)
        path.write_bytes(b"nothing of the kind")
        with pytest.raises(WeightsError, match="is not a state dict"):
            files.read(path)

    @pytest.mark.parametrize("kind", ["generator", "discriminator"])
    def test_convert_there_and_back(self, tmp_path: Path, kind: str) -> None:
        ours, there, back = (
            tmp_path / name for name in ("a.safetensors", "b.pth", "c.safetensors")
        )
        native.write(ours, weights(kind), {})
        files.convert(ours, there)
        files.convert(there, back)
        assert same(files.read(back), files.read(ours))
        assert sorted(p.name for p in tmp_path.iterdir()) == [
            "a.safetensors",
            "b.pth",
            "c.safetensors",
        ]

    def test_lornatang_network_loads_what_is_written(self, tmp_path: Path) -> None:
        sys.path.insert(0, str(Path(__file__).parent / "parity"))
        try:
            import reference
        finally:
            sys.path.pop(0)
        native.write(tmp_path / "a.safetensors", weights("generator"), {})
        files.convert(tmp_path / "a.safetensors", tmp_path / "b.pth")
        state = self.torch.load(tmp_path / "b.pth", weights_only=True)["state_dict"]
        g = reference.LornatangGenerator(channels=4, blocks=2, scale=2)
        g.load_state_dict(state, strict=True)
