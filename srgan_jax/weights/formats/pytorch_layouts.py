"""Names of our layers in the state dicts of PyTorch implementations.

In the generators' names, `{i}` is the index of a residual block or of a sub-pixel
convolution. leftthomas numbers all modules consecutively, so that its names also depend
on how many there are of each.
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
    "leftthomas": {
        "conv_in": "block1.0",
        "prelu_in": "block1.1",
        "block_{i}/conv1": "block{residual}.conv1",
        "block_{i}/bn1": "block{residual}.bn1",
        "block_{i}/prelu": "block{residual}.prelu",
        "block_{i}/conv2": "block{residual}.conv2",
        "block_{i}/bn2": "block{residual}.bn2",
        "conv_mid": "block{middle}.0",
        "bn_mid": "block{middle}.1",
        "up_{i}": "block{last}.{i}.conv",
        "prelu_up_{i}": "block{last}.{i}.prelu",
        "conv_out": "block{last}.{ups}",
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

# The key by which each project is recognised, a vector with one value per feature map.
GENERATOR_KEYS = {
    "lornatang": "conv2.1.bias",
    "sgrvinod": "conv_block2.conv_block.1.bias",
    "leftthomas": "block2.bn1.bias",
}
DISCRIMINATOR_KEYS = {
    "lornatang": "features.3.bias",
    "sgrvinod": "conv_blocks.1.conv_block.1.bias",
}

# Names of residual blocks and of sub-pixel convolutions, by which they are counted.
REPEATED = {
    "lornatang": (r"trunk\.(\d+)\.", r"upsampling\.(\d+)\."),
    "sgrvinod": (
        r"residual_blocks\.(\d+)\.",
        r"subpixel_convolutional_blocks\.(\d+)\.",
    ),
    "leftthomas": (r"block(\d+)\.(?:conv|bn|prelu)", r"block\d+\.(\d+)\.conv\."),
}

# Networks that are recognised, by a pattern of one of their keys, only to be refused.
# The keys of leftthomas's discriminator have lost their prefix `net.`.
UNSUPPORTED = {
    r"(^|\.)(body\.0\.rdb1|RRDB_trunk\.0\.RDB1|sub\.0\.RDB1)\.": (
        "RRDBNet, the generator of ESRGAN and Real-ESRGAN, whose architecture differs "
        "from SRGAN's; run it with its own project"
    ),
    r"(^|\.)(upconv1|upsample1\.upsample_conv)\.weight$": (
        "MSRResNet, the generator of BasicSR and mmagic, which has no batch "
        "normalisation and is not supported; run it with its own project"
    ),
    r"^26\.weight$": (
        "the discriminator of leftthomas/SRGAN, whose global average pool is not "
        "supported; convert its generator, and train with another discriminator"
    ),
}


def generator(project: str, blocks: int, ups: int) -> Layers:
    """Names of the layers of a generator with this size, by our names."""
    return {
        ours.format(i=i): theirs.format(
            i=i, residual=i + 2, middle=blocks + 2, last=blocks + 3, ups=ups
        )
        for ours, theirs in GENERATORS[project].items()
        for i in range(blocks if "block_" in ours else ups if "up_" in ours else 1)
    }


def vgg19() -> Layers:
    """Names of torchvision's convolutions, each of which is followed by a ReLU."""
    layers, index = {}, 0
    for stage, (_, convolutions) in enumerate(vgg.STAGES, start=1):
        for j in range(1, convolutions + 1):
            layers[f"conv{stage}_{j}"] = f"features.{index}"
            index += 2
        index += 1  # the max-pooling
    return layers
