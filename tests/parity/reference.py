"""SRGAN in PyTorch, as the two usual implementations train it.

The code follows the paper and the layouts in docs/porting.md, with the names of their
state dicts. Each network uses the ranges of its project. Images are NCHW.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn

MEAN = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64).view(1, 3, 1, 1)


def conv(
    inputs: int, outputs: int, size: int = 3, stride: int = 1, bias: bool = True
) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=bias)


def imagenet(unit: torch.Tensor) -> torch.Tensor:
    return (unit - MEAN.to(unit)) / STD.to(unit)


class LornatangGenerator(nn.Module):
    """LR in [0, 1] to SR in [0, 1]."""

    def __init__(self, channels: int = 64, blocks: int = 16, scale: int = 4):
        super().__init__()
        c = channels
        self.conv1 = nn.Sequential(conv(3, c, 9), nn.PReLU())
        self.trunk = nn.Sequential(*(LornatangBlock(c) for _ in range(blocks)))
        self.conv2 = nn.Sequential(conv(c, c, bias=False), nn.BatchNorm2d(c))
        ups = scale.bit_length() - 1
        self.upsampling = nn.Sequential(*(LornatangUp(c) for _ in range(ups)))
        self.conv3 = conv(c, 3, 9)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        first = self.conv1(lr)
        x = first + self.conv2(self.trunk(first))
        return self.conv3(self.upsampling(x)).clamp(0, 1)


class LornatangBlock(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        half = (conv(c, c, bias=False), nn.BatchNorm2d(c))
        self.rcb = nn.Sequential(*half, nn.PReLU(), *copy.deepcopy(half))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.rcb(x)


class LornatangUp(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        layers = (conv(c, 4 * c), nn.PixelShuffle(2), nn.PReLU())
        self.upsample_block = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.upsample_block(x)


class LornatangDiscriminator(nn.Module):
    """Images in [0, 1], of one size, to logits."""

    def __init__(self, channels: int = 64, hidden: int = 1024, crop: int = 96):
        super().__init__()
        layers: list[nn.Module] = [conv(3, channels), nn.LeakyReLU(0.2)]
        width = channels
        for i in range(1, 8):
            outputs = channels * 2 ** (i // 2)
            layers += [conv(width, outputs, stride=1 + i % 2, bias=False)]
            layers += [nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
            width = outputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(width * (crop // 16) ** 2, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, 1),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(images).flatten(1))[:, 0]


class Block(nn.Module):
    """sgrvinod's wrapper, which names its layers `conv_block`."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv_block(x)


class SgrvinodGenerator(nn.Module):
    """ImageNet-normalised LR to SR in [-1, 1]."""

    def __init__(self, channels: int = 64, blocks: int = 16, scale: int = 4):
        super().__init__()
        c = channels
        self.conv_block1 = Block(conv(3, c, 9), nn.PReLU())
        self.residual_blocks = nn.Sequential(*(SgrvinodBlock(c) for _ in range(blocks)))
        self.conv_block2 = Block(conv(c, c), nn.BatchNorm2d(c))
        ups = scale.bit_length() - 1
        self.subpixel_convolutional_blocks = nn.Sequential(
            *(SgrvinodUp(c) for _ in range(ups))
        )
        self.conv_block3 = Block(conv(c, 3, 9), nn.Tanh())

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        first = self.conv_block1(lr)
        x = first + self.conv_block2(self.residual_blocks(first))
        return self.conv_block3(self.subpixel_convolutional_blocks(x))


