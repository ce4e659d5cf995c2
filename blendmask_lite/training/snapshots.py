"""Snapshots: what a model predicts for a few images at one moment of its training, per object.

Detections come and go while the model learns. So every true object is followed at one fixed
location, with its true box: its attentions and its mask exist from the first step on. On disk a
snapshot is a small file of compact numbers, read without running code.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from blendmask_lite.config import InferenceConfig, ModelConfig
from blendmask_lite.datasets.sample import Sample, TrainingDataset
from blendmask_lite.datasets.transforms import resize_sample
from blendmask_lite.files import write_atomically
from blendmask_lite.images import resized_size
from blendmask_lite.masks import mask_iou, paste_masks
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.model.layers import evaluating
from blendmask_lite.structures import Detections, Target
from blendmask_lite.training.targets import object_locations

__all__ = [
    "PICTURES",
    "Arrays",
    "PictureSnapshot",
    "Snapshot",
    "Snapshots",
    "as_bytes",
    "choose_pictures",
    "from_bytes",
    "narrow",
    "part",
    "read_arrays",
    "read_snapshots",
    "snapshot_iterations",
    "step_files",
    "take_snapshot",
    "widen",
    "write_arrays",
    "write_pictures",
    "write_snapshot",
]

Arrays = Mapping[str, NDArray]
T = TypeVar("T")

MOST_OBJECTS = 12  # objects followed per image: the largest ones
MOST_DETECTIONS = 12  # detections kept per image: the best ones


@dataclass(frozen=True)
class PictureSnapshot:
    """One image at one moment: the N true objects that are followed, and the detections.

    Attributes:
        bases: (K, H/s, W/s), the bases of the padded input.
        location_index: (N,) int64, the location on the flattened pyramid that stands for each
            object, the same at all times.
        attentions: (N, k, m, m) raw attentions of these locations: K maps of M x M; single
            cells if the merger has one number per base.
        mask_probabilities: (N, R, R), the predicted masks over the true boxes.
        mask_iou: (N,) IoU of these masks with the true masks, computed on image pixels; 0 to 1.
        scores: (N,) sqrt(probability of the true class x centerness) at the locations.
        detections: the best detections, as `BlendMask.predict` returns them.
    """

    bases: Tensor
    location_index: Tensor
    attentions: Tensor
    mask_probabilities: Tensor
    mask_iou: Tensor
    scores: Tensor
    detections: Detections


@dataclass(frozen=True)
class Snapshot:
    """All images at one moment.

    Attributes:
        iteration: number of optimizer steps done; 0 is the model before training.
        pictures: one entry per image.
    """

    iteration: int
    pictures: tuple[PictureSnapshot, ...]


def snapshot_iterations(number: int, iterations: int) -> tuple[int, ...]:
    """Iterations of the snapshots: 0, the last, and more in between, denser early in training.

    Our choice: cubes of even steps. Even steps would miss the fast changes at the beginning, and
    exponential steps would miss the end.

    Args:
        number: number of snapshots, at least 2; a run of fewer iterations has fewer.
        iterations: length of the run.

    Raises:
        ValueError: `number` is below 2.
    """
    if number < 2:
        raise ValueError(f"{number} snapshots: at least 2, of the beginning and of the end")
    chosen = [-1]
    for place in range(number):
        cube = (place / (number - 1)) ** 3
        chosen.append(max(chosen[-1] + 1, round(cube * iterations)))
    return tuple(sorted({min(iteration, iterations) for iteration in chosen[1:]}))


def choose_pictures(
    dataset: TrainingDataset, inference: InferenceConfig, number: int
) -> tuple[Sample, ...]:
    """The first images with objects, at the model's test size.

    Args:
        dataset: data set to choose from.
        inference: `test_size` and `max_size` are read.
        number: largest number of images.

    Returns:
        Samples with masks; the 12 largest objects of each image, largest first.
    """
    chosen: list[Sample] = []
    for index in range(len(dataset)):
        if len(chosen) == number:
            break
        sample = dataset.load(index)
        height, width = sample.image.shape[-2:]
        size = resized_size((height, width), inference.test_size, inference.max_size)
        sample = resize_sample(sample, size)
        masks = sample.target.masks
        if masks is None:
            continue
        areas = masks.flatten(1).sum(dim=1)
        largest = areas.argsort(descending=True, stable=True)[:MOST_OBJECTS]
        largest = largest[areas[largest] > 0]
        if len(largest):
            target = Target(
                boxes=sample.target.boxes[largest],
                labels=sample.target.labels[largest],
                masks=masks[largest],
            )
            chosen.append(replace(sample, target=target))
    return tuple(chosen)


@torch.no_grad()
def take_snapshot(model: BlendMask, samples: Sequence[Sample]) -> tuple[PictureSnapshot, ...]:
    """Run the model on every image, in evaluation mode, then restore its mode.

    Args:
        model: the model to run.
        samples: images with masks, at the size that the model should get.

    Returns:
        One entry per sample, on the CPU.
    """
    with evaluating(model):
        return tuple(_look_at(model, sample) for sample in samples)


def _look_at(model: BlendMask, sample: Sample) -> PictureSnapshot:
    target = sample.target.to(model.device)
    assert target.masks is not None
    output = model([sample.image.to(model.device)])
    location, _ = object_locations(output, target, model.config)
    index = F.pad(location[:, None], (1, 0))  # (N, 2), image 0
    boxes = target.boxes.float()
    logits = model.masks_at(output, index, boxes).float()
    attentions = model.attentions_at(output, index).float()
    size = getattr(model.merger, "attention_size", 1)
    num_maps = attentions.shape[1] // size**2
    class_logits = output.class_logits[0, location, target.labels].float()
    centerness = output.centerness_logits[0, location].float().sigmoid()
    threshold = model.inference.mask_threshold
    height, width = sample.image.shape[-2:]
    pasted = paste_masks(logits, boxes, (height, width), threshold)
    found = model.find_objects(output, max_detections=MOST_DETECTIONS)[0]
    return PictureSnapshot(
        bases=output.bases[0].float().cpu(),
        location_index=location.cpu(),
        attentions=attentions.unflatten(1, (num_maps, size, size)).cpu(),
        mask_probabilities=logits.sigmoid().cpu(),
        mask_iou=mask_iou(pasted, target.masks).cpu(),
        scores=(class_logits.sigmoid() * centerness).sqrt().cpu(),
        detections=found.to("cpu"),
    )


FORMAT = 1  # increased when old readers would misunderstand the files
PICTURES = "pictures.npz"
STEP_NAME = re.compile(r"step-(\d{8})\.npz")
OF_OBJECTS = ("location_index", "mask_iou", "scores")
# Name in the file -> field of `Detections`.
OF_DETECTIONS = {
    "boxes": "boxes",
    "scores": "scores",
    "labels": "labels",
    "locations": "location_index",
    "proposals": "proposal_boxes",
}


@dataclass(frozen=True)
class Snapshots:
    """The moments of a training run; `snapshots[i]` reads the i-th in order of time.

    Attributes:
        path: the folder, or the zip archive.
        iterations: iteration of every moment.
        samples: the images and their true objects.
        config: the model's config.
        class_names: C names.
        stride: stride of the bases, in pixels.
        mask_threshold: probability from which a pixel belongs to a mask.
    """

    path: Path
    iterations: tuple[int, ...]
    samples: tuple[Sample, ...]
    config: ModelConfig
    class_names: tuple[str, ...]
    stride: int
    mask_threshold: float

    def __len__(self) -> int:
        return len(self.iterations)

    def __getitem__(self, index: int) -> Snapshot:
        """Read one moment.

        Raises:
            IndexError: there is no such moment.
            ValueError: its file is damaged.
        """
        name = _step_name(self.iterations[index])
        return read_arrays(self.path, name, self._unpack)

    def _unpack(self, arrays: Arrays) -> Snapshot:
        objects = [len(sample.target) for sample in self.samples]
        found = arrays["num_detections"].tolist()
        if len(found) != len(objects) or len(arrays["mask_iou"]) != sum(objects):
            raise ValueError("belongs to other pictures")
        pictures = tuple(
            PictureSnapshot(
                bases=widen(arrays[f"bases_{place}"], arrays[f"bases_{place}_scale"]),
                attentions=widen(
                    part(arrays, "attentions", objects, place),
                    part(arrays, "attentions_scale", objects, place),
                ),
                mask_probabilities=from_bytes(part(arrays, "mask_probabilities", objects, place)),
                detections=self._detections(arrays, found, place),
                **{name: _tensor(arrays, name, objects, place) for name in OF_OBJECTS},
            )
            for place in range(len(objects))
        )
        return Snapshot(iteration=int(arrays["iteration"]), pictures=pictures)

    def _detections(self, arrays: Arrays, counts: Sequence[int], place: int) -> Detections:
        height, width = self.samples[place].image.shape[-2:]
        probabilities = from_bytes(part(arrays, "detected_probabilities", counts, place))
        logits = probabilities.clamp(1 / 510, 1 - 1 / 510).logit()
        fields: dict[str, Any] = {
            field: _tensor(arrays, f"detected_{name}", counts, place)
            for name, field in OF_DETECTIONS.items()
        }
        size = (height, width)
        masks = paste_masks(logits, fields["boxes"], size, self.mask_threshold)
        return Detections(**fields, masks=masks, mask_logits=logits, image_size=size)


def read_snapshots(path: str | Path) -> Snapshots:
    """The snapshots of a training run.

    Args:
        path: the folder `snapshots` of a run, the run's folder, or a zip archive.

    Raises:
        FileNotFoundError: there are no snapshots.
        ValueError: a file is damaged, or comes from a newer version.
    """
    path = Path(path)
    if (path / "snapshots" / PICTURES).exists():
        path = path / "snapshots"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such folder or archive")
    if path.is_dir() and not (path / PICTURES).exists():
        raise FileNotFoundError(f"{path}: no snapshots here; `train --snapshots N` makes some")

    def unpack(arrays: Arrays) -> Snapshots:
        about = json.loads(str(arrays["about"]))
        if about["format"] != FORMAT:
            raise ValueError(
                f"format {about['format']!r}, this version reads {FORMAT}; update blendmask_lite"
            )
        return Snapshots(
            path=path,
            iterations=tuple(step_files(path)),
            samples=tuple(_read_sample(arrays, place) for place in range(about["num_pictures"])),
            # JSON has no tuples.
            config=ModelConfig(**{n: _tupled(value) for n, value in about["config"].items()}),
            class_names=tuple(about["class_names"]),
            stride=about["stride"],
            mask_threshold=about["mask_threshold"],
        )

    return read_arrays(path, PICTURES, unpack)


def step_files(path: Path) -> dict[int, str]:
    """Iteration -> file name of the snapshots in a folder or archive, in order of time."""
    if path.is_dir():
        names = [file.name for file in path.iterdir()]
    else:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    matches = [match for name in names if (match := STEP_NAME.fullmatch(name))]
    return dict(sorted((int(match[1]), match[0]) for match in matches))


def write_pictures(folder: Path, model: BlendMask, samples: Sequence[Sample]) -> None:
    """Write the images, their objects and the config, which all snapshots of a run share."""
    about = {
        "format": FORMAT,
        "num_pictures": len(samples),
        "config": asdict(model.config),
        "class_names": list(model.class_names),
        "stride": model.bottom.stride,
        "mask_threshold": model.inference.mask_threshold,
    }
    arrays: dict[str, Any] = {"about": np.array(json.dumps(about))}
    for place, sample in enumerate(samples):
        target = sample.target
        assert target.masks is not None
        arrays |= {
            f"image_{place}": sample.image.cpu().numpy(),
            f"boxes_{place}": target.boxes.cpu().float().numpy(),
            f"labels_{place}": target.labels.cpu().numpy(),
            f"masks_{place}": np.packbits(target.masks.cpu().numpy(), axis=-1),
            f"id_and_size_{place}": np.array([sample.image_id, *sample.original_size]),
        }
    write_arrays(folder / PICTURES, arrays)


def write_snapshot(folder: Path, snapshot: Snapshot) -> None:
    """Write one moment; an older file of the same iteration is replaced."""
    pictures = snapshot.pictures
    found = [picture.detections for picture in pictures]

    def joined(records: Sequence[object], field: str) -> Tensor:
        return torch.cat([getattr(record, field) for record in records])

    attentions, attentions_scale = narrow(joined(pictures, "attentions"))
    arrays: dict[str, Any] = {
        "iteration": np.array(snapshot.iteration),
        "attentions": attentions,
        "attentions_scale": attentions_scale,
        "mask_probabilities": as_bytes(joined(pictures, "mask_probabilities")),
        "num_detections": np.array(list(map(len, found))),
        "detected_probabilities": as_bytes(joined(found, "mask_logits").sigmoid()),
    }
    arrays |= {name: joined(pictures, name).numpy() for name in OF_OBJECTS}
    for name, field in OF_DETECTIONS.items():
        arrays[f"detected_{name}"] = joined(found, field).numpy()
    for place, picture in enumerate(pictures):
        arrays[f"bases_{place}"], arrays[f"bases_{place}_scale"] = narrow(picture.bases)
    write_arrays(folder / _step_name(snapshot.iteration), arrays)


def _step_name(iteration: int) -> str:
    return f"step-{iteration:08}.npz"


def _tensor(arrays: Arrays, name: str, counts: Sequence[int], place: int) -> Tensor:
    return torch.from_numpy(part(arrays, name, counts, place))


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _read_sample(arrays: Arrays, place: int) -> Sample:
    image = torch.from_numpy(arrays[f"image_{place}"])
    masks = np.unpackbits(arrays[f"masks_{place}"], axis=-1, count=image.shape[-1]).astype(bool)
    image_id, height, width = arrays[f"id_and_size_{place}"].tolist()
    target = Target(
        boxes=torch.from_numpy(arrays[f"boxes_{place}"]),
        labels=torch.from_numpy(arrays[f"labels_{place}"]),
        masks=torch.from_numpy(masks),
    )
    return Sample(image=image, target=target, image_id=image_id, original_size=(height, width))


# An archive may unpack to at most ROOM plus RATIO times its size. Real archives unpack to less than
# twice their size.
ROOM = 2**26  # bytes
RATIO = 100


def narrow(maps: Tensor) -> tuple[NDArray, NDArray]:
    """Signed maps as int8 with one scale per map: zero stays zero.

    Args:
        maps: (N, ...) float; NaN becomes zero, an infinite value a very large one.

    Returns:
        (N, ...) int8 and (N,) float32; their product is off by at most 1/254 of the map's
        largest magnitude.
    """
    maps = maps.float().nan_to_num(0.0, 1e30, -1e30)
    largest = maps.flatten(1).abs().amax(dim=1) if maps.numel() else maps.new_zeros(len(maps))
    scale = largest.clamp(min=1e-30) / 127
    values = (maps / scale.reshape(-1, *[1] * (maps.dim() - 1))).round().to(torch.int8)
    return values.numpy(), scale.numpy()


def widen(values: NDArray, scale: NDArray) -> Tensor:
    """The float32 maps from the result of `narrow`."""
    factors = torch.from_numpy(scale).reshape(-1, *[1] * (values.ndim - 1))
    return torch.from_numpy(values).float() * factors


def as_bytes(probabilities: Tensor) -> NDArray:
    """Probabilities of any shape as uint8."""
    return (probabilities.nan_to_num(0.0) * 255).round().to(torch.uint8).numpy()


def from_bytes(values: NDArray) -> Tensor:
    """The float32 probabilities from the result of `as_bytes`."""
    return torch.from_numpy(values).float() / 255


def part(arrays: Arrays, name: str, counts: Sequence[int], place: int) -> NDArray:
    """The rows of one image, out of an array that holds the rows of all images in order."""
    first = sum(counts[:place])
    rows = arrays[name][first : first + counts[place]]
    if len(rows) != counts[place]:
        raise ValueError(f"{name}: {len(arrays[name])} rows, expected {sum(counts)}")
    return rows


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write a compressed archive in one step; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    entries: dict[str, Any] = dict(arrays)
    np.savez_compressed(buffer, **entries)
    write_atomically(path, buffer.getvalue())


def read_arrays(folder: Path, name: str, unpack: Callable[[Arrays], T]) -> T:
    """The result of `unpack` for an archive in a folder, or in a zip archive of such a folder.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, unpacks to far more than its own size, or is not what `unpack`
            expects; the message names the file.
    """
    try:
        if folder.is_dir():
            content = (folder / name).read_bytes()
        else:
            with zipfile.ZipFile(folder) as archive:
                _require_modest([archive.getinfo(name)], folder.stat().st_size)
                content = archive.read(name)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _require_modest(archive.infolist(), len(content))
            arrays = {
                member.removesuffix(".npy"): np.lib.format.read_array(
                    io.BytesIO(archive.read(member)), allow_pickle=False
                )
                for member in archive.namelist()
            }
        return unpack(arrays)
    except FileNotFoundError:
        raise
    except KeyError as error:
        raise ValueError(f"{folder / name}: {error.args[0]} is missing") from None
    except MemoryError:
        raise ValueError(f"{folder / name}: the file is damaged (it declares too much)") from None
    except (ValueError, TypeError, RuntimeError, LookupError, AttributeError) as error:
        raise ValueError(f"{folder / name}: {error}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        raise ValueError(f"{folder / name}: the file is damaged ({error})") from None


def _require_modest(parts: Sequence[zipfile.ZipInfo], size: int) -> None:
    declared = sum(part.file_size for part in parts)
    if declared > ROOM + RATIO * size:
        raise ValueError(f"it declares {declared:,} bytes in an archive of {size:,}")
