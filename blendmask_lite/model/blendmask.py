"""BlendMask, put together: backbone, pyramid, detector, bases, attentions, blender.

Chapter 00 shows it whole; figure 2 of the paper. `forward` predicts, `predict` finds objects.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_lite.config import InferenceConfig, ModelConfig
from blendmask_lite.model import build
from blendmask_lite.model.detect import Proposals, select_candidates, suppress
from blendmask_lite.model.fcos import FCOSHead, flatten_levels, pyramid_locations
from blendmask_lite.model.images import batch_images
from blendmask_lite.model.merge import crop_bases
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.model.postprocess import finish_detections
from blendmask_lite.structures import Detections

__all__ = ["BlendMask"]


class BlendMask(nn.Module):
    """The complete network (BlendMask, section 3).

    Args:
        config: architecture and input convention; `PRESETS` has the named ones.
        inference: test size and thresholds; defaults as in the released code.
        class_names: C names for the labels; "class 0", "class 1", ... without.

    Raises:
        ValueError: the number of names is not the config's number of classes.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        inference: InferenceConfig | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.inference = inference or InferenceConfig()
        if class_names is None:
            class_names = [f"class {i}" for i in range(config.num_classes)]
        if len(class_names) != config.num_classes:
            raise ValueError(
                f"class_names: {len(class_names)} names for num_classes = {config.num_classes}"
            )
        self.class_names = tuple(class_names)
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
        # Convolutions on the CPU are up to 1.6 times as fast in this layout.
        self.to(memory_format=torch.channels_last)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def forward(self, images: Sequence[Tensor]) -> BlendMaskOutput:
        """Predict on every location.

        Args:
            images: B tensors (3, H, W), RGB, float in [0, 1] or uint8, of any sizes.

        Raises:
            ValueError: no images, or one of another shape or type.
        """
        batch, image_sizes = batch_images(images, self.config, device=self.device)
        features = self.backbone(batch)
        features = features | self.fpn(features)
        levels = [features[name] for name in self.config.levels]
        shapes = tuple((level.shape[-2], level.shape[-1]) for level in levels)
        strides = self.config.level_strides
        head = self.head(levels)
        pixels = [ltrb.float() * s for ltrb, s in zip(head.ltrb, strides, strict=True)]
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
        logits: Tensor = self.merger(crops, attentions)
        return logits

    @torch.no_grad()
    def detect(
        self,
        output: BlendMaskOutput,
        *,
        score_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> list[Proposals]:
        """Boxes of every image, best first; the thresholds default to `self.inference`."""
        settings = self.inference
        threshold = settings.score_threshold if score_threshold is None else score_threshold
        limit = settings.max_detections if max_detections is None else max_detections
        found = []
        for class_logits, ltrb, centerness in zip(
            output.class_logits, output.ltrb, output.centerness_logits, strict=True
        ):
            candidates = select_candidates(
                class_logits,
                ltrb,
                centerness,
                output.locations,
                output.level_sizes,
                score_threshold=threshold,
                max_per_level=settings.candidates_per_level,
            )
            found.append(suppress(candidates, nms_iou=settings.nms_iou, max_detections=limit))
        return found

    @torch.no_grad()
    def predict(
        self,
        images: Sequence[Tensor],
        *,
        output_sizes: Sequence[tuple[int, int]] | None = None,
        score_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> list[Detections]:
        """Find the objects of every image. The images are not resized.

        Use it in evaluation mode (`load_model` gives it so).

        Args:
            images: tensors (3, H, W), RGB, float in [0, 1] or uint8; an empty list is allowed.
            output_sizes: (height, width) that boxes and masks are wanted for, one an image;
                without, those of the images.
            score_threshold: least class probability x centerness, exclusive; the score of a
                detection is the square root of that product.
            max_detections: per image.

        Returns:
            One `Detections` an image.

        Raises:
            ValueError: an image of another shape or type, or not one output size an image.
        """
        if len(images) == 0:
            return []
        if output_sizes is not None and len(output_sizes) != len(images):
            raise ValueError(f"output_sizes: {len(output_sizes)} for {len(images)} images")
        output = self(images)
        proposals = self.detect(
            output, score_threshold=score_threshold, max_detections=max_detections
        )
        location = [each.location_index[:, None] for each in proposals]
        index = torch.cat([F.pad(each, (1, 0), value=i) for i, each in enumerate(location)])
        boxes = torch.cat([each.boxes for each in proposals])
        logits = self.masks_at(output, index, boxes).split([len(each) for each in proposals])
        wanted = output.image_sizes if output_sizes is None else output_sizes
        threshold = self.inference.mask_threshold
        results = zip(proposals, logits, output.image_sizes, wanted, strict=True)
        return [finish_detections(*each, mask_threshold=threshold) for each in results]
