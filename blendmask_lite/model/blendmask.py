"""BlendMask as users have it: the network, and the way from its predictions to objects.

Chapter 05. `forward` predicts, `predict` finds objects, `predict_panoptic` names every pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.config import InferenceConfig, ModelConfig
from blendmask_lite.model.detect import Proposals, select_candidates, suppress
from blendmask_lite.model.images import require_output_sizes, require_pixels
from blendmask_lite.model.network import Network
from blendmask_lite.model.output import BlendMaskOutput
from blendmask_lite.model.panoptic import semantic_labels
from blendmask_lite.model.panoptic_merge import merge_things_and_stuff
from blendmask_lite.model.postprocess import place_detections
from blendmask_lite.structures import Detections, PanopticResult, UnpastedDetections

__all__ = ["BlendMask"]


class BlendMask(Network):
    """The complete model (BlendMask, section 3).

    Args:
        config: architecture and input convention; `PRESETS` has the named ones.
        inference: test size and thresholds; defaults as in the released code.
        class_names: C names for the labels; "class 0", "class 1", ... without.
        stuff_names: S names for the kinds of stuff; "stuff 1", "stuff 2", ... without.
        category_ids: C numbers that the labels have in the data's own files, and get in files of
            results; by default 1 to C.

    Raises:
        ValueError: the number of names or ids is not the config's number of classes, or two
            classes have one id.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        inference: InferenceConfig | None = None,
        class_names: Sequence[str] | None = None,
        stuff_names: Sequence[str] | None = None,
        category_ids: Sequence[int] | None = None,
    ) -> None:
        super().__init__(config)
        self.inference = inference or InferenceConfig()
        num_classes, num_stuff = config.num_classes, config.num_stuff_classes
        if class_names is None:
            class_names = [f"class {i}" for i in range(num_classes)]
        if stuff_names is None:
            stuff_names = [f"stuff {i + 1}" for i in range(num_stuff)]
        if category_ids is None:
            category_ids = range(1, num_classes + 1)
        if len(class_names) != num_classes:
            raise ValueError(
                f"class_names: {len(class_names)} names for num_classes = {num_classes}"
            )
        if len(stuff_names) != num_stuff:
            raise ValueError(
                f"stuff_names: {len(stuff_names)} names for num_stuff_classes = {num_stuff}"
            )
        if not len(category_ids) == len(set(category_ids)) == num_classes:
            raise ValueError(
                f"category_ids: {len(set(category_ids))} different numbers for num_classes = "
                f"{num_classes}"
            )
        self.class_names = tuple(class_names)
        self.stuff_names = tuple(stuff_names)
        self.category_ids = tuple(category_ids)

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
            ValueError: a threshold or a number that `InferenceConfig` refuses.
        """
        settings = self.inference.changed(max_detections=max_detections)
        limit = settings.max_detections
        crowds = (
            self.candidates(output, number, score_threshold=score_threshold)
            for number in range(len(output.ltrb))
        )
        return [suppress(crowd, nms_iou=settings.nms_iou, max_detections=limit) for crowd in crowds]

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

        The model has to be in evaluation mode (`load_model` gives it so): in training mode its
        norms would look at these images, and learn from them.

        Args:
            images: tensors (3, H, W), RGB, float in [0, 1] or uint8; an empty list is allowed.
            output_sizes: (height, width) that boxes and masks are wanted for, one an image;
                without, those of the images.
            score_threshold: least class probability x centerness, exclusive, 0 to 1; the score of
                a detection is the square root of that product.
            max_detections: per image, at least 1.

        Returns:
            One `Detections` an image.

        Raises:
            ValueError: the model is in training mode; an image of another shape or type, or with
                values below -1, above 2 or NaN; not one output size an image; or a threshold or
                number out of its range.
        """
        self._require_predictable(images, output_sizes)
        self.inference.changed(score_threshold=score_threshold, max_detections=max_detections)
        if len(images) == 0:
            return []
        return self.find_objects(
            self(images),
            output_sizes=output_sizes,
            score_threshold=score_threshold,
            max_detections=max_detections,
        )

    @torch.no_grad()
    def find_objects(
        self,
        output: BlendMaskOutput,
        *,
        output_sizes: Sequence[tuple[int, int]] | None = None,
        score_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> list[Detections]:
        """The objects of every image of an output; arguments and errors as `predict`'s."""
        placed = self.place_objects(
            output,
            output_sizes=output_sizes,
            score_threshold=score_threshold,
            max_detections=max_detections,
        )
        return [each.pasted() for each in placed]

    @torch.no_grad()
    def place_objects(
        self,
        output: BlendMaskOutput,
        *,
        output_sizes: Sequence[tuple[int, int]] | None = None,
        score_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> list[UnpastedDetections]:
        """As `find_objects`, with masks that are not pasted: the way for large photographs."""
        image_sizes = output.image_sizes
        if output_sizes is not None:
            require_output_sizes(output_sizes, len(image_sizes))
        proposals = self.detect(
            output, score_threshold=score_threshold, max_detections=max_detections
        )
        location = [each.location_index[:, None] for each in proposals]
        index = torch.cat([F.pad(each, (1, 0), value=i) for i, each in enumerate(location)])
        boxes = torch.cat([each.boxes for each in proposals])
        logits = self.masks_at(output, index, boxes).split([len(each) for each in proposals])
        wanted = image_sizes if output_sizes is None else output_sizes
        threshold = self.inference.mask_threshold
        results = zip(proposals, logits, image_sizes, wanted, strict=True)
        return [place_detections(*each, mask_threshold=threshold) for each in results]

    @torch.no_grad()
    def predict_panoptic(
        self,
        images: Sequence[Tensor],
        *,
        output_sizes: Sequence[tuple[int, int]] | None = None,
        score_threshold: float | None = None,
        overlap: float | None = None,
        stuff_area: int | None = None,
    ) -> list[PanopticResult]:
        """Give every pixel to an object or to a kind of stuff, as far as they are sure enough.

        The objects are those of `predict`; the limits below default to `self.inference`.

        Args:
            images: as `predict` takes them.
            output_sizes: (height, width) wanted, one an image; without, those of the images.
            score_threshold: least score of an object; 0.45 in the released code, 0.2 in the
                paper (section 4.4).
            overlap: an object of whose mask a larger share is covered by better ones is left out.
            stuff_area: a kind of stuff that has less is left out, pixels of the output.

        Returns:
            One `PanopticResult` an image.

        Raises:
            ValueError: a model without panoptic branch, a limit out of its range, or what
                `predict` refuses.
        """
        limits = self.inference.changed(
            panoptic_score_threshold=score_threshold,
            panoptic_overlap=overlap,
            stuff_area=stuff_area,
        )
        self._require_predictable(images, output_sizes)
        if len(images) == 0:
            return []
        output = self(images)
        found = self.find_objects(output, output_sizes=output_sizes)
        logits = self.panoptic_logits(output)
        return [
            merge_things_and_stuff(
                objects,
                semantic_labels(each, size, objects.image_size),
                score_threshold=limits.panoptic_score_threshold,
                overlap=limits.panoptic_overlap,
                stuff_area=limits.stuff_area,
            )
            for objects, each, size in zip(found, logits, output.image_sizes, strict=True)
        ]

    def _require_predictable(
        self, images: Sequence[Tensor], output_sizes: Sequence[tuple[int, int]] | None
    ) -> None:
        """Say what is wrong before the work, not after it."""
        if self.training:
            raise ValueError("the model is in training mode; call model.eval() before predicting")
        require_pixels(images)
        if output_sizes is not None:
            require_output_sizes(output_sizes, len(images))
