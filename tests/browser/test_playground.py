"""The playground in a real browser: every gesture, and its numbers beside the package's."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blendmask_lite import load_model, shipped_checkpoint
from blendmask_lite.boxes import clip_boxes, scale_boxes
from blendmask_lite.images import read_image, resize_for_test
from blendmask_lite.masks import mask_iou, paste_masks
from blendmask_lite.model.merge import Assembler, Blender, WeightedSum, crop_bases
from blendmask_lite.research.race import load_contestant, load_features
from blendmask_lite.structures import Target
from blendmask_lite.training.targets import object_locations

from .jupyter import Watched

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120  # for the network to look, on a busy machine
# As text: these are some 100,000 numbers, and Playwright takes lists apart one by one.
NUMBERS = """() => {
    const {blend, state} = playground, {seen} = blend, {model} = seen;
    const lists = object => Object.fromEntries(
        Object.entries(object).map(([name, values]) => [name, Array.from(values)]));
    return JSON.stringify({
        chain: lists(blend.chain),
        found: lists({boxes: seen.boxes, scores: seen.scores, labels: seen.labels}),
        ...lists({bases: seen.bases, attentions: blend.attentions, box: blend.box,
            mask: blend.mask, coefficients: blend.coefficients, gains: state.gains}),
        iou: blend.ious[blend.method], network: blend.network, method: state.method,
        size: [seen.H, seen.W], h: seen.h, w: seen.w, stride: seen.stride,
        K: model.K, M: model.M, R: model.R});
}"""
IN_THE_RACE = """() => playground.race.networks.map(({method, chain, output}) => (
    {method, probabilities: Array.from(chain.probabilities), iou: output.textContent}))"""
# As tools/site_notebooks.py writes it, far below what is seen first; and one without a playground.
LESSON = """<!doctype html><html lang="en" data-theme="dark"><title>Lesson</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="course.css">
<script src="live.js" defer></script>
<div class="live" id="left-out"><img alt="a still"><p><a href="left_out.html" data-part="rows"
    data-view="">playground</a></p></div>
<div style="height: 5000px"></div>
<div class="live" id="bases"><img alt="a still"><p><a href="index.html" data-part="bases"
    data-view="m=small&amp;p=fish">playground</a></p></div></html>"""
STEADY_HEAP = 1.0  # MB that 200 gestures may add


def from_file(name: str, path: Path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The page with two small models; what was exported once is kept in build/."""
    make_playground = from_file("make_playground", ROOT / "tools" / "make_playground.py")
    try:
        make_playground.fetch_runtime()
    except RuntimeError as error:  # no npm, or no registry
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("playground") / "page"
    return make_playground.build(folder, models=("small", "nano"))


