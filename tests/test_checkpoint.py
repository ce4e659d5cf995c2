"""Files of weights: what is read, and what is refused by file and name before memory is taken."""

from __future__ import annotations

import io
import json
import math
import random
import re
import resource
import struct
import zipfile
import zlib
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from PIL import Image

from blendmask_lite import PRESETS, BlendMask, load_model, save_model
from blendmask_lite.cli import main
from blendmask_lite.config import PRESET_INFERENCE
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.training.resume import Recipe
from blendmask_lite.training.run import train_model
from blendmask_lite.training.schedule import TRAIN_PRESETS, rescale
from blendmask_lite.weights.checkpoint import read_checkpoint

KERNEL, VARIANCE = "head.ltrb.weight", "backbone.bn1.running_var"
COUNTER = "backbone.bn1.num_batches_tracked"
# What is done to a tensor, and what the error says of it.
UNSOUND = [
    (KERNEL, lambda v: v.index_fill(0, torch.tensor([2]), math.nan), "infinite or undefined"),
    (KERNEL, lambda v: v.index_fill(0, torch.tensor([2]), math.inf), "infinite or undefined"),
    (KERNEL, lambda v: v.double() + 1e300, "infinite or undefined"),
    (KERNEL, lambda v: v.half().fill_(math.nan), "infinite or undefined"),
    (KERNEL, lambda v: v.long(), r"of another type: .* torch\.int64 instead of torch\.float32"),
    (KERNEL, lambda v: v > 0, r"of another type: .* torch\.bool instead of torch\.float32"),
    (KERNEL, lambda v: v[:1], r"of another shape: .* \(1, 64, 3, 3\) instead of \(4, 64, 3, 3\)"),
    (VARIANCE, lambda v: v - 2, "negative variances"),
    (COUNTER, lambda v: v + 0.5, r"of another type: .* torch\.float32 instead of torch\.int64"),
]


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """What the file of an untrained nano holds."""
    torch.manual_seed(0)
    model = BlendMask(PRESETS["nano"], inference=PRESET_INFERENCE["nano"])
    return {
        "format": 1,
        "config": asdict(model.config),
        "inference": asdict(model.inference),
        "class_names": list(model.class_names),
        "state": model.state_dict(),
        "metadata": {},
    }


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run that was stopped after two of four steps."""
    folder = tmp_path_factory.mktemp("run")
    assert train_model(ShapesDataset(4, seed=3), folder, recipe(2))
    return folder


def recipe(iterations: int) -> Recipe:
    train = rescale(TRAIN_PRESETS["nano"], iterations=iterations, batch_size=2)
    return Recipe(
        model=replace(PRESETS["nano"], stage_width=16, stem_channels=16, pyramid_channels=16),
        inference=PRESET_INFERENCE["nano"],
        train=replace(train, ema_decay=0.9, train_sizes=(64,), max_size=64),
    )


@pytest.fixture(params=["model.safetensors", "model.pt"])
def path(request, tmp_path):
    """A file of either format."""
    return tmp_path / request.param


def write(path: Path, content: object) -> Path:
    if path.suffix == ".pt":
        torch.save(content, path)
        return path
    about = {name: part for name, part in content.items() if name != "state"}
    state = {name: value.contiguous() for name, value in content["state"].items()}
    crc = zlib.crc32(json.dumps(about).encode())
    for name in sorted(state):
        crc = zlib.crc32(state[name].reshape(-1).view(torch.uint8).numpy().tobytes(), crc)
    header = json.dumps(about | {"crc32": crc})
    path.write_bytes(safetensors.torch.save(state, {"blendmask_lite": header}))
    return path


def changed(content: dict, **parts: object) -> dict:
    """The content with other fields in its config, inference settings or weights."""
    return content | {
        name: content[name] | part if isinstance(part, dict) else part
        for name, part in parts.items()
    }


@pytest.mark.parametrize(("name", "change", "words"), UNSOUND)
def test_tensors_that_cannot_be_weights_are_refused_by_name_and_file(
    name, change, words, content, path
):
    write(path, changed(content, state={name: change(content["state"][name])}))
    with pytest.raises(ValueError, match=rf"{path}: .*{words}") as caught:
        load_model(path)
    assert name in str(caught.value)


def test_half_and_double_precision_are_read_as_single(content, path):
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        state = {KERNEL: content["state"][KERNEL].to(dtype)}
        model = load_model(write(path, changed(content, state=state)))
        assert model.head.ltrb.weight.dtype == torch.float32
        assert model.head.ltrb.weight.equal(state[KERNEL].float())


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "{file}", "shapes"],
        ["segment", "{picture}", "--weights", "{file}", "-o", "{out}"],
        ["export", "{file}", "-o", "{out}.onnx"],
        ["train", "shapes", "-o", "{out}", "--weights", "{file}"],
    ],
)
def test_every_command_refuses_weights_that_are_not_finite(command, content, tmp_path, capsys):
    state = {KERNEL: torch.full_like(content["state"][KERNEL], math.nan)}
    places = {
        "file": write(tmp_path / "bad.pt", changed(content, state=state)),
        "out": tmp_path / "out",
        "picture": tmp_path / "picture.png",
    }
    Image.new("RGB", (40, 30)).save(places["picture"])
    assert main([word.format(**places) for word in command]) == 1
    said = capsys.readouterr().err.strip()
    assert "bad.pt" in said and KERNEL in said and said.count("\n") == 0
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.parametrize("part", ["model", "average"])
def test_a_run_does_not_continue_with_weights_that_are_not_finite(part, run_folder, tmp_path):
    stored = torch.load(run_folder / "last.pt", weights_only=True)
    stored["training"]["state"][part][KERNEL][0] = math.nan
    write(tmp_path / "last.pt", stored)
    message = rf"last\.pt: training state, {part}: .* infinite or undefined values: {KERNEL}"
    with pytest.raises(ValueError, match=message):
        train_model(ShapesDataset(4, seed=3), tmp_path, recipe(4), is_resumed=True)


def test_a_run_does_not_continue_with_moments_that_are_not_finite(run_folder, tmp_path):
    stored = torch.load(run_folder / "last.pt", weights_only=True)
    stored["training"]["state"]["optimizer"]["state"][3]["exp_avg"].fill_(math.inf)
    write(tmp_path / "last.pt", stored)
    with pytest.raises(
        ValueError, match=r"last\.pt: training state, optimizer: state\[3\]\.exp_avg"
    ):
        train_model(ShapesDataset(4, seed=3), tmp_path, recipe(4), is_resumed=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("optimizer"), "training state: expected average, iteration"),
        (lambda state: state.update(iteration="2"), "training state: iteration '2' is no count"),
        (lambda state: state.update(optimizer=3), "training state, optimizer: expected"),
        (lambda state: state["model"].pop(KERNEL), f"training state, model: .* missing: {KERNEL}"),
        (lambda state: state.update(model=3), "training state, model: a int, expected weights"),
    ],
)
def test_what_continuing_needs_is_refused_by_part(change, words, run_folder, tmp_path):
    stored = torch.load(run_folder / "last.pt", weights_only=True)
    change(stored["training"]["state"])
    with pytest.raises(ValueError, match=rf"last\.pt: {words}"):
        read_checkpoint(write(tmp_path / "last.pt", stored))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"config": {"num_box_convs": 10**7}}, "num_box_convs = 10000000: must lie between 0"),
        ({"config": {"backbone": 5}}, "backbone = 5: must be a text"),
        ({"config": {"levels": "p3"}}, "levels = 'p3': must be a tuple of texts"),
        ({"config": {"num_classes": None}}, "num_classes = None: must be a whole number"),
        ({"config": [1]}, "ModelConfig: expected a dictionary of its fields"),
        ({"config": {"depth": 4}}, "ModelConfig has no field depth; the file comes from a newer"),
        ({"inference": {"nms_iou": math.nan}}, "nms_iou = nan: must be a finite number"),
        ({"inference": {"test_size": 10**9}}, "test_size = 1000000000: must lie between 1 and"),
        ({"class_names": 3}, "class_names: expected a list of texts"),
        ({"class_names": [1] * 8}, "class_names: expected a list of texts"),
        ({"class_names": ["cat"]}, "class_names: 1 names for num_classes = 8"),
        ({"stuff_names": {"sky": 1}}, "stuff_names: expected a list of texts"),
        ({"metadata": 3}, "metadata: a int, expected a dictionary"),
        ({"training": 3}, "training: expected a dictionary with the settings as config"),
        ({"format": 2}, "checkpoint format 2, this version reads 1; update blendmask_lite"),
        ({"category_ids": ["one"] * 8}, "category_ids: expected a list of whole numbers"),
        ({"own_parts": {"neck": "Neck"}}, "own_parts: expected the kinds of backbone, bottom"),
    ],
)
def test_every_part_of_a_checkpoint_is_refused_by_name(parts, words, content, path):
    if isinstance(parts.get("config"), list) or "stuff_names" in parts:
        wrong = content | parts
    else:
        wrong = changed({"own_parts": {}} | content, **parts)
    with pytest.raises(ValueError) as caught:
        load_model(write(path, wrong))
    said = str(caught.value)
    assert said.startswith(f"{path}: ") and words in said


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"config": {3: 4}}, "ModelConfig: expected a dictionary of its fields"),
        ({"format": torch.zeros(2)}, "checkpoint format tensor"),
        ({"state": [1]}, "state: a list, expected weights by name"),
        # The oldest safetensors that we admit has no complex numbers.
        ({"state": {KERNEL: torch.zeros(4, 64, 3, 3) + 1j}}, "torch.complex64 instead of torch.f"),
        ({"state": {KERNEL: 3}}, f"state: '{KERNEL}' is no tensor of plain numbers"),
        ({"state": {KERNEL: torch.eye(3).to_sparse()}}, f"'{KERNEL}' is no tensor of plain"),
        ({"state": {KERNEL: torch.empty(3, device="meta")}}, f"'{KERNEL}' is no tensor of plain"),
        ({"state": {3: torch.zeros(1)}}, "state: 3 is no tensor"),
    ],
)
@pytest.mark.filterwarnings("ignore:Validating sparse")
def test_what_only_a_pickle_can_hold_is_refused_by_name(parts, words, content, tmp_path):
    with pytest.raises(ValueError) as caught:
        load_model(write(tmp_path / "model.pt", changed(content, **parts)))
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'model.pt'}: ") and words in said


# ------------------------------------------------------------------ small files, much memory


def test_a_view_cannot_stand_for_weights_that_the_file_does_not_hold(content, tmp_path):
    config = {"stage_width": 8192, "stem_channels": 8192}
    with torch.device("meta"):
        shapes = BlendMask(replace(PRESETS["nano"], **config)).state_dict()
    state = {
        name: torch.zeros((), dtype=value.dtype).expand(value.shape)
        for name, value in shapes.items()
    }
    path = write(tmp_path / "model.pt", changed(content, config=config, state=state))
    assert path.stat().st_size < 2**20
    with pytest.raises(ValueError, match=r"model\.pt: state: declares [\d,]{15,} bytes, the file"):
        load_model(path)


def test_weights_are_compared_before_the_network_takes_memory(content, path):
    config = {"stage_width": 8192, "stem_channels": 8192}
    write(path, changed(content, config=config))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=rf"{path}: .* of another shape"):
        load_model(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kilobytes


@pytest.mark.parametrize("name", PRESETS)
def test_a_checkpoint_holds_every_tensor_of_a_preset(name):
    """Else loading, which leaves the memory of a new network as it finds it, would miss one."""
    with torch.device("meta"):
        model = BlendMask(PRESETS[name])
    held = {id(value) for value in model.state_dict(keep_vars=True).values()}
    for module in model.modules():
        for kept in (module.__dict__, module._parameters, module._buffers):
            tensors = {key: value for key, value in kept.items() if torch.is_tensor(value)}
            assert {key for key, value in tensors.items() if id(value) not in held} == set()


def test_loading_draws_no_weights_and_keeps_the_layout(content, path):
    write(path, content)
    before = torch.get_rng_state()
    model = load_model(path)
    assert torch.get_rng_state().equal(before)
    weight = model.head.ltrb.weight
    assert weight.equal(content["state"][KERNEL]) and weight.requires_grad
    assert weight.is_contiguous(memory_format=torch.channels_last)


def repacked(path: Path, change, *, compression=zipfile.ZIP_STORED) -> None:
    """The same archive with sums that fit, after `change(name, bytes)` of every part."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, part in parts.items():
            archive.writestr(name, change(name, part))


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(content, tmp_path):
    path = write(tmp_path / "model.pt", content)
    repacked(
        path,
        lambda name, part: bytes(10**8) if name.endswith("data/0") else part,
        compression=zipfile.ZIP_DEFLATED,
    )
    with pytest.raises(ValueError, match=r"model\.pt: .*its parts declare [\d,]{11,} bytes"):
        load_model(path)


