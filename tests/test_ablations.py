"""The ablations: rows of the paper, statistics, runs on a tiny regime, reports."""

import json
import shutil
from dataclasses import asdict, replace
from functools import partial

import pytest
import torch
from pretended_gpu import pretended_gpu, to_gpu
from safetensors.torch import load_file

from blendmask_lite import PRESETS, BlendMask
from blendmask_lite.cli import ablations, main
from blendmask_lite.datasets.shapes import ShapesDataset
from blendmask_lite.figures.plots import Column, compare_rows
from blendmask_lite.files import shipped_checkpoint
from blendmask_lite.masks import paste_masks
from blendmask_lite.model.merge import Blender
from blendmask_lite.research.ablations import mask_rcnn
from blendmask_lite.research.ablations import run as ablation_run
from blendmask_lite.research.ablations.mask_rcnn import (
    Headline,
    NanoMaskRCNN,
    mask_rcnn_folder,
    run_mask_rcnn,
    times_by_instances,
)
from blendmask_lite.research.ablations.merging import (
    GROUPS,
    METHODS,
    PAIRS,
    PLAN,
    SharedTemplate,
    Step,
    image_interval,
    run_plan,
)
from blendmask_lite.research.ablations.report import compare_orders, estimate, make_report
from blendmask_lite.research.ablations.run import (
    REGIMES,
    ObjectScores,
    model_folder,
    run_models,
    score_true_boxes,
    true_box_masks,
)
from blendmask_lite.research.ablations.tables import PAPER_COLUMNS, PAPER_ROWS, TABLES, find_table
from blendmask_lite.structures import Target
from blendmask_lite.training.criterion import Criterion
from blendmask_lite.weights.checkpoint import load_model

TINY = replace(REGIMES["default"], name="tiny", iterations=1, num_train=16, num_test=2)


# ------------------------------------------------------------------ rows


@pytest.mark.parametrize("number", PAPER_ROWS)
def test_every_row_of_the_paper_has_all_columns_and_a_toy_model(number):
    for row in PAPER_ROWS[number].values():
        assert len(row) == len(PAPER_COLUMNS[number])
    assert [row.name for row in TABLES[number]] == list(PAPER_ROWS[number])


@pytest.mark.parametrize(
    ("number", "fields"),
    [
        (1, {"merger", "num_bases", "attention_size"}),
        (2, {"mask_size", "attention_size"}),
        (3, {"num_bases"}),
        (4, {"bottom_inputs", "attention_size"}),
        (5, {"attention_interpolation", "attention_size"}),
        (6, {"bases_pooling", "mask_size", "attention_size"}),
    ],
)
def test_rows_of_a_table_differ_in_what_it_is_about_alone(number, fields):
    models = [asdict(row.model) for row in TABLES[number]]
    different = {name for name in models[0] if len({str(model[name]) for model in models}) > 1}
    assert different == fields


