"""How often the CPU waits for the device: in a training step, and in `predict`.

On a GPU every question for a value waits for all the work before it. Here, on a CPU, the questions
are counted: what asks by name (`item`, `tolist`, `bool`, ...) and what asks inside an operator
(`nonzero`, boolean indexing, `repeat_interleave` with a tensor of counts).
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from released import thin
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from blendmask_lite import PRESETS, BlendMask
from blendmask_lite.datasets.sample import SampleLoader, collate
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.datasets.transforms import TrainTransform
from blendmask_lite.training.criterion import TrainingStep
from blendmask_lite.training.data import batches_from
from blendmask_lite.training.engine import TrainingState, train
from blendmask_lite.training.schedule import TRAIN_PRESETS, rescale

QUESTIONS = ("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__")
OPERATORS = {
    torch.ops.aten.nonzero.default: "nonzero",
    torch.ops.aten.masked_select.default: "masked_select",
    torch.ops.aten.repeat_interleave.Tensor: "repeat_interleave",
    torch.ops.aten._unique2.default: "unique",
    torch.ops.aten.equal.default: "equal",
    torch.ops.torchvision.nms.default: "nms",
}


class OperatorCount(TorchDispatchMode):
    """Counts the operators whose result has a size that only the device knows."""

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in OPERATORS:
            self.counts[OPERATORS[func]] += 1
        if func in (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default):
            chosen = [each for each in args[1] if each is not None]
            self.counts["boolean index"] += any(each.dtype == torch.bool for each in chosen)
        return func(*args, **(kwargs or {}))


@contextmanager
def counted(counts: Counter[str]):
    """Count all questions inside of it; those of the test itself as well."""
    originals = {name: getattr(Tensor, name) for name in QUESTIONS}

    def asking(name):
        def ask(self, *args, **kwargs):
            counts[name] += 1
            return originals[name](self, *args, **kwargs)

        return ask

    for name in QUESTIONS:
        setattr(Tensor, name, asking(name))
    try:
        with OperatorCount(counts):
            yield
    finally:
        for name, original in originals.items():
            setattr(Tensor, name, original)


def nonzero(counts: Counter[str]) -> dict[str, int]:
    return {name: number for name, number in counts.items() if number}


@pytest.mark.parametrize("num_parts", [1, 2])
@pytest.mark.parametrize("preset", ["nano", "panoptic_r50", "rt_r50", "r50_550_dcni3"])
def test_a_step_asks_the_device_for_the_number_of_positives_and_for_its_losses(preset, num_parts):
    names = ShapesDataset(1, seed=0).class_names
    config = PRESETS[preset] if preset == "nano" else thin(preset)
    config = replace(config, num_classes=len(names), num_stuff_classes=0)
    schedule = rescale(TRAIN_PRESETS["r50"], iterations=3, batch_size=2)
    schedule = replace(schedule, accumulate=num_parts, clip_norm=1.0)
    data = ShapesDataset(6, seed=3)
    transform = TrainTransform(train_sizes=(192,), max_size=192)
    batches = list(
        batches_from(
            0,
            schedule,
            num_images=len(data),
            load=SampleLoader(data, transform, mask_size=config.mask_size),
            collate=collate,
        )
    )
    state = TrainingState(BlendMask(config), schedule)
    step = TrainingStep(state.model)
    counts: list[Counter[str]] = []

    class Watched:
        """Counts from one step to the next; the optimizer builds its state in the first one."""

        def __iter__(self):
            for batch in batches:
                counts.append(Counter())
                with counted(counts[-1]):
                    yield batch

    assert train(
        state,
        step,
        Watched(),
        schedule,
        on_step=lambda record: None,
        on_checkpoint=lambda state: None,
        totals_of=step.criterion.totals,
    )
    # Positives: once a part, and once more a part where the counts have to be known beforehand.
    expected = {"nonzero": 1 if num_parts == 1 else 2 * num_parts, "tolist": 1}
    assert [nonzero(each) for each in counts[1:]] == [expected] * 2


@pytest.mark.parametrize("num_images", [1, 3])
def test_predict_asks_a_fixed_number_of_times_for_each_image(num_images):
    model = BlendMask(PRESETS["nano"]).eval()
    scenes = ShapesDataset(3, seed=5)
    images = [scenes.load(i).image for i in range(num_images)]
    counts: Counter[str] = Counter()
    with counted(counts):
        model.predict(images, score_threshold=0.0)
    # Candidates above the threshold, the best of each level, boxes with sides; and suppression.
    assert counts["nonzero"] == 3 * num_images
    assert counts["nms"] == num_images
    # What pasting asks on the CPU, it does not ask on a GPU: there it takes whole images.
    pasting = {"tolist": 3 * num_images, "repeat_interleave": 2 * num_images}
    assert nonzero(counts) == pasting | {"nonzero": 3 * num_images, "nms": num_images}
