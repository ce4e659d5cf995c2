"""A seeded fuzzer of COCO folders: `KINDS` lists what it does to a sound one.

A case is a pure function of seed and number. Most cases stay valid JSON, so that they get past
the parser and reach the code behind it.
"""

from __future__ import annotations

import copy
import io
import json
import os
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

__all__ = ["KINDS", "Case", "mutated", "write"]

HEIGHT, WIDTH = 10, 12
DEPTHS = (1, 5, 60, 400)
ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 7, 2**31, 2**32, 2**63, 2**70, -(2**70), 10**400),
    *(0.5, 3.0, -0.0, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), 1e-320),
    *("", "7", "x" * 3000, "\0", "\ud800", "naïve 漢字 🙂 \u202e", "../../x", "NaN"),
    *([], {}, [[]], [1] * 7, [None], {"id": 1}, [{}], [[[[[[]]]]]], {"size": [1, 1], "counts": ""}),
]


@dataclass
class Case:
    """A folder to be written.

    `raw` stands for the instances file, `files` are the others; None is a folder instead. A file
    named in `sparse` is made so long, without taking room on the disk.
    """

    kinds: list[str] = field(default_factory=list)
    instances: Any = None
    panoptic: Any = None
    raw: bytes | None = None
    files: dict[str, bytes | None] = field(default_factory=dict)
    sparse: dict[str, int] = field(default_factory=dict)

    @property
    def is_json(self) -> bool:
        """Whether the instances file is written as JSON."""
        return self.raw is None


Mutation = Callable[[Case, random.Random], None]
KINDS: dict[str, Mutation] = {}


def kind(name: str) -> Callable[[Mutation], Mutation]:
    def register(mutation: Mutation) -> Mutation:
        KINDS[name] = mutation
        return mutation

    return register


def mutated(seed: int, number: int) -> Case:
    """One case: kinds follow each other, and every third case gets a second one."""
    generator = random.Random(f"fuzz {seed} {number}")
    names = list(KINDS)
    case = sound_case()
    chosen = [names[number % len(names)]]
    if generator.random() < 1 / 3:
        chosen.append(generator.choice(names))
    for name in chosen:
        KINDS[name](case, generator)
        case.kinds.append(name)
    return case


def write(case: Case, folder: Path) -> None:
    """Write a case into an empty folder."""
    (folder / "annotations").mkdir(parents=True)
    for name, content in case.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(content)
    raw = json.dumps(case.instances).encode() if case.raw is None else case.raw
    for name, content in (("instances", raw), ("panoptic", case.panoptic)):
        path = folder / "annotations" / f"{name}_train.json"
        if content is not None and not path.exists():
            path.write_bytes(
                content if isinstance(content, bytes) else json.dumps(content).encode()
            )
    for name, length in case.sparse.items():
        os.truncate(folder / name, length)


def sound_case() -> Case:
    """Three pictures, six annotations in every form, and their panoptic files."""
    return copy.deepcopy(_SOUND)


def png(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", **options)
    return file.getvalue()


def _make_sound() -> Case:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[2:6, 3:8] = 1
    text = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    forms = [
        [[1, 1, 6, 1, 6, 5, 1, 5]],
        [[2, 2, 9, 3, 5, 8], [0, 0, 3, 0, 0, 3]],
        {"size": [HEIGHT, WIDTH], "counts": [30, 20, 70]},
        {"size": [HEIGHT, WIDTH], "counts": text},
    ]
    images = [
        {"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in (1, 2, 3)
    ]
    annotations = [
        {
            "id": 10 + i,
            "image_id": 1 + i % 2,
            "category_id": (1, 5)[i % 2],
            "segmentation": forms[i % 4],
            "area": 20,
            "bbox": [1, 1, 5, 4],
            "iscrowd": int(i == 2),
        }
        for i in range(6)
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 5, "name": "dog"}]
    segments = [
        {
            "image_id": i,
            "file_name": f"{i}.png",
            "segments_info": [
                {"id": 258, "category_id": 1, "area": 20},
                {"id": 3, "category_id": 9, "area": 90},
            ],
        }
        for i in (1, 2, 3)
    ]
    ids = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    ids[3:] = (3, 0, 0)
    ids[2:6, 3:8] = (2, 1, 0)
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    files: dict[str, bytes | None] = {}
    for i in (1, 2, 3):
        files[f"train/{i}.png"] = png(noise)
        files[f"annotations/panoptic_train/{i}.png"] = png(ids)
    return Case(
        instances={"images": images, "annotations": annotations, "categories": categories},
        panoptic={
            "annotations": segments,
            "categories": [
                *({**each, "isthing": 1} for each in categories),
                {"id": 9, "name": "grass", "isthing": 0},
            ],
        },
        files=files,
    )


_SOUND = _make_sound()


# ------------------------------------------------------------------ any place of the JSON


def places(content: Any) -> list[tuple[Any, Any]]:
    """(list or dictionary, index or key) of every value in a JSON tree."""
    found = []
    waiting = [content]
    while waiting:
        node = waiting.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node))
        for key in keys:
            found.append((node, key))
            if isinstance(node[key], dict | list):
                waiting.append(node[key])
    return found