@pytest.fixture(scope="module")
def address(built):
    serve = from_file("serve_playground", built / "serve.py")
    server = serve.make_server(built, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


class Playground(Watched):
    """The page; `turn_to` does not load it again."""

    def __init__(self, browser, address: str, folder: Path) -> None:
        super().__init__(browser, SECONDS)
        self.folder = folder  # for files to upload
        self.context.grant_permissions(["camera", "clipboard-read", "clipboard-write"])
        self.page.set_viewport_size({"width": 1440, "height": 1000})
        self.page.goto(address)
        self.page.wait_for_function("() => document.body.dataset.frames > 0")

    def ready(self) -> int:
        return int(self.page.evaluate("() => document.body.dataset.ready ?? 0"))

    def turn_to(self, text: str) -> None:
        """Follow a link to the page, and wait until it shows what the link says."""
        self.after(
            lambda: self.page.evaluate(
                "text => { location.hash = `${text}&x=${Math.random()}`; }", text
            )
        )

    def after(self, gesture: Callable[[], object]) -> None:
        """Wait until the page shows what a gesture has turned it to."""
        before = self.ready()
        gesture()
        self.page.wait_for_function("before => document.body.dataset.ready > before", arg=before)
        self.settle()

    def settle(self) -> None:
        """Wait for two frames: the page has drawn what was done before."""
        self.page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    def numbers(self) -> dict:
        self.settle()
        return json.loads(self.page.evaluate(NUMBERS))

    def hash(self) -> str:
        return self.page.evaluate("() => location.hash.slice(1)")

    def place(self, selector: str, across: float, down: float) -> tuple[float, float]:
        element = self.page.locator(selector).first
        element.scroll_into_view_if_needed()
        frame = element.bounding_box()
        return frame["x"] + across * frame["width"], frame["y"] + down * frame["height"]

    def drag(self, selector: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Shares of the element's width and height."""
        x, y = self.place(selector, *start)
        frame = self.page.locator(selector).first.bounding_box()
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        right, down = end[0] - start[0], end[1] - start[1]
        self.page.mouse.move(x + right * frame["width"], y + down * frame["height"], steps=4)
        self.page.mouse.up()
        self.settle()

    def upload(self, content: bytes, name: str = "mine.png") -> str:
        """Choose a file; what the page says when it is done."""
        path = self.folder / name
        path.write_bytes(content)
        ready = self.ready()
        self.page.evaluate("() => { document.getElementById('say').textContent = ''; }")
        self.page.set_input_files("#file", path)
        self.page.wait_for_function(
            "ready => document.body.dataset.ready > ready ||"
            " document.getElementById('say').textContent !== ''",
            arg=ready,
        )
        return self.page.locator("#say").text_content()


@pytest.fixture(scope="module")
def page(browser, address, tmp_path_factory):
    playground = Playground(browser, address, tmp_path_factory.mktemp("uploads"))
    yield playground
    playground.close()


@pytest.fixture(autouse=True)
def first_picture(page):
    """Every test begins with the same object, in a wide window."""
    page.page.set_viewport_size({"width": 1440, "height": 1000})
    page.turn_to("m=small&p=twins")


def png(image: Image.Image, kind: str = "png", **settings) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **settings)
    return buffer.getvalue()


def expected(numbers: dict) -> dict[str, np.ndarray]:
    """The package's equations 1 to 4 for the state of the page."""
    K, M, R = numbers["K"], numbers["M"], numbers["R"]
    bases = torch.tensor(numbers["bases"]).view(1, K, numbers["h"], numbers["w"])
    gains = torch.tensor(numbers["gains"] or [1.0] * K)
    box = torch.tensor([numbers["box"]], dtype=torch.float32)
    crops = crop_bases(
        bases * gains[:, None, None],
        box,
        torch.zeros(1, dtype=torch.int64),
        size=R,
        stride=numbers["stride"],
    )
    blender = Blender(num_bases=K, attention_size=M)
    attentions = torch.tensor(numbers["attentions"])[None]
    coefficients = blender.scores(attentions, M).mean(dim=(2, 3))
    merger, given = {
        "blender": (blender, attentions),
        "weighted_sum": (WeightedSum(num_bases=K), coefficients),
        "assembler": (Assembler(num_bases=K), torch.zeros(1, 0)),
    }[numbers["method"]]
    logits = merger(crops, given)
    mask = paste_masks(logits, clip_boxes(box, numbers["size"]), numbers["size"], 0.5)
    found = {
        "crops": crops,
        "scores": merger.scores(given, R),
        "logits": logits,
        "probabilities": logits.sigmoid(),
        "mask": mask,
    }
    return {name: value.numpy().astype(np.float32).ravel() for name, value in found.items()}


def assert_equal_to_the_package(numbers: dict) -> None:
    shown = numbers["chain"] | {"mask": numbers["mask"]}
    for name, value in expected(numbers).items():
        assert len(shown[name]) == len(value), name
        assert np.abs(np.asarray(shown[name]) - value).max() <= 1e-4, name


# ---------------------------------------------------------------- what the network finds


def test_the_page_finds_what_the_package_finds(page, built):
    numbers = page.numbers()
    assert page.page.locator("#caption").text_content() == "Touching twins"
    image = read_image(built / "pictures" / "twins.png")
    [found] = load_model(shipped_checkpoint("small")).predict([image], score_threshold=0.4)
    shown = numbers["found"]
    assert shown["labels"] == found.labels.tolist()
    # The page's weights are stored in float16, so scores and boxes differ a little.
    assert np.abs(np.array(shown["scores"]) - found.scores.numpy()).max() < 0.005
    clipped = clip_boxes(torch.tensor(shown["boxes"]).view(-1, 4), numbers["size"])
    assert float((clipped - found.boxes).abs().max()) < 0.5
    mask = torch.tensor(numbers["mask"]).view(1, *numbers["size"]).bool()
    assert float(mask_iou(mask, found.masks[:1])[0]) > 0.99
    assert_equal_to_the_package(numbers)


def test_photographs_are_resized_as_the_package_does_and_said_to_be_unseen(page, built):
    page.turn_to("m=small&p=coffee")
    assert "only ever seen drawn shapes" in page.page.locator("#say").text_content()
    text = page.page.evaluate(
        """async () => {
            const {seenBy} = await import('./picture.js');
            const {model} = playground.blend.seen;
            const {pixels, H, W} = seenBy(model, playground.picture.canvas);
            return JSON.stringify([H, W, ...pixels.map(value => value * 255)]);
        }"""
    )
    shown = json.loads(text)
    image = resize_for_test(read_image(built / "pictures" / "coffee.jpg"), 192, 320)
    assert shown[:2] == list(image.shape[1:])
    # Two decoders of JPEG and two orders of rounding.
    difference = np.abs(np.array(shown[2:]) - image.numpy().ravel())
    assert difference.max() <= 4 and difference.mean() < 0.5


def test_another_model_looks_again_with_its_own_sizes(page):
    page.page.select_option("#model", "nano")
    page.page.wait_for_function("() => playground.blend?.seen.model.key === 'nano'")
    numbers = page.numbers()
    assert (numbers["M"], numbers["R"], numbers["size"]) == (7, 28, [128, 128])
    assert page.page.locator(".tile.attention canvas").first.get_attribute("width") == "7"
    assert_equal_to_the_package(numbers)


# ---------------------------------------------------------------- gestures


def test_an_object_is_chosen_in_the_picture_and_in_the_list(page):
    own = page.numbers()["box"]
    page.page.locator("#objects label").nth(1).click()
    other = page.numbers()["box"]
    assert other != own
    center = [(own[0] + own[2]) / 2 / 192, (own[1] + own[3]) / 2 / 192]
    page.page.mouse.click(*page.place("#stage", *center))
    assert page.numbers()["box"] == own


def test_a_dragged_box_and_a_dragged_handle_move_the_mask_as_the_package_says(page):
    before = page.numbers()
    corners = [(0.6, 0.1), (0.9, 0.25)]  # beside the box
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):  # drawn towards each of the four
        start, end = ((corners[m][0], corners[n][1]) for m, n in ((1 - i, 1 - j), (i, j)))
        page.drag("#stage", start, end)
        shown = np.array(page.numbers()["box"]) / 192
        assert np.abs(shown - [0.6, 0.1, 0.9, 0.25]).max() < 0.01
        page.page.keyboard.press("Control+z")
        page.settle()
    page.drag("#box", (0.5, 0.5), (0.7, 0.6))
    moved = page.numbers()
    width = before["box"][2] - before["box"][0]
    assert moved["box"][0] - before["box"][0] == pytest.approx(0.2 * width, abs=1.5)
    assert moved["box"][2] - moved["box"][0] == pytest.approx(
        width, abs=0.11
    )  # the address keeps one digit
    assert moved["iou"] < before["iou"] == moved["network"]
    assert_equal_to_the_package(moved)
    page.drag('.handle[data-side="1,1"]', (0.5, 0.5), (2.5, 2.5))
    resized = page.numbers()
    assert resized["box"][2] > moved["box"][2] and resized["box"][0] == moved["box"][0]
    assert_equal_to_the_package(resized)


