"""The inputs that tests and benchmarks of the norms draw from.

Float64 arrays are rounded to the dtype under test, float32 ones stay: weights and statistics beside a 16-bit image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.testing import Case

Array = npt.NDArray[Any]

ACTIVATIONS = (None, "relu", "leaky_relu", "relu6", "silu", "hardswish", "gelu")


def fused_batch_norm() -> list[Case]:
    """Training and eval, every activation with and without residual, sizes around a vector, few and many channels."""
    rng = np.random.default_rng(0)
    few = _image(rng, 2, 3, 2, 3)
    cases = [_case("few", few, *_affine(rng, 3), None, None, True)]
    options: dict[str, Any]
    for name in ACTIVATIONS:
        image, residual = _image(rng, 2, 5, 3, 7), _image(rng, 2, 5, 3, 7)
        affine, estimates = _affine(rng, 5), _estimates(rng, 5)
        for label, other in ((f"{name}", None), (f"{name}-residual", residual)):
            options = {"residual": other, "activation": name}
            cases.append(_case(f"training-{label}", image, *affine, None, None, True, **options))
            cases.append(_case(f"eval-{label}", image, *affine, *estimates, **options))
    cases += [_case(f"training-{h}x{w}", _image(rng, 3, 4, h, w), None, None, None, None, True) for h, w in SIZES]
    cases += [_case(f"eval-{h}x{w}", _image(rng, 1, 2, h, w), None, None, *_estimates(rng, 2)) for h, w in SIZES]
    for channels in (1, 2, 17, 64, 65, 300):
        image, affine = _image(rng, 2, channels, 3, 3), _affine(rng, channels)
        residual = _image(rng, 2, channels, 3, 3)
        options = {"residual": residual, "activation": "relu"}
        cases.append(_case(f"channels-{channels}", image, *affine, None, None, True, **options))
        cases.append(_case(f"eval-channels-{channels}", image, *affine, *_estimates(rng, channels), **options))
    # A channel of several items, whose last slice and last images are shorter.
    cases.append(_case("slices", _image(rng, 3, 2, 93, 97), *_affine(rng, 2), None, None, True))
    cases.append(_case("images", _image(rng, 95, 2, 9, 10), *_affine(rng, 2), None, None, True))
    cases += _unmoved(rng) + _float32_beside(rng) + _degenerate(rng)
    return cases


# Pixels of a map: fewer than a vector, one, around one and more.
SIZES = ((1, 1), (1, 7), (3, 5), (4, 4), (1, 17), (5, 13), (7, 7), (8, 8), (31, 33))


def _unmoved(rng: np.random.Generator) -> list[Case]:
    """Training with running estimates that do not move, as the contract wants of its arguments."""
    image = _image(rng, 4, 6, 5, 5)
    return [
        _case("momentum-0", image, *_affine(rng, 6), *_estimates(rng, 6), True, 0.0),
        _case("eps", image, *_affine(rng, 6), *_estimates(rng, 6), False, 0.1, 0.5),
        _case("weight-alone", image, _affine(rng, 6)[0], None, None, None, True, 0.1, 1e-3),
        _case("bias-alone", image, None, _affine(rng, 6)[1], None, None, True, activation="silu"),
    ]


def _float32_beside(rng: np.random.Generator) -> list[Case]:
    """Weights and estimates stay float32, whatever the image."""
    image = _image(rng, 2, 9, 6, 6)
    values = [a.astype(np.float32) for a in (*_affine(rng, 9), *_estimates(rng, 9))]
    return [
        _case("float32-training", image, *values[:2], None, None, True, activation="relu"),
        _case("float32-eval", image, *values, activation="gelu", residual=_image(rng, 2, 9, 6, 6)),
    ]


def _degenerate(rng: np.random.Generator) -> list[Case]:
    """No images, no channels, no pixels, constant channels, values far from 0, infinities and NaN."""
    none = {name: np.empty(shape) for name, shape in (("images", (0, 3, 4, 4)), ("pixels", (2, 3, 0, 4)))}
    cases = [_case(f"no-{name}", image, *_affine(rng, 3), None, None, True) for name, image in none.items()]
    cases += [_case(f"eval-no-{name}", image, *_affine(rng, 3), *_estimates(rng, 3)) for name, image in none.items()]
    cases.append(_case("no-channels", np.empty((2, 0, 4, 4)), *(np.empty(0),) * 4, False, activation="relu"))
    constant = np.full((2, 3, 4, 5), 7.0)
    constant[:, 1] = -1000.0
    cases.append(_case("constant", constant, *_affine(rng, 3), None, None, True))
    far = _image(rng, 4, 2, 9, 9)
    far[:, 0] = np.round(far[:, 0] * 8) / 8 + 240.0  # exact in 8 bits of mantissa
    cases.append(_case("far", far, *_affine(rng, 2), None, None, True))
    wild = _image(rng, 2, 4, 5, 5)
    wild[0, 0, 1, 2], wild[1, 1, 0, 0], wild[1, 1, 4, 4], wild[0, 2, 3, 3] = np.nan, np.inf, -np.inf, -np.inf
    for name in ACTIVATIONS:
        cases.append(_case(f"wild-{name}", wild, *_affine(rng, 4), *_estimates(rng, 4), activation=name))
    return cases


def _image(rng: np.random.Generator, *shape: int) -> Array:
    """Normal values, each channel with a mean and scale of its own."""
    centre, scale = rng.normal(size=shape[1]), rng.uniform(0.5, 2.0, size=shape[1])
    image: Array = rng.normal(size=shape) * scale[:, None, None] + centre[:, None, None]
    return image


def _affine(rng: np.random.Generator, channels: int) -> tuple[Array, Array]:
    return rng.uniform(0.5, 1.5, size=channels) * rng.choice([-1.0, 1.0], size=channels), rng.normal(size=channels)


def _estimates(rng: np.random.Generator, channels: int) -> tuple[Array, Array]:
    return rng.normal(size=channels), rng.uniform(0.3, 3.0, size=channels)


def _case(name: str, *args: Any, **kwargs: Any) -> Case:
    return Case(name, args, kwargs, terms=4)
