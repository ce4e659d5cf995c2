"""What the published models know: COCO's kinds of things and of stuff, in the labels' order."""

from __future__ import annotations

__all__ = ["COCO_STUFF", "COCO_THINGS", "COCO_THING_IDS"]

# Comma and newline separated, because names have spaces.
_THINGS = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant,
stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe,
backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite,
baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork,
knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake,
chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard,
cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush
"""
_STUFF = """
banner, blanket, bridge, cardboard, counter, curtain, door-stuff, floor-wood, flower, fruit, gravel,
house, light, mirror-stuff, net, pillow, platform, playingfield, railroad, river, road, roof, sand,
sea, shelf, snow, stairs, tent, towel, wall-brick, wall-stone, wall-tile, wall-wood, water-other,
window-blind, window-other, tree-merged, fence-merged, ceiling-merged, sky-other-merged,
cabinet-merged, table-merged, floor-other-merged, pavement-merged, mountain-merged, grass-merged,
dirt-merged, paper-merged, food-other-merged, building-other-merged, rock-merged,
wall-other-merged, rug-merged
"""

COCO_THINGS: tuple[str, ...] = tuple(_THINGS.strip().replace(",\n", ", ").split(", "))
COCO_STUFF: tuple[str, ...] = tuple(_STUFF.strip().replace(",\n", ", ").split(", "))

_UNUSED = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}  # COCO's numbers run to 90, with gaps
COCO_THING_IDS: tuple[int, ...] = tuple(i for i in range(1, 91) if i not in _UNUSED)
