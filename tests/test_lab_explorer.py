"""The explorer without a browser: controls are set from Python, figures and numbers compared."""

from __future__ import annotations

import gc
import io
import struct
import weakref
import zlib
from dataclasses import replace
from functools import partial

import pytest
import torch
from PIL import Image

from blendmask_lite import PRESETS, BlendMask, InferenceConfig, load_model, save_model
from blendmask_lite.datasets.coco import CocoDataset
from blendmask_lite.datasets.shapes import ShapesDataset, draw_shapes, write_shapes
from blendmask_lite.figures import (
    attentions_figure,
    base_overlays_figure,
    bases_figure,
    basis_scores_figure,
    changed_base_figure,
    compare_attentions_figure,
    detections_figure,
    dots_figure,
    figure_1,
    figure_4,
    figure_file,
    knock_out_figure,
    matched_bases_figure,
)
from blendmask_lite.files import photos_folder, shipped_checkpoint
from blendmask_lite.images import decode_image
from blendmask_lite.lab.dashboard import Dashboard
from blendmask_lite.lab.explorer import Explorer
from blendmask_lite.lab.explorer.measured_pages import score_rows
from blendmask_lite.lab.explorer.page import as_table
from blendmask_lite.lab.explorer.sources import UploadButton, advice_about, open_model, read_upload
from blendmask_lite.lab.parts import FigureView
from blendmask_lite.masks import mask_iou
from blendmask_lite.research import (
    BasisScores,
    knock_out_bases,
    look_at_objects,
    oracle_swaps,
    score_bases,
    score_oracles,
    untrained_scores,
    with_changed_base,
)
from blendmask_lite.research.matching import bases_of, compare_checkpoints

SCORE = 0.5**2  # the explorer's least score, as `predict` wants it


@pytest.fixture(scope="module")
def model():
    return load_model(shipped_checkpoint())


@pytest.fixture(scope="module")
def dataset():
    return ShapesDataset(4, seed=7)


@pytest.fixture
def explorer(model, dataset):
    made = Explorer(model=model, dataset=dataset)
    yield made
    made.close()


def tiny_model(num_bases=4, **changes):
    """A random network that runs in a few milliseconds."""
    torch.manual_seed(0)
    config = replace(
        PRESETS["nano"], stage_width=8, stem_channels=8, pyramid_channels=16, num_bases=num_bases
    )
    settings = InferenceConfig(test_size=64, max_size=96)
    return BlendMask(replace(config, **changes), inference=settings).eval()


def file_of(image_size=(64, 48), kind="png", **options):
    buffer = io.BytesIO()
    Image.new("RGB", image_size, (200, 30, 30)).save(buffer, kind, **options)
    return buffer.getvalue()


def is_drawn(view, figure):
    return view.png == figure_file(figure, ".png", dpi=110) and view.text == figure.get_label()


def upload(explorer, content, name="photo.png"):
    explorer.controls.upload._receive(None, {"name": name, "size": len(content)}, [content])


# ------------------------------------------------------------------ pages


def test_the_first_page_shows_what_predict_finds(explorer, model, dataset):
    found = model.predict([dataset.load(0).image], score_threshold=SCORE)[0]
    title = "shapes, seed 7, image 0"
    figure = detections_figure(dataset.load(0).image, found, model.class_names, title=title)

    assert is_drawn(explorer.page.view, figure)
    for label, score, mask in zip(found.labels, found.scores, found.masks, strict=True):
        name = model.class_names[label]
        assert f"<td>{name}</td><td>{score:.2f}</td>" in explorer.page.table.value
        assert f"<td>{int(mask.sum())}</td>" in explorer.page.table.value
    names = [name for name, _ in explorer.controls.object.options]
    assert len(names) == len(found) + len(dataset.load(0).target)
    assert names[0].startswith(f"1: {model.class_names[found.labels[0]]}")


def test_another_number_shows_another_picture(explorer, model, dataset):
    explorer.controls.number.value = 2

    found = model.predict([dataset.load(2).image], score_threshold=SCORE)[0]
    title = "shapes, seed 7, image 2"
    figure = detections_figure(dataset.load(2).image, found, model.class_names, title=title)
    assert is_drawn(explorer.page.view, figure)
    explorer.controls.next.click()
    assert explorer.controls.number.value == 3 and explorer.controls.next.disabled
    explorer.controls.previous.click()
    assert explorer.present.picture.name == "shapes, seed 7, image 2"


