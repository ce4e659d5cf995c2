"""Is everything right on this GPU, and how fast is it? Writes docs/gpu.json and docs/gpu.md.

    make gpu-check
    python3 tools/gpu_check.py              needs torch, torchvision, pycocotools and hotcoco only
    python3 tools/gpu_check.py --only agreement,steps --minutes 3

Without CUDA the same list runs in miniature on the CPU, and the report says so. Results are written
after every part, so that one that is cut short keeps what it has.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import math
import platform
import shutil
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]  # before the imports

import torch
import torchvision
from contenders import coco_like_boxes, make_blendmask, make_mask_rcnn
from released import RELEASED_PRESETS, random_model, thin
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from blendmask_lite import PRESETS, BlendMask, Target, load_model
from blendmask_lite.config import PRESET_INFERENCE
from blendmask_lite.datasets.sample import Batch, collate
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.evaluation.instances import evaluate_model
from blendmask_lite.evaluation.panoptic import evaluate_panoptic
from blendmask_lite.files import shipped_checkpoint, write_atomically
from blendmask_lite.model.layers import synchronize_norms
from blendmask_lite.training.criterion import TrainingStep
from blendmask_lite.training.distributed import Ranks
from blendmask_lite.training.engine import TrainingState, train
from blendmask_lite.training.resume import Recipe, compile_network
from blendmask_lite.training.run import train_model
from blendmask_lite.training.schedule import TRAIN_PRESETS, TrainConfig, rescale

OUR_PRESETS = ["nano", "small", "nano_panoptic", "photos"]  # small enough to be taken whole
EVERY_PRESET = [*RELEASED_PRESETS, "r50_paper", *OUR_PRESETS]
# Relative differences to float32 on the CPU that are allowed, of outputs and of a step's gradient.
# Another order of sums is all that float32 may change; deformable samples of random features
# amplify it, and bfloat16 has 8 bits.
ALLOWED = {"float32": 1e-3, "bfloat16": 0.05}
ALLOWED_DEFORMABLE = {"float32": 1e-2, "bfloat16": 0.25}
ALLOWED_LOSS = {"float32": 1e-3, "bfloat16": 1e-2}
# A group of GroupNorm needs several values, or it turns rounding into signs.
WIDE_ENOUGH = {"pyramid_channels": 64, "bottom_channels": 64}
WAITS_OF_A_STEP = 2  # for the number of positives, for losses and gradient (CONTRIBUTING, 13)


@dataclass
class Report:
    """What was found, part by part.

    Attributes:
        parts: {"name", "seconds", "rows": [...], "problems": [...]} each.
    """

    environment: dict[str, Any]
    parts: list[dict[str, Any]] = field(default_factory=list)

    def problems(self) -> list[str]:
        """All of them, with the part's name in front."""
        return [f"{part['name']}: {each}" for part in self.parts for each in part["problems"]]

    def write(self, folder: Path) -> None:
        """gpu.json and gpu.md."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {"environment": self.environment, "parts": self.parts}
        text = json.dumps(content, indent=1) + "\n"
        write_atomically(folder / "gpu.json", text.encode())
        write_atomically(folder / "gpu.md", self.page().encode())

    def page(self) -> str:
        """The report as a page."""
        facts = self.environment
        where = facts["gpu"] or "the CPU, in miniature: there was no CUDA device"
        problems = self.problems()
        lines = [
            "# GPU check",
            "",
            f"Written by `make gpu-check` on {facts['date']}, on **{where}**: torch "
            f"{facts['torch']}, torchvision {facts['torchvision']}, Python {facts['python']}"
            + (f", CUDA {facts['cuda']}." if facts["gpu"] else "."),
            "",
        ]
        if not facts["gpu"]:
            lines += [
                "Nothing here says anything about a GPU: the parts ran with tiny models and sizes, "
                "to show that the check itself works. Times of such a run mean nothing.",
                "",
            ]
        lines += [f"**{len(problems)} problems.**", *(f"- {each}" for each in problems), ""]
        for part in self.parts:
            lines += [f"## {part['title']}", "", part["about"], ""]
            lines += table(part["rows"])
            lines += [f"- {note}" for note in part["notes"]]
            lines += ["", f"({part['seconds']:.0f} s)", ""]
        return "\n".join(lines).rstrip() + "\n"


@dataclass
class Part:
    """One part of the list while it runs.

    Attributes:
        device: that is checked.
        is_full: a GPU, and so real sizes.
        deadline: `time.monotonic()` at which it should be done.
    """

    device: torch.device
    is_full: bool
    deadline: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def require(self, is_met: bool, problem: str) -> None:
        """Note a problem down, and go on."""
        if not is_met:
            self.problems.append(problem)

    @property
    def seconds_left(self) -> float:
        """Until the deadline."""
        return self.deadline - time.monotonic()


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Rows of a Markdown table; columns in the order in which they first appear."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        return []
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(shown(row.get(name)) for name in names) + " |" for row in rows]
    return [*lines, ""]


def shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 1000 else f"{value}"


# ------------------------------------------------------------------ the device itself


def ceilings(part: Part) -> None:
    """What the device can do at best, measured by a large matrix product and a large copy."""
    size = 8192 if part.is_full else 512
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        a, b = (torch.randn(size, size, device=part.device, dtype=dtype) for _ in range(2))
        seconds = timed(lambda a=a, b=b: a @ b, part, repeats=10)
        part.rows.append({"what": f"matrix product, {name}", "TFLOP/s": 2e-12 * size**3 / seconds})
    source = torch.empty((2**31 if part.is_full else 2**24), dtype=torch.uint8, device=part.device)
    copy = torch.empty_like(source)
    seconds = timed(lambda: copy.copy_(source), part, repeats=10)
    part.rows.append({"what": "copy, read and written", "TB/s": 2e-12 * len(source) / seconds})


def peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product."""
    part = Part(device, device.type == "cuda", math.inf)
    ceilings(part)
    return 1e12 * part.rows[0 if dtype == torch.bfloat16 else 1]["TFLOP/s"]


