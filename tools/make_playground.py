"""Builds the playground, a page that runs BlendMask in the browser: `make playground`.

Usage: python tools/make_playground.py [--output FOLDER] [--models NAME,NAME] [--serve]

The page's own files are in playground/. This adds the models, the runtime that computes them,
the scenes and the photographs. The runtime comes from the npm registry and needs `npm`.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from blendmask_lite import load_model, shipped_checkpoint
from blendmask_lite.boxes import scale_boxes
from blendmask_lite.datasets.coco import CocoDataset
from blendmask_lite.datasets.sample import Sample
from blendmask_lite.datasets.shapes import SHAPE_CLASSES, ShapesConfig, draw_scene
from blendmask_lite.datasets.shapes.hard_cases import draw_hard_case
from blendmask_lite.datasets.shapes.scene import scene_sample
from blendmask_lite.images import resize_for_test
from blendmask_lite.model.blendmask import BlendMask
from blendmask_lite.research.race import ON_THE_WALL, load_contestant, load_features
from blendmask_lite.structures import Target
from blendmask_lite.training.targets import object_locations
from blendmask_lite.weights.export import export_onnx, smallest_side

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
PAGE = ROOT / "playground"
PHOTOS = ROOT / "data" / "photos"
EQUATIONS = ROOT / "blendmask_lite" / "lab" / "static" / "equations.js"

RUNTIME = "onnxruntime-web@1.30.0"
RUNTIME_SHA512 = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
RUNTIME_FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
)
RUNTIME_LICENCE = """onnxruntime-web 1.30.0, from the npm registry. MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES
OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""

SCENE_SIZE = 192  # pixels, the test size of `small`
HELD_OUT = 2027  # a seed that no training of this project uses
THUMBNAIL = 120  # longer side, pixels


class Shown(NamedTuple):
    """A picture of the page: an entry of the data set of seed HELD_OUT, or a hard case."""

    key: str
    title: str
    index: int = 0
    case: str = ""
    seed: int = 0


# Easy ones first.
SCENES = (
    Shown("paws", "Paws, a ring, a mug", index=20),
    Shown("party", "A mug, a cat, a fish", index=5),
    Shown("mixed", "Rings, a fish, a star", index=16),
    Shown("turns", "Paws and rings", index=23),
    Shown("fruit", "Crescents and a mug", index=15),
    Shown("twins", "Touching twins", case="touching twins", seed=33),
    Shown("star", "A star in a ring", case="star in ring", seed=30),
    Shown("fish", "Overhang", case="overhang", seed=31),
    Shown("worms", "Crossing worms", case="crossing worms", seed=32),
    Shown("three", "Three with one centre", case="three with one center", seed=31),
    Shown("rings", "Golden rings", index=24),
    Shown("mugs", "A heap of mugs", index=26),
)
PHOTO_TITLES = {
    "dog": "A dog",
    "cat": "Chelsea, a cat",
    "astronaut": "Eileen Collins",
    "coffee": "Coffee",
    "boats": "Nagasaki, about 1865",
    "mariachi": "Mariachi",
    "sheep": "A March pastoral, 1888",
    "opera": "At the opera",
}


class About(NamedTuple):
    """What the page says of a model, and from which score on it shows objects."""

    title: str
    knows: str
    unseen: str
    score: float


MODELS = {
    "small": About(
        "Toys (small)",
        "This model has learned eight drawn shapes. On 200 new scenes, the average precision of "
        "its masks (mask AP) is 75.5 of 100.",
        "This model has only ever seen drawn shapes. On a photograph it guesses.",
        0.4,
    ),
    "nano": About(
        "Toys, coarse (nano)",
        "This model has learned eight drawn shapes at 128 pixels, with attentions of 7 x 7.",
        "This model has only ever seen drawn shapes. On a photograph it guesses.",
        0.4,
    ),
    "photos": About(
        "Photographs (photos)",
        "This model learned from only 470 photographs and finds badly: on new ones, the average "
        "precision of its masks (mask AP) is 5.3 of 100, for large objects 12.6. It does not know "
        "what an object is called.",
        "This model has only ever seen photographs, never a drawn shape.",
        0.4,
    ),
}


