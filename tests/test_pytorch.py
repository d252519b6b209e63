"""PyTorch's state dicts; tests that need PyTorch are skipped if it is missing."""

import contextlib
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
    attributes = IMPLEMENTATIONS[preset][kind] | size | changes
    leaves = random(layout.expected(kind, attributes, crop))
    return Weights(kind, attributes, unflatten_dict(leaves, sep="/"))


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


def test_inputs_of_the_dense_layer_are_reordered_from_channels_first() -> None:
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
def test_prefixes_and_names_of_2022_are_recognised(prefix: str, former: bool) -> None:
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
def test_sgrvinod_networks_are_read(kind: str) -> None:
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


def test_torchvision_vgg19_is_read(tmp_path: Path) -> None:
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
    with pytest.raises(WeightsError, match=r"unknown layout.* encoder\.0\.weight"):
        pytorch.recognise({"encoder.0.weight": np.zeros(3)}, "a.pth")
    with pytest.raises(WeightsError, match="none"):
        pytorch.recognise({}, "a.pth")


def test_weights_that_lornatang_cannot_hold_are_refused() -> None:
    ours = weights("generator", "sgrvinod")
    with pytest.raises(WeightsError, match=r"conv_bias=True \(False\).*output='tanh'"):
        pytorch.state_dict(ours)
    ours = weights("discriminator", input_range="symmetric")
    with pytest.raises(WeightsError, match=r"input_range='symmetric' \('unit'\)"):
        pytorch.state_dict(ours)


def test_the_change_of_range_is_folded_into_the_last_convolution() -> None:
    """Our generator returns [-1, 1], Lornatang's [0, 1]."""
    from srgan_jax.models.generator import Generator

    ours = weights("generator", output="none", output_range="symmetric")
    theirs = pytorch.recognise(pytorch.state_dict(ours), "x")
    images = np.random.default_rng(0).random((1, 5, 5, 3), np.float32)
    sr = Generator(**ours.settings).apply(ours.variables, images)
    clipped = Generator(**theirs.settings).apply(theirs.variables, images)
    scale = np.abs(sr).max()  # random weights give few values inside [-1, 1]
    np.testing.assert_allclose(clipped, np.clip(sr, -1, 1), atol=1e-5 * scale)


def leftthomas(blocks: int = 2) -> dict[str, np.ndarray]:
    ours = weights("generator", "leftthomas", blocks=blocks)
    layers = pytorch_layouts.generator("leftthomas", blocks=blocks, ups=1)
    return {
        pytorch._theirs(k, layers): pytorch._to_torch(k, np.asarray(v), 16)
        for k, v in flatten_dict(ours.variables, sep="/").items()
    }


@pytest.mark.parametrize("blocks", [1, 5, 11])
def test_leftthomas_blocks_are_counted(blocks: int) -> None:
    state = leftthomas(blocks)
    assert f"block{blocks + 1}.conv1.weight" in state
    assert f"block{blocks + 2}.1.running_mean" in state
    assert f"block{blocks + 3}.0.prelu.weight" in state
    assert f"block{blocks + 3}.1.bias" in state
    read = pytorch.recognise(state, "x")
    assert same(read, weights("generator", "leftthomas", blocks=blocks))


def test_leftthomas_weights_of_2018_are_refused_by_name() -> None:
    state = leftthomas(5)
    state = {k: v for k, v in state.items() if not k.startswith("block7.1")}
    state["block7.1.weight"] = np.zeros(1)  # a PReLU
    with pytest.raises(WeightsError, match=r"leftthomas/SRGAN as published in 2018"):
        pytorch.recognise(state, "netG.pth")


UNSUPPORTED = {
    "discriminator of leftthomas": {
        "net.0.weight": (64, 3, 3, 3),
        "net.3.running_mean": (64,),
        "net.24.weight": (1024, 512, 1, 1),
        "net.26.weight": (1, 1024, 1, 1),
    },
    "MSRResNet": {
        "conv_first.weight": (64, 3, 3, 3),
        "body.0.conv1.weight": (64, 64, 3, 3),
        "upconv1.weight": (256, 64, 3, 3),
        "conv_last.weight": (3, 64, 3, 3),
    },
    "RRDBNet": {
        "conv_first.weight": (64, 3, 3, 3),
        "body.0.rdb1.conv1.weight": (32, 64, 3, 3),
    },
}


