"""Parts of COCO from a server on this machine that does all that servers do wrong."""

from __future__ import annotations

import errno
import io
import json
import multiprocessing
import os
import random
import re
import shutil
import struct
import threading
import time
import zipfile
import zlib
from pathlib import Path

import coco_site
import filelock
import pytest

from blendmask_lite import web
from blendmask_lite.cli import main
from blendmask_lite.datasets import archives, remote_file
from blendmask_lite.datasets.coco import CocoDataset
from blendmask_lite.datasets.coco_download import download_coco
from blendmask_lite.datasets.panoptic import PanopticDataset
from blendmask_lite.web import DownloadError, receive_range

NUM_IMAGES = 40
FILES = coco_site.archives(NUM_IMAGES)
ZIP = "zips/val2017.zip"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("BLENDMASK_OFFLINE", raising=False)
    monkeypatch.setattr(web, "PAUSE", 0.0)


@pytest.fixture
def site():
    site = coco_site.Site(dict(FILES))
    yield site
    site.close()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "coco"


def get(site, root, split="val2017", **options):
    return download_coco(root, split, url=site.url, **options)


def pictures(root: Path, split: str = "val2017") -> set[int]:
    """Ids of the pictures under their final names, each of which must be whole."""
    found = sorted((root / split).glob("[!.]*"))
    for path in found:
        assert path.read_bytes() == coco_site.picture(int(path.stem))
    return {int(path.stem) for path in found}


def described(root: Path, split: str = "val2017") -> set[int]:
    content = json.loads((root / "annotations" / f"instances_{split}.json").read_text())
    ids = {each["id"] for each in content["images"]}
    assert {each["image_id"] for each in content["annotations"]} <= ids
    return ids


def only(path: str, change):
    """Change answers for one archive, of which `count` counts the earlier ones."""
    seen = []

    def choose(answer, _):
        if path in answer.path:
            change(answer, len(seen))
            seen.append(answer)

    return choose


def pictures_only(change, *, after: int = 2):
    """Change the answers that hold pictures: those after the probe and the directory."""
    return only(
        ZIP, lambda answer, count: change(answer, count - after) if count >= after else None
    )


# ------------------------------------------------------------------ what is fetched


def test_five_of_five_hundred_images_cost_little_more_than_five_images(root):
    site = coco_site.Site(coco_site.archives(500))
    try:
        found = get(site, root, num_images=5)
        fetched, number = site.num_bytes(), len(site.log)
    finally:
        site.close()
    assert (found.num_images, found.num_fetched, found.num_all, found.num_objects) == (5, 5, 500, 5)
    assert pictures(root) == described(root) and len(described(root)) == 5
    size = sum(path.stat().st_size for path in (root / "val2017").iterdir())
    # The rest: two directories, of which 64 KiB at the end are fetched at first, and annotations.
    assert size < fetched < size + 150_000
    assert sum(map(len, site.files.values())) > 100_000_000
    assert number == 2 + 1 + 2 + 5  # probe and directory, annotations; the same, pictures


def test_the_folder_opens_as_a_data_set(site, root):
    get(site, root, num_images=4)
    dataset = CocoDataset(root, "val2017")
    assert dataset.class_names == ("person", "cat", "dog")
    assert [sample.original_size for sample in dataset] == [(24, 32)] * 4
    assert [len(sample.target.labels) for sample in dataset] == [1] * 4


def test_a_whole_split_is_fetched_in_few_requests_and_its_file_is_the_official_one(site, root):
    found = get(site, root)
    assert found.num_images == found.num_fetched == NUM_IMAGES
    assert pictures(root) == described(root) == set(range(1, NUM_IMAGES + 1))
    with_annotations = root / "annotations" / "instances_val2017.json"
    assert json.loads(with_annotations.read_text()) == coco_site.instances(range(1, 41))
    assert len(with_annotations.read_bytes()) == len(
        json.dumps(coco_site.instances(range(1, NUM_IMAGES + 1)))
    )
    # 4 MB in one request or two, beside the probe and the end of the archive.
    assert len(site.requests(ZIP)) <= 4
    # Again, nothing but the ends of the archives: the official files are known to be there.
    site.log.clear()
    assert get(site, root).num_fetched == 0
    assert len(site.log) == 4