# ------------------------------------------------------------------ the same numbers


def agreement(part: Part) -> None:
    """Outputs, losses and gradients of a step with random weights, against float32 on the CPU."""
    size = (256, 320) if part.is_full else (128, 160)
    for name in EVERY_PRESET:
        config = PRESETS[name] if name in OUR_PRESETS else thin(name, **WIDE_ENOUGH)
        model = random_model(config).train()
        images, targets = a_batch(config, size, num_images=2)
        exact = step_values(model, images, targets, torch.device("cpu"), "float32")
        is_deformable = config.deform_interval > 0
        for precision in ("float32", "bfloat16"):
            try:
                found = step_values(model, images, targets, part.device, precision)
            except RuntimeError as error:
                part.require(False, f"{name}, {precision}: {str(error).splitlines()[0]}")
                continue
            row: dict[str, Any] = {"preset": name, "precision": precision}
            allowed = (ALLOWED_DEFORMABLE if is_deformable else ALLOWED)[precision]
            for key, reference in exact.items():
                is_loss = reference.dim() == 0
                row[key] = difference(found[key], reference)
                limit = ALLOWED_LOSS[precision] if is_loss else allowed
                part.require(
                    row[key] <= limit, f"{name}, {precision}: {key} is off by {row[key]:.2g}"
                )
            part.rows.append(row)
        model.to("cpu")