@pytest.mark.parametrize("method", ["blender", "weighted_sum", "assembler"])
def test_every_method_gives_the_packages_masks_for_paint_box_and_strengths(page, method):
    page.drag(".line[data-base='1'] .tile.attention .face", (0.2, 0.3), (0.8, 0.6))
    page.page.locator("[name=brush][value='-1']").check(force=True)
    page.drag(".line[data-base='0'] .tile.attention .face", (0.5, 0.1), (0.5, 0.9))
    page.page.locator("[name=brush][value='1']").check(force=True)
    page.page.locator(".line[data-base='2'] .knock").click()
    page.page.locator(".line[data-base='3'] .gain input").fill("1.75")
    page.page.locator(f"[name=method][value={method}]").check(force=True)
    numbers = page.numbers()
    assert numbers["gains"] == [1, 1, 0, 1.75] and numbers["method"] == method
    attentions = np.array(numbers["attentions"]).reshape(4, 14, 14)
    assert (attentions[1] == 8).sum() >= 9 and (attentions[0] == -8).sum() >= 11
    assert_equal_to_the_package(numbers)


def test_the_numbers_of_a_cell_run_from_the_crops_to_the_mask(page):
    numbers = page.numbers()
    column, row = 30, 20
    page.page.mouse.move(*page.place(".tile.result .face", 30.5 / 56, 20.5 / 56))
    page.settle()

    def shown(kind: str) -> list[float]:
        texts = page.page.locator(f".tile.{kind} .number").all_text_contents()
        return [float(text.replace("\u2212", "-").replace("%", "")) for text in texts]

    at = np.arange(4) * 56**2 + row * 56 + column
    chain = {name: np.array(values) for name, values in numbers["chain"].items()}
    for kind, name in (("crop", "crops"), ("score", "scores"), ("product", "products")):
        assert np.abs(np.array(shown(kind)) - chain[name][at]).max() < 0.051, kind
    assert shown("logits")[0] == pytest.approx(chain["logits"][at[0]], abs=0.051)
    assert shown("result")[0] == pytest.approx(100 * chain["probabilities"][at[0]], abs=0.51)
    # Whoever multiplies and adds up the numbers on the screen gets the others, but for rounding.
    scores, products = shown("score"), shown("product")
    assert sum(scores) == pytest.approx(1, abs=0.0021)
    for crop, score, product in zip(shown("crop"), scores, products, strict=True):
        assert crop * score == pytest.approx(product, rel=0.006, abs=0.011)
    assert sum(products) == pytest.approx(shown("logits")[0], abs=0.026)
    flow = page.page.locator(".flow").text_content()
    assert flow.startswith("scores: ") and "≈ 1" in flow and "inside" in flow
    # It stays where it was clicked, and a pointer that leaves takes its own marks along.
    page.page.mouse.down()
    page.page.mouse.up()
    page.page.mouse.move(5, 5)
    page.settle()
    assert page.page.evaluate("() => playground.state.cell") == [column, row]
    page.page.locator(".tile.result .face").press("Escape")
    page.settle()
    assert page.page.locator(".mark:visible").count() == 0