def file_of(case: Case, generator: random.Random) -> Any:
    return case.instances if generator.random() < 0.75 else case.panoptic


def any_place(case: Case, generator: random.Random) -> tuple[Any, Any]:
    return generator.choice(places(file_of(case, generator)) or [([0], 0)])


def entry_of(case: Case, generator: random.Random, key: str) -> dict[str, Any]:
    """One that is still an entry."""
    entries = case.instances.get(key)
    entries = [each for each in entries if isinstance(each, dict)] if entries else []
    return generator.choice(entries) if entries else {}


@kind("a value anywhere becomes an odd one")
def _(case: Case, generator: random.Random) -> None:
    node, key = any_place(case, generator)
    node[key] = copy.deepcopy(generator.choice(ODD))


@kind("two values anywhere change places")
def _(case: Case, generator: random.Random) -> None:
    (node, key), (other, other_key) = any_place(case, generator), any_place(case, generator)
    first, second = copy.deepcopy(node[key]), copy.deepcopy(other[other_key])
    node[key] = second
    other[other_key] = first


@kind("a key or an element anywhere is gone")
def _(case: Case, generator: random.Random) -> None:
    node, key = any_place(case, generator)
    del node[key]


@kind("a key anywhere gets another name")
def _(case: Case, generator: random.Random) -> None:
    node, key = any_place(case, generator)
    if isinstance(node, dict):
        node[generator.choice([key.upper(), "", "id", "\ud800", key + " "])] = node.pop(key)


@kind("an element anywhere comes twice")
def _(case: Case, generator: random.Random) -> None:
    node, key = any_place(case, generator)
    if isinstance(node, list):
        node.insert(key, copy.deepcopy(node[key]))


@kind("a number anywhere is moved")
def _(case: Case, generator: random.Random) -> None:
    numbers = [
        (node, key)
        for node, key in places(file_of(case, generator))
        if type(node[key]) in (int, float)
    ]
    if numbers:
        node, key = generator.choice(numbers)
        change = generator.choice(
            [lambda x: x + 1, lambda x: -x, lambda x: x * 10**6, lambda x: x / 3, float, bool, str]
        )
        try:
            node[key] = change(node[key])
        except OverflowError:
            node[key] = 0


@kind("a value anywhere is wrapped into lists, up to 400 deep")
def _(case: Case, generator: random.Random) -> None:
    node, key = any_place(case, generator)
    value = node[key]
    for _ in range(generator.choice(DEPTHS)):
        value = [value]
    node[key] = value


@kind("a list anywhere is empty, or its first element 300 times")
def _(case: Case, generator: random.Random) -> None:
    lists = [
        (node, key) for node, key in places(file_of(case, generator)) if isinstance(node[key], list)
    ]
    if lists:
        node, key = generator.choice(lists)
        node[key] = [] if generator.random() < 0.5 else node[key][:1] * 300


@kind("a field is null, text or a fraction in every entry")
def _(case: Case, generator: random.Random) -> None:
    content = file_of(case, generator)
    names = sorted({key for node, key in places(content) if isinstance(node, dict)})
    name = generator.choice(names or [""])
    change = generator.choice([lambda value: None, str, lambda value: 1.5, lambda value: True])
    for node, key in places(content):
        if key == name and isinstance(node, dict) and not isinstance(node[key], list | dict):
            node[key] = change(node[key])


@kind("two of the lists change places")
def _(case: Case, generator: random.Random) -> None:
    content = file_of(case, generator)
    if isinstance(content, dict) and len(content) > 1:
        first, second = generator.sample(sorted(content), 2)
        content[first], content[second] = content[second], content[first]


