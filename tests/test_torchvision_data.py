"""Data sets of torchvision's target dicts: what they become, what is refused, how they train."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from blendmask_lite import PRESETS, load_model
from blendmask_lite.config import PRESET_INFERENCE
from blendmask_lite.datasets.sample import InstanceDataset, TrainingDataset
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.datasets.torchvision import TorchvisionDataset
from blendmask_lite.evaluation.instances import InstanceEvaluator
from blendmask_lite.structures import Detections
from blendmask_lite.training.resume import Recipe
from blendmask_lite.training.run import train_model
from blendmask_lite.training.schedule import TRAIN_PRESETS, rescale


class Dicts(torch.utils.data.Dataset):
    """The samples of a data set as torchvision's detection models take them."""

    def __init__(self, dataset, *, first_label=1):
        self.dataset = dataset
        self.first_label = first_label

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        sample = self.dataset.load(index)
        target = sample.target
        return sample.image, {
            "boxes": target.boxes,
            "labels": target.labels + self.first_label,
            "masks": target.masks,
        }


def as_dataset(*items, first_label=1, class_names=("cat", "dog")):
    return TorchvisionDataset(list(items), class_names=class_names, first_label=first_label)


def an_item(**changes):
    """4 x 6 pixels: a dog at x 1 to 3 and y 2 to 4, and a cat that is a crowd on the left."""
    masks = torch.zeros(2, 4, 6, dtype=torch.bool)
    masks[0, 2:4, 1:3] = True
    masks[1, :, 0] = True
    target = {
        "boxes": torch.tensor([[1.0, 2, 3, 4], [0, 0, 1, 4]]),
        "labels": torch.tensor([2, 1]),
        "masks": masks,
        "iscrowd": torch.tensor([0, 1]),
        "area": torch.tensor([5.0, 4.0]),
        "image_id": 77,
    }
    image = changes.pop("image", (3 * torch.arange(72)).to(torch.uint8).view(3, 4, 6))
    return image, {name: value for name, value in (target | changes).items() if value is not None}


def test_an_item_becomes_a_sample_and_a_crowd_is_no_object():
    sample = as_dataset(an_item()).load(0)
    assert torch.equal(sample.image, an_item()[0])
    assert sample.target.boxes.tolist() == [[1, 2, 3, 4]]
    assert sample.target.labels.tolist() == [1]
    assert torch.equal(sample.target.masks, an_item()[1]["masks"][:1])
    # 0 is background: the dog is 2, the crowd of cats 1.
    wanted = [[1, 0, 0, 0, 0, 0]] * 2 + [[1, 2, 2, 0, 0, 0]] * 2
    assert sample.target.semantic.tolist() == wanted
    assert (sample.image_id, sample.original_size) == (0, (4, 6))


@pytest.mark.parametrize("first_label", [0, 1])
def test_the_first_label_says_from_where_labels_count(first_label):
    labels = torch.tensor([first_label + 1, first_label])
    dataset = as_dataset(an_item(labels=labels), first_label=first_label)
    assert dataset.load(0).target.labels.tolist() == [1]
    assert dataset.category_ids == (first_label, first_label + 1)
    with pytest.raises(TypeError, match="first_label"):
        TorchvisionDataset([], class_names=["cat"])
    for wrong in (2, -1, None):
        with pytest.raises(ValueError, match="first_label"):
            as_dataset(first_label=wrong)


def test_the_same_item_may_come_in_many_forms():
    image, target = an_item()
    wanted = as_dataset((image, target)).load(0)
    forms = [
        an_item(image=image / 255),
        an_item(image=Image.fromarray(image.permute(1, 2, 0).numpy())),
        (
            tv_tensors.Image(image),
            target
            | {
                "masks": tv_tensors.Mask(target["masks"].to(torch.uint8)),
                "boxes": tv_tensors.BoundingBoxes(
                    target["boxes"], format="XYXY", canvas_size=(4, 6)
                ),
                "labels": target["labels"].int(),
                "iscrowd": torch.tensor([False, True]),
            },
        ),
    ]
    for form in forms:
        sample = as_dataset(form).load(0)
        assert type(sample.image) is type(sample.target.masks) is torch.Tensor
        assert torch.equal(sample.image, wanted.image)
        for name in ("boxes", "labels", "masks", "semantic"):
            own, expected = getattr(sample.target, name), getattr(wanted.target, name)
            assert own.dtype == expected.dtype and torch.equal(own, expected), name