@pytest.mark.slow
def test_bases_are_drawn_as_overlays_and_as_maps(explorer, model, dataset):
    image = dataset.load(0).image
    bases = model([image]).bases[0].detach()
    stride, title = model.bottom.stride, "shapes, seed 7, image 0"
    explorer.turn_to("Bases")

    overlays = base_overlays_figure(image, bases, stride=stride, title=title, is_large=True)
    assert is_drawn(explorer.page.view, overlays)
    explorer.page.style.value = False
    maps = bases_figure(bases, stride=stride, image=image, title=title)
    assert is_drawn(explorer.page.view, maps)


@pytest.mark.slow
@torch.no_grad()
def test_attentions_of_the_chosen_object_and_beside_a_second_one(explorer, model, dataset):
    image = dataset.load(0).image
    output = model([image])
    found = model.find_objects(output, score_threshold=SCORE)[0]
    pair = torch.tensor([1, 2])
    index = torch.stack([torch.zeros_like(pair), found.location_index[pair]], dim=1)
    raw, boxes = model.attentions_at(output, index), found.proposal_boxes[pair]
    explorer.turn_to("Attentions")
    explorer.controls.object.value = 1
    names = [explorer.controls.object.options[each][0] for each in (1, 2)]
    maps = raw.unflatten(1, (4, 7, 7))

    expected = attentions_figure(maps[:1], names=names[:1], image=image, boxes=boxes[:1])
    assert is_drawn(explorer.page.view, expected)
    explorer.page.with_second.value = True
    explorer.page.second.value = 2
    scores = model.merger.scores(raw, 28)
    both = compare_attentions_figure(scores, names=names, image=image, boxes=boxes)
    assert is_drawn(explorer.page.view, both)


@pytest.mark.slow
def test_figures_1_and_4_are_those_of_the_package(explorer, model, dataset):
    image = dataset.load(0).image
    explorer.turn_to("Figure 1")
    explorer.controls.object.value = 1

    drawn = figure_1(model, image, chosen=1, score_threshold=SCORE)
    title = f"shapes, seed 7, image 0: {explorer.controls.object.options[1][0]}"
    drawn.suptitle(title, fontsize=10)
    drawn.set_label(f"{title}. How" + drawn.get_label().split("How")[1])
    assert is_drawn(explorer.page.view, drawn)
    explorer.turn_to("Figure 4")
    assert is_drawn(explorer.page.view, figure_4(model, image, score_threshold=SCORE))


@pytest.mark.slow
@torch.no_grad()
def test_knocking_out_a_base_changes_the_masks_as_the_package_says(explorer, model, dataset):
    image = dataset.load(0).image
    output = model([image])
    before = model.find_objects(output, score_threshold=SCORE)[0].masks
    explorer.turn_to("Change a base")
    page = explorer.page

    for base, factor in ((2, 2.5), (1, None)):
        page.base.value = base
        page.is_flat.value = factor is None
        if factor is not None:
            page.factor.value = factor
        changed = with_changed_base(output, base, factor=factor)
        after = model.find_objects(changed, score_threshold=SCORE)[0].masks
        figure = changed_base_figure(
            image,
            before,
            after,
            base=base,
            base_before=output.bases[0, base],
            base_after=changed.bases[0, base],
            stride=model.bottom.stride,
            title=f"shapes, seed 7, image 0: base {base + 1} "
            + ("is its mean" if factor is None else f"times {factor:g}"),
        )
        assert is_drawn(page.view, figure)
        for kept, mask in zip(mask_iou(after, before), after, strict=True):
            assert f"<td>{int(mask.sum())}</td><td>{kept:.2f}</td>" in page.table.value
    page.is_flat.value, page.factor.value = False, 1.0
    assert page.table.value.count("<td>1.00</td>") >= len(before)  # nothing changed