def test_a_base_is_shown_large_and_the_true_outline_on_demand(page):
    def over() -> str:
        return page.page.evaluate("() => document.getElementById('over').toDataURL()")

    masks = over()
    page.page.locator(".line[data-base='2'] .tile.base .face").click()
    page.settle()
    assert page.page.evaluate("() => playground.state.view") == "2"
    assert over() != masks
    page.page.locator("[name=view][value=masks]").check(force=True)
    page.settle()
    assert over() == masks
    yellow = """() => { const {data} = document.getElementById('chosen').getContext('2d')
        .getImageData(0, 0, 192, 192);
        return data.filter((v, i) => i % 4 === 0 && v === 255 && data[i + 1] === 212).length; }"""
    assert page.page.evaluate(yellow) == 0
    page.page.locator("#truth").check()
    page.settle()
    assert page.page.evaluate(yellow) > 50


def test_undo_and_redo_go_through_all_gestures(page):
    states = [page.hash()]
    page.drag("#box", (0.5, 0.5), (0.6, 0.5))
    states.append(page.hash())
    page.drag(".tile.attention .face", (0.2, 0.2), (0.6, 0.2))
    states.append(page.hash())
    page.page.locator("#blank").click()
    states.append(page.hash())
    assert len(set(states)) == 4
    attention = page.page.locator(".tile.attention canvas").first
    darkest = "canvas => Math.min(...canvas.getContext('2d').getImageData(0, 0, 14, 14).data)"
    assert attention.evaluate(darkest) > 235  # zero has the colour of the empty page
    for state in reversed(states[:-1]):
        page.page.keyboard.press("Control+z")
        page.settle()
        assert page.hash() == state
    for state in states[1:]:
        page.page.locator("#redo").click()
        page.settle()
        assert page.hash() == state
    page.page.locator("#reset").click()
    assert page.hash() == "m=small&p=twins"