class SgrvinodBlock(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.conv_block1 = Block(conv(c, c), nn.BatchNorm2d(c), nn.PReLU())
        self.conv_block2 = Block(conv(c, c), nn.BatchNorm2d(c))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv_block2(self.conv_block1(x))


class SgrvinodUp(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.conv = conv(c, 4 * c)
        self.prelu = nn.PReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.prelu(F.pixel_shuffle(self.conv(x), 2))


class SgrvinodDiscriminator(nn.Module):
    """ImageNet-normalised images of any size to logits."""

    def __init__(self, channels: int = 64, hidden: int = 1024):
        super().__init__()
        blocks, width = [], 3
        for i in range(8):
            outputs = channels * 2 ** (i // 2)
            norm = [nn.BatchNorm2d(outputs)] if i else []
            layer = conv(width, outputs, stride=1 + i % 2)
            blocks.append(Block(layer, *norm, nn.LeakyReLU(0.2)))
            width = outputs
        self.conv_blocks = nn.Sequential(*blocks)
        self.fc1 = nn.Linear(width * 36, hidden)
        self.fc2 = nn.Linear(hidden, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = F.adaptive_avg_pool2d(self.conv_blocks(images), 6)
        return self.fc2(F.leaky_relu(self.fc1(x.flatten(1)), 0.2))[:, 0]


class LeftthomasGenerator(nn.Module):
    """LR in [0, 1] to SR in [0, 1]; its modules are numbered block1 to block(B + 3)."""

    def __init__(self, channels: int = 64, blocks: int = 5, scale: int = 4):
        super().__init__()
        c, last = channels, blocks + 3
        self.blocks = blocks
        self.block1 = nn.Sequential(conv(3, c, 9), nn.PReLU())
        for i in range(2, blocks + 2):
            setattr(self, f"block{i}", LeftthomasBlock(c))
        middle = nn.Sequential(conv(c, c), nn.BatchNorm2d(c))
        setattr(self, f"block{blocks + 2}", middle)
        ups = [LeftthomasUp(c) for _ in range(scale.bit_length() - 1)]
        setattr(self, f"block{last}", nn.Sequential(*ups, conv(c, 3, 9)))

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        x = first = self.block1(lr)
        for i in range(2, self.blocks + 3):
            x = getattr(self, f"block{i}")(x)
        x = getattr(self, f"block{self.blocks + 3}")(first + x)
        return (torch.tanh(x) + 1) / 2


class LeftthomasBlock(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.conv1, self.bn1 = conv(c, c), nn.BatchNorm2d(c)
        self.prelu = nn.PReLU()
        self.conv2, self.bn2 = conv(c, c), nn.BatchNorm2d(c)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.prelu(self.bn1(self.conv1(x)))
        return x + self.bn2(self.conv2(y))


class LeftthomasUp(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.conv = conv(c, 4 * c)
        self.prelu = nn.PReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.prelu(F.pixel_shuffle(self.conv(x), 2))


class VGG19(nn.Module):
    """torchvision's `features`; images in [0, 1] to phi_{i,j} after its ReLU.

    With `caffe`, it preprocesses for the original weights and scales features by
    1/12.75.
    """

    def __init__(self, caffe: bool = False):
        super().__init__()
        self.caffe = caffe
        layers: list[nn.Module] = []
        inputs = 3
        for outputs, count in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
            for _ in range(count):
                layers += [conv(inputs, outputs), nn.ReLU()]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)

    def forward(self, unit: torch.Tensor, layer: tuple[int, int]) -> torch.Tensor:
        index = {(2, 2): 8, (5, 4): 35}[layer]
        if not self.caffe:
            return self.features[: index + 1](imagenet(unit))
        mean = torch.tensor([103.939, 116.779, 123.68], dtype=torch.float64)
        bgr = 255 * unit.flip(1) - mean.to(unit).view(1, 3, 1, 1)
        return self.features[: index + 1](bgr) / 12.75


class Project:
    """One implementation's networks and its two training steps.

    `lr` and `hr` are in [0, 1]; each project converts them to its own ranges.
    """

    def __init__(self, name: str, vgg: VGG19 | None, **size: int):
        self.lornatang = name == "lornatang"
        d_size = {k: size[k] for k in ("channels", "hidden") if k in size}
        g_size = {k: size[k] for k in ("channels", "blocks", "scale") if k in size}
        if self.lornatang:
            self.g = LornatangGenerator(**g_size)
            self.d = LornatangDiscriminator(**d_size, crop=size.get("crop", 96))
        else:
            self.g = SgrvinodGenerator(**g_size)
            self.d = SgrvinodDiscriminator(**d_size)
        self.vgg = vgg
        self.restart()

    def restart(self, lr: float = 1e-4, eps: float = 1e-8) -> None:
        """Creates new optimisers, as at the start of a stage."""
        self.adam_g = torch.optim.Adam(self.g.parameters(), lr, eps=eps)
        self.adam_d = torch.optim.Adam(self.d.parameters(), lr, eps=eps)

    def to(self, dtype: torch.dtype) -> "Project":
        for module in (self.g, self.d, self.vgg):
            if module is not None:
                module.to(dtype)
        self.restart()
        return self

    def unit_sr(self, lr: torch.Tensor) -> torch.Tensor:
        """Returns SR in [0, 1]."""
        if self.lornatang:
            return self.g(lr)
        return (self.g(imagenet(lr)) + 1) / 2

    def judge(self, unit: torch.Tensor) -> torch.Tensor:
        return self.d(unit if self.lornatang else imagenet(unit))

    def content(
        self, sr: torch.Tensor, hr: torch.Tensor, layer: tuple[int, int] | None
    ) -> torch.Tensor:
        """Computes the MSE of images in the project's range, or of VGG19's features."""
        if layer:
            assert self.vgg is not None
            return F.mse_loss(self.vgg(sr, layer), self.vgg(hr, layer).detach())
        return F.mse_loss(sr, hr) * (
            1 if self.lornatang else 4
        )  # [-1, 1] doubles differences

    def pretrain_step(self, lr: torch.Tensor, hr: torch.Tensor) -> dict[str, float]:
        loss = self.content(self.unit_sr(lr), hr, None)
        self.adam_g.zero_grad()
        loss.backward()
        self.adam_g.step()
        return {"content": loss.item()}

    def adversarial_step(
        self, lr: torch.Tensor, hr: torch.Tensor, layer: tuple[int, int] | None
    ) -> dict[str, float]:
        sr = self.unit_sr(lr)
        if self.lornatang:  # The version of 2022 updates D first.
            d = self.update_d(sr, hr)
            return d | self.update_g(sr, hr, layer)
        return self.update_g(sr, hr, layer) | self.update_d(sr, hr)

    def update_g(
        self, sr: torch.Tensor, hr: torch.Tensor, layer: tuple[int, int] | None
    ) -> dict[str, float]:
        content = self.content(sr, hr, layer)
        logits = self.judge(sr)
        adversarial = F.binary_cross_entropy_with_logits(
            logits, torch.ones_like(logits)
        )
        self.adam_g.zero_grad()
        (content + 1e-3 * adversarial).backward()
        self.adam_g.step()
        return {"content": content.item(), "adversarial": adversarial.item()}

    def update_d(self, sr: torch.Tensor, hr: torch.Tensor) -> dict[str, float]:
        loss = self.discriminator_loss(sr, hr)
        self.adam_d.zero_grad()
        loss.backward()
        self.adam_d.step()
        return {"discriminator": loss.item()}

    def discriminator_loss(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        on_hr, on_sr = self.judge(hr), self.judge(sr.detach())
        real = F.binary_cross_entropy_with_logits(on_hr, torch.ones_like(on_hr))
        fake = F.binary_cross_entropy_with_logits(on_sr, torch.zeros_like(on_sr))
        return real + fake