@pytest.mark.slow
def test_measured_ap_changes_are_those_of_knock_out_bases(explorer, model, dataset):
    page = explorer.pages["Change a base"]
    explorer.turn_to("Change a base")
    page.num_images.value, page.factor.value = 2, 2.0
    page.button.click()

    results = knock_out_bases(model, dataset, factor=2.0, max_images=2)
    baseline = results.baseline.mask["AP"]
    figure = knock_out_figure({"base times 2": results.ap_changes}, baseline=baseline)
    assert is_drawn(page.measured, figure)
    assert f"<td>none changed</td><td>{baseline:.1f}</td>" in page.measured_table.value
    assert f"<td>{results.ap_changes[1]:+.1f}</td>" in page.measured_table.value
    explorer.controls.seed.value = 8  # other data: the numbers do not hold any more
    assert page.measured.png == b"" and "Press" in page.measured.text


@pytest.mark.slow
def test_scores_of_bases_stand_beside_those_of_untrained_networks(dataset):
    small = tiny_model()
    explorer = Explorer(model=small, dataset=dataset)
    page = explorer.pages["What bases are for"]
    page.num_images.value = 2
    page.button.click()

    scores = score_bases(small, dataset, max_images=2)
    null = untrained_scores(small, dataset, seeds=range(3), max_images=2)
    title = f"{scores.num_objects} objects in 2 images"
    assert is_drawn(page.measured, basis_scores_figure(scores, untrained=null, title=title))
    assert page.measured_table.value == as_table(score_rows(scores, null))


def test_a_score_counts_where_no_untrained_base_reaches_it():
    def scores(auc, depth, x, y):
        values = {
            name: torch.tensor(each)
            for name, each in zip(
                ("object_auc", "depth", "x", "y"), (auc, depth, x, y), strict=True
            )
        }
        return BasisScores(**values, mean_crops=torch.zeros(2, 1, 1), num_objects=1, num_images=1)

    null = [scores([0.3, 0.7], [-0.2, 0.2], [-0.2, 0.2], [-0.2, 0.2])]
    rows = score_rows(scores([0.9, 0.5], [0.0, -0.4], [-0.5, 0.1], [0.3, 0.2]), null)

    assert rows[1] == ["1", "0.90", "+0.00", "-0.50", "+0.30", "objects, left, down"]
    assert rows[2] == ["2", "0.50", "-0.40", "+0.10", "+0.20", "border"]


@pytest.mark.slow
def test_oracles_of_the_picture_and_of_the_data_set(dataset):
    small = tiny_model()
    explorer = Explorer(model=small, dataset=dataset)
    explorer.turn_to("Where IoU is lost")
    page = explorer.page
    swaps = oracle_swaps(small, look_at_objects(small, dataset.load(0)))

    assert is_drawn(page.view, dots_figure(swaps.summary(), title="shapes, seed 7, image 0"))
    columns = (*swaps.iou.values(), swaps.resolution)
    row = "".join(f"<td>{float(each[0]):.2f}</td>" for each in columns)
    assert row in page.table.value
    page.num_images.value = 1
    page.button.click()
    results = score_oracles(small, dataset, max_images=1)
    mean = results.iou[frozenset({"box", "attention"})].mean()
    assert f"<td>box + attention</td><td>{float(mean):.3f}</td>" in page.measured_table.value


# ------------------------------------------------------------------ two checkpoints


def test_a_checkpoint_with_shuffled_bases_is_matched_base_by_base(tmp_path, dataset):
    first = tiny_model()
    other, order = tiny_model(), torch.tensor([2, 0, 3, 1])
    state = other.bottom.state_dict()
    last = [name for name in state if name.endswith("weight")][-1].removesuffix("weight")
    for name in ("weight", "bias"):
        if last + name in state:
            state[last + name].copy_(state[last + name][order].clone())
    save_model(other, tmp_path / "other.pt")
    explorer = Explorer(model=first, dataset=dataset)
    explorer.turn_to("Two checkpoints")
    page = explorer.page
    assert "Name another checkpoint" in page.view.text

    page.source.value, page.num_images.value = str(tmp_path / "other.pt"), 2
    page.button.click()

    images = [dataset.load(index).image for index in range(2)]
    matching = compare_checkpoints(first, other, images)
    assert matching.order.tolist() == order.argsort().tolist()
    figure = matched_bases_figure(
        explorer.present.look.image,
        bases_of(first, explorer.present.look.image),
        bases_of(other, explorer.present.look.image),
        order=matching.order,
        correlations=matching.correlations,
        names=("this model", "other.pt"),
    )
    assert is_drawn(page.view, figure)
    drawn = page.view.png

    save_model(tiny_model(num_bases=9), tmp_path / "nine.pt")
    page.source.value = str(tmp_path / "nine.pt")
    page.button.click()
    assert "9 bases, but the present model has 4" in explorer.message.text
    assert page.view.png == drawn and page.rival.name == "other.pt"


