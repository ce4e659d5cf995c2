"""A server on this machine with archives like COCO's, that does what servers do wrong.

`python tests/coco_site.py [NUM_IMAGES]` serves them until it is stopped.
"""

from __future__ import annotations

import io
import json
import random
import re
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

SIZE = (32, 24)  # of the pictures, pixels
PICTURE_BYTES = 100_000
CATEGORIES = ("person", "dog", "cat")  # ids 1, 18, 17; image i has objects of class i % 3
CATEGORY_IDS = (1, 18, 17)


def picture(image_id: int) -> bytes:
    """A JPEG of the length of a photograph's."""
    noise = random.Random(image_id)
    buffer = io.BytesIO()
    image = Image.frombytes("RGB", SIZE, noise.randbytes(SIZE[0] * SIZE[1] * 3))
    image.save(buffer, "JPEG")
    return buffer.getvalue() + noise.randbytes(PICTURE_BYTES + image_id - buffer.tell())


def segments(image_id: int) -> bytes:
    """A PNG of one segment, whose id is the image's."""
    buffer = io.BytesIO()
    Image.new("RGB", SIZE, (image_id % 256, image_id // 256, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def file_name(image_id: int) -> str:
    return f"{image_id:012}.jpg"


def images(image_ids) -> list[dict]:
    width, height = SIZE
    return [
        {"id": each, "file_name": file_name(each), "height": height, "width": width}
        for each in image_ids
    ]


def instances(image_ids) -> dict:
    annotations = [
        {
            "id": 10 * each,
            "image_id": each,
            "category_id": CATEGORY_IDS[each % 3],
            "segmentation": [[2, 2, 20, 2, 20, 12, 2, 12]],
            "bbox": [2, 2, 18, 10],
            "area": 180,
            "iscrowd": 0,
        }
        for each in image_ids
    ]
    categories = [
        {"id": number, "name": name, "supercategory": "thing"}
        for number, name in sorted(zip(CATEGORY_IDS, CATEGORIES, strict=True))
    ]
    return {
        "info": {"description": "a test"},
        "licenses": [],
        "images": images(image_ids),
        "annotations": annotations,
        "categories": categories,
    }


def panoptic(image_ids) -> dict:
    annotations = [
        {
            "image_id": each,
            "file_name": file_name(each).replace(".jpg", ".png"),
            "segments_info": [{"id": each, "category_id": 200, "area": 1, "iscrowd": 0}],
        }
        for each in image_ids
    ]
    categories = [
        {"id": 1, "name": "person", "isthing": 1},
        {"id": 200, "name": "grass", "isthing": 0},
    ]
    return {"images": images(image_ids), "annotations": annotations, "categories": categories}


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def archives(num_images: int, *, inner: int = zipfile.ZIP_DEFLATED) -> dict[str, bytes]:
    """All of them, by path; `inner` is how the zip in the zip is packed."""
    ids = range(1, num_images + 1)
    stored = zipfile.ZIP_STORED
    pictures = {f"{{}}/{file_name(each)}": picture(each) for each in ids}
    pngs = {f"panoptic_val2017/{each:012}.png": segments(each) for each in ids}
    pngs |= {f"__MACOSX/panoptic_val2017/._{each:012}.png": b"junk" for each in ids}
    image_list = {key: instances(ids)[key] for key in ("info", "images", "categories")}
    panoptic_members = {
        "annotations/panoptic_val2017.json": json.dumps(panoptic(ids)).encode(),
        "annotations/panoptic_val2017.zip": zipped(pngs, stored),
    }
    return {
        "/zips/val2017.zip": zipped({k.format("val2017"): v for k, v in pictures.items()}, stored),
        "/zips/test2017.zip": zipped(
            {k.format("test2017"): v for k, v in pictures.items()}, stored
        ),
        "/annotations/annotations_trainval2017.zip": zipped(
            {
                "annotations/instances_train2017.json": random.Random(0).randbytes(2_000_000),
                "annotations/instances_val2017.json": json.dumps(instances(ids)).encode(),
            }
        ),
        "/annotations/image_info_test2017.zip": zipped(
            {
                "annotations/image_info_test2017.json": json.dumps(image_list).encode(),
                "annotations/image_info_test-dev2017.json": json.dumps(
                    image_list | {"images": images(ids[: num_images // 2])}
                ).encode(),
            }
        ),
        "/annotations/panoptic_annotations_trainval2017.zip": zipped(panoptic_members, inner),
    }


class Answer:
    """One answer, before it is sent; what `Site.change` gets and may change."""

    def __init__(self, path: str, begin: int | None, body: bytes, total: int) -> None:
        self.path = path
        self.begin = begin  # None: the whole file was asked for
        self.status = 200 if begin is None else 206
        self.body = body
        self.total = total
        self.tag = '"one"'
        self.length = len(body)
        self.first = begin  # as Content-Range says
        self.sent = len(body)  # bytes, before the connection is closed
        self.delay = 0.0  # seconds in the middle
        self.wait = lambda: time.sleep(self.delay)

    def refuse_range(self, whole: bytes) -> None:
        self.status, self.first, self.body = 200, None, whole
        self.length = self.sent = len(whole)

    def fail(self, status: int) -> None:
        self.status, self.first, self.body = status, None, b"no"
        self.length = self.sent = 2


class Site:
    """The server; `change(answer, count)` sees each answer and how many there were before."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.change: Callable[[Answer, int], None] = lambda answer, count: None
        self.log: list[Answer] = []
        self.lock = threading.Lock()
        self.num_open = self.most_open = 0  # answers at a time
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                with site.lock:
                    site.num_open += 1
                    site.most_open = max(site.most_open, site.num_open)
                site.answer(self)
                with site.lock:
                    site.num_open -= 1

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def num_bytes(self, name: str = "") -> int:
        """Sent so far of the paths that hold `name`."""
        return sum(each.sent for each in self.log if name in each.path)

    def requests(self, name: str) -> list[Answer]:
        return [each for each in self.log if name in each.path]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        whole = self.files.get(request.path, b"")
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range") or "")
        begin = int(found[1]) if found else None
        end = int(found[2]) + 1 if found and found[2] else len(whole)
        answer = Answer(request.path, begin, whole[begin or 0 : end], len(whole))
        if request.path not in self.files:
            answer.fail(404)
        with self.lock:
            self.change(answer, len(self.log))
            self.log.append(answer)
        request.send_response(answer.status)
        request.send_header("Content-Length", str(answer.length))
        request.send_header("ETag", answer.tag)
        if answer.first is not None:
            last = answer.first + len(answer.body) - 1
            request.send_header("Content-Range", f"bytes {answer.first}-{last}/{answer.total}")
        request.end_headers()
        half = answer.sent // 2
        try:
            request.wfile.write(answer.body[:half])
            request.wfile.flush()
            answer.wait()
            request.wfile.write(answer.body[half : answer.sent])
        except OSError:  # nobody listens any more
            pass


def main() -> None:
    site = Site(archives(int(sys.argv[1]) if len(sys.argv) > 1 else 500))
    print(site.url, flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        site.close()


if __name__ == "__main__":
    main()