def step_values(
    model: BlendMask,
    images: list[Tensor],
    targets: list[Target],
    device: torch.device,
    precision: str,
) -> dict[str, Tensor]:
    """On the CPU: bases, ltrb, the sum of the losses and the whole gradient."""
    model.to(device)
    moved = [target.to(device) for target in targets]
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with autocast:
        output = model(images)
        losses = TrainingStep(model).criterion(model, output, moved)
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(sum(losses.values()), parameters, allow_unused=True)
    model.load_state_dict(state)  # statistics of norms have moved
    return {
        "bases": output.bases.detach().float().cpu(),
        "ltrb": output.ltrb.detach().float().cpu(),
        "loss": sum(losses.values()).detach().float().cpu(),
        "mask loss": losses["mask"].detach().float().cpu(),
        "gradient": torch.cat([g.float().flatten() for g in gradients if g is not None]).cpu(),
    }


def difference(found: Tensor, reference: Tensor) -> float:
    """Relative, by the Euclidean norm."""
    return float((found - reference).norm() / reference.norm())


def a_batch(
    config: Any, size: tuple[int, int], *, num_images: int, num_objects: int = 7
) -> tuple[list[Tensor], list[Target]]:
    """Noise with objects of sizes as in COCO; masks are ellipses, stuff is stripes."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    boxes = coco_like_boxes(num_objects, size)
    labels = torch.randint(0, config.num_classes, (num_objects,), generator=generator)
    y, x = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
    x0, y0, x1, y1 = boxes[:, :, None, None].unbind(1)
    masks = ((2 * x - x0 - x1) / (x1 - x0)) ** 2 + ((2 * y - y0 - y1) / (y1 - y0)) ** 2 < 1
    num_stuff = config.num_stuff_classes
    stuff = (torch.arange(width) // 32 % (num_stuff + 1)).byte().expand(height, -1).contiguous()
    target = Target(boxes, labels, masks=masks, stuff=stuff if num_stuff else None)
    images = torch.randint(0, 256, (num_images, 3, *size), generator=generator, dtype=torch.uint8)
    return list(images), [target] * num_images


# ------------------------------------------------------------------ waiting


def waits(part: Part) -> None:
    """How often the CPU waits for the GPU in a step, counted by torch itself."""
    for name in ("nano", "r50", "panoptic_r50_dcni3"):
        config = PRESETS[name] if name == "nano" else thin(name)
        model = BlendMask(config).to(part.device)
        schedule = replace(quiet(TRAIN_PRESETS["r50"], iterations=4), precision="bfloat16")
        state, step = TrainingState(model, schedule), TrainingStep(model)
        images, targets = a_batch(config, (128, 192), num_images=2)
        batch = Batch(images, targets, [0, 1])
        if part.device.type == "cuda":
            batch = batch.pin_memory()
        counts: list[int] = []

        def on_step(record: Any, counts: list[int] = counts) -> None:
            counts.append(0)

        with counting_waits(part.device, counts):
            train(
                state,
                step,
                [batch] * 4,
                schedule,
                on_step=on_step,
                on_checkpoint=lambda state: None,
                ranks=Ranks(device=part.device),
                totals_of=step.criterion.totals,
            )
        steady = counts[1:-1]  # between the ends of the first and of the last step
        part.rows.append({"preset": name, "waits of a step": ", ".join(map(str, steady))})
        if part.device.type == "cuda":
            is_met = max(steady) <= WAITS_OF_A_STEP
            part.require(is_met, f"{name}: {steady} waits of a step, not {WAITS_OF_A_STEP}")
    if part.device.type != "cuda":
        part.notes.append("torch counts only on CUDA: the zeros say nothing")


@contextlib.contextmanager
def counting_waits(device: torch.device, counts: list[int]) -> Iterator[None]:
    """Adds each warning of torch about a synchronisation to the last entry of `counts`."""
    if device.type != "cuda":
        yield
        return
    show = warnings.showwarning

    def count(message: Any, *details: Any, **more: Any) -> None:
        if "synchroniz" in str(message):
            if counts:
                counts[-1] += 1
        else:
            show(message, *details, **more)

    torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = count
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


def quiet(config: TrainConfig, **changes: Any) -> TrainConfig:
    """A schedule that changes next to nothing, for a few steps."""
    return replace(config, learning_rate=1e-8, milestones=(), batch_size=2, **changes)


# ------------------------------------------------------------------ whole runs


def evaluation(part: Part) -> None:
    """AP of the shipped checkpoint on generated pictures; PQ of an untrained panoptic model."""
    num_images = 200 if part.is_full else 4
    data = ShapesDataset(num_images, seed=7)
    model = load_model(shipped_checkpoint())
    scores = {}
    for device in dict.fromkeys(("cpu", part.device.type)):
        start = time.perf_counter()
        results = evaluate_model(model.to(device), data)
        scores[device] = results.mask["AP"]
        part.rows.append(
            {
                "what": f"mask AP, {num_images} pictures, on {device}",
                "value": results.mask["AP"],
                "seconds": time.perf_counter() - start,
            }
        )
    part.require(
        abs(scores["cpu"] - scores[part.device.type]) < 0.3, f"mask AP differs by device: {scores}"
    )
    data = ShapesDataset(4, seed=7)
    config = replace(
        PRESETS["nano_panoptic"],
        num_classes=len(data.class_names),
        num_stuff_classes=len(data.stuff_names),
    )
    model = BlendMask(config, class_names=data.class_names, stuff_names=data.stuff_names)
    model.to(part.device).eval()
    quality = evaluate_panoptic(model, data)
    part.rows.append({"what": "PQ, untrained, 4 pictures", "value": quality.all["PQ"]})


def whole_runs(part: Part) -> None:
    """`train_model` with validation: stopped and continued against one go, in both precisions."""
    data, validation = ShapesDataset(64, seed=3), ShapesDataset(4, seed=8)
    iterations, batch_size = (20, TRAIN_PRESETS["nano"].batch_size) if part.is_full else (2, 2)
    config = replace(PRESETS["nano"], num_classes=len(data.class_names))
    for precision in ("float32", "bfloat16"):
        schedule = replace(
            rescale(TRAIN_PRESETS["nano"], iterations=iterations, batch_size=batch_size),
            evaluate_every=iterations // 2,
            checkpoint_every=iterations // 2,
            precision=precision,
            num_workers=2 if part.is_full else 0,
        )
        recipe = Recipe(config, PRESET_INFERENCE["nano"], schedule)
        with tempfile.TemporaryDirectory() as folder:
            runs = {}
            for name in ("whole", "again", "continued"):
                path = Path(folder) / name
                if name == "continued":
                    with contextlib.suppress(KilledError):
                        train_model(
                            Killing(data, after=iterations // 2 * schedule.batch_size),
                            path,
                            replace(recipe, train=replace(schedule, num_workers=0)),
                            validation=validation,
                            device=part.device,
                        )
                is_done = train_model(
                    data,
                    path,
                    recipe,
                    validation=validation,
                    device=part.device,
                    is_resumed=name == "continued",
                )
                part.require(is_done, f"{precision}, {name}: not finished")
                state = load_model(path / "model.safetensors").state_dict()
                runs[name] = torch.cat([v.float().flatten() for v in state.values()])
        row: dict[str, Any] = {"precision": precision}
        for name in ("again", "continued"):
            row[f"{name}: relative difference of the weights"] = difference(
                runs[name], runs["whole"]
            )
        part.rows.append(row)
    part.notes.append(
        "On a GPU the gradients of RoIAlign and of bilinear resizing add up in any order, so two "
        "runs differ by rounding that training amplifies; a continued run may differ from a whole "
        "one as much as two whole ones do."
    )


class KilledError(Exception):
    """Stands for `kill -9`."""


class Killing(ShapesDataset):
    """The same pictures until so many were loaded; then the process dies."""

    def __init__(self, data: ShapesDataset, *, after: int) -> None:
        self.__dict__.update(data.__dict__)
        self.left = after

    def load(self, index: int) -> Any:
        """The sample, or the end."""
        self.left -= 1
        if self.left < -1:
            raise KilledError
        return super().load(index)


def synchronous_norms(part: Part) -> None:
    """SyncBatchNorm in one process: the losses of plain batch norms."""
    config = thin("rt_r50_bn_head")
    images, targets = a_batch(config, (128, 192), num_images=2)
    if part.device.type != "cuda":
        part.notes.append("SyncBatchNorm trains on GPUs only: not run")
        return
    values = {}
    torch.distributed.init_process_group(
        "nccl", init_method=f"file://{tempfile.mktemp()}", rank=0, world_size=1
    )
    try:
        for kind in ("plain", "synchronous"):
            model = random_model(config).train()
            if kind == "synchronous":
                synchronize_norms(model)
            values[kind] = step_values(model, images, targets, part.device, "float32")
    finally:
        torch.distributed.destroy_process_group()
    row = {
        key: difference(values["synchronous"][key], each) for key, each in values["plain"].items()
    }
    part.rows.append(row)
    part.require(max(row.values()) < 1e-3, f"synchronous and plain norms differ: {row}")


# ------------------------------------------------------------------ speed


def steps(part: Part) -> None:
    """r50, 16 images of 800 x 1344: images a second, memory, share of the card's peak."""
    size, batch_size = ((800, 1344), 16) if part.is_full else ((160, 192), 2)
    config = PRESETS["r50"] if part.is_full else thin("r50")
    images, targets = a_batch(config, size, num_images=batch_size)
    crops = torch.ones(len(targets[0]), config.mask_size, config.mask_size, dtype=torch.bool)
    semantic = torch.zeros(size, dtype=torch.uint8)
    targets = [replace(each, masks=None, mask_crops=crops, semantic=semantic) for each in targets]
    kinds = [("float32", False), ("bfloat16", False), ("float32", True), ("bfloat16", True)]
    for precision, is_compiled in kinds:
        if is_compiled and (not part.is_full or shutil.which("g++") is None):
            part.notes.append(f"--compile, {precision}: not run here")
            continue
        if part.seconds_left < 20:
            part.notes.append(f"{precision}, compiled {is_compiled}: no time left")
            continue
        torch.manual_seed(0)
        model = BlendMask(config).to(part.device)
        if is_compiled:
            compile_network(model)
        number = 13 if part.is_full else 3
        schedule = replace(quiet(TRAIN_PRESETS["r50"]), iterations=number, precision=precision)
        state, step = TrainingState(model, schedule), TrainingStep(model)
        batch = Batch(images, targets, list(range(batch_size)))
        if part.device.type == "cuda":
            batch = batch.pin_memory()
            torch.cuda.reset_peak_memory_stats()
        seconds: list[float] = []
        try:
            train(
                state,
                step,
                [batch] * number,
                schedule,
                on_step=lambda record, seconds=seconds: seconds.append(record.seconds),
                on_checkpoint=lambda state: None,
                ranks=Ranks(device=part.device),
                totals_of=step.criterion.totals,
            )
        except Exception as error:  # the next kind may work
            part.require(False, f"{precision}, compiled {is_compiled}: {first_line(error)}")
            continue
        median = statistics.median(seconds[3:] or seconds)
        if not is_compiled:
            model.eval()
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                model(images[:1])
            # A convolution's backward costs twice its forward; the frozen stem's costs nothing.
            flops = 3 * counter.get_total_flops() * batch_size
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        memory = torch.cuda.max_memory_allocated() / 1e9 if part.is_full else None
        part.rows.append(
            {
                "precision": precision,
                "compiled": "yes" if is_compiled else "no",
                "images a second": batch_size / median,
                "ms a step": 1000 * median,
                "slowest ms": 1000 * max(seconds[3:] or seconds),
                "peak memory, GB": memory,
                "share of the peak, %": 100 * flops / median / peak(part.device, dtype),
            }
        )
        del model, state, step
        clean(part)
    part.notes.append(
        "The share counts three forward passes of the network as a step's work, against a matrix "
        "product of the same precision in the same run."
    )