@pytest.mark.parametrize("network", UNSUPPORTED)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_unsupported_networks_are_refused_by_name(network: str, prefix: str) -> None:
    state = {prefix + k: np.zeros(v) for k, v in UNSUPPORTED[network].items()}
    with pytest.raises(WeightsError, match=rf"a\.pth holds .*{network}"):
        pytorch.recognise(state, "a.pth")


@pytest.mark.parametrize("key", ["conv_after_body", "layers.0.blocks.0.attn.qkv"])
def test_networks_with_a_first_convolution_are_not_all_msrresnet(key: str) -> None:
    names = ("conv_first", "body.0.conv1", key, "upsample.0", "conv_last")
    state = {f"{name}.weight": np.zeros((4, 4, 3, 3)) for name in names}
    with pytest.raises(WeightsError, match=r"no layout that is known.*conv_first"):
        pytorch.recognise(state, "a.pth")


@settings(max_examples=60, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), data=st.binary(max_size=40))
def test_damaged_pth_files_load_or_raise_a_weights_error(
    whole: bytes, tmp_path_factory, position: float, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "g.pth"
    start = int(position * len(whole))
    path.write_bytes(whole[:start] + data + whole[start + len(data) :])
    with contextlib.suppress(WeightsError):
        files.read(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "g.pth"
    torch = pytest.importorskip("torch")
    state = {k: torch.from_numpy(v) for k, v in lornatang("generator").items()}
    torch.save(state, path)
    return path.read_bytes()


def test_a_file_that_was_cut_off_is_refused_as_such(
    whole: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "g.pth"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="a zip archive, perhaps cut off"):
        files.read(path)


@pytest.mark.parametrize(("at", "byte"), [(6, 200), (46, 0x9E)])
def test_damage_to_an_archives_directory_is_a_weights_error(
    whole: bytes, tmp_path: Path, at: int, byte: int
) -> None:
    """PyTorch reads over a wrong version or name; Python's zipfile does not."""
    entry = whole.rindex(b"PK\x01\x02")
    damaged = bytearray(whole)
    damaged[entry + at] = byte
    damaged[entry + 9] |= 8  # names are UTF-8
    path = tmp_path / "g.pth"
    path.write_bytes(damaged)
    with contextlib.suppress(WeightsError):
        files.read(path)


STATES = {
    "lornatang G": lornatang("generator"),
    "lornatang D": lornatang("discriminator"),
    "leftthomas G": leftthomas(),
}
SHAPES = st.sampled_from([(), (0,), (1,), (5,), (0, 3), (4, 4), (4, 0, 3, 3)])


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(STATES)), data=st.data())
def test_damaged_state_dicts_are_refused(name: str, data) -> None:
    state = dict(STATES[name])
    key = data.draw(st.sampled_from(sorted(state)))
    kept = state.pop(key)
    if shape := data.draw(st.none() | SHAPES.filter(lambda s: s != kept.shape)):
        state[key] = np.zeros(shape, np.float32)
    with pytest.raises(WeightsError):
        pytorch.recognise(state, "a.pth")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"hello", "text"),
        (b"", "an empty file"),
        (b"\n<!DOCTYPE html><html></html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid 1", "a Git LFS pointer"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG image"),
        (b"\x89HDF\r\n\x1a\n\0", "an HDF5 file"),
        (bytes(100), "binary data"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".h5", ".bin", ""])
def test_errors_say_what_other_files_hold(
    tmp_path: Path, content: bytes, what: str, suffix: str
) -> None:
    path = tmp_path / f"g{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"it is {what}"):
        files.read(path)