def test_floats_are_rounded_to_the_nearest_byte():
    image = as_dataset(an_item(image=torch.full((3, 4, 6), 254.7 / 255))).load_image(0)
    assert image.unique().tolist() == [255]


def test_images_without_objects_and_masks_without_pixels_have_no_objects():
    bare = as_dataset((an_item()[0], {"image_id": 3})).load(0).target
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}
    empty = as_dataset(an_item(**none, masks=torch.zeros(0, 4, 6).bool(), iscrowd=None, area=None))
    blank = as_dataset(an_item(masks=torch.zeros(2, 4, 6).bool()))
    for target in (bare, empty.load(0).target, blank.load(0).target):
        assert target.boxes.shape == (0, 4)
        assert target.masks.shape == (0, 4, 6)
        assert target.semantic.tolist() == [[0] * 6] * 4


MASKS = an_item()[1]["masks"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": torch.tensor([1, 3])}, r"target\['labels'\] holds 3, expected 1 to 2"),
        ({"labels": torch.tensor([0, 1])}, r"holds 0, expected 1 to 2 \(2 class names, first_la"),
        ({"labels": torch.tensor([1.0, 2])}, r"'labels'\] is \(2,\) float32, expected \(N,\) int"),
        ({"labels": torch.tensor(1)}, r"'labels'\] is \(\) int64"),
        ({"labels": [1, 2]}, r"'labels'\] is of type list"),
        ({"labels": None}, r"'labels'\] is missing"),
        ({"boxes": torch.ones(3, 4)}, r"'boxes'\] is \(3, 4\) float32, expected \(2, 4\)"),
        ({"boxes": torch.ones(2, 5)}, r"'boxes'\] is \(2, 5\)"),
        ({"boxes": torch.tensor([[1.0, 2, 3, 4], [3, 1, 2, 4]])}, r"holds \(3, 1, 2, 4\) for obj"),
        ({"boxes": torch.tensor([[1.0, 2, 1, 4], [0, 0, 1, 4]])}, "x0 < x1 and y0 < y1, not x, y"),
        ({"boxes": torch.tensor([[1.0, 0, 3, 2], [0, 0, 1, 4]])}, "which its mask does not meet"),
        ({"boxes": torch.tensor([[1.0, 2, 3, 4], [0, 0, torch.nan, 4]])}, "1, which is not finite"),
        (
            {
                "boxes": tv_tensors.BoundingBoxes(
                    [[1, 2, 2, 2], [0, 0, 1, 4]], format="XYWH", canvas_size=(4, 6)
                )
            },
            "format XYWH, expected XYXY",
        ),
        ({"masks": MASKS[:1]}, r"'masks'\] is \(1, 4, 6\) bool, expected \(2, 4, 6\)"),
        ({"masks": MASKS[:, :3]}, r"'masks'\] is \(2, 3, 6\) bool, expected \(2, 4, 6\)"),
        ({"masks": MASKS.float()}, r"'masks'\] is \(2, 4, 6\) float32, expected .* bool, or uint8"),
        ({"masks": MASKS.to(torch.uint8) * 255}, r"'masks'\] holds 255"),
        ({"masks": None}, r"'masks'\] is missing"),
        ({"iscrowd": torch.tensor([0, 2])}, r"'iscrowd'\] holds \[0, 2\]"),
        ({"iscrowd": torch.tensor([0])}, r"'iscrowd'\] is \(1,\) int64, expected \(2,\)"),
        ({"area": torch.tensor([-1.0, 4])}, r"'area'\] holds \[-1"),
        ({"image": torch.zeros(1, 4, 6)}, r"its image is \(1, 4, 6\) float32, expected \(3, H, W"),
        ({"image": torch.randn(3, 4, 6) * 9}, r"its image is .* the model normalizes"),
        ({"image": np.zeros((4, 6, 3))}, "its image is of type ndarray"),
    ],
)
def test_what_does_not_fit_is_one_error_with_item_and_field(changes, message):
    dataset = as_dataset(an_item(), an_item(**changes))
    with pytest.raises(ValueError, match=rf"^item 1: .*{message}"):
        dataset.load(1)


@pytest.mark.parametrize("item", [torch.zeros(3, 4, 6), (torch.zeros(3, 4, 6), [1, 2])])
def test_an_item_that_is_no_pair_with_a_dict_is_refused(item):
    with pytest.raises(ValueError, match=r"item 0: .*expected a (pair|dict)"):
        as_dataset(item).load(0)


@pytest.mark.parametrize("class_names", ["cat", [], ["cat", "cat"]])
def test_class_names_are_a_list_of_different_names(class_names):
    with pytest.raises(ValueError, match="class_names"):
        as_dataset(class_names=class_names)


