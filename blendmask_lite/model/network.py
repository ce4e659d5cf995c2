"""The network, put together: backbone, pyramid, detector, bases, attentions, blender.

Chapter 00 shows it whole; figure 2 of the paper. `BlendMask` adds what turns its predictions into
objects.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from blendmask_lite.config import ModelConfig
from blendmask_lite.model import build
from blendmask_lite.model.fcos import FCOSHead, flatten_levels, pyramid_locations
from blendmask_lite.model.images import batch_images
from blendmask_lite.model.merge import crop_bases
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.model.precision import at_least_float32, without_autocast

__all__ = ["Network"]


class Network(nn.Module):
    """Predicts on every location, and masks where they are asked for (BlendMask, section 3).

    Args:
        config: architecture and input convention; `PRESETS` has the named ones.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = build.make_backbone(config)
        self.fpn = build.make_fpn(config, self.backbone.channels)
        self.head = FCOSHead(
            in_channels=config.pyramid_channels,
            num_classes=config.num_classes,
            num_shared_convs=config.num_shared_convs,
            num_class_convs=config.num_class_convs,
            num_box_convs=config.num_box_convs,
            norm=config.head_norm,
            num_levels=len(config.levels),
        )
        self.bottom = build.make_bottom(config, self.backbone.channels)
        self.top_layer = build.make_top_layer(config)
        self.merger = build.make_merger(config)
        self.semantic_head = build.make_semantic_head(config)
        self.panoptic_head = build.make_panoptic_head(config)
        # Convolutions on the CPU are up to 1.6 times as fast in this layout.
        self.to(memory_format=torch.channels_last)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.parameters()).dtype

    def forward(self, images: Sequence[Tensor]) -> BlendMaskOutput:
        """Predict on every location.

        Args:
            images: B tensors (3, H, W), RGB, float in [0, 1] or uint8, of any sizes.

        Raises:
            ValueError: no images, or one of another shape or type.
        """
        batch, image_sizes = batch_images(images, self.config, device=self.device, dtype=self.dtype)
        features = self.backbone(batch)
        features = features | self.fpn(features)
        levels = [features[name] for name in self.config.levels]
        shapes = tuple((level.shape[-2], level.shape[-1]) for level in levels)
        strides = self.config.level_strides
        head = self.head(levels)
        pixels = [ltrb * s for ltrb, s in zip(head.ltrb, strides, strict=True)]
        return BlendMaskOutput(
            features=features,
            box_features=tuple(head.box_features),
            class_logits=flatten_levels(head.class_logits),
            ltrb=flatten_levels(pixels),
            centerness_logits=flatten_levels(head.centerness_logits)[..., 0],
            bases=self.bottom(features),
            locations=pyramid_locations(shapes, strides, device=batch.device),
            level_shapes=shapes,
            level_strides=strides,
            image_sizes=image_sizes,
        )

    def semantic_logits(self, output: BlendMaskOutput) -> Tensor:
        """(B, C+1, H/8, W/8) of the auxiliary head; channel 0 is the background.

        Raises:
            ValueError: the model was built without the head.
        """
        if self.semantic_head is None:
            raise ValueError("semantic_weight = 0: this model has no semantic head")
        logits: Tensor = self.semantic_head(output.features["p3"])
        return logits

    def panoptic_logits(self, output: BlendMaskOutput) -> Tensor:
        """(B, 1+S, H/4, W/4) of the panoptic branch; channel 0 is all things.

        Raises:
            ValueError: the model was built without the branch.
        """
        if self.panoptic_head is None:
            raise ValueError("num_stuff_classes = 0: this model has no panoptic branch")
        logits: Tensor = self.panoptic_head(output.features)
        return logits

    def attentions_at(self, output: BlendMaskOutput, index: Tensor) -> Tensor:
        """Raw attentions of some locations.

        Args:
            output: of `forward`.
            index: (N, 2) int64 pairs (image, location).

        Returns:
            (N, A); A = 0 for the assembler.
        """
        if self.top_layer is None:
            return output.bases.new_zeros(len(index), 0)
        attentions: Tensor = self.top_layer(output.box_features, index)
        return attentions

    def crops_at(
        self,
        output: BlendMaskOutput,
        image_index: Tensor,
        boxes: Tensor,
        *,
        bases: Tensor | None = None,
    ) -> Tensor:
        """(N, K, R, R) bases cut out along (N, 4) boxes; `bases` stand in for the output's."""
        return crop_bases(
            output.bases if bases is None else bases,
            boxes,
            image_index,
            size=self.config.mask_size,
            stride=self.bottom.stride,
            pooling=self.config.bases_pooling,
        )

    def masks_at(
        self,
        output: BlendMaskOutput,
        index: Tensor,
        boxes: Tensor,
        *,
        bases: Tensor | None = None,
        attentions: Tensor | None = None,
    ) -> Tensor:
        """Masks of some locations over some boxes (BlendMask, equations 1 to 4).

        Args:
            output: of `forward`.
            index: (N, 2) int64 pairs (image, location).
            boxes: (N, 4) corners, pixels of the padded input.
            bases: (B, K, H/s, W/s) instead of the output's own.
            attentions: (N, A) raw, instead of those of the locations.

        Returns:
            (N, R, R) mask logits.
        """
        crops = self.crops_at(output, index[:, 0], boxes, bases=bases)
        if attentions is None:
            attentions = self.attentions_at(output, index)
        return self.merge(crops, attentions)

    def merge(self, crops: Tensor, attentions: Tensor) -> Tensor:
        """(N, K, R, R) crops and (N, A) raw attentions -> (N, R, R) mask logits, in float32."""
        with without_autocast(crops.device):
            logits: Tensor = self.merger(at_least_float32(crops), at_least_float32(attentions))
        return logits