# ------------------------------------------------------------------ models and data


def test_a_checkpoint_of_another_configuration_takes_over_and_pages_follow(
    tmp_path, explorer, dataset
):
    save_model(tiny_model(num_bases=9), tmp_path / "nine.pt")
    explorer.turn_to("Change a base")
    explorer.controls.model.value = str(tmp_path / "nine.pt")
    explorer.controls.least_score.value = 0.05
    explorer.controls.load_model.click()

    assert explorer.message.kind != "error"
    assert explorer.present.model.config.num_bases == 9
    assert len(explorer.page.base.options) in (0, 9)  # 0: nothing found, nothing to change
    explorer.turn_to("Bases")
    assert explorer.page.view.text.startswith("9 bases")


def test_shapes_are_drawn_at_the_size_that_the_model_sees():
    explorer = Explorer()
    controls = explorer.controls
    assert controls.model.value == "small"
    assert explorer.present.model.config.mask_size == 56
    explorer.show(3)
    fine, coarse = (draw_shapes(4, seed=7, size=size).load(3).image for size in (192, 128))
    assert torch.equal(explorer.present.look.image, fine)

    controls.model.value = "nano"
    controls.load_model.click()
    assert explorer.present.model.config.mask_size == 28
    assert controls.number.value == 3
    assert torch.equal(explorer.present.look.image, coarse)

    upload(explorer, file_of())
    controls.model.value = "small"
    controls.load_model.click()
    assert explorer.present.picture.name == "photo.png"
    explorer.show(3)
    assert torch.equal(explorer.present.look.image, fine)
    explorer.close()


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "broken.pt"), (b"nonsense", "broken.pt"), (b"", "broken.pt")],
    ids=["missing", "nonsense", "empty"],
)
def test_a_checkpoint_that_cannot_be_read_leaves_the_old_model(tmp_path, explorer, content, words):
    path, before, png = tmp_path / "broken.pt", explorer.present, explorer.page.view.png
    if content is not None:
        path.write_bytes(content)
    explorer.controls.model.value = str(path)
    explorer.controls.load_model.click()

    assert explorer.message.kind == "error" and words in explorer.message.text.lower()
    assert explorer.present is before and explorer.page.view.png == png