def test_the_address_shows_somebody_else_the_same(page):
    page.page.locator("#objects label").nth(1).click()
    page.drag("#box", (0.5, 0.5), (0.6, 0.55))
    page.drag(".line[data-base='3'] .tile.attention .face", (0.1, 0.1), (0.7, 0.8))
    page.page.locator(".line[data-base='0'] .knock").click()
    page.page.locator("[name=method][value=assembler]").check(force=True)
    page.page.locator(".tile.result .face").click()
    sent, numbers = page.hash(), page.numbers()
    page.turn_to("m=small&p=star")
    page.turn_to(sent)
    assert page.hash() == sent
    received = page.numbers()
    assert received["chain"] == numbers["chain"] and received["mask"] == numbers["mask"]
    assert received["method"] == "assembler" and received["gains"] == [0, 1, 1, 1]


@pytest.mark.parametrize(
    "nonsense", ["m=gone&p=gone", "o=99&b=1,2&g=9&a=!!&c=99,99&v=7&w=magic", "b=5,5,5,5", "%%%"]
)
def test_an_address_that_makes_no_sense_opens_the_first_view(page, nonsense):
    page.turn_to(nonsense)
    assert page.hash().startswith("m=small&p=paws")
    assert_equal_to_the_package(page.numbers())


def test_the_page_says_who_is_closer_to_the_true_mask(page):
    says = page.page.locator("#beat-text")
    assert "can you come closer" in says.text_content()
    page.drag("#box", (0.5, 0.5), (0.8, 0.5))
    assert "The network is ahead" in says.text_content()
    assert float(page.page.locator("#bars output").first.text_content()) < page.numbers()["network"]
    # As if the network had been as good as this box, and then worse.
    page.page.evaluate("() => { playground.blend.network = playground.blend.ious[0] - 0.004; }")
    page.page.locator("#truth").check()
    page.settle()
    assert says.text_content() == "As good as the network: at most 0.005 apart."
    page.page.evaluate("() => { playground.blend.network = 0.1; }")
    page.page.locator("#truth").uncheck()
    page.settle()
    assert "You have beaten the network" in says.text_content()


def test_the_races_networks_are_loaded_on_demand_and_have_the_packages_masks(page, built):
    assert not any("rivals.json" in each for each in page.requests)
    page.page.locator("#race summary").click()
    page.page.wait_for_selector("#race figure")
    assert page.hash() == "m=small&p=twins&r=1"

    image = read_image(built / "pictures" / "twins.png")
    truth = json.loads((built / "pictures" / "twins.json").read_text())["objects"]
    boxes = torch.tensor([each["box"] for each in truth])
    features = load_features()
    low = resize_for_test(image, features.inference.test_size, features.inference.max_size)
    sizes = image.shape[-2:], low.shape[-2:]
    target = Target(scale_boxes(boxes, *sizes), torch.zeros(len(boxes), dtype=torch.int64))
    objects = []
    for _ in range(2):
        box = scale_boxes(torch.tensor([page.numbers()["box"]]), *sizes)
        object_index = page.page.evaluate("() => playground.blend.ownMatch")
        shown = page.page.evaluate(IN_THE_RACE)
        for network, name in zip(shown, ("BlendMask", "YOLACT", "FCIS"), strict=True):
            contestant = load_contestant(features, name)
            assert network["method"] == contestant.config.merger and "IoU 0." in network["iou"]
            output = contestant([low])
            place, _ = object_locations(output, target, contestant.config)
            index = torch.tensor([[0, int(place[object_index])]])
            expected_mask = contestant.masks_at(output, index, box).sigmoid().numpy().ravel()
            difference = np.abs(np.array(network["probabilities"]) - expected_mask)
            assert difference.max() < 0.01, name  # bases and numbers are stored in float16
        objects.append(object_index)
        page.page.locator("#objects label").nth(1).click()
        page.drag("#box", (0.5, 0.5), (0.6, 0.6))
    assert set(objects) == {0, 1}
    page.turn_to("m=small&p=coffee&r=1")
    assert "saw only the scenes" in page.page.locator("#race p").text_content()
    assert page.page.locator("#race figure:visible").count() == 0


# ---------------------------------------------------------------- in another page


