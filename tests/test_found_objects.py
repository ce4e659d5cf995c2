"""What users do with detections: look, choose, save, and hand over to other programs."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.path import Path as Polygon
from PIL import Image
from pycocotools import mask as coco_mask

from blendmask_lite import Detections, load_model, shipped_checkpoint
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.evaluation.formats import label_map, table_rows
from blendmask_lite.structures import UnpastedDetections, find_labels

HEIGHT, WIDTH = 24, 32
NAMES = ("cat", "dog", "sports ball")


def ring():
    """A square with a hole, and a pixel of its own."""
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[4:14, 6:18] = True
    mask[7:10, 9:13] = False
    mask[20, 30] = True
    return mask


def noise():
    return torch.rand(HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)) < 0.5


def detections(*masks, **known):
    """Objects with these masks: a dog 0.9, a cat 0.8, a dog 0.7, ..."""
    num = len(masks)
    boxes = torch.tensor([[6.0, 4.0, 18.25, 14.0]]).repeat(num, 1)
    whole = torch.stack(masks) if masks else torch.zeros(0, HEIGHT, WIDTH, dtype=torch.bool)
    return Detections(
        boxes=boxes,
        scores=torch.arange(9, 9 - num, -1) / 10,
        labels=torch.arange(1, num + 1) % 2,
        mask_logits=torch.zeros(num, 14, 14),
        location_index=torch.arange(num),
        proposal_boxes=boxes,
        image_size=(HEIGHT, WIDTH),
        masks=whole,
        **{"class_names": NAMES, "category_ids": (17, 18, 37)} | known,
    )


@pytest.fixture
def found():
    return detections(ring(), noise())


@pytest.fixture
def image():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def model():
    return load_model(shipped_checkpoint())


# ------------------------------------------------------------------ looking and choosing


def test_detections_of_a_model_know_names_ids_and_image(model):
    image = ShapesDataset(1, seed=7).load(0).image
    [found] = model.predict(image, score_threshold=0.3)
    assert found.names == [model.class_names[label] for label in found.labels]
    assert found.image is image and found.category_ids == model.category_ids
    assert found[:1].image is image and found.to("cpu").image is image
    [other] = model.predict(image, output_sizes=[(50, 50)])
    assert other.image is None
    assert all(each.class_names for each in model.predict_each(image))


def test_the_text_of_detections_says_what_was_found(found):
    text = "Detections(2 objects in 24 x 32 pixels: dog 0.90, cat 0.80)"
    assert repr(found) == text
    assert repr(found[1:]) == "Detections(1 object in 24 x 32 pixels: cat 0.80)"
    assert repr(detections()) == "Detections(0 objects in 24 x 32 pixels)"
    assert repr(detections(*[ring()] * 7)).endswith(
        "dog 0.90, cat 0.80, dog 0.70, cat 0.60, dog 0.50 and 2 more)"
    )
    assert "class 1 0.90" in repr(detections(ring(), class_names=None))
    assert "\x1b" not in repr(detections(ring(), class_names=("cat", "\x1b[2J")))


def test_objects_are_chosen_by_class_and_score(found):
    assert found.filter(classes="dog").names == ["dog"]
    assert found.filter(classes=["cat", 1]).names == ["dog", "cat"]
    assert found.filter(classes=0).masks.equal(found.masks[1:])
    assert found.filter(score=0.85).names == ["dog"]
    assert found.filter(classes="cat", score=0.85).names == []
    assert len(found.filter(classes=[])) == 0 and len(found.filter()) == 2
    assert len(found.filter(score=0.8)) == 2 - int(found.scores[1] < 0.8)
    assert detections(class_names=None).filter(classes=3).names == []


@pytest.mark.parametrize(
    ("classes", "names", "message"),
    [
        ("dgo", NAMES, "classes: the model has no class dgo; did you mean dog?"),
        (["cat", "Sports Bal"], NAMES, "no class Sports Bal; did you mean sports ball?"),
        ("zebra", NAMES, "no class zebra; it has cat, dog, sports ball"),
        (3, NAMES, "no class 3; it has cat, dog, sports ball"),
        (-1, NAMES, "no class -1"),
        ("cat", None, "no class cat; it has no names, only labels"),
    ],
)
def test_an_unknown_class_is_named_with_those_that_are_close(classes, names, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        find_labels(classes, names)


# ------------------------------------------------------------------ pictures


def test_a_figure_names_the_objects_and_shows_the_image(found, image):
    figure = found.plot(image, title="Street")
    assert figure.get_label() == "A picture with 2 objects: dog 90 %, cat 80 %."
    assert figure.axes[0].get_title() == "Street"
    array = image.permute(1, 2, 0).numpy()
    for kind in (array, Image.fromarray(array)):
        assert found.plot(kind).get_label() == figure.get_label()
    assert replace(found, image=image).plot().get_label() == figure.get_label()


def test_a_picture_is_saved_in_the_format_of_its_name(found, image, tmp_path):
    for name in ("found.png", "found.JPG", "found.webp", "found.tif", "found.bmp"):
        found.save(tmp_path / name, image)
        with Image.open(tmp_path / name) as picture:
            assert picture.size == (WIDTH, HEIGHT)
    nothing = detections(image=image)
    nothing.save(str(tmp_path / "nothing.png"))
    with Image.open(tmp_path / "nothing.png") as picture:
        assert np.array_equal(np.asarray(picture), image.permute(1, 2, 0).numpy())


def test_what_cannot_be_drawn_is_refused_by_name(found, image, tmp_path):
    with pytest.raises(ValueError, match="image: these detections do not hold their image"):
        found.plot()
    with pytest.raises(ValueError, match=r"masks of \(24, 32\) pixels on an image of \(10, 10\)"):
        found.save(tmp_path / "found.png", image[:, :10, :10])
    with pytest.raises(ValueError, match=r"suffix '.txt': images are written as one of .bmp, .jpe"):
        found.save(tmp_path / "found.txt", image)
    assert list(tmp_path.iterdir()) == []


def test_a_notebook_shows_the_picture_and_a_large_one_smaller(found, image):
    assert found._repr_png_() is None
    shown = replace(found, image=image)._repr_png_()
    with Image.open(io.BytesIO(shown)) as picture:
        assert picture.format == "PNG" and picture.size == (WIDTH, HEIGHT)
    large = replace(detections(), image=torch.zeros(3, 500, 2000), image_size=(500, 2000))
    with Image.open(io.BytesIO(large._repr_png_())) as picture:
        assert picture.size == (1000, 250)


# ------------------------------------------------------------------ other programs


def test_coco_entries_hold_the_masks_and_the_ids_of_the_data(found):
    dog, cat = found.to_coco(image_id=7)
    assert (dog["image_id"], dog["category_id"], cat["category_id"]) == (7, 18, 17)
    assert dog["bbox"] == [6.0, 4.0, 12.25, 10.0] and dog["score"] == 0.9
    assert np.array_equal(coco_mask.decode(dog["segmentation"]), ring().numpy())
    json.dumps([dog, cat])
    assert detections(ring(), category_ids=None).to_coco(7)[0]["category_id"] == 1
    assert detections().to_coco(7) == []


def pixels_inside(points):
    """(H, W) bool: pixels inside a polygon, by matplotlib's even-odd rule."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    # Almost at the centers, because points that lie on a line may count as inside.
    near = np.stack([x.ravel() + 0.0131, y.ravel() + 0.0072], axis=1)
    inside = Polygon(points).contains_points(near)
    return inside.reshape(HEIGHT, WIDTH)


