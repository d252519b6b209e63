"""Trains SRResNet, the generator without a discriminator (sec. 3.2).

    python train.py --config=configs/srresnet.py          # SRResNet-MSE
    python train.py --config=configs/srresnet.py:vgg22    # SRResNet-VGG22

Variants:
  mse (default): SRResNet-MSE, the same as stage 1 of configs/srgan.py.
  vgg22: SRResNet-VGG22, which adds a total variation loss (sec. 3.4).

Expected scores:
  mse: 32.05 dB and SSIM .9019 on Set5 under protocol `paper`; these are the paper's
    scores. The full schedule has not been run with this code.
  mse in 5,000 steps on 1,000 photographs (docs/reproduction.md has the command):
    28.51 dB and SSIM .8307 on Set5 under protocol `standard` (bicubic: 28.42, .8101).

Expected duration:
  mse: 1,000,000 steps. The TPU compiler estimates 2.56 ms for a step on a v5e chip
    (docs/performance.md).
  mse in 5,000 steps: 100 minutes on two CPU cores.
"""

from ml_collections import ConfigDict

from configs import srgan

VARIANTS = ("mse", "vgg22")


def get_config(variant: str = "mse") -> ConfigDict:
    """Returns the configuration of a variant.

    Raises:
      ValueError: there is no such variant.
    """
    if variant not in VARIANTS:
        raise ValueError(
            f"variant is {variant!r}; expected one of {', '.join(VARIANTS)}"
        )
    config = srgan.base()
    config.variant = variant
    stage = srgan.pretrain(variant)
    stage.only_from_scratch = False  # so that it can continue from init_from
    if variant == "vgg22":
        stage.tv_weight = 2e-8  # sec. 3.2
    config.stages = (stage,)
    return config
