"""The norms as modules against torch's: outputs, running estimates, state_dict and every mode."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import visionops
from visionops.nn import BatchNorm2d, FrozenBatchNorm2d

MODES: list[dict[str, Any]] = [
    {},
    {"momentum": None},
    {"momentum": 0.5, "eps": 1e-3},
    {"affine": False},
    {"track_running_stats": False},
]


def images(count: int, *shape: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator) * 2 + 1 for _ in range(count)]


@pytest.mark.parametrize("options", MODES, ids=str)
def test_trains_and_infers_as_torchs(options: dict[str, Any]) -> None:
    ours, theirs = BatchNorm2d(5, **options, activation="relu"), nn.BatchNorm2d(5, **options)
    if theirs.affine:
        with torch.no_grad():
            theirs.weight.uniform_(0.5, 1.5)
            theirs.bias.normal_()
    ours.load_state_dict(theirs.state_dict())
    residual, *batches = images(5, 4, 5, 6, 6)
    for x in batches:
        torch.testing.assert_close(ours(x, residual=residual), F.relu(theirs(x) + residual), rtol=1e-5, atol=1e-5)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-5, atol=1e-5)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.eval()
    theirs.eval()
    torch.testing.assert_close(ours(residual), F.relu(theirs(residual)), rtol=1e-5, atol=1e-5)


def test_shows_its_activation_and_copies() -> None:
    norm = BatchNorm2d(3, activation="silu")
    assert repr(norm).endswith("track_running_stats=True, activation='silu')")
    buffer = io.BytesIO()
    torch.save(norm, buffer)
    buffer.seek(0)
    for other in (copy.deepcopy(norm), torch.load(buffer, weights_only=False)):
        assert other.activation == "silu"
    with pytest.raises(ValueError, match="activation: expected one of"):
        BatchNorm2d(3, activation="tanh")


def test_16_bit_images_beside_float32_parameters() -> None:
    norm = BatchNorm2d(3, activation="gelu")
    x = images(1, 4, 3, 5, 5)[0].bfloat16().requires_grad_()
    out = norm(x)
    out.sum().backward()
    assert out.dtype == torch.bfloat16
    assert norm.running_mean is not None
    assert {t.dtype for t in (norm.weight.grad, norm.running_mean)} == {torch.float32}


def test_frozen_loads_torchs_state_and_stays() -> None:
    x, residual = images(2, 4, 5, 6, 6)
    trained = nn.BatchNorm2d(5)
    trained(x)
    frozen = FrozenBatchNorm2d(5, activation="relu")
    frozen.load_state_dict(trained.state_dict())
    trained.eval()
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    assert list(before) == ["weight", "bias", "running_mean", "running_var"]
    assert not list(frozen.parameters())
    torch.testing.assert_close(frozen(x, residual=residual), F.relu(trained(x) + residual), rtol=1e-5, atol=1e-5)
    for name, value in frozen.state_dict().items():
        assert torch.equal(value, before[name])
    assert repr(frozen) == "FrozenBatchNorm2d(5, eps=1e-05, activation='relu')"


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu", "relu6", "silu", "hardswish", "gelu"])
def test_frozen_gradients_are_eagers(activation: str | None, layout: torch.memory_format) -> None:
    norm = FrozenBatchNorm2d(6, activation=activation)
    with torch.no_grad():
        for name, value in norm.named_buffers():
            value.copy_(torch.rand(6, generator=torch.Generator().manual_seed(len(name))) + 0.5)
    x, residual, grad = (t.contiguous(memory_format=layout).requires_grad_() for t in images(3, 2, 6, 5, 5))
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    shift = norm.bias - norm.running_mean * scale
    before = x * scale[:, None, None] + shift[:, None, None] + residual
    expected = before if activation is None else getattr(F, activation)(before)
    for incoming in (grad.detach(), grad.detach().contiguous()):
        wanted = torch.autograd.grad(expected, (x, residual), incoming, retain_graph=True)
        got = torch.autograd.grad(norm(x, residual=residual), (x, residual), incoming)
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_the_contents_page_has_it() -> None:
    assert visionops.nn.BatchNorm2d is BatchNorm2d