def build(folder: Path, *, models: Sequence[str] = ("small", "photos")) -> Path:
    """Write the whole page into a folder, which is replaced.

    Args:
        folder: may be put on any static server afterwards.
        models: names of shipped models; the page starts with the first.

    Raises:
        RuntimeError: the runtime cannot be had, because there is no npm or no registry.
    """
    runtime = fetch_runtime()
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(PAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(EQUATIONS, folder / EQUATIONS.name)
    shutil.copytree(runtime, folder / "runtime")
    for name in ("models", "pictures"):
        (folder / name).mkdir()
    catalogue = {
        "models": [write_model(name, folder / "models") for name in models],
        "pictures": [*write_scenes(folder / "pictures"), *write_photos(folder / "pictures")],
    }
    (folder / "catalogue.json").write_text(json.dumps(catalogue), encoding="utf-8")
    return folder


# ---------------------------------------------------------------- the runtime


def fetch_runtime() -> Path:
    """The folder with the runtime's files, fetched from the npm registry once.

    Raises:
        RuntimeError: there is no npm, no registry, or the package is not the pinned one.
    """
    folder = BUILD / "npm" / RUNTIME
    if folder.exists():
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError(f"{RUNTIME} comes from the npm registry: install npm")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        packed = subprocess.run(
            [npm, "pack", RUNTIME, "--silent", "--pack-destination", place],
            capture_output=True,
            text=True,
            timeout=300,
        )
        if packed.returncode != 0:
            raise RuntimeError(f"npm pack {RUNTIME}: {packed.stderr.strip()[-300:]}")
        [archive] = Path(place).glob("*.tgz")
        found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != RUNTIME_SHA512:
            raise RuntimeError(f"{RUNTIME}: its SHA-512 is {found}, expected {RUNTIME_SHA512}")
        parts = Path(place) / "parts"
        parts.mkdir()
        with tarfile.open(archive) as content:
            for name in RUNTIME_FILES:
                source = content.extractfile(f"package/dist/{name}")
                assert source is not None
                (parts / name).write_bytes(source.read())
        (parts / "LICENSE.txt").write_text(RUNTIME_LICENCE, encoding="utf-8")
        parts.rename(folder)
    return folder


# ---------------------------------------------------------------- models


def write_model(name: str, folder: Path) -> dict[str, Any]:
    """Export a shipped model, and return what the page has to know of it."""
    checkpoint = shipped_checkpoint(name)
    model = load_model(checkpoint)
    shutil.copy(exported(name, checkpoint, model), folder / f"{name}.onnx")
    config, settings, about = model.config, model.inference, MODELS[name]
    return {
        "key": name,
        "title": about.title,
        "knows": about.knows,
        "unseen": about.unseen,
        "score": about.score,
        "kind": "photo" if name == "photos" else "scene",
        "file": f"models/{name}.onnx",
        "classes": list(model.class_names),
        "testSize": settings.test_size,
        "maxSize": settings.max_size,
        "leastSide": smallest_side(model),
        "maskThreshold": settings.mask_threshold,
        "K": config.num_bases,
        "M": config.attention_size,
        "R": config.mask_size,
        "interpolation": config.attention_interpolation,
    }


def exported(name: str, checkpoint: Path, model: BlendMask) -> Path:
    """The model's ONNX file with weights in float16, made again only if something changed."""
    digest = hashlib.sha256(checkpoint.read_bytes())
    digest.update(torch.__version__.encode())
    for path in sorted((ROOT / "blendmask_lite" / "weights").glob("*.py")):
        digest.update(path.read_bytes())
    for path in sorted((ROOT / "blendmask_lite" / "model").rglob("*.py")):
        digest.update(path.read_bytes())
    file = BUILD / "explored" / f"{name}-{digest.hexdigest()[:16]}.onnx"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            # torchvision's rule for NMS calls a function of torch by its old name.
            warnings.simplefilter("ignore", FutureWarning)
            export_onnx(model, file, precision="float16", explore=True)
    return file


# ---------------------------------------------------------------- pictures


def write_scenes(folder: Path) -> Iterator[dict[str, Any]]:
    """Draw the scenes; a PNG, a thumbnail, the true objects and the rivals' numbers of each."""
    config = ShapesConfig(size=SCENE_SIZE)
    features = load_features()
    rivals = [load_contestant(features, name) for name in ON_THE_WALL]
    for shown in SCENES:
        if shown.case:
            scene = draw_hard_case(shown.case, seed=shown.seed, size=SCENE_SIZE)
        else:
            scene = draw_scene(HELD_OUT, shown.index, config)
        sample = scene_sample(scene, 0)
        picture = as_image(sample.image)
        picture.save(folder / f"{shown.key}.png", optimize=True)
        names = [SHAPE_CLASSES[label] for label in sample.target.labels.tolist()]
        about = entry("scene", shown.key, shown.title, f"{shown.key}.png", picture, folder)
        yield about | {"rivals": f"pictures/{shown.key}.rivals.json"}
        write_truth(folder, shown.key, sample, names)
        seen = [as_seen_by(rival, sample) for rival in rivals]
        (folder / f"{shown.key}.rivals.json").write_text(json.dumps(seen), encoding="utf-8")


def write_photos(folder: Path) -> Iterator[dict[str, Any]]:
    """Copy the photographs; a thumbnail and the true objects of each."""
    dataset = CocoDataset(PHOTOS, "photos")
    by_name = {
        dataset.image_path(image_id).stem: index for index, image_id in enumerate(dataset.image_ids)
    }
    for key, title in PHOTO_TITLES.items():
        source = PHOTOS / "images" / f"{key}.jpg"
        shutil.copy(source, folder / source.name)
        sample = dataset.load(by_name[key])
        names = [dataset.class_names[label] for label in sample.target.labels.tolist()]
        with Image.open(source) as picture:
            yield entry("photo", key, title, source.name, picture, folder)
        write_truth(folder, key, sample, names)
    shutil.copy(PHOTOS / "README.md", folder / "README.md")


def entry(
    kind: str, key: str, title: str, file: str, picture: Image.Image, folder: Path
) -> dict[str, Any]:
    """What the page has to know of a picture; its thumbnail is written."""
    small = picture.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    small.save(folder / f"{key}.thumbnail.jpg", quality=80)
    width, height = picture.size
    return {
        "key": key,
        "kind": kind,
        "title": title,
        "file": f"pictures/{file}",
        "thumbnail": f"pictures/{key}.thumbnail.jpg",
        "truth": f"pictures/{key}.json",
        "width": width,
        "height": height,
    }


def write_truth(folder: Path, key: str, sample: Sample, names: list[str]) -> None:
    """The true objects: name, box and run lengths of the mask, row by row, zeros first."""
    assert sample.target.masks is not None
    objects = [
        {"name": name, "box": box, "runs": run_lengths(mask)}
        for name, box, mask in zip(
            names, sample.target.boxes.tolist(), sample.target.masks, strict=True
        )
    ]
    height, width = sample.image.shape[-2:]
    truth = {"height": height, "width": width, "objects": objects}
    (folder / f"{key}.json").write_text(json.dumps(truth), encoding="utf-8")


@torch.no_grad()
def as_seen_by(rival: BlendMask, sample: Sample) -> dict[str, Any]:
    """What a network of chapter 10's race makes of a scene: its bases, and each true object's
    numbers, from the location that learns the object.

    The three networks have 5 MB in float16; this has a tenth of a megabyte for all of them.
    """
    config, settings = rival.config, rival.inference
    image = resize_for_test(sample.image, settings.test_size, settings.max_size)
    output = rival([image])
    boxes = scale_boxes(sample.target.boxes, sample.image.shape[-2:], image.shape[-2:])
    locations, _ = object_locations(output, Target(boxes, sample.target.labels), config)
    index = torch.stack([torch.zeros_like(locations), locations], dim=1)
    is_yolact = config.merger == "weighted_sum"
    return {
        "method": config.merger,
        "width": image.shape[-1],  # of the picture for this network, pixels
        "stride": rival.bottom.stride,
        "K": config.num_bases,
        "M": 1 if is_yolact else config.attention_size,
        "R": config.mask_size,
        "H": output.bases.shape[-2],
        "W": output.bases.shape[-1],
        "interpolation": config.attention_interpolation,
        "hasTanh": is_yolact,
        "hasRelu": is_yolact,
        "bases": in_half_precision(output.bases),
        "numbers": in_half_precision(rival.attentions_at(output, index)),
    }


def in_half_precision(values: Tensor) -> str:
    """The values as float16, little end first, in base64."""
    return base64.b64encode(values.numpy().astype("<f2").tobytes()).decode()


def run_lengths(mask: Tensor) -> list[int]:
    """(H, W) bool -> lengths of the runs of equal pixels, row by row; the first run is of zeros."""
    flat = torch.cat([torch.zeros(1, dtype=torch.bool), mask.flatten()])
    changes = (flat[1:] != flat[:-1]).nonzero()[:, 0]
    edges = torch.cat([torch.zeros(1, dtype=torch.int64), changes, torch.tensor([mask.numel()])])
    return edges.diff().tolist()


def as_image(image: Tensor) -> Image.Image:
    """(3, H, W) uint8 -> a PIL image."""
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def main(arguments: list[str]) -> int:
    """Build the page, and serve it if asked; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=BUILD / "playground", metavar="FOLDER")
    parser.add_argument(
        "--models",
        default="small,photos",
        metavar="NAMES",
        help=f"of {', '.join(MODELS)}; the page starts with the first (default: small,photos)",
    )
    parser.add_argument("--serve", action="store_true", help="then serve it and open a browser")
    options = parser.parse_args(arguments)
    names = options.models.split(",")
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        parser.error(f"--models {unknown[0]}: there are {', '.join(MODELS)}")
    try:
        build(options.output, models=names)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in options.output.rglob("*") if path.is_file())
    print(f"{options.output}: {size / 1e6:.0f} MB; python {options.output}/serve.py serves it")
    if options.serve:
        return subprocess.call([sys.executable, str(options.output / "serve.py")])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
