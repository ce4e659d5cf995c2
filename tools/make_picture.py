"""Draws docs/images/overview.png, the README's picture, from the model `small`.

Usage: python tools/make_picture.py [FILE]
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import torch
from PIL import Image

from blendmask_lite import load_model, shipped_checkpoint
from blendmask_lite.datasets.shapes import draw_shapes
from blendmask_lite.figures import overview_figure
from blendmask_lite.files import write_atomically

TARGET = Path(__file__).resolve().parent.parent / "docs" / "images" / "overview.png"
SCENE = 20  # of seed 7: touching objects of several classes
MOST_BYTES = 400_000


@torch.no_grad()
def main(arguments: list[str]) -> None:
    target = Path(arguments[0]) if arguments else TARGET
    model = load_model(shipped_checkpoint("small"))
    scenes = draw_shapes(SCENE + 1, seed=7, size=model.inference.test_size)
    image = scenes.load(SCENE).image
    found = model.predict([image], score_threshold=0.3)[0]
    output = model([image])
    index = torch.stack([torch.zeros_like(found.location_index), found.location_index], dim=1)
    K, M = model.config.num_bases, model.config.attention_size
    figure = overview_figure(
        image,
        found,
        model.class_names,
        bases=output.bases[0],
        attentions=model.attentions_at(output, index).unflatten(1, (K, M, M)),
        stride=model.bottom.stride,
    )
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", facecolor="white")
    small = io.BytesIO()
    Image.open(drawn).convert("RGB").save(small, format="png", optimize=True)
    if len(small.getvalue()) > MOST_BYTES:
        raise SystemExit(f"{target}: {len(small.getvalue())} bytes, at most {MOST_BYTES} allowed")
    write_atomically(target, small.getvalue())
    print(f"{target}: {len(found)} objects, {len(small.getvalue()) / 1e3:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