def test_labelme_gets_polygons_that_hold_the_masks_and_scores(found):
    content = detections(ring()).to_labelme("../a.png")
    left, right = content["shapes"]  # the hole cuts the ring in two; the single pixel is a speck
    assert {each["group_id"] for each in content["shapes"]} == {1}
    assert {each["label"] for each in content["shapes"]} == {"dog"}
    assert left["description"] == "0.900" and left["shape_type"] == "polygon"
    assert content["imagePath"] == "../a.png" and content["imageData"] is None
    assert (content["imageHeight"], content["imageWidth"]) == (HEIGHT, WIDTH)
    assert content["flags"] == {"draft": True}
    together = sum(pixels_inside(each["points"]) for each in (left, right))
    assert (together != ring().numpy()).sum() == 1 and together.max() == 1
    json.dumps(content)
    groups = [each["group_id"] for each in found.to_labelme("a.png")["shapes"]]
    assert groups == sorted(groups) and set(groups) == {1, 2}
    assert detections().to_labelme("a.png")["shapes"] == []


def test_a_yolo_line_holds_all_parts_and_holes_of_an_object():
    empty = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    lines = detections(ring(), noise(), empty, ~empty).to_yolo()
    assert [line.split()[0] for line in lines] == ["1", "0", "0"]  # without the empty mask
    for line, mask in zip(lines, (ring(), noise(), ~empty), strict=True):
        numbers = np.array(line.split()[1:], dtype=float)
        assert numbers.min() >= 0 and numbers.max() <= 1
        points = numbers.reshape(-1, 2) * (WIDTH, HEIGHT)
        assert np.array_equal(pixels_inside(points), mask.numpy())
    assert detections().to_yolo() == []