def test_a_part_runs_in_place_of_its_picture_once_it_is_scrolled_to(browser, built, address):
    for name in ("live.js", "course.css"):
        shutil.copy(ROOT / "docs" / "site" / "_static" / name, built)
    (built / "lesson.html").write_text(LESSON)
    (built / "left_out.html").write_text("<!doctype html><title>It was left out.</title>")
    watched = Watched(browser, SECONDS)
    page = watched.page
    page.set_viewport_size({"width": 700, "height": 800})
    page.goto(f"{address}lesson.html")
    page.wait_for_load_state("networkidle")
    assert not any(each.endswith(".wasm") for each in watched.requests)
    page.locator("#bases").scroll_into_view_if_needed()
    page.wait_for_selector("#bases.running iframe")
    assert page.locator("img:visible").count() == 1  # the picture where there is no playground

    [frame] = [each for each in page.frames if "part=bases" in each.url]
    assert frame.locator(".tile.base:visible, .gain:visible").count() == 8
    assert frame.locator("h1:visible, #tour:visible, .tile.crop:visible").count() == 0
    frame.locator(".line[data-base='2'] .knock").click()
    assert frame.evaluate("() => playground.state.gains") == [1, 1, 0, 1]
    theme = "theme => document.documentElement.dataset.theme === theme"
    assert frame.evaluate(theme, "dark")
    page.evaluate("() => { document.documentElement.dataset.theme = 'light'; }")
    frame.wait_for_function(theme, arg="light")
    fits = """() => document.scrollingElement.scrollWidth <= innerWidth
        && Math.abs(innerHeight - document.getElementById('scroller').offsetHeight - 1) <= 1"""
    for width in (700, 390):
        page.set_viewport_size({"width": width, "height": 800})
        frame.wait_for_function(fits)
    assert watched.errors == set() and watched.foreign_requests() == []
    watched.close()


# ---------------------------------------------------------------- pictures of the user


def test_a_picture_of_the_user_is_seen_and_stays_out_of_the_address(page, built):
    content = (built / "pictures" / "star.png").read_bytes()
    page.upload(content)
    assert page.page.evaluate("() => playground.state.picture") == "own"
    labels = page.numbers()["found"]["labels"]
    assert len(labels) >= 2
    assert page.page.locator("#beat-text").text_content().startswith("There is no true object")
    assert len(page.hash()) < 60


def test_a_picture_is_turned_upright_as_its_exif_data_say(page):
    wide = Image.new("RGB", (200, 100), (200, 30, 30))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    page.upload(png(wide, "jpeg", exif=exif), "turned.jpg")
    size = page.page.evaluate(
        "() => [playground.picture.canvas.width, playground.picture.canvas.height]"
    )
    assert size == [100, 200]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89PNG\r\n\x1a\n and then nothing", "cannot read that file"),
        (b"", "cannot read that file"),
        (b"0" * 40_000_001, "at most 40 MB"),
        (png(Image.new("1", (10_000, 6_001)), "png"), "10000 x 6001 pixels; at most 60 million"),
        (png(Image.new("L", (2_000, 4)), "png"), "too narrow"),
    ],
    ids=["corrupt", "empty", "large file", "many pixels", "narrow"],
)
def test_a_file_that_cannot_be_used_is_refused_and_the_old_picture_stays(page, content, words):
    before = page.numbers()
    assert words in page.upload(content)
    assert page.hash() == "m=small&p=twins"
    assert page.numbers()["box"] == before["box"]


def test_a_picture_of_one_pixel_does_no_harm(page):
    said = page.upload(png(Image.new("RGB", (1, 1), (90, 120, 30))))
    assert "Nothing reaches a confidence" in said or "found nothing" in said


DROPPED = """async ([name, address, kind]) => {
    const blob = await (await fetch(address)).blob();
    const data = new DataTransfer();
    data.items.add(new File([blob], 'mine.png', {type: 'image/png'}));
    const event = kind === 'paste' ? new ClipboardEvent(kind, {clipboardData: data, bubbles: true})
        : new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true});
    document.body.dispatchEvent(event);
}"""


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_a_picture_can_be_pasted_and_dropped(page, kind):
    before = page.ready()
    page.page.evaluate(DROPPED, ["mine.png", "pictures/mugs.png", kind])
    page.page.wait_for_function("ready => document.body.dataset.ready > ready", arg=before)
    assert page.page.evaluate("() => playground.state.picture") == "own"
    assert page.page.evaluate("() => playground.picture.canvas.width") == 192