def test_the_same_call_again_fetches_no_picture(site, root):
    get(site, root, num_images=6)
    before = described(root)
    site.log.clear()
    assert get(site, root, num_images=6).num_fetched == 0
    assert site.num_bytes() < 200_000  # directories
    assert pictures(root) == described(root) == before


def test_more_images_are_added_to_those_that_are_there(site, root):
    get(site, root, num_images=3)
    few = described(root)
    site.log.clear()
    found = get(site, root, num_images=8)
    assert (found.num_images, found.num_fetched) == (8, 5)
    assert few < described(root) == pictures(root)
    assert get(site, root).num_fetched == NUM_IMAGES - 8
    assert get(site, root, num_images=2).num_images == NUM_IMAGES  # a part of what is there


def test_fewer_images_do_not_remove_those_that_are_there(site, root):
    get(site, root, num_images=8)
    assert get(site, root, num_images=3).num_images == 8


def test_a_picture_of_wrong_content_or_length_is_fetched_again(site, root):
    get(site, root, num_images=4)
    first, second, *_ = sorted((root / "val2017").iterdir())
    first.write_bytes(first.read_bytes()[:-1])
    changed = bytearray(second.read_bytes())
    changed[500] ^= 1
    second.write_bytes(changed)
    assert get(site, root, num_images=4).num_fetched == 2
    assert len(pictures(root)) == 4


def test_the_choice_depends_on_the_seed_alone(site, root, tmp_path):
    get(site, root, num_images=10)
    get(site, tmp_path / "again", num_images=10)
    get(site, tmp_path / "other", num_images=10, seed=1)
    assert described(root) == described(tmp_path / "again")
    assert described(root) != described(tmp_path / "other")


def test_images_with_one_of_the_categories_keep_their_place_in_the_order(site, root, tmp_path):
    found = get(site, root, categories=["dog", "cat"], num_images=9)
    assert {each % 3 for each in described(root)} == {1, 2}
    assert found.num_images == 9
    content = json.loads((root / "annotations" / "instances_val2017.json").read_text())
    assert len(content["categories"]) == 3  # labels stay those of COCO
    # The first that an unrestricted choice would take, but for the persons.
    get(site, tmp_path / "any", num_images=9)
    assert {each for each in described(tmp_path / "any") if each % 3} <= described(root)


def test_panoptic_annotations_come_along(site, root):
    get(site, root, num_images=4, panoptic=True)
    dataset = PanopticDataset(root, "val2017")
    assert len(dataset) == 4
    assert all((sample.target.stuff == 1).all() for sample in dataset)  # all of it is grass
    get(site, root, num_images=7, panoptic=True)
    assert len(PanopticDataset(root, "val2017")) == 7


def test_of_an_inner_archive_that_is_stored_the_wanted_pictures_alone_are_fetched(root):
    path = "/annotations/panoptic_annotations_trainval2017.zip"
    members = {}
    with zipfile.ZipFile(io.BytesIO(FILES[path])) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    buffer = io.BytesIO(members["annotations/panoptic_val2017.zip"])
    with zipfile.ZipFile(buffer, "a") as archive:
        for number in range(20):
            archive.writestr(f"panoptic_val2017/other{number}.png", os.urandom(200_000))
    members["annotations/panoptic_val2017.zip"] = buffer.getvalue()
    files = FILES | {path: coco_site.zipped(members, zipfile.ZIP_STORED)}
    site = coco_site.Site(files)
    try:
        get(site, root, num_images=4, panoptic=True)
        assert site.num_bytes("panoptic_annotations") < 250_000 < len(buffer.getvalue())
    finally:
        site.close()
    assert len(PanopticDataset(root, "val2017")) == 4


@pytest.mark.parametrize(("split", "num_all"), [("test2017", 40), ("test-dev2017", 20)])
def test_a_split_without_annotations_has_images_and_classes(site, root, split, num_all):
    found = get(site, root, split, num_images=3)
    assert (found.num_images, found.num_objects, found.num_all) == (3, 0, num_all)
    dataset = CocoDataset(root, split)
    assert [len(sample.target.labels) for sample in dataset] == [0, 0, 0]
    assert dataset.class_names == ("person", "cat", "dog")
    assert pictures(root, "test2017") == set(dataset.image_ids)
    get(site, root, split)
    assert len(CocoDataset(root, split)) == num_all
    assert get(site, root, split, num_images=2).num_fetched == 0