def inference(part: Part) -> None:
    """`predict`, one image of 800 x 1088, in turns with torchvision's Mask R-CNN."""
    size = (800, 1088) if part.is_full else (96, 128)
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    if not part.is_full:
        part.notes.append("not run: contenders of full size take too long on a CPU")
        return
    torch.manual_seed(0)
    blendmask = make_blendmask(image).to(part.device)
    mask_rcnn = make_mask_rcnn(image).to(part.device)
    rt = BlendMask(PRESETS["rt_r50"]).to(part.device).eval()
    moved = image.to(part.device)
    jobs: dict[str, Callable[[], object]] = {
        "Mask R-CNN": lambda: mask_rcnn([moved]),
        "r50": lambda: blendmask.predict([moved]),
        "rt_r50, 550 px, few objects": lambda: rt.predict([moved[:, :550, :733]]),
    }
    with torch.no_grad():
        for precision in ("float32", "bfloat16"):
            times: dict[str, list[float]] = {name: [] for name in jobs}
            for number in range(23):
                for name, job in jobs.items():
                    with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bfloat16"):
                        seconds = timed(job, part, repeats=1, warm_up=0)
                    if number >= 3:
                        times[name].append(1000 * seconds)
            for name, each in times.items():
                part.rows.append(
                    {
                        "precision": precision,
                        "model": name,
                        "ms, median": statistics.median(each),
                        "ms, 5 to 95 %": f"{sorted(each)[1]:.1f} to {sorted(each)[-2]:.1f}",
                        "Mask R-CNN / it": statistics.median(times["Mask R-CNN"])
                        / statistics.median(each),
                    }
                )


