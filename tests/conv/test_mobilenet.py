"""A network of MobileNetV2's shape on `visionops.nn` does what it does layer by layer of torch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mobilenet import MobileNetV2

LAYOUTS = (torch.contiguous_format, torch.channels_last)


def _networks(dtype: torch.dtype, layout: torch.memory_format) -> tuple[MobileNetV2, MobileNetV2, Tensor]:
    """Torch's and ours with the same random weights, and images; the norms' estimates are those of other images."""
    torch.manual_seed(0)
    theirs, ours = (MobileNetV2(plain=plain, classes=10).to(dtype) for plain in (True, False))
    for network in (theirs, ours):
        network.to(memory_format=layout)  # type: ignore[call-overload]
    for norm in theirs.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
            norm.momentum = 1.0
    with torch.no_grad():
        theirs.train()(torch.randn(8, 3, 64, 64, dtype=dtype))
    for norm in theirs.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 0.1
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours, torch.randn(4, 3, 64, 64, dtype=dtype).to(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_eval_mode(layout: torch.memory_format) -> None:
    theirs, ours, x = _networks(torch.float64, layout)
    with torch.no_grad():
        expected = theirs.eval()(x)
        assert expected.std() > 0.1
        for network in (ours.eval(), _packed(ours)):
            torch.testing.assert_close(network(x), expected, rtol=1e-9, atol=1e-9)
        # In float32, about as far from it as torch's own.
        error = (theirs.float()(x.float()) - expected).abs().mean()
        assert (ours.float()(x.float()) - expected).abs().mean() <= 3 * error


def _packed(network: MobileNetV2) -> MobileNetV2:
    network.prepack()
    return network


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_training_step(layout: torch.memory_format) -> None:
    theirs, ours, x = _networks(torch.float64, layout)
    results = []
    for network in (theirs, ours):
        leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
        loss = nn.functional.cross_entropy(network.train()(leaf), torch.arange(4))
        loss.backward()  # type: ignore[no-untyped-call]
        grads = {name: parameter.grad for name, parameter in network.named_parameters()}
        results.append({"loss": loss, "images": leaf.grad, **grads, **dict(network.named_buffers())})
    for name, expected in results[0].items():
        torch.testing.assert_close(results[1][name], expected, rtol=1e-6, atol=1e-8, msg=name)
