"""Exercises whose answer is an `nn.Module`: run with given weights, to make answers comparable.

All weights form one long vector, in the order of their names. So a case holds the weights: answer
and package have the same ones, and their gradients are compared, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

__all__ = ["draw_weights", "new_name", "with_weights"]


def with_weights(
    module: nn.Module,
    weights: Tensor,
    *inputs: Any,
    like: nn.Module | None = None,
    renamed: Mapping[str, str] | None = None,
) -> Any:
    """The module's result for some inputs, with other weights than its own.

    Args:
        module: the module; in training mode, its norms use the statistics of the inputs.
        weights: all parameters, flattened and joined, in the order of their names.
        inputs: arguments of `forward`.
        like: a module that must have parameters of the same names and shapes.
        renamed: {beginning of a name in the module: the beginning that the order goes by}.

    Raises:
        ValueError: a parameter is missing or has another shape, or there is one too many.
    """
    shapes = _shapes(module, renamed or {})
    if like is not None:
        _require_same(shapes, _shapes(like, {}))
    names = sorted(shapes)
    parts = weights.split([shapes[name].numel() for name in names])
    own = {new_name(name, renamed or {}): name for name, _ in module.named_parameters()}
    values = {own[name]: part.view(shapes[name]) for name, part in zip(names, parts, strict=True)}
    return torch.func.functional_call(module, values, inputs)


def draw_weights(make: Callable[..., nn.Module], sizes: Sequence[Any], seed: Generator) -> Tensor:
    """Random weights for a module: around 1 for norms, and small for all other layers."""
    parts = [
        torch.randn(p.shape, generator=seed) / max(p[0].numel(), 1) ** 0.5
        if p.dim() > 1
        else 1 + 0.3 * torch.randn(p.shape, generator=seed)
        for _, p in sorted(make(*sizes).named_parameters())
    ]
    return torch.cat([part.flatten() for part in parts])


def _shapes(module: nn.Module, renamed: Mapping[str, str]) -> dict[str, torch.Size]:
    return {new_name(name, renamed): p.shape for name, p in module.named_parameters()}


def new_name(name: str, renamed: Mapping[str, str]) -> str:
    """The name of a weight with another beginning, if {old: new} has one for it."""
    for old, new in renamed.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _require_same(own: Mapping[str, torch.Size], wanted: Mapping[str, torch.Size]) -> None:
    missing = [name for name in wanted if name not in own]
    if missing:
        raise ValueError(f"your module has no parameter {missing[0]}")
    for name, shape in own.items():
        if name not in wanted:
            raise ValueError(f"your module has a parameter too many: {name}")
        if shape != wanted[name]:
            shapes = f"{tuple(shape)}, not {tuple(wanted[name])}"
            raise ValueError(f"your parameter {name} has the shape {shapes}")