def blender(part: Part) -> None:
    """Crops, attentions and masks of 100 boxes."""
    config = PRESETS["r50"] if part.is_full else thin("r50")
    size, repeats = ((800, 1088), 30) if part.is_full else ((160, 192), 3)
    model = BlendMask(config).to(part.device).eval()
    boxes = coco_like_boxes(100, size).to(part.device)
    with torch.no_grad():
        output = model([torch.rand(3, *size)])
        image = torch.zeros(100, dtype=torch.int64, device=part.device)
        location = torch.arange(100, device=part.device)
        index = torch.stack([image, location], dim=1)
        seconds = timed(lambda: model.masks_at(output, index, boxes), part, repeats=repeats)
    part.rows.append({"what": "100 boxes, R = 56, M = 14, K = 4", "ms": 1000 * seconds})


def nano(part: Part) -> None:
    """Trains `nano` on generated shapes for the time that is left, and evaluates it."""
    data = ShapesDataset(20_000, seed=0)
    config = replace(PRESETS["nano"], num_classes=len(data.class_names))
    seconds_a_step = measure_nano(part, data, config)
    budget = max(part.seconds_left - 40, 5) if part.is_full else 5
    iterations = max(int(min(budget / seconds_a_step, 6800)), 10)
    schedule = replace(
        rescale(TRAIN_PRESETS["nano"], iterations=iterations),
        num_workers=12 if part.is_full else 0,
        checkpoint_every=iterations,
    )
    recipe = Recipe(config, PRESET_INFERENCE["nano"], schedule)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        train_model(data, Path(folder) / "run", recipe, device=part.device)
        seconds = time.perf_counter() - start
        model = load_model(Path(folder) / "run" / "model.safetensors").to(part.device)
    results = evaluate_model(model, ShapesDataset(200 if part.is_full else 4, seed=1))
    part.rows.append(
        {
            "iterations": iterations,
            "images a second": iterations * schedule.batch_size / seconds,
            "mask AP": results.mask["AP"],
            "box AP": results.box["AP"],
        }
    )