# ------------------------------------------------------------------ servers that fail


def test_connections_that_break_off_are_taken_up_where_they_ended(site, root):
    def half(answer, count):
        if count % 2 == 0:
            answer.sent = len(answer.body) // 2

    site.change = pictures_only(half)
    get(site, root, num_images=4)
    assert len(pictures(root)) == 4
    size = sum(path.stat().st_size for path in (root / "val2017").iterdir())
    assert site.num_bytes(ZIP) < size + 150_000  # nothing twice


def test_a_server_that_falls_silent_is_asked_again(site, root, monkeypatch):
    monkeypatch.setattr(web, "TIMEOUT", 0.5)
    is_over = threading.Event()
    spoke_again = []

    def silent(answer, count):
        if count == 1:
            answer.wait = lambda: spoke_again.append(is_over.wait(60))

    site.change = pictures_only(silent)
    get(site, root, num_images=4)
    assert not spoke_again
    is_over.set()
    assert len(pictures(root)) == 4


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_answer_that_may_pass_is_waited_for(site, root, status):
    site.change = pictures_only(lambda answer, count: answer.fail(status) if count < 4 else None)
    get(site, root, num_images=4)
    assert len(pictures(root)) == 4


def test_a_server_that_keeps_failing_ends_with_its_answer(site, root):
    site.change = pictures_only(lambda answer, count: answer.fail(503) if count > 1 else None)
    with pytest.raises(DownloadError, match=r"val2017\.zip: .*503 .*after 5 attempts"):
        get(site, root, num_images=6)
    assert len(pictures(root)) < 6
    assert not (root / "annotations").exists()
    site.change = lambda answer, count: None
    get(site, root, num_images=6)
    assert len(pictures(root)) == 6


def test_an_archive_that_is_not_there_is_said_at_once(site, root):
    del site.files["/zips/val2017.zip"]
    with pytest.raises(DownloadError, match=r"/zips/val2017\.zip: the server answers 404"):
        get(site, root, num_images=2)
    assert len(site.requests(ZIP)) == 1


def test_without_ranges_the_whole_archives_are_fetched_once(site, root):
    site.change = lambda answer, count: answer.refuse_range(site.files[answer.path])
    found = get(site, root, num_images=4)
    assert len(pictures(root)) == found.num_images == 4
    site.log.clear()
    get(site, root, num_images=9)
    assert len(pictures(root)) == 9
    assert site.log == []


@pytest.mark.parametrize("status", [403, 416, 501])
def test_refused_ranges_fall_back_to_the_whole_archive(site, root, status):
    site.change = lambda answer, count: None if answer.begin is None else answer.fail(status)
    get(site, root, num_images=4, panoptic=True)
    assert len(pictures(root)) == 4
    assert len(PanopticDataset(root, "val2017")) == 4


def test_ranges_that_are_ignored_later_are_an_error_not_a_damaged_picture(site, root):
    def later(answer, count):
        answer.refuse_range(site.files[answer.path])

    site.change = pictures_only(later)
    with pytest.raises(DownloadError, match="does not send parts"):
        get(site, root, num_images=4)
    assert pictures(root) == set()


@pytest.mark.parametrize("kind", ["tag", "length"])
def test_an_archive_that_changes_meanwhile_is_noticed(site, root, kind):
    def change(answer, count):
        if count > 0 and kind == "tag":
            answer.tag = '"two"'
        elif count > 0:
            answer.total += 1

    site.change = pictures_only(change)
    with pytest.raises(DownloadError, match=r"val2017\.zip: changed while it was read"):
        get(site, root, num_images=6)
    assert len(pictures(root)) < 6


def test_a_part_from_another_place_is_not_taken(site, root):
    def elsewhere(answer, count):
        if count == 0:
            answer.first += 7

    site.change = pictures_only(elsewhere)
    get(site, root, num_images=4)
    assert len(pictures(root)) == 4


@pytest.mark.parametrize("by", [-1000, 1000])
def test_a_wrong_promise_of_length_is_made_up_for(site, root, by):
    def lie(answer, count):
        if count < 3:
            answer.length += by

    site.change = pictures_only(lie)
    get(site, root, num_images=4)
    assert len(pictures(root)) == 4


