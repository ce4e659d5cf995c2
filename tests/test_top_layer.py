"""The top layer at chosen locations equals the dense convolution, values and gradients."""

from __future__ import annotations

import pytest
import torch

from blendmask_lite.model.attention import TopLayer
from blendmask_lite.model.fcos import flatten_levels

SHAPES = [(5, 7), (3, 4), (1, 1)]


@pytest.fixture
def layer():
    torch.manual_seed(0)
    layer = TopLayer(in_channels=6, attention_channels=10)
    torch.nn.init.normal_(layer.conv.weight)
    torch.nn.init.normal_(layer.conv.bias)
    return layer.double()


def maps():
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(2, 6, *shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in SHAPES
    ]


def every_location():
    num = sum(height * width for height, width in SHAPES)
    return torch.cartesian_prod(torch.arange(2), torch.arange(num))


def dense_at(layer, features, index):
    return flatten_levels(layer.dense(features))[index[:, 0], index[:, 1]]


def test_every_location_equals_the_dense_convolution_borders_and_single_cell_included(layer):
    features, index = maps(), every_location()
    shuffled = index[torch.randperm(len(index), generator=torch.Generator().manual_seed(2))]
    assert torch.allclose(
        layer(features, shuffled), dense_at(layer, features, shuffled), atol=1e-12
    )


def test_gradients_equal_those_of_the_dense_convolution(layer):
    index = torch.tensor([[0, 0], [1, 6], [0, 0], [1, 34], [0, 35], [1, 46], [0, 47], [0, 17]])
    weight = torch.randn(len(index), 10, dtype=torch.float64)
    gradients = []
    for predict in (layer, lambda features, index: dense_at(layer, features, index)):
        features = maps()
        (predict(features, index) * weight).sum().backward()
        gradients.append([f.grad for f in features] + [p.grad.clone() for p in layer.parameters()])
        layer.zero_grad()
    for sparse, dense in zip(*gradients, strict=True):
        assert torch.allclose(sparse, dense, atol=1e-12)


def test_no_location_gives_an_empty_result_with_zero_gradients(layer):
    features = maps()
    attentions = layer(features, torch.zeros(0, 2, dtype=torch.int64))
    assert attentions.shape == (0, 10)
    attentions.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in layer.parameters())