def test_names_and_files_of_the_released_code_are_read_as_such(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr("blendmask_lite.lab.explorer.sources.load_adelaidet", asked.append)
    for source in ("R_50_3x", "https://example.org/model", str(tmp_path / "mine.pth")):
        open_model(f" {source} ")

    assert [str(each) for each in asked] == [
        "R_50_3x", "https://example.org/model", str(tmp_path / "mine.pth")
    ]  # fmt: skip
    with pytest.raises(ValueError, match="model: empty"):
        open_model("  ")


def test_a_folder_of_pictures_is_opened_and_a_wrong_one_changes_nothing(tmp_path, explorer):
    write_shapes(tmp_path, num_images=2, seed=3, split="val")
    controls = explorer.controls
    controls.source.value = "folder"
    assert controls.seed.layout.display == "none" and controls.folder.layout.display is None
    controls.folder.value = str(tmp_path / "nothing")
    before = explorer.present
    controls.open_folder.click()
    assert explorer.message.kind == "error" and explorer.present is before

    controls.folder.value = str(tmp_path)
    controls.open_folder.click()
    assert explorer.message.text == "" and controls.number.max == 1
    assert torch.equal(explorer.present.picture.image, ShapesDataset(2, seed=3).load(0).image)


def test_photographs_and_their_model_are_chosen_by_name_and_do_not_mix_with_shapes(explorer):
    controls, shapes = explorer.controls, explorer.present.dataset
    controls.source.value = "photos"
    photographs = CocoDataset(photos_folder())
    assert torch.equal(explorer.present.picture.image, photographs.load(0).image)
    assert "other classes than this data set" in controls.advice.text
    controls.model.value = "photos"
    controls.load_model.click()
    assert explorer.message.kind != "error", explorer.message.text
    assert explorer.present.model.config.backbone == "efficientnet_lite0"
    assert explorer.present.picture.class_names == explorer.present.model.class_names == ("object",)
    assert controls.advice.text == ""
    controls.source.value = "shapes"
    assert explorer.present.dataset.seed == shapes.seed


def test_explorer_of_the_photographs_has_their_button_pressed(tmp_path):
    model = load_model(shipped_checkpoint("photos"))
    photographs = CocoDataset(photos_folder(), is_one_class=True)
    assert Explorer(model=model, dataset=photographs).controls.source.value == "photos"
    write_shapes(tmp_path, num_images=1, split="val")
    folder = CocoDataset(tmp_path)
    assert Explorer(model=model, dataset=folder).controls.source.value == "folder"


# ------------------------------------------------------------------ own pictures


def test_an_own_picture_is_segmented_and_the_reader_is_warned(explorer, model):
    explorer.controls.least_score.value = 0.05
    upload(explorer, file_of())

    image = decode_image(file_of(), name="photo.png", max_pixels=10_000)
    assert torch.equal(explorer.present.picture.image, image)
    assert explorer.present.look.image.shape == (3, 128, 171)
    advice = explorer.controls.advice
    assert advice.kind == "warning" and "trained on generated shapes" in advice.text
    assert "R_50_3x" in advice.text
    explorer.turn_to("Where IoU is lost")
    assert "The true objects of this image are unknown" in explorer.page.view.text
    assert advice_about(tiny_model(), explorer.present.picture) == ""
    explorer.show(0)
    assert advice.text == ""


def pretending(width, height):
    """A PNG of a few bytes that says it is this large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(kind, content):
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    data = zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no picture", "cannot be read as a picture"),
        (file_of()[:60], "cannot be read as a picture"),
        (b"", "cannot be read as a picture"),
        (file_of((1, 1)), "1 x 1 pixels"),
        (file_of((1000, 8)), "20 times"),
        (pretending(60_000, 60_000), "decompression bomb"),
        (pretending(7000, 6000), "7000 x 6000 pixels; 40 million"),
    ],
    ids=["nonsense", "cut off", "empty", "one pixel", "a line", "a bomb", "too many pixels"],
)
def test_an_upload_that_cannot_be_shown_leaves_the_old_picture(explorer, content, words):
    before, png = explorer.present, explorer.page.view.png
    upload(explorer, content)

    assert explorer.message.kind == "error"
    assert words in explorer.message.text and "photo.png" in explorer.message.text
    assert explorer.message.details == ""
    assert explorer.present is before and explorer.page.view.png == png


def test_a_file_too_large_for_the_page_arrives_as_its_size(explorer):
    before = explorer.present
    explorer.controls.upload._receive(None, {"name": "large.png", "size": 12_345_678}, [])

    assert "large.png: 12.3 MB; images may have 8 MB" in explorer.message.text
    assert explorer.present is before


def test_an_own_picture_stands_upright_as_its_exif_says():
    image = Image.new("RGB", (40, 20))
    image.paste((255, 0, 0), (0, 0, 20, 20))  # red on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise: left becomes top
    buffer = io.BytesIO()
    image.save(buffer, "png", exif=exif)

    picture = read_upload("turned.png", buffer.getvalue())

    assert picture.image.shape == (3, 40, 20)
    assert picture.image[0, :20].min() == 255 and picture.image[0, 20:].max() == 0


def test_a_picture_without_any_object_says_so_on_every_page_that_needs_one(explorer):
    explorer.controls.least_score.value = 0.95
    upload(explorer, file_of((32, 32)))

    assert explorer.message.kind == "warning" and "No object was found" in explorer.message.text
    assert explorer.controls.object.disabled
    for title in ("Attentions", "Figure 1", "Figure 4", "Change a base"):
        explorer.turn_to(title)
        assert "No object was found" in explorer.page.view.text and explorer.page.view.png == b""
    for title in ("Picture", "Bases"):
        explorer.turn_to(title)
        assert explorer.page.view.png


def test_true_objects_alone_are_no_detections(explorer):
    explorer.controls.least_score.value = 0.95
    while len(explorer.present.look.found):
        explorer.controls.next.click()
    assert explorer.present.look.objects
    for title, is_drawn in (("Figure 1", True), ("Figure 4", False), ("Change a base", False)):
        explorer.turn_to(title)
        assert bool(explorer.page.view.png) == is_drawn, title
        assert ("No object was found" in explorer.page.view.text) != is_drawn


# ------------------------------------------------------------------ the frame


def test_an_error_that_nobody_expected_is_shown_with_its_place(explorer, monkeypatch):
    monkeypatch.setattr(type(explorer.page), "figure", lambda page, present: 1 / 0)
    explorer.controls.number.value = 1

    assert explorer.message.text == "ZeroDivisionError: division by zero"
    assert "test_lab_explorer.py" in explorer.message.details


def test_a_figure_is_saved_as_a_vector_of_the_chosen_width(explorer, monkeypatch):
    view, sent = explorer.page.view, []
    monkeypatch.setattr(view, "send", lambda content, buffers: sent.append((content, buffers[0])))
    view._receive(None, {"save": "svg"}, [])
    explorer.controls.width.value = "column"
    view._receive(None, {"save": "svg"}, [])
    view._receive(None, {"save": "exe"}, [])

    assert [each["download"] for each, _ in sent] == ["figure.svg"] * 2
    assert b'width="360' in sent[0][1] and b'width="237.6' in sent[1][1]  # 5 and 3.3 inches
    assert "exe: png, svg, pdf are written" in explorer.message.text


def test_only_pictures_that_are_looked_at_stay_in_memory(dataset):
    explorer = Explorer(model=tiny_model(), dataset=dataset)
    explorer.turn_to("Bases")
    looks = []
    for number in (1, 2, 3):
        explorer.controls.number.value = number
        looks.append(weakref.ref(explorer.present.look))
    gc.collect()

    assert [each() is not None for each in looks] == [False, False, True]
    explorer.close()


def test_closing_frees_the_model_and_all_pictures(dataset):
    model = tiny_model()
    explorer = Explorer(model=model, dataset=dataset)
    explorer.controls.number.value = 1
    for title in ("Bases", "Attentions", "What bases are for"):
        explorer.turn_to(title)
    alive = [weakref.ref(each) for each in (model, explorer.present.look, explorer)]
    views = [view for page in explorer.pages.values() for view in page.views]
    assert len(views) == 4  # of the pages that were looked at
    del model
    explorer.close()

    assert all(view.png == b"" for view in views)
    del explorer, views
    gc.collect()
    assert [each() for each in alive] == [None, None, None]


def test_figure_view_and_upload_button_answer_nobody_after_closing():
    view, button = FigureView(), UploadButton()
    heard = []
    view.on_save(lambda *each: heard.append(each))
    button.on_upload(lambda *each: heard.append(each))
    view.close()
    button.close()
    view._receive(None, {"save": "png"}, [])
    button._receive(None, {"name": "a", "size": 1}, [b"a"])

    assert heard == []


# ------------------------------------------------------------------ the dashboard


def test_parts_of_the_dashboard_are_made_when_they_are_looked_at():
    dashboard = Dashboard()
    (lab,) = dashboard.part
    assert lab.title == "Blender lab"
    waiting = [place.children[1] for place in dashboard.tabs.children[1:]]
    assert [each.value for each in waiting] == ["Loading …"] * 2

    dashboard.turn_to("Explorer")
    button, explorer = dashboard.part
    explorer.show(3)
    button.click()
    assert dashboard.tabs.selected_index == 0
    (newer,) = dashboard.part
    assert newer is not lab and lab.is_closed
    assert torch.equal(newer.scene.image, explorer.present.look.image)
    assert len(newer.scene.true_names) == len(explorer.present.look.truth)
    dashboard.turn_to("Time machine")
    assert dashboard.part[0].title == "Time machine"

    gone = weakref.ref(explorer.present.model)
    dashboard.close()
    assert explorer.is_closed and newer.is_closed
    del explorer, lab, newer, button
    gc.collect()
    assert gone() is None


def test_closing_the_dashboard_twice_is_closing_it_once(monkeypatch):
    made = Explorer(model=tiny_model(), dataset=ShapesDataset(1, seed=7))
    monkeypatch.setattr("blendmask_lite.lab.dashboard.BlenderLab", partial(lambda: made))
    dashboard = Dashboard()
    dashboard.close()
    dashboard.close()

    assert made.is_closed