def test_a_bytearray_of_any_size_is_refused(content, tmp_path):
    path = write(tmp_path / "model.pt", content)
    greedy = b"\x80\x02cbuiltins\nbytearray\nJ" + struct.pack("<i", 2 * 10**9) + b"\x85R."
    repacked(path, lambda name, part: greedy if name.endswith("data.pkl") else part)
    with pytest.raises(ValueError, match=r"model\.pt: refused, because"):
        load_model(path)


# ------------------------------------------------------------------ the file of a finished model


def test_the_format_is_told_by_the_content_not_by_the_name(content, tmp_path):
    for written, named in (("a.safetensors", "model.pt"), ("a.pt", "model.safetensors")):
        path = write(tmp_path / written, content).rename(tmp_path / named)
        for name, value in load_model(path).state_dict().items():
            assert value.equal(content["state"][name])


def test_a_saved_model_is_a_safetensors_file_that_says_what_it_is(tmp_path):
    model = BlendMask(PRESETS["nano"])
    about = {"AP": 61.5, "sizes": (64, 96), "seen": {3: None}}
    save_model(model, tmp_path / "model.safetensors", metadata=about)
    with safetensors.safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()["blendmask_lite"])
        assert set(file.keys()) == set(model.state_dict())
    assert header["class_names"] == list(model.class_names)
    assert header["config"]["num_bases"] == 4
    checkpoint = read_checkpoint(tmp_path / "model.safetensors")
    assert checkpoint.config == model.config
    assert checkpoint.metadata == {"AP": 61.5, "sizes": [64, 96], "seen": {"3": None}}