def flip(answer):
    body = bytearray(answer.body)
    body[len(body) // 2] ^= 1
    answer.body = bytes(body)


def test_a_picture_that_arrives_damaged_is_fetched_again(site, root):
    site.change = pictures_only(lambda answer, count: flip(answer) if count < 2 else None)
    get(site, root, num_images=4)
    assert len(pictures(root)) == 4


def test_a_picture_that_always_arrives_damaged_is_named_and_not_kept(site, root):
    site.change = pictures_only(lambda answer, count: flip(answer) if answer.begin else None)
    with pytest.raises(ValueError, match=r"val2017/\d+\.jpg is damaged .*CRC.* 3 times"):
        get(site, root, num_images=4)
    assert pictures(root) == set()


def test_damaged_annotations_are_fetched_again(site, root, monkeypatch):
    monkeypatch.setattr(archives, "TAIL", 64)
    site.change = only("trainval2017", lambda answer, count: flip(answer) if count == 3 else None)
    get(site, root, num_images=2)
    assert len(pictures(root)) == 2


def test_an_error_page_is_no_archive(site, root):
    site.files["/zips/val2017.zip"] = b"<html>Please log in</html>" * 100
    with pytest.raises(ValueError, match=r"val2017\.zip: is damaged or no zip archive"):
        get(site, root, num_images=2)
    site.change = lambda answer, count: answer.refuse_range(site.files[answer.path])
    with pytest.raises(ValueError, match=r"val2017\.zip.*: is damaged or no zip archive"):
        get(site, root, num_images=2)
    assert not list((root / ".download").glob("val2017*"))


def test_a_cut_off_archive_is_refused(site, root):
    site.files["/zips/val2017.zip"] = site.files["/zips/val2017.zip"][:-30]
    with pytest.raises(ValueError, match=r"val2017\.zip: is damaged or no zip archive"):
        get(site, root, num_images=2)


# ------------------------------------------------------------------ archives that mean harm


def with_file_name(site, name: str) -> None:
    content = coco_site.instances(range(1, NUM_IMAGES + 1))
    for image in content["images"]:
        image["file_name"] = name
    members = {"annotations/instances_val2017.json": json.dumps(content).encode()}
    site.files["/annotations/annotations_trainval2017.zip"] = coco_site.zipped(members)
    evil = {f"val2017/{name}": b"evil"}
    site.files["/zips/val2017.zip"] = coco_site.zipped(evil, zipfile.ZIP_STORED)


@pytest.mark.parametrize(
    "name", ["../evil.jpg", "/evil.jpg", "a/b.jpg", "..", "C:evil", "a\\b", ""]
)
def test_no_name_leads_out_of_the_folder(site, root, tmp_path, name):
    with_file_name(site, name)
    with pytest.raises(ValueError, match=r"instances_val2017\.json: image \d+: "):
        get(site, root, num_images=2)
    assert not list(tmp_path.rglob("*evil*"))


def with_entry(content: bytes, *, file_size: int | None = None, crc: int | None = None) -> bytes:
    """An archive of one picture, packed, whose directory says what is not true."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(content) + packer.flush()
    name = b"val2017/000000000001.jpg"
    size = len(content) if file_size is None else file_size
    code = zlib.crc32(content) if crc is None else crc
    common = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, code, len(packed), size, len(name), 0)
    local = b"PK\3\4" + common + name + packed
    entry = b"PK\1\2" + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(local), 0)
    return local + entry + end


def one_image(site, archive: bytes) -> None:
    members = {"annotations/instances_val2017.json": json.dumps(coco_site.instances([1])).encode()}
    site.files["/annotations/annotations_trainval2017.zip"] = coco_site.zipped(members)
    site.files["/zips/val2017.zip"] = archive


def test_an_archive_made_by_hand_is_read(site, root):
    one_image(site, with_entry(coco_site.picture(1)))
    get(site, root)
    assert pictures(root) == {1}


def test_a_member_that_unpacks_to_more_than_it_says_is_refused(site, root):
    bomb = bytes(50_000_000)
    one_image(site, with_entry(bomb, file_size=1000))
    with pytest.raises(ValueError, match=r"000000000001\.jpg is damaged"):
        get(site, root)
    one_image(site, with_entry(bomb, file_size=1000, crc=zlib.crc32(bytes(1000))))
    get(site, root)  # its first 1000 bytes are what the entry says: no more is unpacked
    assert (root / "val2017" / "000000000001.jpg").stat().st_size == 1000


def test_a_member_that_unpacks_to_less_than_it_says_is_refused(site, root):
    one_image(site, with_entry(bytes(1000), file_size=2000))
    with pytest.raises(ValueError, match=r"000000000001\.jpg is damaged"):
        get(site, root)
    assert pictures(root) == set()


def test_a_picture_of_an_absurd_length_is_refused(site, root, monkeypatch):
    one_image(site, with_entry(coco_site.picture(1)))
    with monkeypatch.context() as patched:
        patched.setattr(archives, "LONGEST", 50_000)
        with pytest.raises(ValueError, match=r"1\.jpg has 100001 bytes, 50000 are the most"):
            get(site, root)
    one_image(site, with_entry(bytes(1000), file_size=2**32 - 2))
    with pytest.raises(ValueError, match=r"needs 4\.3 GB of room|are the most"):
        get(site, root)


# ------------------------------------------------------------------ the disk, other processes


def test_without_room_on_the_disk_nothing_is_fetched(site, root, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage._replace(free=1_500_000))
    with pytest.raises(ValueError) as caught:
        get(site, root, num_images=30)
    assert str(caught.value) == f"{root}: val2017 (30 files) needs 3.0 MB of room, 1.5 MB are free"
    assert pictures(root) == set()
    assert get(site, root, num_images=10).num_images == 10


def test_without_room_for_the_whole_archive_it_is_not_fetched(site, root, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage._replace(free=3_000_000))
    site.change = lambda answer, count: answer.refuse_range(site.files[answer.path])
    with pytest.raises(ValueError, match=r"val2017\.zip needs"):
        get(site, root, num_images=2)


def test_a_full_disk_is_said_and_not_blamed_on_the_server(site):
    class Full(io.BytesIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        receive_range(f"{site.url}/{ZIP}", Full(), 0, 100, advice="")
    assert caught.value.errno == errno.ENOSPC
    assert len(site.log) == 1


def test_two_at_once_into_one_folder_are_refused(site, root):
    (root / ".download").mkdir(parents=True)
    text = "another download into this folder is running"
    with filelock.FileLock(root / ".download" / "lock"), pytest.raises(ValueError, match=text):
        get(site, root, num_images=2)
    get(site, root, num_images=2)


@pytest.fixture(scope="module")
def processes():
    """Starts processes quickly: what is slow to import is imported once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["blendmask_lite.datasets.coco_download"])
    return context