def test_a_table_has_a_row_for_each_object(found):
    first, second = table_rows(found)
    assert first == ["dog", 0.9, 6.0, 4.0, 18.25, 14.0, 12 * 10 - 3 * 4 + 1]
    assert second[0] == "cat" and second[-1] == int(noise().sum())
    assert table_rows(detections()) == []


def test_a_label_map_numbers_the_objects_and_shows_the_better_one(found):
    owners = label_map(found)
    assert owners.shape == (HEIGHT, WIDTH)
    assert np.array_equal(owners == 1, ring().numpy())
    assert np.array_equal(owners == 2, (noise() & ~ring()).numpy())
    assert label_map(detections()).max() == 0


def test_all_formats_are_the_same_before_and_after_pasting(model):
    image = ShapesDataset(1, seed=7).load(0).image
    [unpasted] = model.predict_each(image, score_threshold=0.1)
    found = unpasted.pasted()
    assert isinstance(unpasted, UnpastedDetections) and len(found) > 0
    assert found.to_coco(1) == unpasted.to_coco(1)
    assert found.to_labelme("a") == unpasted.to_labelme("a")
    assert found.to_yolo() == unpasted.to_yolo()
    assert table_rows(found) == table_rows(unpasted)
    assert np.array_equal(label_map(found), label_map(unpasted))
    assert found._repr_png_() == unpasted._repr_png_()


@pytest.mark.filterwarnings("ignore:OpenCV:UserWarning")
def test_supervision_gets_boxes_masks_scores_labels_and_names(found):
    pytest.importorskip("supervision")
    handed = found.to_supervision()
    assert np.array_equal(handed.xyxy, found.boxes.numpy())
    assert np.array_equal(handed.mask, found.masks.numpy())
    assert np.array_equal(handed.confidence, found.scores.numpy())
    assert handed.class_id.tolist() == [1, 0]
    assert handed["class_name"].tolist() == ["dog", "cat"]
    assert handed[handed["class_name"] == "cat"].area.tolist() == [int(noise().sum())]
    assert len(detections().to_supervision()) == 0


def test_supervision_is_asked_for_by_name_if_it_is_missing(found, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "supervision", None)
    with pytest.raises(ImportError, match=r'pip install "blendmask_lite\[supervision\]"'):
        found.to_supervision()
