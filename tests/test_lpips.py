"""LPIPS: agreement with PyTorch, unsafe pickles and bad input."""

import pickle
import posix

import jax
import numpy as np
import pytest

from srgan_jax.evaluation import lpips
from srgan_jax.weights import store


def _images(seed: int, height: int = 67, width: int = 82):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    noise = rng.integers(-40, 41, x.shape)
    return x, np.clip(x + noise, 0, 255).astype(np.uint8)


def _pickled(network: str) -> dict:
    """Returns random weights in the layout of the mirror's pickle."""
    rng = np.random.default_rng(0)
    image = jax.ShapeDtypeStruct((64, 64, 3), np.float32)
    shapes = jax.eval_shape(lpips.Features(network).init, jax.random.key(0), image)[
        "params"
    ]
    names = [
        f"conv{i + 1}_{j + 1}"
        for i, (_, stage) in enumerate(lpips.STAGES[network])
        for j in range(len(stage))
    ]
    trunk = {}
    for index, name in enumerate(names):
        shape = shapes[name]["kernel"].shape
        deviation = np.sqrt(2 / np.prod(shape[:3]))
        trunk[f"Conv_{index}"] = {
            "kernel": (rng.standard_normal(shape) * deviation).astype(np.float32),
            "bias": rng.standard_normal(shape[3:]).astype(np.float32) / 10,
        }
    pickled = {{"alex": "AlexNet_0", "vgg": "VGG16_0"}[network]: trunk}
    for index, (_, stage) in enumerate(lpips.STAGES[network]):
        kernel = rng.random((1, 1, stage[-1][0], 1), dtype=np.float32)
        pickled[f"NetLinLayer_{index}"] = {"Conv_0": {"kernel": kernel}}
    return pickled


def _write(path, content) -> None:
    """Pickles with the module name that NumPy had when the mirror's files were made."""
    text = pickle.dumps(content, protocol=3)
    path.write_bytes(text.replace(b"numpy._core.", b"numpy.core."))


@pytest.fixture(scope="module", params=lpips.NETWORKS)
def network(request):
    return request.param


@pytest.fixture(scope="module")
def variables(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("lpips") / f"{network}.ckpt"
    _write(path, _pickled(network))
    return lpips.read(path, network)


def _torch_lpips(network, variables, x, y) -> float:
    """Computes LPIPS as its authors define it, in double precision."""
    torch = pytest.importorskip(
        "torch", reason="the parity extra (PyTorch) is not installed"
    )
    functional = torch.nn.functional
    # Layers by their index in torchvision: stride and padding of each convolution,
    # 'M' for max-pooling, 'T' after a compared activation.
    plan = {
        "alex": [
            (4, 2),
            "T",
            "M",
            (1, 2),
            "T",
            "M",
            (1, 1),
            "T",
            (1, 1),
            "T",
            (1, 1),
            "T",
        ],
        "vgg": [
            *((1, 1), (1, 1), "T", "M", (1, 1), (1, 1), "T", "M"),
            *((1, 1), (1, 1), (1, 1), "T", "M", (1, 1), (1, 1), (1, 1), "T", "M"),
            *((1, 1), (1, 1), (1, 1), "T"),
        ],
    }[network]
    images = torch.tensor(np.stack([x, y]), dtype=torch.float64).permute(0, 3, 1, 2)
    shift = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64)
    scale = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64)
    features = (images / 127.5 - 1 - shift[:, None, None]) / scale[:, None, None]
    convolutions = iter(variables["params"].values())
    linear = iter(variables["linear"])
    total = 0.0
    for layer in plan:
        if layer == "M":
            window = 3 if network == "alex" else 2
            features = functional.max_pool2d(features, window, 2)
        elif layer == "T":
            unit = functional.normalize(features, dim=1, eps=1e-10)
            weights = torch.tensor(next(linear), dtype=torch.float64)[:, None, None]
            total += float(((unit[0] - unit[1]) ** 2 * weights).sum(0).mean())
        else:
            arrays = next(convolutions)
            kernel = torch.tensor(arrays["kernel"], dtype=torch.float64)
            bias = torch.tensor(arrays["bias"], dtype=torch.float64)
            features = functional.relu(
                functional.conv2d(features, kernel.permute(3, 2, 0, 1), bias, *layer)
            )
    return total


@pytest.mark.parametrize("size", [(67, 82), (40, 36)])
def test_lpips_equals_pytorch(network, variables, size):
    x, y = _images(0, *size)
    expected = _torch_lpips(network, variables, x, y)
    assert expected > 0.01
    ours = lpips.Lpips(network, variables)(x, y)
    assert ours == pytest.approx(expected, abs=1e-5)


def test_lpips_equals_pytorch_with_the_real_weights(network):
    name = f"lpips-{network}"
    if not store.is_cached(name):
        pytest.skip(f"{name} is not in the cache: srgan-jax weights fetch {name}")
    variables = lpips.read(store.fetch(name), network)
    x, y = _images(1)
    expected = _torch_lpips(network, variables, x, y)
    assert lpips.load(network)(x, y) == pytest.approx(expected, abs=1e-5)


def test_equal_images_have_distance_zero(network, variables):
    distance = lpips.Lpips(network, variables)
    x, y = _images(0)
    assert distance(x, x) == 0
    assert distance(x, y) == pytest.approx(distance(y, x), rel=1e-5)
    assert distance(x, y) > 0


def test_images_may_be_as_small_as_the_network_allows(network, variables):
    distance = lpips.Lpips(network, variables)
    side = lpips.SMALLEST[network]
    assert np.isfinite(distance(*_images(0, side, side)))
    with pytest.raises(ValueError, match=f"at least {side} pixels"):
        distance(*_images(0, side - 1, 100))


class Harmful:
    def __reduce__(self):
        return posix.system, ("exit 1",)


@pytest.mark.parametrize(
    "content",
    [{"AlexNet_0": Harmful()}, {}, {"AlexNet_0": {}}, [1, 2], np.zeros(3)],
)
def test_pickles_of_anything_but_arrays_are_refused(tmp_path, content, monkeypatch):
    path = tmp_path / "harmful.ckpt"
    _write(path, content)
    monkeypatch.setattr(posix, "system", lambda command: pytest.fail("it ran"))
    with pytest.raises(ValueError, match="holds no LPIPS weights for 'alex'"):
        lpips.read(path, "alex")


@pytest.mark.parametrize("content", [b"", b"no pickle", b"\x80\x02cos\nsystem\n."])
def test_files_that_are_not_pickles_are_refused(tmp_path, content):
    path = tmp_path / "weights.ckpt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="holds no LPIPS weights"):
        lpips.read(path, "vgg")


def test_weights_of_the_other_network_are_refused(tmp_path):
    path = tmp_path / "alex.ckpt"
    _write(path, _pickled("alex"))
    with pytest.raises(ValueError, match="for 'vgg'"):
        lpips.read(path, "vgg")


def test_images_that_cannot_be_compared_are_refused(network, variables):
    distance = lpips.Lpips(network, variables)
    x, y = _images(0)
    with pytest.raises(ValueError, match="82x67 and 80x67"):
        distance(x, y[:, :80])
    with pytest.raises(ValueError, match="not float64"):
        distance(x / 255, y)
    with pytest.raises(ValueError, match="choose from alex, vgg"):
        lpips.load("squeeze")
