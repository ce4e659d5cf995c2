"""Settings of a training: its length, learning rate and images; and the named schedules.

Chapter 12. `TRAIN_PRESETS` holds the paper's schedules, the released code's, and ours for a laptop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from blendmask_lite.fields import require_types

__all__ = [
    "HELD_OUT_SEED",
    "NUM_SHAPES",
    "PRESET_SCHEDULES",
    "SCHEDULES",
    "TRAIN_PRESETS",
    "WARMUP_FACTORS",
    "TrainConfig",
    "learning_rate_at",
    "rescale",
]

# A training on generated shapes
NUM_SHAPES = 20_000  # images in one pass
HELD_OUT_SEED = 1_000_000  # added to the training's seed, for images that it has not seen

# Shares of the learning rate at iteration 0. The first is AdelaiDet's; the second is from FCOS's
# code, which the paper follows unless it says otherwise.
WARMUP_FACTORS = {"linear": 1 / 1000, "constant": 1 / 3}

# Smallest and largest values. Beyond the largest, memory or the integer range would run out first.
WHOLE_NUMBERS = {
    "iterations": (1, 10**9),
    "batch_size": (1, 2**16),
    "accumulate": (1, 2**16),
    "warmup_iterations": (0, 10**9),
    "max_size": (1, 2**14),
    "seed": (0, 10**15),
    "num_workers": (0, 2**12),
    "checkpoint_every": (1, 10**9),
    "evaluate_every": (1, 10**9),
    "patience": (1, 10**9),
}
LARGEST_RATE = 1e30  # float32 ends at 3e38
LARGEST_SCALE = 100  # largest scale of the jitter


@dataclass(frozen=True)
class TrainConfig:
    """The settings of one training run; stored beside the weights.

    Raises:
        ValueError: a value is impossible; the message names its field.
    """

    # Length
    iterations: int = 90_000  # optimizer steps
    batch_size: int = 16  # images per step, over all parts and processes
    accumulate: int = 1  # parts of each process's images, computed one by one to save memory
    # Optimizer
    optimizer: Literal["adamw", "sgd"] = "sgd"  # sgd has momentum 0.9
    learning_rate: float = 0.01  # after the warm-up
    weight_decay: float = 1e-4  # norm layers have none; neither have biases under adamw
    clip_norm: float | None = None  # largest gradient norm over all parameters
    ema_decay: float | None = None  # decay of the averaged weights; None: no averaging
    # Schedule
    schedule: Literal["cosine", "steps"] = "steps"  # to zero | a tenth at every milestone
    milestones: tuple[int, ...] = (60_000, 80_000)  # iterations, for "steps"
    warmup: Literal["linear", "constant"] = "linear"  # rises from warmup_factor | stays at it
    warmup_iterations: int = 1000
    warmup_factor: float = 1 / 1000  # share of the learning rate at iteration 0
    # Images
    train_sizes: tuple[int, ...] = (640, 672, 704, 736, 768, 800)  # shorter side, pixels
    max_size: int = 1333  # longest side allowed, pixels
    crop: float | None = None  # smallest share of each side in a random window
    jitter: tuple[float, float] | None = None  # instead of crop: scales in squares of train_sizes
    flip: bool = True  # swap left and right in half of the images
    copy_paste: float | None = None  # share of the images that get objects of another one
    color_jitter: float | None = None  # largest change of brightness, contrast and saturation
    channel_permutation: bool = False  # shuffle the colour channels, so colour tells nothing
    # Running
    seed: int = 0  # for initial weights, image order and augmentation
    precision: Literal["float32", "bfloat16"] = "float32"  # for the network; losses are float32
    is_compiled: bool = False  # torch.compile the network
    num_workers: int = 0  # processes that prepare images; 0: the training process itself
    checkpoint_every: int = 500  # iterations
    evaluate_every: int | None = None  # iterations; None: never during training
    patience: int | None = None  # evaluations without better mask AP before it ends; None: no limit
    is_deterministic: bool = False  # slower algorithms on a GPU, where torch has some

    def __post_init__(self) -> None:
        require_types(self)
        for name, (least, most) in WHOLE_NUMBERS.items():
            value = getattr(self, name)
            if value is not None:
                self._require(name, value >= least, f"at least {least}")
                self._require(name, value <= most, f"at most {most:,}")
        self._require("weight_decay", 0 <= self.weight_decay < math.inf, "at least 0")
        divides = self.batch_size % self.accumulate == 0
        self._require("accumulate", divides, f"a divisor of batch_size = {self.batch_size}")
        is_rate = 0 < self.learning_rate <= LARGEST_RATE
        self._require("learning_rate", is_rate, f"above 0 and at most {LARGEST_RATE:g}")
        self._require("warmup_factor", 0 <= self.warmup_factor <= 1, "between 0 and 1")
        self._require(
            "milestones", list(self.milestones) == sorted(set(self.milestones)), "ascending"
        )
        self._require(
            "train_sizes", len(self.train_sizes) > 0 and min(self.train_sizes) >= 1, "at least 1"
        )
        self._require(
            "max_size", self.max_size >= max(self.train_sizes), "at least the largest train size"
        )
        is_share = self.crop is None or 0 < self.crop <= 1
        self._require("crop", is_share, "above 0 and at most 1, or None")
        is_range = self.jitter is None or 0 < self.jitter[0] <= self.jitter[1] <= LARGEST_SCALE
        self._require(
            "jitter", is_range, f"two ascending scales above 0 and up to {LARGEST_SCALE}, or None"
        )
        has_pixels = self.jitter is None or self.jitter[0] * min(self.train_sizes) >= 1
        self._require("jitter", has_pixels, f"a pixel at least of train_sizes {self.train_sizes}")
        for name in ("copy_paste", "color_jitter"):
            value = getattr(self, name)
            self._require(name, value is None or 0 < value <= 1, "above 0 and at most 1, or None")
        self._require("clip_norm", self.clip_norm is None or self.clip_norm > 0, "above 0, or None")
        self._require(
            "ema_decay", self.ema_decay is None or 0 < self.ema_decay < 1, "between 0 and 1"
        )

    def _require(self, name: str, is_met: bool, reason: str) -> None:
        if not is_met:
            raise ValueError(f"{name} = {getattr(self, name)!r}: must be {reason}")


def learning_rate_at(iteration: int, config: TrainConfig) -> float:
    """The learning rate of one optimizer step.

    Args:
        iteration: 0 to `config.iterations` - 1.
        config: schedule and warm-up. The linear warm-up is AdelaiDet's (detectron2's
            WarmupMultiStepLR): its factor multiplies the schedule's rate. The cosine starts
            where the warm-up ends and would reach zero at `config.iterations`.
    """
    if config.schedule == "steps":
        rate = config.learning_rate * 0.1 ** sum(iteration >= m for m in config.milestones)
    else:
        length = max(config.iterations - config.warmup_iterations, 1)
        progress = max(iteration - config.warmup_iterations, 0) / length
        rate = config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    if iteration >= config.warmup_iterations:
        return rate
    if config.warmup == "constant":
        return rate * config.warmup_factor
    share = iteration / config.warmup_iterations
    return rate * (config.warmup_factor * (1 - share) + share)


def rescale(
    config: TrainConfig, *, iterations: int | None = None, batch_size: int | None = None
) -> TrainConfig:
    """The same recipe for another length or batch size.

    Milestones scale with the length, and there are at least ten checkpoints. The warm-up keeps its
    share of the run; in a shorter run it may keep its absolute length instead, up to a tenth of the
    run, because early steps diverge easily. The learning rate grows with the batch: in proportion
    under SGD (Goyal et al., "Accurate, Large Minibatch SGD", section 2.1), by the square root under
    Adam, whose steps do not grow with the gradient (Malladi et al., "On the SDEs and Scaling Rules
    for Adaptive Gradient Algorithms").
    """
    iterations = config.iterations if iterations is None else iterations
    batch_size = config.batch_size if batch_size is None else batch_size
    replace(config, iterations=iterations, batch_size=batch_size)  # refuses impossible values
    stretch = iterations / config.iterations
    warmup = max(
        round(config.warmup_iterations * stretch), min(config.warmup_iterations, iterations // 10)
    )
    growth = batch_size / config.batch_size
    return replace(
        config,
        iterations=iterations,
        batch_size=batch_size,
        milestones=tuple(sorted({max(round(m * stretch), 1) for m in config.milestones})),
        warmup_iterations=warmup,
        checkpoint_every=min(config.checkpoint_every, max(iterations // 10, 1)),
        learning_rate=config.learning_rate
        * (growth if config.optimizer == "sgd" else math.sqrt(growth)),
    )


_PAPER = TrainConfig(
    warmup="constant", warmup_factor=WARMUP_FACTORS["constant"], train_sizes=(800,)
)
_RELEASED_1X = TrainConfig()
_RELEASED_3X = replace(_RELEASED_1X, iterations=270_000, milestones=(210_000, 250_000))
_RELEASED_5X = replace(
    _RELEASED_1X,
    iterations=400_000,
    milestones=(280_000, 360_000),
    crop=0.9,
    train_sizes=tuple(range(640, 865)),
    max_size=1440,
)
_550: Any = {"train_sizes": tuple(range(440, 551, 22)), "max_size": 916}
_LAPTOP = TrainConfig(
    iterations=6800,
    batch_size=8,
    optimizer="adamw",
    learning_rate=5e-3,
    weight_decay=0.02,
    clip_norm=5.0,
    schedule="cosine",
    milestones=(),
    warmup_iterations=680,
    train_sizes=(128,),
    max_size=214,
    channel_permutation=True,
)

SCHEDULES: MappingProxyType[str, TrainConfig] = MappingProxyType(
    {
        # The paper's (section 4): a tenth at two milestones, constant warm-up
        "1x_paper": _PAPER,
        "3x_paper": replace(
            _PAPER,
            iterations=270_000,
            milestones=(180_000, 240_000),
            train_sizes=tuple(range(640, 801)),
        ),
        "rt_paper": replace(_PAPER, iterations=270_000, milestones=(180_000, 240_000), **_550),
        # The released code's (AdelaiDet, configs/BlendMask)
        "1x": _RELEASED_1X,
        "3x": _RELEASED_3X,
        "4x": replace(
            _RELEASED_1X,
            iterations=360_000,
            milestones=(300_000, 340_000),
            train_sizes=tuple(range(256, 609, 32)),
            max_size=900,
        ),
        "5x": _RELEASED_5X,
        "5x_1333": replace(_RELEASED_5X, max_size=1333),
        "550_1x": replace(_RELEASED_1X, **_550),
        "550_3x": replace(_RELEASED_3X, **_550),
        # 270,000 iterations, although its released name is 550_R_50_dcni3_5x
        "550_3x_crop": replace(
            _RELEASED_3X, crop=0.9, train_sizes=tuple(range(440, 595)), max_size=990
        ),
        # Ours, found by trial: about twenty minutes on two CPU cores, for generated shapes
        "laptop": _LAPTOP,
        # The same for generated shapes at 192 px
        "laptop_192": replace(_LAPTOP, train_sizes=(192,), max_size=320),
        # Ours, for photographs with a backbone that learned on ImageNet
        "photos": replace(
            _LAPTOP,
            iterations=2400,
            warmup_iterations=120,
            learning_rate=1.5e-3,
            weight_decay=0.05,
            ema_decay=0.995,
            jitter=(0.8, 2.0),
            train_sizes=(288,),
            max_size=534,
            channel_permutation=False,
        ),
    }
)

# The schedule of each model preset. If a model was released with several lengths, it is the
# longest, except for r50, which has 1x.
PRESET_SCHEDULES: MappingProxyType[str, str] = MappingProxyType(
    {
        "nano": "laptop",
        "small": "laptop_192",
        "nano_panoptic": "laptop",
        "photos": "photos",
        "r50": "1x",
        "r101": "3x",
        "r101_dcni3": "5x",
        "r50_550": "550_3x",
        "r50_550_dcni3": "550_3x_crop",
        "rt_r50": "4x",
        "rt_r50_bn_head": "4x",
        "dla34": "4x",
        "panoptic_r50": "3x",
        "panoptic_r101": "3x",
        "panoptic_r50_dcni3": "5x",
        "panoptic_r101_dcni3": "5x_1333",
        "person_r50": "1x",
        "r50_paper": "1x_paper",
        "rt_r50_paper": "rt_paper",
        "rt_r101_paper": "rt_paper",
    }
)

TRAIN_PRESETS: MappingProxyType[str, TrainConfig] = MappingProxyType(
    {name: SCHEDULES[schedule] for name, schedule in PRESET_SCHEDULES.items()}
)
