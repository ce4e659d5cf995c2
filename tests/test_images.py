"""Reading image files: every mode becomes RGB as it is seen, and what is no image is named."""

import os
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from blendmask_lite import images
from blendmask_lite.images import read_image, read_stored_colors, read_stored_image


@pytest.fixture(autouse=True)
def _not_yet_warned(monkeypatch):
    monkeypatch.setattr(images, "_warned", [])


def saved(image, path, **options):
    image.save(path, **options)
    return path


def turned(path, orientation, size=(40, 20)):
    """A picture of `size` (width, height) whose left half is red, with an EXIF orientation."""
    image = Image.new("RGB", size)
    image.paste((255, 0, 0), (0, 0, size[0] // 2, size[1]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image, path, exif=exif)


def claiming(path, side):
    """A PNG file of some bytes that says it has side x side pixels."""

    def chunk(kind, data):
        code = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", code)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + body)
    return path


# ------------------------------------------------------------------ orientation


@pytest.mark.parametrize("form", ["jpg", "png"])
def test_an_own_picture_stands_upright_and_an_annotated_one_as_it_is_stored(tmp_path, form):
    path = turned(tmp_path / f"turned.{form}", 6)  # by a quarter, clockwise: left becomes top
    upright, stored = read_image(path), read_stored_image(path, (20, 40))
    assert upright.shape == (3, 40, 20) and stored.shape == (3, 20, 40)
    assert upright[0, :16].min() > 200 and upright[0, 24:].max() < 50
    assert stored[0, :, :16].min() > 200 and stored[0, :, 24:].max() < 50


def test_a_tiff_file_is_upright_for_every_reader_as_pillow_turns_it(tmp_path):
    path = turned(tmp_path / "turned.tif", 6)
    upright, stored = read_image(path), read_stored_image(path, (40, 20))
    assert torch.equal(upright, stored)
    assert upright[0, :20].min() == 255 and upright[0, 20:].max() == 0


def test_annotations_that_fit_only_the_upright_picture_are_told_apart(tmp_path):
    path = turned(tmp_path / "turned.jpg", 6)
    with pytest.raises(ValueError, match=r"turned\.jpg: is 40 x 20.*only if.*orientation 6"):
        read_stored_image(path, (40, 20))
    with pytest.raises(ValueError, match=r"turned\.jpg: is 40 x 20.*stored pixels count"):
        read_stored_image(path, (40, 21))
    straight = saved(Image.new("RGB", (40, 20)), tmp_path / "straight.jpg")
    with pytest.raises(ValueError, match=r"straight\.jpg: is 40 x 20.*stored pixels count"):
        read_stored_image(straight, (40, 20))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # of Pillow
@pytest.mark.parametrize("damage", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_a_damaged_orientation_turns_nothing(tmp_path, damage):
    path = saved(Image.new("RGB", (40, 20)), tmp_path / "a.jpg", exif=damage)
    assert read_image(path).shape == (3, 20, 40)


# ------------------------------------------------------------------ depth and colour


@pytest.mark.parametrize("form", ["png", "tif"])
def test_sixteen_bit_grey_is_read_by_its_high_byte_with_one_warning(tmp_path, form):
    values = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257  # from 0 to 65535
    paths = [saved(Image.fromarray(values), tmp_path / f"{name}.{form}") for name in "ab"]
    with pytest.warns(UserWarning, match=rf"a\.{form} has grey values of 16 bits, up to 65535"):
        first = read_image(paths[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = read_stored_image(paths[1], (16, 16))
    assert first[0].flatten().tolist() == list(range(256))
    assert torch.equal(first, second)


@pytest.mark.parametrize("kind", ["<u2", ">u2", "<i4"])
def test_sixteen_bit_grey_of_either_byte_order_is_no_white_picture(tmp_path, kind):
    values = np.linspace(0, 40_000, 256).astype(kind).reshape(16, 16)
    path = saved(Image.fromarray(values), tmp_path / "a.tif")
    with pytest.warns(UserWarning, match="up to 40000"):
        image = read_image(path)
    assert image[0].flatten().tolist() == [each // 256 for each in values.flatten().tolist()]


def test_eight_bit_values_in_sixteen_bits_stay_as_they_are(tmp_path):
    values = np.arange(256, dtype=np.uint16).reshape(16, 16)
    path = saved(Image.fromarray(values), tmp_path / "a.png")
    assert read_image(path)[0].flatten().tolist() == list(range(256))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((4, 4), 70_000, dtype=np.int32), "70000, beyond 16 bits"),
        (np.full((4, 4), -1, dtype=np.int32), "-1 to -1, beyond 16 bits"),
        (np.full((4, 4), 0.5, dtype=np.float32), "floating-point"),
    ],
)
def test_values_of_no_known_range_are_refused(tmp_path, values, message):
    path = saved(Image.fromarray(values), tmp_path / "a.tif")
    with pytest.raises(ValueError, match=rf"a\.tif: cannot be read as a picture.*{message}"):
        read_image(path)


def palette_with_transparency():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.info["transparency"] = 0
    return image


@pytest.mark.parametrize(
    ("image", "form", "left", "right"),
    [
        (Image.new("1", (2, 1), 1), "png", (255, 255, 255), (255, 255, 255)),
        (Image.new("L", (2, 1), 100), "png", (100, 100, 100), (100, 100, 100)),
        (Image.new("LA", (2, 1), (100, 255)), "png", (100, 100, 100), (100, 100, 100)),
        (Image.new("LA", (2, 1), (100, 0)), "png", (255, 255, 255), (255, 255, 255)),
        (Image.new("RGBA", (2, 1), (9, 8, 7, 0)), "png", (255, 255, 255), (255, 255, 255)),
        # Half of 255 and half of the colour.
        (Image.new("RGBA", (2, 1), (0, 100, 255, 128)), "png", (127, 177, 255), (127, 177, 255)),
        (palette_with_transparency(), "png", (255, 255, 255), (200, 100, 50)),
        (palette_with_transparency(), "gif", (255, 255, 255), (200, 100, 50)),
        (Image.new("CMYK", (2, 1), (0, 0, 0, 255)), "tif", (0, 0, 0), (0, 0, 0)),
        (Image.new("CMYK", (2, 1), (255, 0, 0, 0)), "tif", (0, 255, 255), (0, 255, 255)),
    ],
)
def test_every_mode_becomes_the_colours_that_are_seen_on_white(tmp_path, image, form, left, right):
    path = saved(image, tmp_path / f"a.{form}")
    for pixels in (read_image(path), read_stored_image(path, (1, 2))):
        assert pixels.dtype == torch.uint8 and pixels.shape == (3, 1, 2)
        assert tuple(pixels[:, 0, 0].tolist()) == left
        assert tuple(pixels[:, 0, 1].tolist()) == right


@pytest.mark.parametrize("form", ["gif", "tif", "png", "webp"])
def test_the_first_of_several_frames_is_read(tmp_path, form):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    options = {"lossless": True} if form == "webp" else {}
    path = tmp_path / f"a.{form}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    assert read_image(path)[:, 0, 0].tolist() == [255, 0, 0]


def test_numbers_in_colours_are_read_whatever_their_transparency(tmp_path):
    path = saved(Image.new("RGBA", (2, 1), (9, 8, 7, 0)), tmp_path / "a.png")
    assert read_stored_colors(path)[:, 0, 0].tolist() == [9, 8, 7]
    deep = saved(Image.fromarray(np.zeros((1, 2), dtype=np.uint16)), tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png: .*16 bits"):
        read_stored_colors(deep)


# ------------------------------------------------------------------ what is no image


def read_one_pixel(path):
    return read_stored_image(path, (1, 1))


def test_what_is_no_whole_image_is_one_line_with_its_name(tmp_path):
    whole = saved(Image.effect_noise((64, 64), 50), tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "script.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    claiming(tmp_path / "large.png", 10_000)  # Pillow would warn
    claiming(tmp_path / "larger.png", 60_000)  # Pillow would refuse it
    reasons = {
        "cut.png": "cannot be read as a picture",
        "empty.png": "empty, damaged, or of no known format",
        "text.png": "empty, damaged, or of no known format",
        "folder.png": "it is a folder",
        "dangling.png": "no such picture",
        "nothing.png": "no such picture",
        "loop.png": "cannot be read as a picture",
        "a\0b.png": "cannot be read as a picture",
        "script.png": "PostScript",
        "large.png": "more than 89478485 pixels",
        "larger.png": "more than 89478485 pixels",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, reason in reasons.items():
            for read in (
                read_image,
                read_stored_colors,
                lambda path: read_stored_image(path, (1, 1)),
            ):
                with pytest.raises((ValueError, FileNotFoundError)) as caught:
                    read(tmp_path / name)
                message = str(caught.value)
                shown = name.replace("\0", r"\x00")
                assert message.startswith(f"{tmp_path / shown}: "), message
                assert reason in message or "is 64 x 64 pixels" in message, message
                assert message.isprintable() and len(message) < 300


@pytest.mark.slow
def test_a_pipe_or_a_device_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "pipe.png")
    program = (
        "import sys\n"
        "from blendmask_lite.images import read_image\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        read_image(path)\n"
        "    except ValueError as error:\n"
        "        print(error)\n"
    )
    paths = [str(tmp_path / "pipe.png"), str(tmp_path / "link.png"), "/dev/zero", "/dev/null"]
    command = [sys.executable, "-c", program, *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.splitlines() == [
        f"{path}: cannot be read as a picture (it is no regular file)" for path in paths
    ]


def test_a_link_to_an_image_is_read(tmp_path):
    saved(Image.new("RGB", (4, 4), "red"), tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    assert read_image(tmp_path / "b.png")[0, 0, 0] == 255


def test_an_error_shows_no_control_characters_of_a_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        read_image(tmp_path / "a\x1b[31mb\n.png")
    assert str(caught.value).endswith(r"a\x1b[31mb\n.png: no such picture")
