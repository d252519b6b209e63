"""Sheets of PyTorch's layouts: which layer of ours has which name in a state dict.

Data and their expansion only. `{i}` counts residual blocks or sub-pixel convolutions.
"""

from collections.abc import Mapping

from srgan_jax.models import vgg

Layers = dict[str, str]  # our layer -> its name in a state dict

GENERATORS: Mapping[str, Layers] = {
    "lornatang": {
        "conv_in": "conv1.0",
        "prelu_in": "conv1.1",
        "block_{i}/conv1": "trunk.{i}.rcb.0",
        "block_{i}/bn1": "trunk.{i}.rcb.1",
        "block_{i}/prelu": "trunk.{i}.rcb.2",
        "block_{i}/conv2": "trunk.{i}.rcb.3",
        "block_{i}/bn2": "trunk.{i}.rcb.4",
        "conv_mid": "conv2.0",
        "bn_mid": "conv2.1",
        "up_{i}": "upsampling.{i}.upsample_block.0",
        "prelu_up_{i}": "upsampling.{i}.upsample_block.2",
        "conv_out": "conv3",
    },
    "sgrvinod": {
        "conv_in": "conv_block1.conv_block.0",
        "prelu_in": "conv_block1.conv_block.1",
        "block_{i}/conv1": "residual_blocks.{i}.conv_block1.conv_block.0",
        "block_{i}/bn1": "residual_blocks.{i}.conv_block1.conv_block.1",
        "block_{i}/prelu": "residual_blocks.{i}.conv_block1.conv_block.2",
        "block_{i}/conv2": "residual_blocks.{i}.conv_block2.conv_block.0",
        "block_{i}/bn2": "residual_blocks.{i}.conv_block2.conv_block.1",
        "conv_mid": "conv_block2.conv_block.0",
        "bn_mid": "conv_block2.conv_block.1",
        "up_{i}": "subpixel_convolutional_blocks.{i}.conv",
        "prelu_up_{i}": "subpixel_convolutional_blocks.{i}.prelu",
        "conv_out": "conv_block3.conv_block.0",
    },
}

DISCRIMINATORS: Mapping[str, Layers] = {
    "lornatang": {
        "conv_0": "features.0",
        **{f"conv_{i}": f"features.{3 * i - 1}" for i in range(1, 8)},
        **{f"bn_{i}": f"features.{3 * i}" for i in range(1, 8)},
        "dense_0": "classifier.0",
        "dense_1": "classifier.2",
    },
    "sgrvinod": {
        **{f"conv_{i}": f"conv_blocks.{i}.conv_block.0" for i in range(8)},
        **{f"bn_{i}": f"conv_blocks.{i}.conv_block.1" for i in range(1, 8)},
        "dense_0": "fc1",
        "dense_1": "fc2",
    },
}

# The repeated modules that hold the blocks and the sub-pixel convolutions.
REPEATED = {
    "lornatang": ("trunk", "upsampling"),
    "sgrvinod": ("residual_blocks", "subpixel_convolutional_blocks"),
}


def generator(project: str, blocks: int, ups: int) -> Layers:
    """The layers of a generator of this size."""
    return {
        ours.format(i=i): theirs.format(i=i)
        for ours, theirs in GENERATORS[project].items()
        for i in range(blocks if "block_" in ours else ups if "up_" in ours else 1)
    }


def vgg19() -> Layers:
    """torchvision's `features`, where a ReLU follows each convolution."""
    layers, index = {}, 0
    for stage, (_, convolutions) in enumerate(vgg.STAGES, start=1):
        for j in range(1, convolutions + 1):
            layers[f"conv{stage}_{j}"] = f"features.{index}"
            index += 2
        index += 1  # the max-pooling
    return layers
