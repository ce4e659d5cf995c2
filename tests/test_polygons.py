"""Masks as polygons: nothing is lost at tolerance 0, and little at the default."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from blendmask_lite.masks import mask_iou, mask_parts
from blendmask_lite.polygons import labelme_file, mask_polygons


def drawn(polygons, size) -> torch.Tensor:
    """The mask of polygons, as COCO's own tools draw it."""
    if not polygons:
        return torch.zeros(size, dtype=torch.bool)
    flat = [[side for corner in polygon for side in corner] for polygon in polygons]
    run = coco_mask.merge(coco_mask.frPyObjects(flat, *size))
    return torch.from_numpy(np.ascontiguousarray(coco_mask.decode(run))).bool()


def grid(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    centers = torch.arange(side) + 0.5
    return torch.meshgrid(centers, centers, indexing="xy")


def round_shapes(radius: float) -> dict[str, torch.Tensor]:
    """Masks in an image of 240 pixels, by name."""
    x, y = (each - 120.3 for each in grid(240))
    angle, distance = torch.atan2(y, x), torch.hypot(x, y)
    return {
        "disc": distance < radius,
        "ellipse": (x / radius) ** 2 + (y / radius * 2) ** 2 < 1,
        "flower": distance < radius * (0.8 + 0.2 * torch.cos(5 * angle)),
        "ring": (distance < radius) & (distance > radius / 2),
        "two": torch.minimum((x - radius).abs(), (x + radius).abs()) ** 2 + y**2 < radius**2 / 2,
    }


def test_a_rectangle_by_hand():
    mask = torch.zeros(6, 8, dtype=torch.bool)
    mask[1:4, 2:7] = True
    [polygon] = mask_polygons(mask, 0)
    # Through the middles of the outer pixels' sides: the corners of the box are cut off.
    corners = {(2.5, 1), (6.5, 1), (7, 1.5), (7, 3.5), (6.5, 4), (2.5, 4), (2, 3.5), (2, 1.5)}
    assert {tuple(corner) for corner in polygon} >= corners
    [polygon] = mask_polygons(mask)
    assert len(polygon) <= 8


def test_at_tolerance_0_polygons_hold_exactly_the_pixels_of_any_mask():
    random = np.random.default_rng(0)
    for number in range(300):
        size = tuple(int(side) for side in random.integers(1, 25, 2))
        mask = torch.from_numpy(random.random(size) < random.random())
        if number % 2:
            mask = mask.repeat_interleave(3, 0).repeat_interleave(3, 1)
        assert torch.equal(drawn(mask_polygons(mask, 0), tuple(mask.shape)), mask), number


@pytest.mark.parametrize("radius", [40, 60, 100])
def test_by_default_smooth_shapes_keep_their_pixels_with_far_fewer_corners(radius):
    for name, mask in round_shapes(radius).items():
        polygons, every = mask_polygons(mask), mask_polygons(mask, 0)
        assert mask_iou(drawn(polygons, (240, 240))[None], mask[None]) >= 0.99, name
        assert sum(map(len, polygons)) < 0.6 * sum(map(len, every)), name


def test_a_hole_is_cut_open_and_parts_stay_apart():
    shapes = round_shapes(40)
    assert len(mask_polygons(shapes["disc"])) == 1
    assert len(mask_polygons(shapes["two"])) == 2
    left, right = mask_polygons(shapes["ring"])
    assert max(x for x, _ in left) == min(x for x, _ in right) == pytest.approx(120, abs=1)


def test_thin_and_tiny_masks_keep_an_outline():
    for rows, columns in ((slice(3, 4), slice(2, 9)), (slice(5, 6), slice(5, 6))):
        mask = torch.zeros(10, 10, dtype=torch.bool)
        mask[rows, columns] = True
        [polygon] = mask_polygons(mask, 5)
        assert torch.equal(drawn([polygon], (10, 10)), mask)


def test_an_empty_mask_has_no_polygon():
    assert mask_polygons(torch.zeros(5, 4, dtype=torch.bool)) == []


def test_a_labelme_file_has_a_shape_for_each_polygon_and_a_group_for_each_object_of_several():
    shapes = round_shapes(40)
    masks = torch.stack([shapes["disc"], torch.zeros(240, 240).bool(), shapes["two"]])
    content = labelme_file(
        mask_parts(masks[:, :200]),
        ["a", "b", "a"],
        (200, 240),
        image_path="x.jpg",
        descriptions=["0.9", "0.8", "0.7"],
    )
    assert (content["imagePath"], content["imageData"]) == ("x.jpg", None)
    assert (content["imageHeight"], content["imageWidth"]) == (200, 240)
    fields = ("label", "group_id", "description", "shape_type")
    assert [tuple(shape[field] for field in fields) for shape in content["shapes"]] == [
        ("a", None, "0.9", "polygon"),
        ("a", 3, "0.7", "polygon"),
        ("a", 3, "0.7", "polygon"),
    ]
    assert [content["shapes"][0]["points"]] == mask_polygons(shapes["disc"])


def test_a_draft_leaves_out_specks_and_small_holes_and_keeps_large_ones():
    mask = torch.zeros(60, 100, dtype=torch.bool)
    mask[5:45, 5:45] = True  # 1,600 pixels: a speck has less than 80
    mask[10:12, 10:12] = False
    mask[20:40, 20:30] = False
    mask[28:31, 24:27] = True  # inside of the large hole
    mask[10:22, 60:68] = True
    mask[50:53, 50:75] = True
    expected = mask.clone()
    expected[10:12, 10:12], expected[28:31, 24:27], expected[50:53, 50:75] = True, False, False
    content = {
        is_draft: labelme_file(
            mask_parts(mask[None]), ["a"], (60, 100), image_path="x", is_draft=is_draft, tolerance=0
        )["shapes"]
        for is_draft in (True, False)
    }
    polygons = [each["points"] for each in content[True]]
    assert torch.equal(drawn(polygons, (60, 100)), expected) and len(polygons) == 3
    every = [each["points"] for each in content[False]]
    assert torch.equal(drawn(every, (60, 100)), mask)


def test_a_labelme_file_of_nothing_has_no_shapes():
    assert labelme_file([], [], (4, 5), image_path="x.jpg")["shapes"] == []


def test_a_label_for_every_mask_is_asked_for():
    with pytest.raises(ValueError, match="1 masks, 2 labels, 1 descriptions"):
        labelme_file(mask_parts(torch.ones(1, 4, 5).bool()), ["a", "b"], (4, 5), image_path="x.jpg")
