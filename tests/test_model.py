"""The network as users call it: images of any size and kind in, detections out."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from released import RELEASED_PRESETS, thin
from torchvision.models import resnet50

from blendmask_lite import PRESETS, BlendMask, InferenceConfig, ModelConfig
from blendmask_lite.model.backbones.resnet import DEPTHS, Bottleneck, ResNet
from blendmask_lite.model.bottom import DeepLabDecoder, ProtoFPN, ProtoNetP3
from blendmask_lite.model.fcos import FCOSHead, Proposals, select_candidates, suppress
from blendmask_lite.model.inputs import require_pixels

NANO = PRESETS["nano"]


def make_model(config=NANO, **arguments):
    torch.manual_seed(0)
    return BlendMask(config, **arguments).eval()


@pytest.fixture(scope="module")
def model():
    return make_model()


def image(height=64, width=96, seed=0):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_predicts_the_shapes_that_its_config_says(name):
    # A group of norms needs two values on a level of one cell.
    config = thin(name, pyramid_channels=64) if name in RELEASED_PRESETS else PRESETS[name]
    model = make_model(config)
    with torch.no_grad():
        output = model([image(70, 100)])
    num = sum(height * width for height, width in output.level_shapes)
    assert output.class_logits.shape == (1, num, config.num_classes)
    assert output.ltrb.shape == (1, num, 4)
    assert output.locations.shape == (num, 2)
    stride = model.bottom.stride
    assert output.bases.shape == (1, config.num_bases, 96 // stride, 128 // stride)
    assert output.image_sizes == ((70, 100),)
    index = torch.tensor([[0, 0], [0, num - 1]])
    boxes = torch.tensor([[0.0, 0, 50, 60], [10, 10, 20, 20]])
    with torch.no_grad():
        masks = model.masks_at(output, index, boxes)
        semantic = model.semantic_logits(output)
    assert masks.shape == (2, config.mask_size, config.mask_size)
    assert semantic.shape == (1, config.num_classes + 1, 12, 16)


@pytest.mark.parametrize(("name", "millions"), [("r50", 35.98), ("r101", 54.92)])
def test_parameters_equal_the_released_models(name, millions):
    num = sum(p.numel() for p in BlendMask(PRESETS[name]).parameters())
    assert round(num / 1e6, 2) == millions


def test_an_image_alone_and_padded_in_a_batch_gives_the_same(model):
    small, large = image(64, 64), image(128, 160, seed=1)
    alone = model.predict([small], score_threshold=0.0, max_detections=5)[0]
    with torch.no_grad():
        batch = model([small, large])
    assert batch.image_sizes == ((64, 64), (128, 160))
    assert len(model.predict([small, large], score_threshold=0.0)) == 2
    assert alone.image_size == (64, 64)


def test_uint8_and_float_images_are_the_same_image(model):
    pixels = (image() * 255).round().to(torch.uint8)
    with torch.no_grad():
        one, other = model([pixels]), model([pixels / 255])
    assert torch.allclose(one.class_logits, other.class_logits, atol=1e-4)


def test_channel_order_and_statistics_are_the_configs_business():
    # A BGR model whose first kernel is reversed in its channels sees what an RGB model sees.
    rgb = make_model(replace(NANO, pixel_mean=(100.0, 110.0, 120.0), pixel_std=(50.0, 55.0, 60.0)))
    bgr = make_model(
        replace(
            NANO,
            channel_order="bgr",
            pixel_mean=(120.0, 110.0, 100.0),
            pixel_std=(60.0, 55.0, 50.0),
        )
    )
    state = rgb.state_dict()
    state["backbone.conv1.weight"] = state["backbone.conv1.weight"].flip(1)
    bgr.load_state_dict(state)
    with torch.no_grad():
        assert torch.allclose(rgb([image()]).bases, bgr([image()]).bases, atol=1e-5)


def test_nothing_in_nothing_out(model):
    assert model.predict([]) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (33, 7)])
def test_tiny_images_work(model, size):
    found = model.predict([image(*size)], score_threshold=0.0)[0]
    assert found.masks.shape[1:] == size
    assert len(found.scores) == len(found.boxes) == len(found.masks) <= 100


def test_no_detection_is_an_empty_result_of_the_right_shapes(model):
    found = model.predict([image()], score_threshold=1.0)[0]
    assert found.boxes.shape == (0, 4)
    assert found.masks.shape == (0, 64, 96)
    assert found.mask_logits.shape == (0, 28, 28)
    assert found.labels.dtype == found.location_index.dtype == torch.int64


def test_output_size_scales_boxes_and_masks(model):
    one = model.predict([image()], score_threshold=0.0, max_detections=3)[0]
    two = model.predict(
        [image()], output_sizes=[(128, 192)], score_threshold=0.0, max_detections=3
    )[0]
    assert two.masks.shape[1:] == (128, 192)
    assert torch.allclose(two.boxes, one.boxes * 2, atol=1e-3)


def test_detections_are_sorted_limited_and_inside(model):
    found = model.predict([image()], score_threshold=0.0, max_detections=7)[0]
    assert len(found) <= 7
    assert found.scores.equal(found.scores.sort(descending=True).values)
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 2] <= 96).all() and (found.boxes[:, 3] <= 64).all()


def test_detections_can_be_picked(model):
    found = model.predict([image()], score_threshold=0.0)[0]
    is_small = found.boxes[:, 2] < found.boxes[:, 2].median()
    picked = found[is_small]
    assert 0 < len(picked) < len(found)
    assert picked.masks.equal(found.masks[is_small])
    assert found[[0]].boxes.equal(found[:1].boxes)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.rand(64, 64), r"images\[1\]: \(64, 64\)"),
        (torch.rand(1, 64, 64), r"images\[1\]: \(1, 64, 64\)"),
        (torch.zeros(3, 64, 64, dtype=torch.int64), r"images\[1\]: torch.int64"),
        (torch.rand(3, 0, 64), r"images\[1\].*without pixels"),
        (7, r"images\[1\]: int"),
        (torch.full((3, 8, 8), 255.0), r"images\[1\]: values from 255 to 255; expected floats in"),
        (torch.full((3, 8, 8), 3.0).half(), r"images\[1\]: values from 3 to 3"),
        (torch.full((3, 8, 8), -1.5), r"images\[1\]: values from -1.5 to -1.5"),
        (torch.tensor([0, math.nan]).expand(3, 1, 2), r"images\[1\]: values from nan to nan"),
        (torch.tensor([0, -math.inf]).expand(3, 1, 2), r"images\[1\]: values from -inf to 0"),
    ],
)
def test_bad_images_are_refused_by_their_place(model, bad, message):
    with pytest.raises(ValueError, match=message):
        model.predict([image(), bad])


def test_floats_that_resampling_overshot_are_pixels(model):
    assert len(model.predict([image() * 1.4 - 0.2], score_threshold=0.0)) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_detections": -3}, "max_detections = -3: must lie between 1 and 100000"),
        ({"max_detections": 0}, "max_detections = 0: must lie between 1 and 100000"),
        ({"max_detections": True}, "max_detections = True: must be a whole number"),
        ({"max_detections": 2.5}, "max_detections = 2.5: must be a whole number"),
        ({"score_threshold": math.nan}, "score_threshold = nan: must be a finite number"),
        ({"score_threshold": -0.1}, "score_threshold = -0.1: must lie between 0 and 1"),
        ({"score_threshold": 30}, "score_threshold = 30: must lie between 0 and 1"),
        ({"score_threshold": "0.3"}, "score_threshold = '0.3': must be a finite number"),
        ({"output_sizes": [(1, 1), (2, 2)]}, "output_sizes: 2 for 1 images"),
        ({"output_sizes": [(0, 96)]}, "output_sizes[0] = (0, 96): expected (height, width)"),
        ({"output_sizes": [(64, -1)]}, "output_sizes[0] = (64, -1): expected (height, width)"),
        ({"output_sizes": [(64.0, 96)]}, "output_sizes[0] = (64.0, 96): expected"),
        ({"output_sizes": [(10**7, 10**7)]}, "output_sizes[0] = (10000000, 10000000): expected"),
        ({"output_sizes": [(3, 64, 96)]}, "output_sizes[0] = (3, 64, 96): expected"),
        ({"output_sizes": [64]}, "output_sizes[0] = 64: expected (height, width)"),
    ],
)
def test_bad_arguments_are_refused_by_name_before_the_network_runs(
    model, arguments, message, monkeypatch
):
    with torch.no_grad():
        output = model([image()])
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        model.find_objects(output, **arguments)
    monkeypatch.setattr(model.backbone, "forward", None)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        model.predict([image()], **arguments)


def test_numbers_of_numpy_are_numbers(model):
    with torch.no_grad():
        output = model([image()])
    [some] = model.detect(output, score_threshold=np.float32(0), max_detections=np.int64(3))
    assert len(some) == 3


def test_pixels_are_looked_at_once_for_all_images_and_never_in_training(model, monkeypatch):
    waits = []
    tolist = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: waits.append(1) or tolist(self))
    require_pixels([image(), image(32, 32), image()])
    assert len(waits) == 1
    with torch.no_grad():
        assert model([image() * 255]).bases.isfinite().all()


def test_a_model_in_training_mode_predicts_nothing_and_learns_nothing():
    model = make_model().train()
    before = {name: each.clone() for name, each in model.named_buffers()}
    with pytest.raises(ValueError, match=r"in training mode; call model.eval\(\)"):
        model.predict([image()])
    assert all(each.equal(before[name]) for name, each in model.named_buffers())
    assert len(model.eval().predict([image()])) == 1


def test_class_names_have_to_match():
    with pytest.raises(ValueError, match="2 names for num_classes = 8"):
        BlendMask(NANO, class_names=["a", "b"])


def test_category_ids_count_from_one_unless_given_and_have_to_be_different():
    assert BlendMask(NANO).category_ids == tuple(range(1, 9))
    assert BlendMask(NANO, category_ids=[90, 1, 2, 3, 4, 5, 6, 7]).category_ids[0] == 90
    for ids, number in (([1, 2], 2), ([1] * 8, 1)):
        with pytest.raises(ValueError, match=f"category_ids: {number} different numbers for .* 8"):
            BlendMask(NANO, category_ids=ids)


def test_objects_before_pasting_are_those_after_it(model):
    with torch.no_grad():
        output = model([image(), image()])
    sizes = [(70, 50), (300, 200)]
    placed = model.place_objects(output, output_sizes=sizes, score_threshold=0)
    found = model.find_objects(output, output_sizes=sizes, score_threshold=0)
    for before, after in zip(placed, found, strict=True):
        assert len(before) == len(after) > 0
        assert before.pasted().masks.equal(after.masks)
        for order, is_reversed in ((after.masks, False), (after.masks.flip(0), True)):
            for mine in (before, after):
                parts = mine.mask_parts(is_reversed=is_reversed)
                for (region, part), mask in zip(parts, order, strict=True):
                    assert part.equal(mask[region]) and part.sum() == mask.sum()


def test_own_bases_and_attentions_stand_in_for_the_networks(model):
    with torch.no_grad():
        output = model([image()])
        index = torch.tensor([[0, 3], [0, 5]])
        boxes = torch.tensor([[0.0, 0, 40, 40], [8, 8, 90, 60]])
        usual = model.masks_at(output, index, boxes)
        attentions = model.attentions_at(output, index)
        assert usual.equal(model.masks_at(output, index, boxes, attentions=attentions))
        doubled = model.masks_at(output, index, boxes, bases=2 * output.bases)
    assert torch.allclose(doubled, 2 * usual, atol=1e-5)


@pytest.mark.parametrize("merger", ["weighted_sum", "assembler"])
def test_yolact_and_fcis_are_settings_of_the_same_network(merger):
    num_bases = 9 if merger == "assembler" else 6
    model = make_model(replace(NANO, merger=merger, num_bases=num_bases))
    assert (model.top_layer is None) == (merger == "assembler")
    found = model.predict([image()], score_threshold=0.0, max_detections=3)[0]
    assert found.masks.shape == (len(found), 64, 96)


def test_a_model_without_semantic_head_says_so():
    model = make_model(replace(NANO, semantic_weight=0.0))
    with torch.no_grad(), pytest.raises(ValueError, match="no semantic head"):
        model.semantic_logits(model([image()]))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"channel_order": "gbr"}, "channel_order"),
        ({"backbone": "vgg"}, "backbone"),
        ({"size_divisor": 16}, "size_divisor"),
        ({"levels": ("p3", "p5")}, "levels"),
        ({"levels": ()}, "levels"),
        ({"size_limits": (64, 32)}, "size_limits"),
        ({"size_limits": (64,)}, "size_limits"),
        ({"bottom": "proto_fpn"}, "bottom_inputs"),
        ({"attention_size": 29}, "attention_size"),
        ({"merger": "assembler", "num_bases": 5}, "num_bases"),
        ({"num_classes": 0}, "num_classes"),
        ({"frozen_stages": 6}, "frozen_stages"),
        ({"pixel_std": (1.0, 0.0, 1.0)}, "pixel_std"),
        ({"size_limits": (-1, 32)}, "size_limits"),
    ],
)
def test_impossible_configs_are_refused_by_field(changes, field):
    with pytest.raises(ValueError, match=f"^{field} = "):
        replace(NANO, **changes)


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (NANO, {"num_classes": True}, "num_classes = True: must be a whole number"),
        (NANO, {"num_classes": 8.0}, "num_classes = 8.0: must be a whole number"),
        (NANO, {"size_divisor": None}, "size_divisor = None: must be a whole number"),
        (NANO, {"backbone": 3}, "backbone = 3: must be a text"),
        (NANO, {"channel_order": ["rgb"]}, "channel_order = ['rgb']: must be rgb or bgr"),
        (NANO, {"levels": 5}, "levels = 5: must be a tuple of texts"),
        (NANO, {"levels": (2, 3)}, "levels = (2, 3): must be a tuple of texts"),
        (NANO, {"size_limits": ("a",)}, "size_limits = ('a',): must be a tuple of finite numbers"),
        (NANO, {"pixel_std": 1.0}, "pixel_std = 1.0: must be a tuple of 3 finite numbers"),
        (NANO, {"pixel_mean": (1.0, math.nan, 1.0)}, "pixel_mean = (1.0, nan, 1.0): must be a"),
        (NANO, {"center_radius": math.nan}, "center_radius = nan: must be a finite number"),
        (NANO, {"semantic_weight": math.inf}, "semantic_weight = inf: must be a finite number"),
        (NANO, {"stride_in_1x1": 1}, "stride_in_1x1 = 1: must be True or False"),
        (InferenceConfig(), {"nms_iou": "0.6"}, "nms_iou = '0.6': must be a finite number"),
        (InferenceConfig(), {"mask_threshold": math.nan}, "mask_threshold = nan: must be a finite"),
        (InferenceConfig(), {"max_detections": None}, "max_detections = None: must be a whole"),
    ],
)
def test_a_value_of_another_type_is_refused_by_field_with_what_it_must_be(config, changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        replace(config, **changes)


@pytest.mark.parametrize(
    ("config", "field", "most"),
    [
        (NANO, "num_box_convs", 64),
        (NANO, "num_bottom_convs", 64),
        (NANO, "num_classes", 100_000),
        (NANO, "pyramid_channels", 8192),
        (NANO, "mask_size", 512),
        (NANO, "size_divisor", 1024),
        (InferenceConfig(), "test_size", 8192),
        (InferenceConfig(), "max_detections", 100_000),
        (InferenceConfig(), "candidates_per_level", 100_000),
    ],
)
def test_no_field_asks_for_unlimited_memory(config, field, most):
    with pytest.raises(ValueError, match=f"^{field} = 10000000: must lie between .* and {most}$"):
        replace(config, **{field: 10**7})


def test_impossible_inference_settings_are_refused_by_field():
    with pytest.raises(ValueError, match="nms_iou = 2"):
        InferenceConfig(nms_iou=2)
    with pytest.raises(ValueError, match="max_size = 10"):
        InferenceConfig(max_size=10)


# Parts


def test_resnet_equals_torchvisions_with_its_weights():
    torch.manual_seed(0)
    theirs = resnet50(weights=None).eval()
    ours = ResNet(block=Bottleneck, num_blocks=DEPTHS[50]).eval()
    weights = theirs.state_dict()
    ours.load_state_dict({name: weights[name] for name in ours.state_dict()})
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        stem = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(stem))))
        assert torch.allclose(ours(x)["c5"], expected, atol=1e-3, rtol=1e-3)


def test_the_stride_lies_where_the_weights_want_it():
    caffe = BlendMask(PRESETS["r50"]).backbone.layer2[0]
    assert caffe.conv1.stride == (2, 2) and caffe.conv2.stride == (1, 1)
    torchvisions = BlendMask(replace(PRESETS["r50"], stride_in_1x1=False)).backbone.layer2[0]
    assert torchvisions.conv1.stride == (1, 1) and torchvisions.conv2.stride == (2, 2)


@pytest.mark.parametrize(
    ("frozen", "first_trained"), [(0, "conv1.weight"), (1, "layer1.0"), (2, "layer2.0")]
)
def test_frozen_stages_do_not_train(frozen, first_trained):
    backbone = make_model(replace(NANO, frozen_stages=frozen)).backbone
    trained = [name for name, p in backbone.named_parameters() if p.requires_grad]
    assert trained[0].startswith(first_trained)
    # Nor do statistics of their norms move, and those of the others do.
    before = {name: each.clone() for name, each in backbone.named_buffers()}
    backbone.train()(torch.rand(1, 3, 64, 64))
    moved = [n for n, each in backbone.named_buffers() if not torch.equal(each, before[n])]
    assert moved[0].startswith("bn1" if frozen == 0 else first_trained)


def test_folded_frozen_norms_equal_unfolded_ones():
    torch.manual_seed(0)
    backbone = ResNet(block=Bottleneck, num_blocks=(1, 1, 1, 1)).eval()
    for module in backbone.modules():
        if hasattr(module, "running_var"):
            module.running_var.uniform_(0.5, 2)
            module.running_mean.normal_()
            module.weight.uniform_(0.2, 1)
            module.bias.normal_()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        folded = backbone(x)["c5"]
    assert torch.allclose(folded, backbone(x)["c5"].detach(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("bottom", "features", "stride"),
    [
        (ProtoFPN(in_channels=16, channels=8), {"p3": 8, "p4": 16, "p5": 32}, 4),
        (ProtoNetP3(in_channels=16, channels=8, num_bases=32), {"p3": 8}, 4),
        (ProtoNetP3(in_channels=16, channels=8, num_convs=0), {"p3": 8}, 4),
        (
            DeepLabDecoder(inputs=("p3", "p5"), in_channels=(16, 16), channels=32),
            {"p3": 8, "p5": 32},
            8,
        ),
        (
            DeepLabDecoder(inputs=("c3", "c5"), in_channels=(16, 16), channels=32),
            {"c3": 8, "c5": 32},
            8,
        ),
        (
            DeepLabDecoder(inputs=("p2", "p5"), in_channels=(16, 16), channels=32),
            {"p2": 4, "p5": 32},
            4,
        ),
    ],
)
def test_bottom_modules_give_k_bases_at_their_stride_also_in_training_at_batch_one(
    bottom, features, stride
):
    maps = {name: torch.randn(1, 16, 64 // s, 96 // s) for name, s in features.items()}
    assert bottom.stride == stride
    assert set(bottom.inputs) == set(features)
    bases = bottom.train()(maps)
    assert bases.shape == (1, bottom.bases.out_channels, 64 // stride, 96 // stride)


@pytest.mark.parametrize("inputs", [("c3", "c5"), ("p3", "p5"), ("p2", "p5")])
@pytest.mark.parametrize("channels", [128, 256])
def test_the_papers_bottom_modules_build_into_the_network(inputs, channels):
    config = replace(NANO, bottom="deeplab", bottom_inputs=inputs, bottom_channels=channels)
    found = make_model(config).predict([image()], score_threshold=0.0, max_detections=2)
    assert found[0].mask_logits.shape[1:] == (28, 28)


def test_candidates_are_thresholded_before_the_root_and_limited_per_level():
    logit = torch.tensor([0.9, 0.5, 0.1]).logit()
    arguments = {
        "class_logits": logit[:, None],
        "ltrb": torch.ones(3, 4),
        "centerness_logits": torch.tensor([0.4, 0.4, 0.4]).logit(),
        "locations": torch.tensor([[4.0, 4], [12, 4], [8, 8]]),
        "level_sizes": (2, 1),
    }
    found = select_candidates(**arguments, score_threshold=0.05, max_per_level=10)
    # products 0.36, 0.2 and 0.04; the last is below the threshold
    assert found.scores.tolist() == pytest.approx([0.6, 0.2**0.5])
    assert found.location_index.tolist() == [0, 1]
    assert found.boxes[0].tolist() == [3, 3, 5, 5]
    best = select_candidates(**arguments, score_threshold=0.0, max_per_level=1)
    assert best.location_index.tolist() == [0, 2]


def test_suppression_works_class_by_class():
    found = select_candidates(
        class_logits=torch.tensor([[2.0, 1.0], [1.5, -9.0]]),
        ltrb=torch.full((2, 4), 10.0),
        centerness_logits=torch.full((2,), 9.0),
        locations=torch.tensor([[20.0, 20], [21, 20]]),
        level_sizes=(2,),
        score_threshold=0.05,
        max_per_level=10,
    )
    assert len(found) == 3
    kept = suppress(found, nms_iou=0.6, max_detections=10)
    assert kept.labels.tolist() == [0, 1]
    assert kept.location_index.tolist() == [0, 0]
    assert len(suppress(found, nms_iou=0.6, max_detections=1)) == 1


@pytest.mark.parametrize("labels", [[0, 1], [1, 0]])
def test_a_box_outside_the_image_does_not_suppress_another_class(labels):
    # Moved by the largest coordinate and one, 101, the second box would lie on the first.
    boxes = torch.tensor([[50.0, 50, 100, 100], [-51, -51, 4, 4]])
    if labels == [1, 0]:
        boxes = boxes.flip(0)
    found = Proposals(boxes, torch.tensor([0.9, 0.8]), torch.tensor(labels), torch.arange(2))
    assert len(suppress(found, nms_iou=0.6, max_detections=10)) == 2
    assert len(suppress(found[:0], nms_iou=0.6, max_detections=10)) == 0
    # Boxes of one class are suppressed there as anywhere.
    twice = Proposals(boxes[[0, 0]], found.scores, torch.tensor([1, 1]), torch.arange(2))
    assert len(suppress(twice, nms_iou=0.6, max_detections=10)) == 1


def test_weights_stay_in_the_layout_that_is_fast():
    kernel = make_model().backbone.layer1[0].conv1.weight
    assert kernel.is_contiguous(memory_format=torch.channels_last)


def test_a_config_is_the_whole_recipe():
    assert ModelConfig() == ModelConfig()
    assert BlendMask(NANO).merger.attention_channels == 4 * 7 * 7
    assert NANO.size_ranges == ((-1.0, 32), (32, 64), (64, float("inf")))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_and_cpu_find_the_same():
    model = make_model()
    cpu = model.predict([image()], score_threshold=0.0, max_detections=5)[0]
    gpu = model.to("cuda").predict([image()], score_threshold=0.0, max_detections=5)[0].to("cpu")
    assert torch.allclose(cpu.boxes, gpu.boxes, atol=0.1)


@pytest.mark.parametrize("num_convs", [0, 1])
def test_predictors_that_share_a_convolution_say_what_each_says_alone(num_convs):
    torch.manual_seed(0)
    head = FCOSHead(
        in_channels=8, num_classes=3, num_class_convs=num_convs, num_box_convs=num_convs
    ).double()
    levels = [torch.randn(2, 8, *size, dtype=torch.float64) for size in ((6, 9), (3, 5))]
    said = head(levels)
    for place, level in enumerate(levels):
        features = head.box_tower(level, place)
        expected = {
            "class_logits": head.class_logits(head.class_tower(level, place)),
            "ltrb": head.ltrb(features).relu(),
            "centerness_logits": head.centerness(features),
        }
        for name, maps in expected.items():
            assert torch.allclose(getattr(said, name)[place], maps, atol=1e-12)


@pytest.mark.parametrize("config", [None, "nano"])
def test_what_is_no_config_is_refused_with_an_example(config):
    with pytest.raises(TypeError, match=r'expected a ModelConfig, such as PRESETS\["nano"\]'):
        BlendMask(config)


def test_a_text_is_no_sequence_of_names():
    config = PRESETS["nano"]
    for names in ("x" * config.num_classes, list(range(config.num_classes))):
        with pytest.raises(ValueError, match=r"class_names = .*: expected a sequence of texts"):
            BlendMask(config, class_names=names)


@pytest.mark.parametrize(
    "image", [torch.zeros(3, 8, 8, device="meta"), torch.zeros(3, 8, 8).to_sparse()]
)
def test_an_image_without_values_or_not_dense_is_refused(image):
    model = BlendMask(PRESETS["nano"]).eval()
    with pytest.raises(ValueError, match=r"images\[0\]: .*expected a dense tensor with values"):
        model.predict([image])