def test_evaluation_gets_crowds_areas_and_the_labels_of_the_dicts():
    dataset = as_dataset(an_item(area=None), an_item()).select([1])
    assert isinstance(dataset, InstanceDataset)
    truth = dataset.ground_truth()
    assert truth["images"] == [{"id": 1, "height": 4, "width": 6}]
    assert [each["category_id"] for each in truth["annotations"]] == [2, 1]
    assert [each["iscrowd"] for each in truth["annotations"]] == [0, 1]
    assert [each["area"] for each in truth["annotations"]] == [5, 4]
    assert truth["annotations"][0]["bbox"] == [1, 2, 2, 2]
    assert as_dataset(an_item(area=None)).ground_truth()["annotations"][0]["area"] == 4
    with pytest.raises(ValueError, match="list: no images with the ids 5, 6, 7, 8, 9 and 1 more"):
        dataset.select([1, *range(5, 11)])


def test_what_is_found_exactly_has_an_ap_of_100():
    dataset = as_dataset(an_item(), an_item())
    evaluator = InstanceEvaluator(dataset)
    for index in range(2):
        target = dataset.load(index).target
        evaluator.add(
            index,
            Detections(
                boxes=target.boxes,
                scores=torch.ones(1),
                labels=target.labels,
                masks=target.masks,
                mask_logits=torch.zeros(1, 2, 2),
                location_index=torch.zeros(1).long(),
                proposal_boxes=target.boxes,
                image_size=(4, 6),
            ),
        )
    results = evaluator.finish()
    assert results.mask["AP"] == results.box["AP"] == 100
    assert [each.num_objects for each in results.classes] == [0, 2]


RECIPE = Recipe(
    model=replace(PRESETS["nano"], stage_width=8, stem_channels=8, pyramid_channels=16),
    inference=PRESET_INFERENCE["nano"],
    train=replace(
        rescale(TRAIN_PRESETS["nano"], iterations=2, batch_size=2),
        train_sizes=(48, 64),
        max_size=64,
        evaluate_every=2,
    ),
)


def test_dicts_train_and_evaluate_as_the_data_set_they_are_of_bit_by_bit(tmp_path):
    plain, held_out = ShapesDataset(4, seed=3), ShapesDataset(2, seed=9)
    wrapped, held_out_wrapped = (
        TorchvisionDataset(Dicts(each), class_names=plain.class_names, first_label=1)
        for each in (plain, held_out)
    )
    assert train_model(plain, tmp_path / "plain", RECIPE, validation=held_out)
    assert train_model(wrapped, tmp_path / "dicts", RECIPE, validation=held_out_wrapped)
    one, other = (load_model(tmp_path / name / "model.safetensors") for name in ("plain", "dicts"))
    assert one.category_ids == other.category_ids
    for name, value in one.state_dict().items():
        assert value.equal(other.state_dict()[name]), name
    scores = [(tmp_path / name / "evaluation.csv").read_text() for name in ("plain", "dicts")]
    assert scores[0] == scores[1]


class TrainingOnly:
    """A data set of own making, with what training needs and no more."""

    class_names, category_ids, stuff_names = ("a", "b"), (1, 2), ()

    def __len__(self):
        return 3

    def load(self, index):
        return as_dataset(*[an_item()] * 3).load(index)


def test_training_needs_names_a_length_and_samples_only(tmp_path):
    recipe = replace(RECIPE, model=replace(RECIPE.model, num_classes=2))
    dataset = TrainingOnly()
    assert isinstance(dataset, TrainingDataset)
    assert train_model(dataset, tmp_path / "run", recipe)
    with pytest.raises(ValueError, match="validation: TrainingOnly is no InstanceDataset"):
        train_model(dataset, tmp_path / "other", recipe, validation=dataset)
    with pytest.raises(ValueError, match=r"dataset: Dicts is no Train.*TorchvisionDataset"):
        train_model(Dicts(ShapesDataset(2)), tmp_path / "other", recipe)
    assert not (tmp_path / "other").exists()


def test_the_guides_example_trains(tmp_path, monkeypatch):
    guide = Path(__file__).parents[1] / "docs" / "data.md"
    text = guide.read_text(encoding="utf-8")
    section = text.partition("## Data sets in torchvision's format")[2]
    [code] = re.findall(r"```python\n(.*?)```", section.partition("\n## ")[0], flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(guide), "exec"), {})
    assert load_model(tmp_path / "runs" / "squares" / "model.safetensors").class_names == (
        "square",
    )
