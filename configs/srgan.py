"""Trains SRGAN with the paper's recipe: MSE pre-training, then adversarial training.

    python train.py --config=configs/srgan.py             # SRGAN-VGG54
    python train.py --config=configs/srgan.py:VARIANT

Variants:
  vgg54 (default), vgg22, mse: the content losses of the paper's SRGAN-VGG54,
    SRGAN-VGG22 and SRGAN-MSE (sec. 3.4).
  vgg54-l1: adds an L1 loss on pixels, which the paper does not have, to avoid colour
    shifts.
  quickstart: starts from the included SRResNet and trains SRGAN-VGG54 with losses on
    pixels, colours, smooth areas and grids for 440 steps on scikit-image's photographs.

Expected scores:
  vgg54: 29.40 dB and SSIM .8472 on Set5 under protocol `paper`.
  mse: 30.64 dB on Set5 under protocol `paper`.
  quickstart: 29.46 dB, SSIM .8963 and LPIPS (alex) .1115 on the held-out photograph
    under protocol `standard` (the start: 30.24 dB, .9124, .1237).
The scores of vgg54 and mse are the paper's; the full schedule has not been run with
this code.

Expected duration:
  vgg54: 1,200,000 steps. The TPU compiler estimates 2.56 ms for a step of SRResNet and
    8.45 ms for one of SRGAN on a v5e chip (docs/performance.md).
  quickstart: 10 min on two CPU cores (AMD EPYC with AVX-512).

Section numbers refer to arXiv 1609.04802v5. "Not stated" marks choices of ours for
which the paper gives no value.
"""

from ml_collections import ConfigDict, config_dict

VARIANTS = ("vgg54", "vgg22", "mse", "vgg54-l1", "quickstart")


def get_config(variant: str = "vgg54") -> ConfigDict:
    """Returns the configuration of a variant.

    Raises:
      ValueError: there is no such variant.
    """
    if variant not in VARIANTS:
        raise ValueError(
            f"variant is {variant!r}; expected one of {', '.join(VARIANTS)}"
        )
    if variant == "quickstart":
        return quickstart()
    config = base()
    config.variant = variant
    content = "vgg54 + 0.05 * l1" if variant == "vgg54-l1" else variant
    config.stages = (pretrain("mse"), adversarial(content))
    return config


def base() -> ConfigDict:
    """Returns all fields except the stages, which are empty."""
    return ConfigDict(
        {
            "variant": "",
            "seed": 0,
            # Settings of a known implementation: lornatang, sgrvinod, krasserm or
            # leftthomas.
            "preset": config_dict.placeholder(str),
            # Generator to start from: a catalog name or a file. Stages that are
            # `only_from_scratch` are then skipped.
            "init_from": config_dict.placeholder(str),
            # The same for the discriminator of the first adversarial stage.
            "init_discriminator_from": config_dict.placeholder(str),
            "batch_size": 16,  # global batch size (sec. 3.2)
            # Number of micro-batches that a device computes one after another to save
            # memory. Each is normalised by its own batch statistics.
            "accumulate": 1,
            # With linear, the stages' learning rates are for a batch of 16 and grow in
            # proportion to batch_size; see docs/pods.md.
            "learning_rate_scaling": "none",
            # Number of steps at each stage's start over which its rate grows linearly.
            "warmup_steps": 0,
            "dtype": "float32",  # of the networks' computation: float32 or bfloat16
            # On a GPU, resume bit for bit: no kernel whose sums depend on chance, and
            # the kernels that were chosen at the run's start. CPUs and TPUs always do.
            "deterministic": False,
            "generator": {
                "scale": 4,
                "blocks": 16,  # sec. 3.2
                "channels": 64,  # sec. 2.1.1
                "conv_bias": False,  # not stated; BN would cancel a bias
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
            # Normalise G by the running statistics of `init_from`, as in upscaling. The
            # statistics of a small batch vary a lot. See docs/training.md.
            "freeze_statistics": False,
            "content": {
                "weights": "vgg19",  # catalog name (the Caffe weights) or file
                "feature_scale": 1 / 12.75,  # sec. 3.2, for the Caffe weights
                # mean, or sum_channels, the literal eq. 5; see training/losses.py
                "reduction": "mean",
                # Range of images in pixel losses: symmetric, [-1, 1] (sec. 3.2), or
                # unit, [0, 1].
                "range": "symmetric",
            },
            "adversarial": {
                "weight": 1e-3,  # eq. 3
                "form": "non_saturating",  # -log D(G(z)), sec. 2.2.2
                "order": "generator_first",  # not stated; see training/steps.py
            },
            "optimizer": {"b1": 0.9, "b2": 0.999, "eps": 1e-8},  # Adam, sec. 3.2
            # Decay of G's moving average, which is not in the paper: it covers about
            # the last 1,000 steps, fewer at a stage's start (training/state.py). With
            # 0, the average is the current weights.
            "ema_decay": 0.999,
            "data": {
                # folder:PATH, pairs:HR,LR, pairs:FOLDER, tfds:NAME or sample; the paper
                # uses 350,000 ImageNet images
                "source": "tfds:div2k",
                "crop": 96,  # sec. 3.2
                "flips": False,  # sec. 3.2 mentions no augmentation
                "rotations": False,
                # These two are not in the paper; they avoid colour shifts in dark and
                # flat areas.
                "exposure": 0.0,  # largest random change of exposure, in stops
                "graded": 0.0,  # fraction of crops replaced by flat and graded patches
                "border": "mirrored",  # border of MATLAB's bicubic, or clamped
                # How LR is made: bicubic (MATLAB's) or photo (data/degrade.py).
                "degradation": "bicubic",
                # At a damaged image, skip takes the next one, for up to 1 % of all
                # images; stop ends the run.
                "on_damage": "skip",
            },
            "evaluation": {
                # folder:PATH (HR images, or pairs *_HR and *_LR) or astronaut
                "source": "astronaut",
                "every": 5_000,
                "protocol": "standard",
                "border": "mirrored",
                "lpips": "alex",  # alex, vgg or none
            },
            "checkpoint": {"every": 5_000, "keep": 3},
            "log_every": 100,  # steps between TensorBoard points; metrics.jsonl has all
            "parallel": {"transform": "shard_map"},
            "stages": (),
        }
    )


def pretrain(content: str) -> ConfigDict:
    """Returns SRResNet's stage: the generator alone, 1e6 steps at 1e-4 (sec. 3.2)."""
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
    """Returns SRGAN's stage: 1e5 steps at 1e-4, then 1e5 at 1e-5 (sec. 3.2)."""
    stage = pretrain(content)
    stage.name = "adversarial"
    stage.adversarial = True
    stage.steps = 200_000
    stage.decay_at = (100_000,)
    stage.only_from_scratch = False
    return stage


def quickstart() -> ConfigDict:
    """Returns a run of some minutes on a CPU, too short for the paper's scores."""
    config = base()
    config.variant = "quickstart"
    config.init_from = "srresnet"
    # Without the last two losses, a run this short leaves a faint grid.
    stage = adversarial("vgg54 + 0.15 * l1 + colour + 3 * smooth + 4 * grid")
    stage.steps = 440
    stage.decay_at = (345,)
    config.stages = (stage,)
    config.batch_size = 8
    config.ema_decay = 0.98  # averages about the last fifty steps
    config.data.source = "sample"
    config.data.graded = 0.125
    config.evaluation.every = 60
    config.checkpoint.every = 60
    config.log_every = 1
    return config
