"""The panoptic branch: to which kind of stuff, or to things, does each pixel belong?

BlendMask, section 4.4; Kirillov et al., "Panoptic Feature Pyramid Networks", section 3.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_lite.model.norms import group_norm

__all__ = ["PanopticHead", "enlarge_logits", "semantic_labels"]

STRIDE = 4  # of the branch's map, pixels
# Convolutions between each level and stride 4: one for every doubling, at least one.
NUM_STEPS = {"p2": 1, "p3": 1, "p4": 2, "p5": 3}


class PanopticHead(nn.Module):
    """Logits of all things as one class and of every kind of stuff, at stride 4.

    P2 to P5 come to stride 4 in steps of a 3x3 convolution, GroupNorm, ReLU and a doubling; they
    are summed, and a 1x1 convolution classifies the sum (Panoptic FPN, figure 3).

    Args:
        in_channels: of the pyramid.
        channels: inside.
        num_stuff_classes: S; channel 0 is "things".
    """

    def __init__(self, *, in_channels: int, channels: int, num_stuff_classes: int) -> None:
        super().__init__()
        self.towers = nn.ModuleDict(
            {name: _tower(name, in_channels, channels) for name in NUM_STEPS}
        )
        self.predictor = nn.Conv2d(channels, 1 + num_stuff_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # Caffe2's "MSRA" fill, as in the released code.
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.predictor.bias)  # type: ignore[arg-type]

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Read p2 to p5, (B, in_channels, h, w) each -> (B, 1+S, H/4, W/4) logits."""
        total = sum(tower(features[name]) for name, tower in self.towers.items())
        logits: Tensor = self.predictor(total)
        return logits


def enlarge_logits(logits: Tensor) -> Tensor:
    """(B, 1+S, h, w) logits of the branch -> (B, 1+S, 4h, 4w) at every pixel, bilinearly."""
    return F.interpolate(logits, scale_factor=STRIDE, mode="bilinear", align_corners=False)


def semantic_labels(
    logits: Tensor, image_size: tuple[int, int], output_size: tuple[int, int]
) -> Tensor:
    """The likeliest class of every pixel of one image.

    Args:
        logits: (1+S, h, w) of the branch, over the padded input.
        image_size: (height, width) before padding.
        output_size: (height, width) wanted.

    Returns:
        (height, width) int64: 0 things, 1 to S stuff.
    """
    height, width = image_size
    pixels = enlarge_logits(logits[None].float())[..., :height, :width]
    wanted = F.interpolate(pixels, size=output_size, mode="bilinear", align_corners=False)
    return wanted[0].argmax(dim=0)


def _tower(name: str, in_channels: int, channels: int) -> nn.Sequential:
    """The steps of one level; a level that has the stride already is not enlarged."""
    layers: list[nn.Module] = []
    for step in range(NUM_STEPS[name]):
        conv = nn.Conv2d(channels if step else in_channels, channels, 3, padding=1, bias=False)
        layers.append(
            nn.Sequential(OrderedDict(conv=conv, norm=group_norm(channels), relu=nn.ReLU()))
        )
        if name != "p2":
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers)
