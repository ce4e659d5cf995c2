"""The auxiliary semantic head: training only, it teaches P3 what the classes look like.

Chapter 11. BlendMask, table 7 ("+semantic"), after YOLACT, section 4.1.
"""

from __future__ import annotations

from torch import Tensor, nn

from blendmask_lite.model.norms import BatchNorm2d

__all__ = ["SemanticHead"]


class SemanticHead(nn.Module):
    """Class logits at stride 8 from P3, as the released code has them.

    Args:
        in_channels: of the pyramid.
        channels: inside.
        num_classes: C; channel 0 is the background, class c is channel c + 1.
    """

    def __init__(self, *, in_channels: int, channels: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, num_classes + 1, 1),
        )

    def forward(self, p3: Tensor) -> Tensor:
        """(B, in_channels, H/8, W/8) -> (B, C+1, H/8, W/8) logits."""
        logits: Tensor = self.layers(p3)
        return logits