# ------------------------------------------------------------------ ids, sizes and names


@kind("an id is odd, unknown, or another's")
def _(case: Case, generator: random.Random) -> None:
    key = generator.choice(["images", "annotations", "categories"])
    entry = entry_of(case, generator, key)
    name = generator.choice(["id", "image_id", "category_id"])
    ids: list[Any] = [1, 2, 5, 10, 99, "1", 1.0, True, None, 2**70, -1, 0, 2**63, [1], {}]
    entry[name] = generator.choice(ids)


@kind("an image claims another size, up to 10^9 x 10^9")
def _(case: Case, generator: random.Random) -> None:
    sides: list[Any] = [
        *(0, -1, 1, WIDTH + 1, 10**9, 60000, 2**31, 2**32 + WIDTH, 2**64, 12.0, "10", None, True)
    ]
    entry = entry_of(case, generator, "images")
    for name in generator.choice([["height"], ["width"], ["height", "width"]]):
        entry[name] = generator.choice(sides)


@kind("a box, an area or a crowd flag is odd")
def _(case: Case, generator: random.Random) -> None:
    entry = entry_of(case, generator, "annotations")
    name = generator.choice(["bbox", "area", "iscrowd"])
    value = copy.deepcopy(generator.choice(ODD))
    if name == "bbox" and generator.random() < 0.7:
        value = [generator.choice([0, -5, 3.5, 1e9, 1e308, value]) for _ in range(4)]
    entry[name] = value


@kind("a file name leads elsewhere, or is none")
def _(case: Case, generator: random.Random) -> None:
    names = [
        *("../secret.png", "/etc/passwd", "a\0b.png", "", ".", "..", "x" * 5000, "nothing.png"),
        *("train", "./1.png", "1.png/", "..\\1.png", "\ud800.png", "漢字🙂.png", "1.PNG"),
        *("sub/../1.png", "\n.png", "con", "//1.png", "~/1.png", "annotations", "\u202e.png"),
    ]
    entries = case.instances.get("images") if generator.random() < 0.7 else None
    entries = case.panoptic.get("annotations") if entries is None else entries
    entries = [each for each in entries or [] if isinstance(each, dict)]
    if entries:
        generator.choice(entries)["file_name"] = generator.choice(names)


# ------------------------------------------------------------------ masks


def set_mask(case: Case, generator: random.Random, segmentation: Any) -> None:
    entry_of(case, generator, "annotations")["segmentation"] = segmentation


@kind("a polygon has odd corners")
def _(case: Case, generator: random.Random) -> None:
    number = generator.choice([0, 1, 4, 5, 6, 7, 8, 20])
    odd = generator.choice(
        [1, -30, 1e4, 1e6, 1e9, 1e308, 2**40, 2**70, 10**400, float("nan"), "3", None, True, []]
    )
    polygon = [generator.uniform(-3, 15) for _ in range(number)]
    if polygon:
        polygon[generator.randrange(number)] = odd
    set_mask(case, generator, [polygon] * generator.choice([1, 2, 40]))


@kind("an outline is endless: many corners, far away, or a thousand polygons")
def _(case: Case, generator: random.Random) -> None:
    number, reach = generator.choice(
        [(30_000, 12), (30_000, 1e5), (2000, 1e3), (8, 9e5), (400, 1.9e6), (1100, 50)]
    )
    polygon = [generator.uniform(-reach, reach) for _ in range(2 * number)]
    if generator.random() < 0.2:
        set_mask(case, generator, [polygon[i : i + 6] for i in range(0, 6000, 6)])
    else:
        set_mask(case, generator, [polygon])


@kind("a list of run lengths is garbage")
def _(case: Case, generator: random.Random) -> None:
    total = HEIGHT * WIDTH
    counts: list[Any] = [
        [],
        [total],
        [0, total],
        [total + 1],
        [-1, total + 1],
        [2**32 + total],
        [2**70, total - 2**70],
        [1] * total,
        [0] * 50_000 + [total],
        [True] * total,
        [float(total)],
        ["120"],
        [[total]],
        [None],
        [total, 0, 0.0],
        [10**400],
        total,
        None,
        {},
    ]
    size = [HEIGHT, WIDTH]
    set_mask(case, generator, {"size": size, "counts": generator.choice(counts)})