def test_tables_keep_the_ratio_of_mask_and_attention_size_to_the_paper():
    for row, paper in zip(TABLES[2], PAPER_ROWS[2], strict=True):
        r, m = (int(part.split()[1]) for part in paper.split(", "))
        assert row.model.mask_size == r // 2
        assert row.model.attention_size == -(-m // 2)


def test_a_table_that_the_paper_has_not_is_refused():
    with pytest.raises(ValueError, match="table 8"):
        find_table(8)


# ------------------------------------------------------------------ statistics


def test_interval_of_three_values_is_students():
    result = estimate([1.0, 2.0, 3.0])
    assert result.mean == 2.0
    assert result.half_width == pytest.approx(4.303 / 3**0.5)  # a standard deviation of 1
    assert estimate([1.5]).half_width is None
    assert str(estimate([1.5])) == "1.5"


def test_orders_are_compared_seed_by_seed():
    paper = {"a": 30.0, "b": 31.0, "c": 31.1}
    # Seeds move all rows by 10, and yet b is always 2 above a, c now 3 above, now 3 below a.
    ours = {"a": [10, 20, 30], "b": [12, 22.1, 31.9], "c": [13, 17, 33]}
    verdicts = {(each.better, each.worse): each for each in compare_orders(paper, ours)}
    assert set(verdicts) == {("b", "a"), ("c", "a")}  # c and b are 0.1 apart: noise
    assert verdicts["b", "a"].word == "agrees"
    assert verdicts["c", "a"].word == "undecided, as the paper"
    [turned] = compare_orders({"a": 30.0, "b": 31.0}, {"a": [5, 6, 7.1], "b": [1, 2, 3]})
    assert turned.word == "differs"
    [single] = compare_orders({"a": 30.0, "b": 31.0}, {"a": [5], "b": [1]})
    assert single.word == "one seed, unlike the paper"


# ------------------------------------------------------------------ masks over true boxes


def test_masks_over_true_boxes_are_the_models_own_at_the_most_central_location():
    model = load_model(shipped_checkpoint())
    sample = ShapesDataset(1, seed=7).load(0)
    place, masks = true_box_masks(model, sample.image, sample.target)
    assert place.tolist() == list(range(len(sample.target)))  # shapes are all large enough
    shared = (masks & sample.target.masks[place]).flatten(1).sum(1)
    either = (masks | sample.target.masks[place]).flatten(1).sum(1)
    assert (shared / either).median() > 0.8  # two of them are nearly hidden
    # By hand: of all locations of an object the one with the largest centerness.
    output = model([sample.image])
    assignment = Criterion(model.config).assign(output, [sample.target])
    ltrb = assignment.ltrb
    best = {}
    for row, thing in enumerate(assignment.object_index.tolist()):
        left, top, right, bottom = ltrb[row].tolist()
        value = min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom)
        if value > best.get(thing, (0, 0))[0]:
            best[thing] = (value, row)
    rows = [best[i][1] for i in place.tolist()]
    with torch.no_grad():
        boxes = sample.target.boxes[place]
        logits = model.masks_at(output, assignment.index[rows], boxes)
    assert torch.equal(masks, paste_masks(logits, boxes, tuple(sample.image.shape[-2:])))


def test_masks_over_true_boxes_are_the_same_on_a_gpu():
    data = ShapesDataset(1, seed=7)
    alone = score_true_boxes(load_model(shipped_checkpoint()), data)
    with pretended_gpu():
        there = score_true_boxes(to_gpu(load_model(shipped_checkpoint())), data)
    assert there.plain() == alone.plain()
    assert len(alone.iou) > 2


