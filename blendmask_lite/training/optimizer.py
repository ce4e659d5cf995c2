"""What moves the weights: the optimizer with its parameter groups, and the averaged weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from blendmask_lite.training.schedule import TrainConfig

__all__ = ["WeightAverage", "make_optimizer"]

NORM_LAYERS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD with momentum 0.9 or AdamW over the parameters that are not frozen.

    Norm layers are not decayed, as in the released code. Biases are decayed by SGD, as in the
    released code, and not by AdamW (our choice, the custom of the transformers' recipes).
    """
    decayed: list[Tensor] = []
    kept: list[Tensor] = []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            is_bias = name == "bias" and config.optimizer == "adamw"
            is_kept = is_bias or isinstance(module, NORM_LAYERS)
            (kept if is_kept else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=0.9)
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


class WeightAverage:
    """Exponential moving average of a model's weights, often better than the last ones.

    Early on the decay is smaller, (1 + n) / (10 + n) after n steps, so that the random initial
    weights are soon forgotten (TensorFlow's `ExponentialMovingAverage`).

    Args:
        model: copied; its later weights enter by `update`.
        decay: share of the old average that stays, per step.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, num_updates: int) -> None:
        """Move the average towards `model`; `num_updates` counts the optimizer steps so far."""
        decay = min(self.decay, (1 + num_updates) / (10 + num_updates))
        averages, values = [], []
        own = self.model.state_dict()
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                averages.append(own[name])
                values.append(value)
            else:
                own[name].copy_(value)  # counters
        torch._foreach_lerp_(averages, values, 1 - decay)