def test_the_camera_gives_a_picture_and_is_switched_off_afterwards(page):
    page.page.locator("#camera").click()
    page.page.wait_for_function("() => document.getElementById('video').videoWidth > 0")
    before = page.ready()
    page.page.locator("#take").click()
    page.page.wait_for_function("ready => document.body.dataset.ready > ready", arg=before)
    assert page.page.evaluate("() => playground.picture.canvas.width") >= 320
    assert page.page.evaluate("() => document.getElementById('video').srcObject") is None
    assert not page.page.locator("#shot").is_visible()


# ---------------------------------------------------------------- the tour, and no pointer


def test_the_tour_ticks_off_gestures_and_is_taken_up_where_it_was_left(page):
    texts = json.loads((ROOT / "playground" / "tour.json").read_text())
    steps = texts["steps"]
    find = page.page.locator
    page.drag("#box", (0.5, 0.5), (0.6, 0.5))
    mine = page.hash()
    page.after(find("#guide").click)
    page.after(find("#undo").click)
    assert page.hash() == f"{mine}&s=1"
    page.after(find("#redo").click)
    for number, step in enumerate(steps):
        # Whatever was done in the step before, this one begins from its own view.
        assert page.hash() == f"m=small&{step['view']}&s={number + 1}"
        assert find("#tour h2").text_content() == step["title"]
        assert find(".lit:visible").count() > 0, step["title"]
        done = find(".ask.done")
        assert not done.is_visible()
        if step["gesture"] == "paint":
            page.drag(".tile.attention .face", (0.2, 0.2), (0.6, 0.2))
            assert done.is_visible()
            find("#tour .leave").click()
            assert not find("#tour").is_visible()
            assert find("#guide").text_content() == "Resume the tour"
            page.after(find("#guide").click)
            assert find("#tour h2").text_content() == step["title"]
        elif step["gesture"] == "method":
            find("[name=method][value=assembler]").check(force=True)
            assert done.is_visible()
            assert find("[name=brush]").first.is_disabled()
            assert find(".instead").first.text_content() == "a fixed tile"
            assert find(".hint").text_content() == "FCIS: nothing to paint"
        elif step["gesture"].startswith("picture"):
            page.after(lambda: find("[name=picture][value=star]").check(force=True))
            assert not done.is_visible()
            page.after(lambda: find("[name=picture]:has(+ .lit)").check(force=True))
            assert done.is_visible()
        if number + 1 < len(steps):
            page.after(find("#tour .next").click)
    page.drag('.handle[data-side="1,0"]', (0.5, 0.5), (3, 0.5))
    find("#tour .next").click()
    assert not find("#tour").is_visible()
    assert find("#guide").text_content() == "Guided tour"
    assert find("#note").text_content() == texts["words"]["closing"]


@pytest.mark.parametrize("size", [(390, 844), (1024, 768), (1280, 720), (1440, 900)])
def test_the_tour_lies_below_the_page_with_its_gesture_and_what_it_is_about_in_view(page, size):
    page.page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
    page.turn_to("m=small&p=twins&s=4")
    inside = "() => document.scrollingElement.scrollWidth <= innerWidth"
    assert page.page.evaluate(inside)
    boxes = """() => Object.fromEntries(['#tour', '#tour .next', '#tour .ask', '#scroller',
        '#stage', '.tile.attention .face'].map(name => {
            const {top, bottom, right} = document.querySelector(name).getBoundingClientRect();
            return [name, {top, bottom, right}];
        }))"""
    found = page.page.evaluate(boxes)
    for name in ("#tour .next", "#tour .ask"):
        assert found[name]["bottom"] <= size[1] and found[name]["right"] <= size[0], name
    in_view = [".tile.attention .face"]
    if page.page.evaluate("() => document.body.classList.contains('narrow')"):
        in_view.append("#stage")  # stays above the rows, which scroll under it
    for name in in_view:
        assert found[name]["top"] >= 0, name
        assert found[name]["bottom"] <= found["#scroller"]["bottom"], name
    assert found["#scroller"]["bottom"] <= found["#tour"]["top"] + 1