def measure_nano(part: Part, data: ShapesDataset, config: Any) -> float:
    """Seconds of a step, without the drawing of pictures, and at least those of the drawing."""
    schedule = replace(rescale(TRAIN_PRESETS["nano"], iterations=12))
    model = BlendMask(config).to(part.device)
    state, step = TrainingState(model, schedule), TrainingStep(model)
    start = time.perf_counter()
    samples = [data.load(i) for i in range(schedule.batch_size)]
    drawing = (time.perf_counter() - start) / (10 if part.is_full else 1)
    seconds: list[float] = []
    train(
        state,
        step,
        [collate(samples)] * 12,
        schedule,
        on_step=lambda record: seconds.append(record.seconds),
        on_checkpoint=lambda state: None,
        ranks=Ranks(device=part.device),
        totals_of=step.criterion.totals,
    )
    return max(statistics.median(seconds[3:]), drawing)


def timed(job: Callable[[], object], part: Part, *, repeats: int, warm_up: int = 3) -> float:
    """Median seconds of a job, until the device is done with it."""
    times = []
    for number in range(repeats + warm_up):
        if part.device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        job()
        if part.device.type == "cuda":
            torch.cuda.synchronize()
        if number >= warm_up:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def clean(part: Part) -> None:
    gc.collect()
    if part.device.type == "cuda":
        torch.cuda.empty_cache()