def test_picture_without_objects_has_no_masks_over_true_boxes():
    model = load_model(shipped_checkpoint())
    nothing = Target(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    place, masks = true_box_masks(model, torch.zeros(3, 64, 96, dtype=torch.uint8), nothing)
    assert place.shape == (0,)
    assert masks.shape == (0, 64, 96)


def test_objects_are_grouped_by_their_boxes():
    """Boxes by hand: two of one center, one that touches another, one alone."""
    boxes = torch.tensor([[0, 0, 60, 60], [2, 10, 58, 60], [59, 0, 99, 40], [90, 80, 120, 100]])

    class Scene(ShapesDataset):
        def load(self, index):
            masks = torch.zeros(4, 128, 128, dtype=torch.bool)
            for mask, (left, top, right, bottom) in zip(masks, boxes.tolist(), strict=True):
                mask[top:bottom, left:right] = True
            target = Target(boxes=boxes.float(), labels=torch.zeros(4).long(), masks=masks)
            return replace(super().load(index), target=target)

    objects = score_true_boxes(load_model(shipped_checkpoint()), Scene(2))
    assert objects.image.tolist() == [0] * 4 + [1] * 4
    # Centers (30, 30) and (30, 35) are 5 apart, as much as a tenth of the smaller side, 50.
    assert objects.shares_center.tolist() == [True, True, False, False] * 2
    assert objects.is_overlapping.tolist() == [True, True, False, False] * 2
    assert objects.is_isolated.tolist() == [False, False, False, True] * 2
    means = objects.means()
    assert means["all"] == pytest.approx(100 * objects.iou.mean().item())
    assert means["isolated"] == pytest.approx(100 * objects.iou[3::4].mean().item())
    again = ObjectScores.from_plain(json.loads(json.dumps(objects.plain())))
    assert torch.allclose(again.iou, objects.iou, atol=1e-4)
    assert torch.equal(again.is_isolated, objects.is_isolated)


def test_a_group_without_objects_has_no_mean():
    objects = score_true_boxes(load_model(shipped_checkpoint()), ShapesDataset(1, seed=7))
    none = replace(objects, is_isolated=torch.zeros_like(objects.is_isolated))
    assert none.means()["isolated"] != none.means()["isolated"]  # NaN


# ------------------------------------------------------------------ runs and reports


def test_rows_are_trained_once_and_read_afterwards(tmp_path, monkeypatch):
    models = [TABLES[1][2].model, TABLES[2][4].model]  # the same row of two tables
    first = run_models(models, TINY, [0], tmp_path)
    assert len(first) == 1
    assert len(list(tmp_path.iterdir())) == 1
    [result] = first.values()
    assert result["mask"]["APL"] is None  # nothing is 96 px large
    assert result["regime"] == asdict(TINY)

    def refuse(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(ablation_run, "train_model", refuse)
    [run] = tmp_path.iterdir()
    (run / "scores.json").unlink()  # the trained model is scored again
    [scored] = run_models(models, TINY, [0], tmp_path).values()
    assert json.dumps(scored) == json.dumps(result)
    again = run_models(models, TINY, [0], tmp_path)
    assert list(again.values()) == [json.loads(json.dumps(result))]
    with pytest.raises(AssertionError, match="trained again"):
        run_models(models, TINY, [1], tmp_path)


def test_a_stopped_training_stops_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(ablation_run, "train_model", lambda *args, **kwargs: False)
    assert run_models([TABLES[1][0].model], TINY, [0], tmp_path) is None


def fake_results(number, seeds, values):
    """`values`: AP of every row; the other columns follow from it."""
    return {
        (row.model, seed): {
            "mask": dict.fromkeys(("AP", "AP50", "AP75", "APS", "APM"), value + seed)
            | {"APL": None},
            "box": {"AP": value},
            "true_boxes": dict.fromkeys(GROUPS, value + 40),
            "versions": {"torch": "x"},
        }
        for row, value in zip(TABLES[number], values, strict=True)
        for seed in seeds
    }


def test_report_holds_both_tables_and_says_where_orders_differ():
    times = dict.fromkeys(PAPER_ROWS[3], 8.0)
    results = fake_results(3, (0, 1), [4, 3, 2, 1])
    report = make_report(3, TINY, (0, 1), results, times)
    content = json.loads(report.to_json())
    assert [row["name"] for row in content["rows"]] == list(PAPER_ROWS[3])
    assert content["rows"][2]["paper"] == {"AP": 33.1, "AP50": 54.1, "AP75": 34.9}
    assert content["rows"][0]["ours"]["AP"]["values"] == [4, 5]
    assert "APL" not in report.ours  # the data has no object of that size
    text = report.markdown()
    assert "| K 4 | 33.1 | 54.1 | 34.9 | 28_4_4, C2+C5, width 64 | 8.0 |" in text
    assert "- K 4 over K 1: paper +2.5, ours -2.0 ± 0.0: differs" in text
    assert "2 seeds, mean ± 95 % interval" in text
    single = make_report(3, TINY, (0,), fake_results(3, (0,), [4, 3, 2, 1]), times)
    assert "one seed, no interval" in single.markdown()


@pytest.mark.slow
def test_command_writes_a_table_as_json_markdown_and_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(REGIMES, "default", TINY)
    runs, out = tmp_path / "runs", tmp_path / "out"
    options = ["--seeds", "0", "--runs", str(runs), "--out", str(out), "--threads", "1"]
    assert main(["ablations", "1", *options]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["table1.json", "table1.md", "table1.png"]
    assert (out / "table1.md").read_text().strip() in capsys.readouterr().out
    content = json.loads((out / "table1.json").read_text())
    assert all(row["ms"] > 0 for row in content["rows"])
    assert (out / "table1.png").read_bytes().startswith(b"\x89PNG")


def test_command_refuses_a_table_without_ablation(capsys):
    assert main(["ablations", "9"]) == 1
    assert "table 9" in capsys.readouterr().err
    assert main(["ablations", "one"]) == 1
    assert "'one'" in capsys.readouterr().err


# ------------------------------------------------------------------ ways of merging


def test_ladder_differs_in_merging_alone():
    own = {"merger", "num_bases", "attention_size"}
    models = [
        {name: value for name, value in asdict(method.model).items() if name not in own}
        for method in METHODS.values()
    ]
    assert all(model == models[0] for model in models)
    assert models[0]["mask_size"] == 28


def test_a_pair_differs_in_one_setting_alone():
    models = {name: asdict(method.model) for name, method in (METHODS | PAIRS).items()}
    pairs = [step for step in PLAN if step.title[:7] in ("Table 3", "Table 5", "Table 6")]
    assert len(pairs) == 4
    for step, setting in zip(
        pairs,
        ("num_bases", "attention_interpolation", "bases_pooling", "bases_pooling"),
        strict=True,
    ):
        first, second = (models[name] for name in step.methods)
        assert [name for name in first if first[name] != second[name]] == [setting]
        assert step.reference == step.methods[1]
    assert all(step.reference in step.methods for step in PLAN)


def test_shared_template_gives_all_objects_the_same_score_maps_and_learns():
    merger = SharedTemplate(num_bases=4, attention_size=2, mode="nearest")
    assert merger.attention_channels == 0
    crops = torch.randn(3, 4, 8, 8)
    nothing = torch.zeros(3, 0)
    # A template of zeros weighs all bases alike: the mask is their mean.
    assert torch.allclose(merger(crops, nothing), crops.mean(dim=1), atol=1e-6)
    merger(crops, nothing).square().sum().backward()
    assert (merger.template.grad != 0).all()
    with torch.no_grad():
        merger.template.copy_(torch.randn(16))
    scores = merger.scores(nothing, 8)
    assert torch.equal(scores[0], scores[2])
    attentions = merger.template.detach().expand(3, -1)
    blender = Blender(num_bases=4, attention_size=2, mode="nearest")
    assert torch.equal(merger(crops, nothing), blender(crops, attentions))


def fake_run(ious, *, is_isolated, image):
    objects = {
        "image": image,
        "iou": ious,
        "is_isolated": is_isolated,
        "is_overlapping": [0] * len(image),
        "shares_center": [0] * len(image),
    }
    return {"objects": objects}


def test_images_are_compared_with_their_objects_together():
    """By hand: image 0 gains 10 and 30 points, image 2 loses 10; image 1 has no such object."""
    of = {"is_isolated": [1, 1, 0, 1], "image": [0, 0, 1, 2]}
    better = fake_run([0.6, 0.8, 0.1, 0.5], **of)
    worse = fake_run([0.5, 0.5, 0.9, 0.6], **of)
    mean, low, high = image_interval([better], [worse], "isolated").tolist()
    assert mean == pytest.approx((20 - 10) / 2)
    assert (low, high) == pytest.approx((-10, 20))
    # Seeds are averaged before images are drawn.
    mean, low, high = image_interval([better, worse], [worse, better], "isolated").tolist()
    assert (mean, low, high) == pytest.approx((0, 0, 0), abs=1e-9)
    assert image_interval([better], [worse], "one center").isnan().all()


TINY_PLAN = (
    Step("first", 1, ("one template 4 x 4", "attentions 4 x 4"), (0,)),
    Step("second", 1, ("attentions 4 x 4", "tiles 2 x 2"), (0, 1)),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with the two runs of the first step."""
    folder = tmp_path_factory.mktemp("runs")
    report = run_plan(folder, TINY_PLAN[:1], regime=TINY)
    assert [step.num_runs for step in report.steps] == [2]
    return folder


def test_plan_is_run_once_and_reported_with_what_is_missing(finished, monkeypatch):
    monkeypatch.setattr(ablation_run, "train_model", None)  # nothing is trained again
    report = run_plan(finished, TINY_PLAN, regime=TINY, is_training=False)
    assert [step.num_runs for step in report.steps] == [2, 1]
    text = report.markdown()
    assert "| tiles 2 x 2 |  | 0, 2 not run |" in text
    assert "| attentions 4 x 4 | 31.6 | 1, 1 not run |" in text
    assert "- one template 4 x 4: mask AP " in text
    first, second = json.loads(report.to_json())["steps"]
    folder = model_folder(METHODS["attentions 4 x 4"].model, TINY, 0, finished)
    scores = json.loads((folder / "scores.json").read_text())
    assert first["rows"]["attentions 4 x 4"]["mask AP"] == [scores["mask"]["AP"]]
    assert second["rows"]["tiles 2 x 2"] == {}


def test_a_report_keeps_the_steps_that_an_earlier_one_has_more_runs_of(finished, tmp_path):
    """As on a second machine, which has the reports of the first, and only one run of its own."""
    file = tmp_path / "merging.json"
    earlier = run_plan(finished, TINY_PLAN[:1], regime=TINY, is_training=False)
    file.write_text(earlier.to_json())
    own = model_folder(METHODS["attentions 4 x 4"].model, TINY, 0, finished)
    shutil.copytree(own, tmp_path / "runs" / own.name)
    here = run_plan(tmp_path / "runs", TINY_PLAN, regime=TINY, is_training=False)
    assert [step.num_runs for step in here.steps] == [1, 1]
    report = here.with_earlier(file)
    assert report.steps == (earlier.steps[0], here.steps[1])
    assert here.with_earlier(tmp_path / "missing.json") is here
    # Of as many runs one's own count; a step of another length is another step.
    again = run_plan(finished, TINY_PLAN[:1], regime=TINY, is_training=False)
    file.write_text(earlier.to_json().replace('"torch": "', '"torch": "old'))
    assert again.with_earlier(file).steps == again.steps
    longer = replace(
        here, steps=(replace(here.steps[0], step=replace(TINY_PLAN[0], iterations=2)),)
    )
    assert longer.with_earlier(file) == longer
    file.write_text(earlier.to_json())
    # A row that the plan no longer has goes.
    plan = (replace(TINY_PLAN[0], methods=("attentions 4 x 4",)),)
    fewer = run_plan(tmp_path / "no", plan, regime=TINY, is_training=False).with_earlier(file)
    assert fewer.steps[0].rows == {"attentions 4 x 4": earlier.steps[0].rows["attentions 4 x 4"]}
    assert fewer.steps[0].images == {}
    without_rows = (
        '{"regime": {"name": "tiny"}, "steps": [{"title": "first", "iterations": 1, "rows": []}]}'
    )
    for text in ("{", '{"steps": [{}]}', without_rows):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"merging.json: no report"):
            here.with_earlier(file)
    file.write_text(replace(earlier, regime=replace(TINY, name="other")).to_json())
    with pytest.raises(ValueError, match="regime 'other'"):
        here.with_earlier(file)


def test_command_reports_the_finished_runs(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(REGIMES, "default", TINY)
    monkeypatch.setattr(ablations, "run_plan", partial(run_plan, plan=TINY_PLAN[:1]))
    folders = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    assert main(["ablations", "merging", "--finished", *folders]) == 1
    assert "no finished run" in capsys.readouterr().err
    own = model_folder(METHODS["attentions 4 x 4"].model, TINY, 0, finished)
    shutil.copytree(own, tmp_path / "runs" / own.name)
    assert main(["ablations", "merging", *folders]) == 0  # trains the other
    text = (tmp_path / "out" / "merging.md").read_text()
    assert text.strip() in capsys.readouterr().out
    assert (tmp_path / "out" / "merging.png").read_bytes().startswith(b"\x89PNG")
    shutil.rmtree(tmp_path / "runs")  # the report stays
    assert main(["ablations", "merging", "--finished", *folders]) == 1
    shutil.copytree(own, tmp_path / "runs" / own.name)
    assert main(["ablations", "merging", "--finished", *folders]) == 0
    assert (tmp_path / "out" / "merging.md").read_text() == text
    assert main(["ablations", "merging", "--seeds", "0", *folders]) == 1
    assert "--seeds: merging has its own" in capsys.readouterr().err
    assert main(["ablations", "1", "--finished", *folders]) == 1
    assert "--finished" in capsys.readouterr().err


# ------------------------------------------------------------------ Mask R-CNN


def test_mask_rcnn_has_the_same_backbone_and_learns_from_pictures_with_and_without_objects():
    torch.manual_seed(0)
    peer = NanoMaskRCNN(PRESETS["nano"], size=128).train()
    ours = BlendMask(PRESETS["nano"])
    assert peer.network.backbone.backbone.state_dict().keys() == ours.backbone.state_dict().keys()
    samples = list(ShapesDataset(2))
    nothing = Target(
        boxes=torch.zeros(0, 4),
        labels=torch.zeros(0, dtype=torch.int64),
        masks=torch.zeros(0, 128, 128, dtype=torch.bool),
    )
    losses = peer([each.image for each in samples], [samples[0].target, nothing])
    assert all(torch.isfinite(value) for value in losses.values())
    sum(losses.values()).backward()
    assert peer.network.backbone.backbone.layer1[0].conv1.weight.grad.abs().sum() > 0
    found = peer.eval().predict(samples[0].image)
    assert found.masks.shape == (len(found), 128, 128)


@pytest.mark.slow
def test_times_are_taken_for_exactly_so_many_objects():
    torch.manual_seed(0)
    peer = NanoMaskRCNN(PRESETS["nano"], size=128).eval()
    model = load_model(shipped_checkpoint())
    image = ShapesDataset(1).load(0).image
    times = times_by_instances(model, peer, image, (1, 3))
    assert {name: list(each) for name, each in times.items()} == {
        "BlendMask": [1, 3],
        "Mask R-CNN": [1, 3],
    }
    with pytest.raises(ValueError, match="does not find 100000 objects"):
        times_by_instances(model, peer, image, (100_000,))


def test_mask_rcnn_is_trained_once_and_its_weights_are_kept(tmp_path, monkeypatch):
    first = run_mask_rcnn(PRESETS["nano"], TINY, 0, 1e-3, tmp_path)
    assert first["mask"]["APL"] is None
    weights = load_file(mask_rcnn_folder(TINY, 0, 1e-3, tmp_path) / "model.safetensors")
    NanoMaskRCNN(PRESETS["nano"], size=128).load_state_dict(weights)

    def refuse(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(mask_rcnn, "train", refuse)
    assert run_mask_rcnn(PRESETS["nano"], TINY, 0, 1e-3, tmp_path) == first
    with pytest.raises(AssertionError, match="trained again"):
        run_mask_rcnn(PRESETS["nano"], TINY, 0, 5e-3, tmp_path)


def test_command_writes_both_models_and_what_was_tried(tmp_path, monkeypatch, capsys):
    headline = Headline(
        regime=TINY,
        seeds=(0, 1),
        scores={
            "BlendMask": {"mask AP": estimate([30.0, 32.0])},
            "Mask R-CNN": {"mask AP": estimate([28.0, 28.0])},
        },
        tried={5e-3: 28.0, 1e-3: 20.0},
        parameters={"BlendMask": 1000, "Mask R-CNN": 2000},
        times={"BlendMask": {1: 10.0, 100: 11.0}, "Mask R-CNN": {1: 20.0, 100: 40.0}},
    )
    monkeypatch.setattr(ablations, "run_headline", lambda *args, **kwargs: headline)
    assert main(["ablations", "mask-rcnn", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "mask_rcnn.md").read_text()
    assert "the better of 0.005 (mask AP 28.0) and 0.001 (mask AP 20.0) with seed 0" in text
    assert "| BlendMask | 10.0 | 11.0 | +10% |" in text
    assert "| Mask R-CNN | 2,000 | 28.0 ± 0.0 |" in text
    assert json.loads((tmp_path / "mask_rcnn.json").read_text())["scores"]["BlendMask"]
    assert (tmp_path / "mask_rcnn.png").exists()
    monkeypatch.setattr(ablations, "run_headline", lambda *args, **kwargs: None)
    assert main(["ablations", "mask-rcnn", "--out", str(tmp_path)]) == 130


# ------------------------------------------------------------------ figure


def test_comparison_marks_the_best_row_and_refuses_other_rows():
    column = Column("AP, %", {"a": [1.0, 2.0], "b": [4.0, 5.0]}, {"a": 0.5, "b": 0.5})
    figure = compare_rows([column], title="Table")
    assert "Best: b in AP, %" in figure.get_label()
    filled = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    faces = [line.get_markerfacecolor() for line in filled]
    assert faces[0] == "white"
    assert faces[1] != "white"
    with pytest.raises(ValueError, match="rows are not those"):
        compare_rows([column, Column("other", {"a": [1.0]}, {})], title="Table")
    with pytest.raises(ValueError, match="nothing to compare"):
        compare_rows([], title="Table")


def test_panels_have_one_scale_if_distances_are_to_be_compared():
    near = Column("near, %", {"a": [90.0], "b": [91.0]}, {})
    far = Column("far, %", {"a": [40.0], "b": [60.0]}, {})
    own, shared = (
        [ax.get_xlim() for ax in compare_rows([near, far], title="x", has_one_scale=is_one).axes]
        for is_one in (False, True)
    )
    assert own[0] != own[1]
    assert shared[0] == shared[1]
    assert shared[0][0] <= min(own[1]) and shared[0][1] >= max(own[0])