@pytest.mark.slow
@pytest.mark.parametrize("is_refusing", [False, True])
def test_a_killed_process_leaves_no_half_file_and_is_continued(site, root, is_refusing, processes):
    """Killed at ten moments of the way, each time continued."""

    def slow(answer, count):
        if is_refusing and answer.begin == 0:
            answer.refuse_range(site.files[answer.path])
        answer.delay = 0.03

    site.change = slow
    options = {"num_images": 30, "url": site.url, "panoptic": True}
    moments = random.Random(0)
    for _ in range(10):
        before = len(site.log)
        wanted = moments.randint(1, 6)
        process = processes.Process(target=download_coco, args=(root, "val2017"), kwargs=options)
        process.start()
        deadline = time.monotonic() + 60
        while len(site.log) < before + wanted and process.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.05))
        process.kill()
        process.join()
        file = root / "annotations" / "instances_val2017.json"
        assert pictures(root) >= (described(root) if file.exists() else set())
    site.change = lambda answer, count: None
    already = pictures(root)
    found = get(site, root, num_images=30, panoptic=True)
    assert found.num_fetched == 30 - len(already)
    assert len(pictures(root)) == len(PanopticDataset(root, "val2017")) == 30
    assert not [*root.rglob("*.tmp"), *root.rglob("*.part")]


def test_temporary_files_of_a_killed_process_are_removed(site, root):
    get(site, root, num_images=2)
    left = root / "val2017" / ".000000000001.jpg.1234.tmp"
    left.write_bytes(b"half")
    get(site, root, num_images=2)
    assert not left.exists()