def first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


# name: title, function, seconds that it may take on a GPU
PARTS: dict[str, tuple[str, Callable[[Part], None], float]] = {
    "ceilings": ("What the device can do", ceilings, 15),
    "agreement": ("The same numbers as on the CPU", agreement, 90),
    "waits": ("Waiting for the GPU", waits, 15),
    "evaluation": ("Evaluation", evaluation, 45),
    "runs": ("Whole runs, stopped and continued", whole_runs, 60),
    "norms": ("Synchronous norms", synchronous_norms, 15),
    "blender": ("The blender", blender, 10),
    "inference": ("Inference", inference, 40),
    "steps": ("Training steps", steps, 110),
    "nano": ("nano on generated shapes", nano, 80),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the list; 1 where there are problems."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", metavar="PART,PART", help=", ".join(PARTS))
    parser.add_argument("--minutes", type=float, default=8, help="for all of it (default 8)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder (default docs)")
    options = parser.parse_args(arguments)
    chosen = options.only.split(",") if options.only else list(PARTS)
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        parser.error(f"--only {','.join(unknown)}: must be of {', '.join(PARTS)}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)  # sums in one order
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32 here
    report = Report(environment(device))
    end = time.monotonic() + 60 * options.minutes
    for name in chosen:
        title, run, seconds = PARTS[name]
        start = time.monotonic()
        limit = end if name == "nano" else min(end, start + seconds)
        part = Part(device, device.type == "cuda", limit)
        if end - start < 10:
            part.notes.append("no time was left")
        else:
            print(f"{title} ...", flush=True)
            try:
                run(part)
            except Exception as error:  # the other parts still say something
                traceback.print_exc()
                part.problems.append(first_line(error))
        clean(part)
        report.parts.append(
            {
                "name": name,
                "title": title,
                "about": (run.__doc__ or "").strip(),
                "seconds": time.monotonic() - start,
                "rows": part.rows,
                "notes": part.notes,
                "problems": part.problems,
            }
        )
        report.write(options.out)
    print(report.page())
    return 1 if report.problems() else 0


def environment(device: torch.device) -> dict[str, Any]:
    is_gpu = device.type == "cuda"
    return {
        "date": time.strftime("%Y-%m-%d"),
        "gpu": torch.cuda.get_device_name() if is_gpu else None,
        "cuda": torch.version.cuda if is_gpu else None,
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "python": platform.python_version(),
        "float32": "without TF32",
    }


if __name__ == "__main__":
    sys.exit(main())