@kind("compressed run lengths are garbage, or expand to absurd sizes")
def _(case: Case, generator: random.Random) -> None:
    letters = "".join(chr(code) for code in range(48, 112))
    noise = "".join(generator.choice(letters) for _ in range(generator.choice([1, 5, 200])))
    texts: list[Any] = [
        *("", noise, "o" * 100_000, "o" * 5 + "0", "ooooooooooooooo0", "P" * 9, "0" * 20_000),
        *(chr(generator.randrange(1, 128)) * 3, "é", "\ud800", "\0", "~", "?" * 8, None, 5, [], {}),
        # Runs as long as 32 bits hold, two of which come around to the image's size.
        *("`oooo1", "ooooo0ooooo0", "n3" * 60_000),
    ]
    set_mask(case, generator, {"size": [HEIGHT, WIDTH], "counts": generator.choice(texts)})


@kind("good run lengths lose, gain or change characters")
def _(case: Case, generator: random.Random) -> None:
    text = list(_SOUND.instances["annotations"][3]["segmentation"]["counts"])
    for _ in range(generator.choice([1, 1, 3])):
        place = generator.randrange(len(text))
        text[place : place + 1] = generator.choice(["", "0", "o", text[place] * 2, "é"])
    set_mask(case, generator, {"size": [HEIGHT, WIDTH], "counts": "".join(text)})


@kind("run lengths are for another size")
def _(case: Case, generator: random.Random) -> None:
    sizes: list[Any] = [
        *([WIDTH, HEIGHT], [10**9, 10**9], [0, 0], [-10, -12], [10.0, 12.0], ["10", "12"]),
        *(None, 120, [120], [10, 12, 1], [[10, 12]], "10", {}, [2**70, 1], [True, 120]),
    ]
    segmentation = {"size": generator.choice(sizes), "counts": generator.choice([[120], "h3", []])}
    set_mask(case, generator, segmentation)


@kind("crowds have polygons, objects have none")
def _(case: Case, generator: random.Random) -> None:
    entry = entry_of(case, generator, "annotations")
    entry["iscrowd"] = generator.choice([0, 1, True, 1.0])
    entry["segmentation"] = generator.choice([[], [[0, 0, 5, 0, 5, 5]], {}, [[]], None, ""])


# ------------------------------------------------------------------ picture files


def picture_name(generator: random.Random) -> str:
    folder = generator.choice(["train", "train", "annotations/panoptic_train"])
    return f"{folder}/{generator.choice([1, 2, 3])}.png"


def chunk(name: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + check


def png_of(width: int, height: int, *chunks: bytes, depth: int = 8, colors: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colors, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", header), *chunks, chunk(b"IEND", b"")])


@kind("a picture is empty, gone, a folder, text, or cut off")
def _(case: Case, generator: random.Random) -> None:
    name = picture_name(generator)
    whole = case.files[name] or b""
    cut = generator.randrange(len(whole) or 1)
    case.files[name] = generator.choice([b"", None, b"<svg/>", whole[:cut], whole[:40], b"\0" * 99])
    if generator.random() < 0.2:
        del case.files[name]


@kind("bytes of a picture are changed")
def _(case: Case, generator: random.Random) -> None:
    name = picture_name(generator)
    data = bytearray(case.files.get(name) or b"")
    if generator.random() < 0.5:  # in other formats damage is not found by check sums
        file = io.BytesIO()
        kinds = ["JPEG", "GIF", "BMP", "TIFF", "PPM", "WEBP", "TGA", "PCX", "ICO"]
        Image.new("RGB", (WIDTH, HEIGHT), (9, 99, 199)).save(file, generator.choice(kinds))
        data = bytearray(file.getvalue())
    for _ in range(generator.choice([1, 3, 20])):
        if data:
            data[generator.randrange(len(data))] = generator.randrange(256)
    case.files[name] = bytes(data)


@kind("a picture is a decompression bomb")
def _(case: Case, generator: random.Random) -> None:
    side = generator.choice([12_000, 60_000, 2**31 - 1])
    bombs = [
        png_of(side, side, chunk(b"IDAT", zlib.compress(b"\0" * 100_000))),
        png_of(WIDTH, HEIGHT, chunk(b"IDAT", zlib.compress(b"\0" * 5_000_000))),
        png_of(WIDTH, HEIGHT, chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 5_000_000))),
        png_of(WIDTH, HEIGHT, chunk(b"iCCP", b"a\0\0" + zlib.compress(b"\0" * 5_000_000))),
        b"P6 %d %d 255\n" % (side, side),
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 99, 0, 0, 54, 40, side, side, 1, 24, *[0] * 6),
        b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\0\0" + b"\0" * 6 + b";",
    ]
    case.files[picture_name(generator)] = generator.choice(bombs)
    if generator.random() < 0.5:
        entry_of(case, generator, "images").update(height=side, width=side)


