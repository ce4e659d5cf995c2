"""BlendMask: the network of figure 2, and the way from its predictions to objects.

Chapters 00 and 05. `forward` predicts at every location, `predict` finds objects, and
`predict_panoptic` gives every pixel a segment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_lite.boxes import clip_boxes, has_sides, scale_boxes
from blendmask_lite.config import InferenceConfig, ModelConfig
from blendmask_lite.images import AnyImage, each_image
from blendmask_lite.model import build
from blendmask_lite.model.backbones import Backbone, make_backbone, require_backbone
from blendmask_lite.model.bottom import BottomModule, require_bottom
from blendmask_lite.model.fcos import (
    FCOSHead,
    Proposals,
    flatten_levels,
    pyramid_locations,
    select_candidates,
    suppress,
)
from blendmask_lite.model.inputs import batch_images, input_batches, require_output_sizes
from blendmask_lite.model.mask_head import MaskHead
from blendmask_lite.model.merge import Merger, require_merger
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.model.panoptic import merge_things_and_stuff, semantic_labels
from blendmask_lite.model.pretrained import Pretrained
from blendmask_lite.structures import Detections, PanopticResult, UnpastedDetections

__all__ = ["BlendMask", "place_detections"]


class BlendMask(Pretrained, nn.Module):
    """The complete model (BlendMask, section 3).

    Args:
        config: architecture and input convention; `PRESETS` has the named ones.
        backbone: a module of your own, instead of the config's; see `Backbone`.
        bottom: used instead of the config's bottom module; see `BottomModule`. It has to predict
            the config's `num_bases`, unless the merger is also your own.
        merger: used instead of the config's; see `Merger`.
        inference: test size and thresholds; by default as in the released code.
        class_names: C names for the labels; by default "class 0", "class 1", ...
        stuff_names: S names for the stuff classes; by default "stuff 1", "stuff 2", ...
        category_ids: C numbers that stand for the labels in the data's own files and in result
            files; by default 1 to C.

    Attributes:
        own_parts: the class of each part that was passed in, by argument name. A checkpoint keeps
            these names, and `load_model` asks for the parts.

    Raises:
        TypeError: `config` is not a ModelConfig.
        ValueError: a part lacks what its protocol asks for, the number of names or ids is not the
            config's number of classes, a name is not a string, or two classes share an id.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        backbone: Backbone | None = None,
        bottom: BottomModule | None = None,
        merger: Merger | None = None,
        inference: InferenceConfig | None = None,
        class_names: Sequence[str] | None = None,
        stuff_names: Sequence[str] | None = None,
        category_ids: Sequence[int] | None = None,
    ) -> None:
        if not isinstance(config, ModelConfig):
            raise TypeError(f'config = {config!r}: expected a ModelConfig, such as PRESETS["nano"]')
        super().__init__()
        self.config = config
        own = {"backbone": backbone, "bottom": bottom, "merger": merger}
        self.own_parts = {name: _kind(part) for name, part in own.items() if part is not None}
        self.backbone = make_backbone(config) if backbone is None else backbone
        require_backbone(self.backbone)
        if bottom is not None:
            require_bottom(bottom)
        inputs = None if bottom is None else bottom.inputs
        self.fpn = build.make_fpn(config, self.backbone.channels, bottom_inputs=inputs)
        self.head = FCOSHead(
            in_channels=config.pyramid_channels,
            num_classes=config.num_classes,
            num_shared_convs=config.num_shared_convs,
            num_class_convs=config.num_class_convs,
            num_box_convs=config.num_box_convs,
            norm=config.head_norm,
            num_levels=len(config.levels),
        )
        channels = self.backbone.channels
        self.bottom = build.make_bottom(config, channels) if bottom is None else bottom
        self.merger = build.make_merger(config) if merger is None else merger
        require_merger(self.merger)
        self.top_layer = build.make_top_layer(config, self.merger.attention_channels)
        self.semantic_head = build.make_semantic_head(config)
        self.panoptic_head = build.make_panoptic_head(config)
        # Convolutions on the CPU are up to 1.6 times as fast in this layout.
        self.to(memory_format=torch.channels_last)
        self.inference = inference or InferenceConfig()
        self.name_labels(class_names, stuff_names, category_ids)

    @property
    def mask_head(self) -> MaskHead:
        """The mask branch, made of the model's own layers, which keep their names in the model."""
        return MaskHead(
            self.bottom,
            self.top_layer,
            self.merger,
            mask_size=self.config.mask_size,
            pooling=self.config.bases_pooling,
        )

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' dtype."""
        return next(self.parameters()).dtype

    def forward(self, images: Sequence[Tensor]) -> BlendMaskOutput:
        """Predict at every location.

        Args:
            images: B tensors (3, H, W), RGB, float in [0, 1] or uint8, of any sizes.

        Raises:
            ValueError: no images, or one of the wrong shape or type.
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
            bases=self.mask_head.bases(features),
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
        return self.semantic_head(output.features["p3"])

    def panoptic_logits(self, output: BlendMaskOutput) -> Tensor:
        """(B, 1+S, H/4, W/4) of the panoptic branch; channel 0 covers all thing classes together.

        Raises:
            ValueError: the model was built without the branch.
        """
        if self.panoptic_head is None:
            raise ValueError("num_stuff_classes = 0: this model has no panoptic branch")
        return self.panoptic_head(output.features)

    def attentions_at(self, output: BlendMaskOutput, index: Tensor) -> Tensor:
        """Raw attentions at some locations.

        Args:
            output: the result of `forward`.
            index: (N, 2) int64 pairs (image, location).

        Returns:
            (N, A); A = 0 for the assembler.
        """
        return self.mask_head.attentions(output.box_features, index)

    def crops_at(
        self,
        output: BlendMaskOutput,
        image_index: Tensor,
        boxes: Tensor,
        *,
        bases: Tensor | None = None,
    ) -> Tensor:
        """(N, K, R, R) bases cut out along (N, 4) boxes; `bases` replace the output's own."""
        return self.mask_head.crops(output.bases if bases is None else bases, image_index, boxes)

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
            output: the result of `forward`.
            index: (N, 2) int64 pairs (image, location).
            boxes: (N, 4) corners, pixels of the padded input.
            bases: (B, K, H/s, W/s), used instead of the output's own.
            attentions: (N, A) raw attentions, used instead of the ones predicted at the locations.

        Returns:
            (N, R, R) mask logits.
        """
        crops = self.crops_at(output, index[:, 0], boxes, bases=bases)
        if attentions is None:
            attentions = self.attentions_at(output, index)
        return self.mask_head.merge(crops, attentions)

    @torch.no_grad()
    def detect(
        self,
        output: BlendMaskOutput,
        *,
        score_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> list[Proposals]:
        """Boxes of every image, best first; the thresholds default to `self.inference`.

        Raises:
            ValueError: `InferenceConfig` refuses the threshold or the number of detections.
        """
        settings = self.inference.changed(max_detections=max_detections)
        limit = settings.max_detections
        candidates = (
            self.candidates(output, number, score_threshold=score_threshold)
            for number in range(len(output.ltrb))
        )
        return [
            suppress(boxes, nms_iou=settings.nms_iou, max_detections=limit) for boxes in candidates
        ]

    def candidates(
        self, output: BlendMaskOutput, number: int, *, score_threshold: float | None = None
    ) -> Proposals:
        """Boxes of image `number` before suppression; threshold and errors as in `detect`."""
        settings = self.inference.changed(score_threshold=score_threshold)
        return select_candidates(
            output.class_logits[number],
            output.ltrb[number],
            output.centerness_logits[number],
            output.locations,
            output.level_sizes,
            score_threshold=settings.score_threshold,
            max_per_level=settings.candidates_per_level,
        )

    def predict(
        self,
        images: AnyImage | Iterable[AnyImage],
        *,
        test_size: int | None = None,
        max_size: int | None = None,
        batch_size: int = 1,
        output_sizes: Sequence[tuple[int, int]] | None = None,
        score_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> list[Detections]:
        """Find the objects of every image.

        The model has to be in evaluation mode, as `load_model` returns it: in training mode its
        norms would use the statistics of these images and learn from them.

        Args:
            images: RGB, one or an iterable of them, which may be empty: paths, PIL images, arrays
                (H, W, 3) of uint8, tensors (3, H, W) of uint8 or float in [0, 1]. A path may be a
                folder or a pattern such as `photos/*.jpg`; arrays and tensors may have another axis
                in front. Files are turned upright as their EXIF data says. OpenCV's arrays are BGR;
                pass `array[..., ::-1]`.
            test_size: shorter side of the resized image, pixels; by default the one in
                `inference`. Tensors are resized only if this or `max_size` is given.
            max_size: longest side allowed; by default in the same ratio to `test_size` as in
                `inference`.
            batch_size: number of images that are computed together. More may be faster on a GPU,
                and changes results slightly: images are padded to the size of the largest.
            output_sizes: (height, width) of the boxes and masks wanted, one per image; by default
                the sizes of the images as they were passed.
            score_threshold: 0 to 1; an object is kept if its class probability x centerness is
                above it, as in the released code. A score is the square root of this product: 0.25
                keeps scores above 0.5, as `filter(score=0.5)` does afterwards.
            max_detections: largest number of objects per image, at least 1.

        Returns:
            Always a list: one `Detections` per image, in order; files of a folder or pattern are
            sorted. All of them have whole-image masks, which take memory; see also `predict_each`.

        Raises:
            FileNotFoundError: there is no such file, or none that matches a pattern.
            ValueError: the model is in training mode; a file is not an image; a folder has none; an
                array or tensor has the wrong shape or type, or values below -1, above 2 or NaN;
                there is not one output size per image; a number is out of range; or a path is an
                address on the web, from which `blendmask_lite.images.read_url` reads an image.
        """
        found = self.predict_each(
            list(each_image(images)),  # a missing file is noticed before the work starts
            test_size=test_size,
            max_size=max_size,
            batch_size=batch_size,
            output_sizes=output_sizes,
            score_threshold=score_threshold,
            max_detections=max_detections,
        )
        return [objects.pasted() for objects in found]

    @torch.no_grad()
    def predict_each(
        self,
        images: AnyImage | Iterable[AnyImage],
        *,
        test_size: int | None = None,
        max_size: int | None = None,
        batch_size: int = 1,
        output_sizes: Sequence[tuple[int, int]] | None = None,
        score_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> Iterator[UnpastedDetections]:
        """The objects of one image after another, for long folders and for the frames of a video.

        A batch is read and computed when its turn comes, and `images` may be a generator. Masks
        stay unpasted until `pasted` or `masks` is used. Arguments and errors are the same as in
        `predict`.
        """
        self._require_evaluation()
        self.inference.changed(score_threshold=score_threshold, max_detections=max_detections)
        for batch in input_batches(
            images,
            self.inference,
            test_size=test_size,
            max_size=max_size,
            batch_size=batch_size,
            output_sizes=output_sizes,
        ):
            found = self.place_objects(
                self(batch.inputs),
                output_sizes=batch.output_sizes,
                score_threshold=score_threshold,
                max_detections=max_detections,
            )
            for objects, picture in zip(found, batch.pictures, strict=True):
                has_size = objects.image_size == picture.shape[1:]
                yield replace(objects, image=picture if has_size else None)

    @torch.no_grad()
    def find_objects(
        self,
        output: BlendMaskOutput,
        *,
        output_sizes: Sequence[tuple[int, int]] | None = None,
        score_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> list[Detections]:
        """The objects in every image of an output; arguments and errors as in `predict`."""
        placed = self.place_objects(
            output,
            output_sizes=output_sizes,
            score_threshold=score_threshold,
            max_detections=max_detections,
        )
        return [objects.pasted() for objects in placed]

    @torch.no_grad()
    def place_objects(
        self,
        output: BlendMaskOutput,
        *,
        output_sizes: Sequence[tuple[int, int]] | None = None,
        score_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> list[UnpastedDetections]:
        """As `find_objects`, but masks stay unpasted, which saves memory on large photographs."""
        image_sizes = output.image_sizes
        if output_sizes is not None:
            require_output_sizes(output_sizes, len(image_sizes))
        proposals = self.detect(
            output, score_threshold=score_threshold, max_detections=max_detections
        )
        locations = [own.location_index[:, None] for own in proposals]
        index = torch.cat([F.pad(own, (1, 0), value=image) for image, own in enumerate(locations)])
        boxes = torch.cat([own.boxes for own in proposals])
        logits = self.masks_at(output, index, boxes).split(list(map(len, proposals)))
        wanted = image_sizes if output_sizes is None else output_sizes
        threshold = self.inference.mask_threshold
        results = zip(proposals, logits, image_sizes, wanted, strict=True)
        placed = [place_detections(*result, mask_threshold=threshold) for result in results]
        names, ids = self.class_names, self.category_ids
        return [replace(objects, class_names=names, category_ids=ids) for objects in placed]

    @torch.no_grad()
    def predict_panoptic(
        self,
        images: AnyImage | Iterable[AnyImage],
        *,
        test_size: int | None = None,
        max_size: int | None = None,
        batch_size: int = 1,
        output_sizes: Sequence[tuple[int, int]] | None = None,
        score_threshold: float | None = None,
        overlap: float | None = None,
        stuff_area: int | None = None,
    ) -> list[PanopticResult]:
        """Assign pixels to confident objects first, and the unassigned ones to stuff classes.

        The objects are the same as in `predict`; the limits below default to `self.inference`.

        Args:
            images: as in `predict`, like the next four arguments.
            test_size: shorter side of the resized image.
            max_size: longest side allowed.
            batch_size: number of images that are computed together.
            output_sizes: (height, width) wanted, one per image.
            score_threshold: lowest score of an object; 0.45 in the released code, 0.2 in the
                paper (section 4.4).
            overlap: largest share of an object's mask that better objects may cover.
            stuff_area: smallest area of a stuff class, in pixels of the output.

        Returns:
            One `PanopticResult` per image.

        Raises:
            ValueError: the model has no panoptic branch, a limit is out of range, or `predict`
                refuses an argument.
        """
        limits = self.inference.changed(
            panoptic_score_threshold=score_threshold,
            panoptic_overlap=overlap,
            stuff_area=stuff_area,
        )
        self._require_evaluation()
        results = []
        for batch in input_batches(
            list(each_image(images)),
            self.inference,
            test_size=test_size,
            max_size=max_size,
            batch_size=batch_size,
            output_sizes=output_sizes,
        ):
            output = self(batch.inputs)
            found = self.find_objects(output, output_sizes=batch.output_sizes)
            logits = self.panoptic_logits(output)
            results += [
                merge_things_and_stuff(
                    objects,
                    semantic_labels(own, size, objects.image_size),
                    score_threshold=limits.panoptic_score_threshold,
                    overlap=limits.panoptic_overlap,
                    stuff_area=limits.stuff_area,
                )
                for objects, own, size in zip(found, logits, output.image_sizes, strict=True)
            ]
        return results

    def name_labels(
        self,
        class_names: Sequence[str] | None,
        stuff_names: Sequence[str] | None = None,
        category_ids: Sequence[int] | None = None,
    ) -> None:
        """Give the labels their names and ids; arguments, defaults and errors as in `BlendMask`."""
        num_classes, num_stuff = self.config.num_classes, self.config.num_stuff_classes
        if class_names is None:
            class_names = [f"class {i}" for i in range(num_classes)]
        if stuff_names is None:
            stuff_names = [f"stuff {i + 1}" for i in range(num_stuff)]
        if category_ids is None:
            category_ids = range(1, num_classes + 1)
        for field, names, number, kinds in (
            ("class_names", class_names, num_classes, "num_classes"),
            ("stuff_names", stuff_names, num_stuff, "num_stuff_classes"),
        ):
            if isinstance(names, str) or not all(isinstance(name, str) for name in names):
                raise ValueError(f"{field} = {names!r}: expected a sequence of texts")
            if len(names) != number:
                raise ValueError(f"{field}: {len(names)} names for {kinds} = {number}")
        if not len(category_ids) == len(set(category_ids)) == num_classes:
            raise ValueError(
                f"category_ids: {len(set(category_ids))} different numbers for num_classes = "
                f"{num_classes}"
            )
        self.class_names = tuple(class_names)
        self.stuff_names = tuple(stuff_names)
        self.category_ids = tuple(category_ids)

    def _require_evaluation(self) -> None:
        if self.training:
            raise ValueError("the model is in training mode; call model.eval() before predicting")


def place_detections(
    proposals: Proposals,
    mask_logits: Tensor,
    image_size: tuple[int, int],
    output_size: tuple[int, int],
    *,
    mask_threshold: float,
) -> UnpastedDetections:
    """Detections at the size that the user wants, with their masks not yet pasted.

    Masks are pasted into the clipped boxes although the bases were cropped with the unclipped ones,
    as in the released code: the mask of a box that leaves the image is squeezed to fit inside.

    Args:
        proposals: N boxes of one image, pixels of the padded input.
        mask_logits: (N, R, R) mask logits over these boxes.
        image_size: (height, width) before padding.
        output_size: (height, width) that the user wants.
        mask_threshold: probability from which a pixel belongs to the mask.

    Returns:
        At most N detections; boxes that are empty after clipping are dropped.
    """
    height, width = output_size
    boxes = clip_boxes(scale_boxes(proposals.boxes, image_size, (height, width)), output_size)
    left = has_sides(boxes).nonzero()[:, 0]  # once: every boolean index would search again
    kept, boxes, mask_logits = proposals[left], boxes[left], mask_logits[left]
    return UnpastedDetections(
        boxes=boxes,
        scores=kept.scores,
        labels=kept.labels,
        mask_logits=mask_logits,
        location_index=kept.location_index,
        proposal_boxes=kept.boxes,
        image_size=(height, width),
        mask_threshold=mask_threshold,
    )


def _kind(part: nn.Module) -> str:
    return f"{type(part).__module__}.{type(part).__qualname__}"