def test_the_beginning_of_a_large_file_is_kept(site, root, monkeypatch):
    # As in a large archive, the end that is fetched at first holds no member.
    monkeypatch.setattr(archives, "TAIL", 64)

    def break_off(answer, count):
        if count == 3:
            answer.sent = len(answer.body) // 2
        elif count > 3:
            answer.fail(503)

    site.change = only("trainval2017", break_off)
    with pytest.raises(DownloadError, match="503"):
        get(site, root, num_images=2)
    [part] = (root / ".download").glob("*.part")
    half = site.log[3].sent
    assert part.stat().st_size == half > 0
    site.change = lambda answer, count: None
    get(site, root, num_images=2)
    assert site.requests("annotations_trainval2017")[-1].first == site.log[3].first + half
    assert not part.exists()


# ------------------------------------------------------------------ folders and options


def test_a_folder_with_other_data_is_left_alone(site, root):
    file = root / "annotations" / "instances_val2017.json"
    file.parent.mkdir(parents=True)
    mine = coco_site.instances([1000])
    file.write_text(json.dumps(mine))
    with pytest.raises(ValueError, match=r"describes image 1000 \(000000001000\.jpg\), which COCO"):
        get(site, root, num_images=2)
    assert json.loads(file.read_text()) == mine


def test_a_complete_official_file_is_not_cut_down_to_a_part(site, root):
    file = root / "annotations" / "instances_val2017.json"
    file.parent.mkdir(parents=True)
    official = json.dumps(coco_site.instances(range(1, NUM_IMAGES + 1)))
    file.write_text(official)
    with pytest.raises(ValueError, match="describes the whole split, but 38 of its pictures"):
        get(site, root, num_images=2)
    assert file.read_text() == official
    get(site, root)
    assert len(pictures(root)) == NUM_IMAGES
    assert get(site, root, num_images=2).num_images == NUM_IMAGES
    assert file.read_text() == official


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_images": 0}, "--images 0: must be at least 1"),
        ({"seed": -1}, "--seed -1: must be at least 0"),
        ({"split": "val2014"}, r"--split val2014: COCO's splits are train2017, val2017, "),
        ({"categories": ["cow"]}, "no category cow; there are person, cat, dog"),
        ({"split": "test2017", "panoptic": True}, "--panoptic: test2017 has no annotations"),
        ({"split": "test2017", "categories": ["dog"]}, "--categories: test2017 has no annotations"),
    ],
)
def test_options_that_make_no_sense_are_refused(site, root, options, text):
    with pytest.raises(ValueError, match=text):
        get(site, root, **options)


@pytest.mark.parametrize("url", ["http://[bad", "http://", "file:///etc", "foo", "http://a:b"])
def test_what_is_no_address_is_refused_at_once(root, url):
    with pytest.raises(ValueError, match=re.escape(f"{url}: is no address")):
        download_coco(root, "val2017", url=url)
    assert not root.exists()


def test_offline_nothing_is_asked_for(site, root, monkeypatch):
    monkeypatch.setenv("BLENDMASK_OFFLINE", "1")
    with pytest.raises(DownloadError, match="BLENDMASK_OFFLINE"):
        get(site, root, num_images=1)
    assert site.log == []


def test_the_command_says_what_is_there_now_and_what_went_wrong(site, root, capsys):
    arguments = ["data", "coco", "--split", "val2017", "--root", str(root), "--url", site.url]
    assert main([*arguments, "--images", "4", "--categories", "person, dog", "--seed", "3"]) == 0
    captured = capsys.readouterr()
    assert captured.out == (
        f"{root}: 4 of {NUM_IMAGES} images of val2017 (4 fetched now), 4 objects\n"
    )
    assert "4/4 pictures  ETA 0:00\n" in captured.err
    assert main([*arguments, "--images", "4", "--categories", "persons"]) == 1
    assert capsys.readouterr().err.startswith("blendmask-lite data: --categories: no category pers")


def test_pictures_are_fetched_several_at_a_time(site, root):
    site.change = pictures_only(lambda answer, count: setattr(answer, "delay", 0.2))
    get(site, root, num_images=24)
    assert len(pictures(root)) == 24
    # The server notes an end after the client has read the last byte and asked for more.
    assert 1 < site.most_open < 2 * remote_file.WORKERS