@kind("a picture is of another size, mode or format")
def _(case: Case, generator: random.Random) -> None:
    size = generator.choice([(WIDTH, HEIGHT)] * 3 + [(HEIGHT, WIDTH), (1, 1), (300, 200)])
    modes = {"PNG": ["1", "L", "LA", "P", "RGBA", "I;16"], "JPEG": ["L", "CMYK"], "TIFF": ["F"]}
    form = generator.choice(list(modes))
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = generator.choice([1, 6, 9, 77])
    mode = generator.choice(modes[form])
    image = Image.new(mode, size)
    garbage = b"" if form == "TIFF" else b"Exif\0\0garbage"
    image.save(file, form, exif=generator.choice([exif.tobytes(), garbage, b""]))
    case.files[picture_name(generator)] = file.getvalue()


# ------------------------------------------------------------------ panoptic files


@kind("segments of a panoptic annotation do not fit")
def _(case: Case, generator: random.Random) -> None:
    entries = [each for each in case.panoptic.get("annotations") or [] if isinstance(each, dict)]
    entry = generator.choice(entries or [{}])
    ids: list[Any] = [0, 3, 258, 2**24, 2**70, -1, "3", 3.0, None, True]
    entry["segments_info"] = [
        {"id": generator.choice(ids), "category_id": generator.choice([1, 5, 9, 9, 77, None])}
        for _ in range(generator.randrange(4))
    ]


@kind("categories of a panoptic file are odd")
def _(case: Case, generator: random.Random) -> None:
    categories = generator.choice(
        [
            [],
            [{"id": i, "name": f"{i}", "isthing": int(i == 1)} for i in range(1, 400)],
            [{"id": i, "name": "x", "isthing": 1} for i in (1, 5, 9)],
            [{"id": i, "name": "x", "isthing": "0"} for i in (1, 5, 9)],
            [{"id": 9, "name": "x", "isthing": 0}] * 2,
        ]
    )
    case.panoptic["categories"] = categories


# ------------------------------------------------------------------ the file as a whole


def text_of(case: Case) -> str:
    return json.dumps(case.instances)


@kind("the file is cut off")
def _(case: Case, generator: random.Random) -> None:
    text = text_of(case)
    case.raw = text[: generator.randrange(len(text))].encode()


@kind("the file has another encoding")
def _(case: Case, generator: random.Random) -> None:
    text = json.dumps(case.instances, ensure_ascii=False).replace("cat", "chât")
    codings = ["utf-8-sig", "utf-16", "utf-32", "latin-1", "utf-16-le", "cp037"]
    case.raw = text.encode(generator.choice(codings), "replace")


@kind("the file is other JSON, or something else")
def _(case: Case, generator: random.Random) -> None:
    raws = [
        *(b"", b" ", b"[]", b"{}", b"null", b"5", b'"text"', b"\0" * 100, b"\xff\xfe", b"NaN"),
        *(b"{'images': []}", b'{"images": [], "images": 5}', b"[" * 100_000, b'{"a":' * 50_000),
        *(b'{"images": [' + b"9" * 6000 + b"]}", b"PK\x03\x04" + b"\0" * 50, b"{}{}", b"\x1f\x8b"),
        text_of(case).encode() + b"garbage",
        text_of(case).replace('"id"', '"id": 3, "id"').encode(),
        text_of(case).replace("10", "1e999").encode(),
        text_of(case).replace(", ", " , // comment\n").encode(),
    ]
    case.raw = generator.choice(raws)


@kind("the file is a folder, or of 3 GB")
def _(case: Case, generator: random.Random) -> None:
    name = generator.choice(["instances", "panoptic"])
    path = f"annotations/{name}_train.json"
    if generator.random() < 0.5:
        case.files[path] = None
    else:
        case.files[path] = b"{"
        case.sparse[path] = 3 * 10**9
    if name == "instances":
        case.raw = b""
