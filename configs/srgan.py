"""The paper's recipe in one command: MSE pre-training, then adversarial training.

python train.py --config=configs/srgan.py[:vgg54|vgg22|mse|vgg54-l1|quickstart]

`vgg54` (default), `vgg22` and `mse` are the content losses of the paper's SRGAN-VGG54,
SRGAN-VGG22 and SRGAN-MSE (sec. 3.4). `vgg54-l1` adds a pixel term that the paper does
not have: it keeps colours in place. `quickstart` starts from a pretrained SRResNet and
trains SRGAN-VGG54 for some minutes on a CPU, on photographs inside scikit-image.

Sections are those of arXiv 1609.04802v5; "not stated" marks choices that are ours.
"""

from ml_collections import ConfigDict, config_dict

VARIANTS = ("vgg54", "vgg22", "mse", "vgg54-l1", "quickstart")


def get_config(variant: str = "vgg54") -> ConfigDict:
    """The configuration of a variant."""
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r}; expected one of {', '.join(VARIANTS)}")
    if variant == "quickstart":
        return quickstart()
    config = base()
    config.variant = variant
    content = "vgg54 + 0.05 * l1" if variant == "vgg54-l1" else variant
    config.stages = (pretrain("mse"), adversarial(content))
    return config


def base() -> ConfigDict:
    """Everything but the stages."""
    return ConfigDict(
        {
            "variant": "",
            "seed": 0,
            # complete settings of a known implementation: lornatang, sgrvinod, krasserm
            "preset": config_dict.placeholder(str),
            # a catalog name or a generator's file: skips stages `only_from_scratch`
            "init_from": config_dict.placeholder(str),
            # the same for the first adversarial stage's discriminator
            "init_discriminator_from": config_dict.placeholder(str),
            "batch_size": 16,  # global (sec. 3.2)
            # micro-batches that a device computes in turn to save memory; each
            # is normalised by its own batch statistics
            "accumulate": 1,
            "dtype": "float32",  # of the computation: float32 or bfloat16
            "generator": {
                "scale": 4,
                "blocks": 16,  # sec. 3.2
                "channels": 64,  # sec. 2.1.1
                "conv_bias": False,  # not stated; BN takes a bias out again
                "prelu": "shared",  # not stated; PyTorch's default
                "input_range": "unit",  # sec. 3.2
                "output": "none",  # not stated; see models/generator.py
                "output_range": "symmetric",  # sec. 3.2
                "bn_epsilon": 1e-5,
                "bn_momentum": 0.9,
                "running_variance": "biased",
                "initializer": "torch",  # not stated; PyTorch's default
            },
            "discriminator": {
                "channels": 64,
                "hidden": 1024,
                "conv_bias": False,
                "head": "dense",
                "padding": "torch",
                "input_range": "symmetric",
                "bn_epsilon": 1e-5,
                "bn_momentum": 0.9,
                "running_variance": "biased",
                "initializer": "torch",
            },
            # per_replica, as in the PyTorch reference, or synchronised over all devices
            "batch_norm": "per_replica",
            "content": {
                "weights": "vgg19",  # catalog name or file: the Caffe weights
                "feature_scale": 1 / 12.75,  # sec. 3.2, for the Caffe weights
                # sum_channels is the letter of eq. 5; see training/losses.py
                "reduction": "mean",
                "range": "symmetric",  # of the MSE (sec. 3.2)
            },
            "adversarial": {
                "weight": 1e-3,  # eq. 3
                "form": "non_saturating",  # -log D(G(z)), sec. 2.2.2
                "order": "generator_first",  # not stated; see training/steps.py
            },
            "optimizer": {"b1": 0.9, "b2": 0.999, "eps": 1e-8},  # Adam, sec. 3.2
            # not in the paper; about the last 1,000 steps, fewer at a stage's start
            # (training/state.py); 0 scores the last weights
            "ema_decay": 0.999,
            "data": {
                # folder:PATH, pairs:HR,LR, pairs:FOLDER, tfds:NAME or sample; the paper
                # uses 350,000 ImageNet images
                "source": "tfds:div2k",
                "crop": 96,  # sec. 3.2
                "flips": False,  # sec. 3.2 mentions no augmentation
                "rotations": False,
                # not in the paper; these keep colours in dark and flat areas in place:
                "exposure": 0.0,  # largest random change in stops
                "graded": 0.0,  # fraction of crops replaced by flat and graded patches
                "border": "mirrored",  # of MATLAB's bicubic
                # how LR is made: bicubic (MATLAB's) or photo (data/degrade.py)
                "degradation": "bicubic",
                # an image that proves damaged: skip takes the next one, up to 1 % of
                # all; stop ends the run
                "on_damage": "skip",
            },
            "evaluation": {
                # folder:PATH (HR images, or *_HR/*_LR pairs) or astronaut
                "source": "astronaut",
                "every": 5_000,
                "protocol": "standard",
                "border": "mirrored",
                "lpips": "alex",  # alex, vgg or none
            },
            "checkpoint": {"every": 5_000, "keep": 3},
            "log_every": 100,  # for TensorBoard; metrics.jsonl has every step
            "parallel": {"transform": "shard_map"},
            "stages": (),
        }
    )


def pretrain(content: str) -> ConfigDict:
    """SRResNet: the generator alone, 1e6 updates at 1e-4 (sec. 3.2)."""
    return ConfigDict(
        {
            "name": "pretrain",
            "adversarial": False,
            "content": content,
            "tv_weight": 0.0,
            "steps": 1_000_000,
            "learning_rate": 1e-4,
            "decay_at": (),
            "decay_factor": 0.1,
            "only_from_scratch": True,
        }
    )


def adversarial(content: str) -> ConfigDict:
    """SRGAN: 1e5 updates at 1e-4, then 1e5 at 1e-5 (sec. 3.2)."""
    stage = pretrain(content)
    stage.name = "adversarial"
    stage.adversarial = True
    stage.steps = 200_000
    stage.decay_at = (100_000,)
    stage.only_from_scratch = False
    return stage


def quickstart() -> ConfigDict:
    """Some minutes on two CPU cores; too short for the paper's figures."""
    config = base()
    config.variant = "quickstart"
    config.init_from = "krasserm-srresnet"
    stage = adversarial("vgg54")
    stage.steps = 60
    stage.decay_at = (40,)
    config.stages = (stage,)
    config.batch_size = 8
    config.ema_decay = 0.9  # of the order of the last ten steps
    config.data.source = "sample"
    config.evaluation.every = 20
    config.checkpoint.every = 20
    config.log_every = 1
    return config