def test_equal_models_are_equal_files_and_half_precision_halves_them(tmp_path):
    model = BlendMask(PRESETS["nano"])
    for name, dtype in (("one", None), ("two", None), ("half", torch.float16)):
        save_model(model, tmp_path / name, dtype=dtype, metadata={"x": 1, "y": 2})
    whole, half = (tmp_path / "one").read_bytes(), (tmp_path / "half").read_bytes()
    assert whole == (tmp_path / "two").read_bytes()
    assert 0.5 < len(half) / len(whole) < 0.55
    kernel = load_model(tmp_path / "half").head.ltrb.weight
    assert kernel.equal(model.head.ltrb.weight.half().float())


def with_header(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"{",
        with_header(b"{"),
        with_header(b"{}", length=2**63),
        with_header(b"{}" + b" " * 2**20, length=2**20),
        with_header(b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'),
        with_header(b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}', bytes(4)),
        with_header(b'{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
        with_header(b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'),
        with_header(b'{"__metadata__":{"blendmask_lite":"{"}}'),
        with_header(b'{"__metadata__":{"blendmask_lite":"[]"}}'),
        with_header(b'{"__metadata__":{"blendmask_lite":"{}"}}'),
        with_header(b'{"__metadata__":{"blendmask_lite":"' + b"[" * 10**5 + b'"}}'),
        with_header(b'{"__metadata__":{"blendmask_lite":"{\\"crc32\\":1}"}}'),
        with_header(b"[" * 10**6),
        safetensors.torch.save({"weight": torch.zeros(3)}),
        safetensors.torch.save({}, {"format": "pt"}),
    ],
)
def test_foreign_and_malformed_headers_are_one_error_that_names_the_file(file, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(file)
    with pytest.raises(ValueError) as caught:
        load_model(path)
    assert re.match(rf"{path}: (not a checkpoint|damaged)", str(caught.value))
    assert "\n" not in str(caught.value)


def test_a_changed_or_missing_byte_of_a_saved_model_is_noticed(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(BlendMask(PRESETS["nano"]), path, metadata={"note": "long " * 100})
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    generator = random.Random(0)
    for number in range(60):
        damaged = bytearray(whole)
        place = generator.randrange(*((0, start) if number % 2 else (start, len(whole))))
        if number % 5:
            damaged[place] ^= 1 << generator.randrange(8)
        else:
            del damaged[place:]
        path.write_bytes(damaged)
        with pytest.raises(ValueError) as caught:
            load_model(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_weights_with_two_names_are_saved(tmp_path):
    model = BlendMask(PRESETS["nano"])
    model.fpn.lateral["c4"].bias = model.fpn.lateral["c5"].bias
    save_model(model, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors").fpn.lateral
    assert again["c4"].bias.equal(model.fpn.lateral["c5"].bias)


# ------------------------------------------------------------------ damaged files of torch.save


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_file_is_one_error_that_names_it_or_a_sound_model(content, tmp_path):
    path = tmp_path / "model.pt"
    buffer = io.BytesIO()
    torch.save(content, buffer)
    generator = random.Random(0)
    num_refused = 0
    for number in range(60):
        path.write_bytes(buffer.getvalue())
        if number % 3 == 0:  # anywhere, or cut off
            damaged = bytearray(buffer.getvalue())
            damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
            path.write_bytes(damaged[: generator.choice([len(damaged), number * 100])])
        else:  # with sums that fit

            def change(name: str, part: bytes) -> bytes:
                if not name.endswith("data.pkl"):
                    return part
                damaged = bytearray(part)
                for _ in range(generator.randint(1, 3)):
                    damaged[generator.randrange(len(damaged))] = generator.randrange(256)
                return bytes(damaged)

            repacked(path, change)
        try:
            assert isinstance(load_model(path), BlendMask)
        except ValueError as error:
            num_refused += 1
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    assert num_refused > 40


def test_an_archive_whose_parts_lie_elsewhere_is_named(content, tmp_path):
    path = write(tmp_path / "model.pt", content)
    path.write_bytes(path.read_bytes()[500:])  # its directory points before the beginning
    with pytest.raises(ValueError, match=r"model\.pt: not a checkpoint, or "):
        load_model(path)


def test_what_is_no_file_is_told(tmp_path):
    with pytest.raises(ValueError, match="is a folder, expected a checkpoint file"):
        load_model(tmp_path)
    with pytest.raises(ValueError, match="is no regular file, expected a checkpoint file"):
        load_model("/dev/null")
    with pytest.raises(FileNotFoundError, match=r"missing\.pt: no such checkpoint"):
        load_model(tmp_path / "missing.pt")


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    model = BlendMask(PRESETS["nano"])
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    before = path.read_bytes()
    endless: dict = {}
    endless["itself"] = endless
    broken = BlendMask(PRESETS["nano"])
    next(broken.parameters()).data.fill_(math.nan)
    for write, words in (
        (lambda: save_model(model, path, dtype=torch.int8), "int8"),
        (lambda: save_model(broken, path), "infinite or undefined"),
        (
            lambda: save_model(model, path, metadata=endless),
            r"metadata\['itself'\]: cannot be written as JSON",
        ),
        (lambda: save_model(model, path, metadata={"x": model}), r"metadata\['x'\]: .*BlendMask"),
    ):
        with pytest.raises(ValueError, match=words):
            write()
        assert path.read_bytes() == before
    with pytest.raises(TypeError, match="model: a NoneType, expected a BlendMask"):
        save_model(None, path)


@pytest.mark.parametrize("device", ["foo", "", 99, "meta", "cuda:99"])
def test_a_device_that_cannot_compute_is_named(device, tmp_path):
    save_model(BlendMask(PRESETS["nano"]), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=f"device = {device!r}: torch cannot compute on it here"):
        load_model(tmp_path / "model.pt", device=device)
