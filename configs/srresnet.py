"""SRResNet, the generator alone (sec. 3.2).

python train.py --config=configs/srresnet.py[:mse|vgg22]

`mse` is SRResNet-MSE, stage 1 of configs/srgan.py; `vgg22` is SRResNet-VGG22 with its
total variation (sec. 3.4).
"""

from ml_collections import ConfigDict

from configs import srgan

VARIANTS = ("mse", "vgg22")


def get_config(variant: str = "mse") -> ConfigDict:
    """The configuration of a variant."""
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r}; expected one of {', '.join(VARIANTS)}")
    config = srgan.base()
    config.variant = variant
    stage = srgan.pretrain(variant)
    stage.only_from_scratch = False  # init_from continues from a generator
    if variant == "vgg22":
        stage.tv_weight = 2e-8  # sec. 3.2
    config.stages = (stage,)
    return config