def test_everything_can_be_done_with_the_keyboard_alone(page):
    keyboard = page.page.keyboard
    page.page.evaluate("() => document.activeElement.blur()")
    reached, seen = "", []
    for _ in range(60):
        keyboard.press("Tab")
        reached = page.page.evaluate(
            "() => { const e = document.activeElement; return e.id || e.name || e.className; }"
        )
        seen.append(reached)
    for name in ("model", "link", "save", "guide", "picture", "upload", "camera", "stage", "view"):
        assert name in seen, name
    assert {"object", "truth", "brush", "method"} <= set(seen)
    assert seen.count("face") >= 8 and "face pointed" in seen  # bases, attentions; the mask

    before = page.numbers()
    page.page.locator("#stage").focus()
    keyboard.press("ArrowRight")
    assert page.numbers()["box"][0] == pytest.approx(before["box"][0] + 3, abs=0.06)
    keyboard.press("Shift+ArrowDown")
    assert page.numbers()["box"][3] == pytest.approx(before["box"][3] + 3, abs=0.06)
    page.page.locator(".tile.attention .face").first.focus()
    for key in ("-", "ArrowLeft", "Space"):
        keyboard.press(key)
    assert page.numbers()["attentions"][7 * 14 + 6] == -8
    page.page.locator(".tile.result .face").focus()
    keyboard.press("ArrowUp")
    assert page.page.evaluate("() => playground.state.cell") == [28, 27]
    page.page.locator("[name=object]").first.focus()
    keyboard.press("ArrowDown")
    page.settle()
    assert page.page.evaluate("() => playground.state.object") == 1


def test_every_control_has_a_name_for_screen_readers(page):
    nameless = """() => [...document.querySelectorAll('button, input, select, [role]')]
        .filter(e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length
            || e.getAttribute('aria-describedby'))).map(e => e.outerHTML.slice(0, 80))"""
    assert page.page.evaluate(nameless) == []
    assert "mug, box from" in page.page.locator("#stage").get_attribute("aria-label")


# ---------------------------------------------------------------- what leaves the page


def test_the_link_is_copied_and_the_view_is_saved_as_a_picture(page):
    page.page.locator("#link").click()
    page.page.wait_for_function(
        "() => document.getElementById('note').textContent.includes('copied')"
    )
    assert page.page.evaluate("() => navigator.clipboard.readText()") == page.page.url
    with page.page.expect_download() as download:
        page.page.locator("#save").click()
    picture = Image.open(download.value.path())
    assert picture.format == "PNG" and picture.width > 2000


def test_memory_stays_flat_over_200_gestures(page):
    session = page.context.new_cdp_session(page.page)

    def megabytes() -> float:
        session.send("HeapProfiler.collectGarbage")
        session.send("Performance.enable")
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(each["value"] for each in metrics if each["name"] == "JSHeapUsedSize") / 1e6

    gestures = """async count => {
        const stage = document.getElementById('stage'), box = document.getElementById('box');
        const face = document.querySelector('.tile.attention .face');
        const send = (target, type, x, y) => target.dispatchEvent(new PointerEvent(type, {
            bubbles: true, pointerId: 1, isPrimary: true, clientX: x, clientY: y}));
        stage.setPointerCapture = face.setPointerCapture = () => {};
        const frame = () => new Promise(requestAnimationFrame);
        for (let i = 0; i < count; i += 1) {
            const target = i % 2 ? face : box;
            const {left, top, width, height} = target.getBoundingClientRect();
            const [x, y] = [left + width / 2, top + height / 2];
            send(target, 'pointerdown', x, y);
            for (let step = 1; step <= 4; step += 1) {
                send(i % 2 ? face : stage, 'pointermove', x + (i % 4 < 2 ? 3 : -3) * step, y);
            }
            await frame();
            send(i % 2 ? face : stage, 'pointerup', x, y);
        }
    }"""
    page.page.evaluate(gestures, 40)
    before = megabytes()
    page.page.evaluate(gestures, 200)
    grown = megabytes() - before
    session.detach()
    assert grown < STEADY_HEAP, f"{grown:.2f} MB"


def test_nothing_went_wrong_and_nothing_left_this_machine(page):
    assert page.errors == set()
    assert page.foreign_requests() == []
    assert any(each.endswith(".wasm") for each in page.requests)
    assert page.page.evaluate("() => crossOriginIsolated")
