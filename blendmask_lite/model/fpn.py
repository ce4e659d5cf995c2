"""The feature pyramid: maps of the backbone, enriched from above and extended upwards.

Chapter 02. FPN, section 3 (Lin et al., 2017); P6 and P7 from P5 as in FCOS, section 3.2.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["FPN"]


class FPN(nn.Module):
    """Lateral 1x1 convolutions, a top-down sum, and 3x3 convolutions on top.

    Args:
        in_channels: channels of the backbone's maps, such as {"c3": 512, "c4": 1024, "c5": 2048};
            c5 has to be among them.
        out_channels: channels of every level.
        num_top_levels: 0, 1 (p6) or 2 (p6 and p7), made by strided convolutions on p5.
        levels: the levels to make, such as p3 from c3; a map whose level is left out only enriches
            the levels below it. None: all of them.

    Raises:
        ValueError: `num_top_levels` is not 0, 1 or 2, or is above 0 although p5 is not made.
    """

    def __init__(
        self,
        *,
        in_channels: Mapping[str, int],
        out_channels: int,
        num_top_levels: int,
        levels: Collection[str] | None = None,
    ) -> None:
        super().__init__()
        if num_top_levels not in (0, 1, 2):
            raise ValueError(f"num_top_levels = {num_top_levels}: must be 0, 1 or 2")
        if levels is None:
            levels = [_level_of(name) for name in in_channels]
        if num_top_levels and "p5" not in levels:
            raise ValueError(f"levels = {sorted(levels)}: p6 is made of p5, which is missing")
        self.lateral = nn.ModuleDict(
            {name: nn.Conv2d(channels, out_channels, 1) for name, channels in in_channels.items()}
        )
        self.output = nn.ModuleDict(
            {
                name: nn.Conv2d(out_channels, out_channels, 3, padding=1)
                for name in in_channels
                if _level_of(name) in levels
            }
        )
        self.top = nn.ModuleDict(
            {
                name: nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1)
                for name in ("p6", "p7")[:num_top_levels]
            }
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # Caffe2's "Xavier" fill, as in the released code.
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turn backbone maps into the pyramid.

        Args:
            features: {"c3": (B, channels, H/8, W/8), ...}, each half as large as the one before.

        Returns:
            {"p3": (B, out_channels, H/8, W/8), ..., "p7": (B, out_channels, H/128, W/128)},
            with only the levels that were asked for; above p5, odd sizes are rounded up.
        """
        levels: dict[str, Tensor] = {}
        above: Tensor | None = None
        for name in sorted(self.lateral, reverse=True):  # c5 first
            merged = self.lateral[name](features[name])
            if above is not None:
                merged = merged + F.interpolate(above, scale_factor=2.0, mode="nearest")
            if name in self.output:
                levels[_level_of(name)] = self.output[name](merged)
            above = merged
        if "p6" in self.top:
            levels["p6"] = self.top["p6"](levels["p5"])
        if "p7" in self.top:
            levels["p7"] = self.top["p7"](F.relu(levels["p6"]))
        return dict(sorted(levels.items()))


def _level_of(name: str) -> str:
    return f"p{name[1]}"
