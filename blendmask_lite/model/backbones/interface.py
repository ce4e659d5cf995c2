"""The interface of backbones: our own, the libraries' and yours."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Backbone", "require_backbone"]


class Backbone(nn.Module):
    """Protocol of backbones: any `nn.Module` with this attribute and this `forward` is one.

    Attributes:
        channels: channels of the returned maps, by name: c3, c4 and c5, and c2 if it is needed.
    """

    channels: dict[str, int]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W), normalised, sides divisible by 32 -> {"c3": (B, channels, H/8, W/8), ...}.

        The strides of c2, c3, c4 and c5 are 4, 8, 16 and 32 pixels.
        """
        raise NotImplementedError


def require_backbone(module: nn.Module) -> None:
    """Refuse anything that is not a backbone.

    Raises:
        ValueError: its `channels` are not a dictionary with c3, c4 and c5.
    """
    channels = getattr(module, "channels", None)
    if not isinstance(channels, dict) or not {"c3", "c4", "c5"} <= set(channels):
        raise ValueError(
            f"backbone: {type(module).__name__}.channels = {channels!r}: must give the channels of "
            'its maps by name, such as {"c2": 64, "c3": 128, "c4": 256, "c5": 512}'
        )