def test_programs_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "g.onnx"
    path.write_bytes(b"\x08\x08\x12\x07pytorch")
    with pytest.raises(WeightsError, match="is an ONNX program"):
        files.read(path)


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

    def test_a_checkpoint_gives_weights_or_their_moving_average(
        self, tmp_path: Path
    ) -> None:
        raw = lornatang("generator")
        average = {f"module.{k}": v + 1 for k, v in raw.items()}
        path = tmp_path / "g.pth.tar"
        self.save(path, state_dict=raw, ema_state_dict=average)
        slope = files.read(path).variables["params"]["prelu_in"]["slope"]
        averaged = files.read(path, ema=True).variables["params"]["prelu_in"]["slope"]
        np.testing.assert_array_equal(averaged, slope + 1)
        self.save(path, state_dict=raw)
        with pytest.raises(WeightsError, match="has neither ema_state_dict nor"):
            files.read(path, ema=True)

    @pytest.mark.parametrize(
        "wrapper",
        ["params", "params_ema", "model", "model_state_dict", "generator", "netG"],
    )
    def test_state_dicts_are_found_inside_checkpoints(
        self, tmp_path: Path, wrapper: str
    ) -> None:
        path = self.save(tmp_path / "g.pth", **{wrapper: lornatang("generator")})
        assert same(files.read(path), weights("generator"))
        foreign = {"encoder.weight": np.zeros(3, np.float32)}
        path = self.save(tmp_path / "g.pth", **{wrapper: foreign})
        with pytest.raises(WeightsError, match=rf"entry '{wrapper}'.*encoder\.weight"):
            files.read(path)

    def test_state_dicts_are_found_inside_nested_checkpoints(
        self, tmp_path: Path
    ) -> None:
        state = {k: self.torch.from_numpy(v) for k, v in lornatang("generator").items()}
        self.torch.save({"model": {"state_dict": state}}, tmp_path / "g.pth")
        assert same(files.read(tmp_path / "g.pth"), weights("generator"))

    def test_the_moving_average_is_taken_only_on_request_or_if_alone(
        self, tmp_path: Path
    ) -> None:
        raw = lornatang("generator")
        average = {k: v + 1 for k, v in raw.items()}
        path = self.save(tmp_path / "g.pth", params=raw, params_ema=average)
        slope = raw["conv1.1.weight"]
        for ema, expected in {False: slope, True: slope + 1}.items():
            params = files.read(path, ema=ema).variables["params"]
            np.testing.assert_array_equal(params["prelu_in"]["slope"], expected)

    def test_parameters_and_half_precision_are_read(self, tmp_path: Path) -> None:
        nn = self.torch.nn
        state = {
            k: nn.Parameter(self.torch.from_numpy(v).bfloat16())
            for k, v in lornatang("generator").items()
        }
        self.torch.save(state, tmp_path / "g.pth")
        kernel = files.read(tmp_path / "g.pth").variables["params"]["conv_in"]["kernel"]
        assert kernel.dtype == np.float32

    def test_files_without_a_state_dict_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "g.pth"
        self.torch.save([1, 2], path)
        with pytest.raises(WeightsError, match="it holds a list"):
            files.read(path)
        self.torch.save({"weight": self.torch.eye(3).to_sparse()}, path)
        with pytest.raises(WeightsError, match="weight is a tensor of layout"):
            files.read(path)
        with zipfile.ZipFile(path, "w") as script:  # as torch.jit.save writes it
            script.writestr("g/constants.pkl", b"")
        with pytest.raises(WeightsError, match="it is a TorchScript program"):
            files.read(path)
        np.savez(tmp_path / "g.npz", np.ones(3))
        with pytest.raises(WeightsError, match="it is a zip archive"):
            files.read(tmp_path / "g.npz")

    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(position=st.floats(0, 1, exclude_max=True), data=st.binary(max_size=40))
    @pytest.mark.parametrize("legacy", [False, True])
    def test_damaged_files_are_refused(
        self, tmp_path: Path, legacy: bool, position: float, data: bytes
    ) -> None:
        path = tmp_path / "g.pth"
        if not path.exists():
            state = {"conv1.0.weight": self.torch.ones(2, 3)}
            new = not legacy
            self.torch.save(state, path, _use_new_zipfile_serialization=new)
            (tmp_path / "whole").write_bytes(path.read_bytes())
        whole = (tmp_path / "whole").read_bytes()
        start = int(position * len(whole))
        path.write_bytes(whole[:start] + data)
        with pytest.raises(WeightsError):
            files.read(path)

    def test_state_dict_without_a_wrapper_is_read(self, tmp_path: Path) -> None:
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
    def test_conversion_to_pytorch_and_back_is_exact(
        self, tmp_path: Path, kind: str
    ) -> None:
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
