"""visionops.numpy: the same results as on tensors, for every kind of array, without torch."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch

import visionops
import visionops.numpy
from contract import cases_of, has_floats, outputs
from visionops._op import REGISTRY

visionops.__all__  # noqa: B018 (fills REGISTRY)

OPERATIONS = sorted(set(REGISTRY) & set(visionops.numpy.__all__))


def _rounded(value: Any, dtype: str) -> Any:
    if isinstance(value, np.ndarray) and value.dtype == np.float64:
        with np.errstate(over="ignore"):
            return value.astype(dtype)
    return value


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_same_as_on_tensors(name: str, dtype: str) -> None:
    for case in cases_of(REGISTRY[name]):
        if dtype != "float64" and not has_floats(case):
            continue
        args = [_rounded(a, dtype) for a in case.args]
        on_arrays = outputs(getattr(visionops.numpy, name)(*args, **case.kwargs))
        tensors = [torch.from_numpy(a.copy()) if isinstance(a, np.ndarray) else a for a in args]
        on_tensors = outputs(REGISTRY[name].function(*tensors, **case.kwargs))
        for array, tensor in zip(on_arrays, on_tensors, strict=True):
            assert array.dtype == tensor.numpy().dtype, case.name
            np.testing.assert_array_equal(array, tensor.numpy(), case.name)


def _layouts(array: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    strided = np.zeros((array.shape[0] * 2, 7), array.dtype)[::2, 1:5]
    strided[...] = array
    return {
        "fortran": np.asfortranarray(array),
        "strided": strided,
        "reversed": array[::-1].copy()[::-1],
        "big-endian": array.astype(array.dtype.newbyteorder(">")),
        "read-only": np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape),
    }


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "uint8", "int8", "int16", "int32", "int64"])
def test_layouts_keep_values_and_dtype(dtype: str) -> None:
    boxes = np.array([[0, 0, 4, 4], [1, 0, 4, 3], [8, 0, 9, 100], [2, 2, 7, 9]], dtype)
    scores = np.array([0.1, 0.9, 0.5, 0.7], np.float32)
    iou, kept = visionops.numpy.box_iou(boxes, boxes), visionops.numpy.nms(boxes, scores, 0.5)
    wide = dtype in ("float64", "int32", "int64")
    assert iou.dtype == (dtype if dtype.startswith("float") else "float64" if wide else "float32")
    for layout, array in _layouts(boxes).items():
        again = visionops.numpy.box_iou(array, array)
        assert again.dtype == iou.dtype, layout
        np.testing.assert_array_equal(again, iou, layout)
        np.testing.assert_array_equal(visionops.numpy.nms(array, scores, 0.5), kept, layout)


def test_another_byte_order() -> None:
    boxes = np.array([[0, 0, 4, 4], [1, 0, 4, 3]], np.float32)
    planes = np.arange(128, dtype=np.float32).reshape(1, 2, 8, 8)
    last = planes.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
    for image in (planes, last):
        pooled = visionops.numpy.roi_align(image, [boxes], 2)
        again = visionops.numpy.roi_align(image.astype(">f4"), [boxes.astype(">f4")], 2)
        np.testing.assert_array_equal(again, pooled)
        assert again.strides == pooled.strides
    sizes = boxes[:, 2:]
    again = visionops.numpy.wh_iou(sizes.astype(">f4"), sizes)
    np.testing.assert_array_equal(again, visionops.numpy.wh_iou(sizes, sizes))


def test_contiguous_input_is_not_copied() -> None:
    from visionops.numpy._arrays import array_of

    boxes = np.zeros((3, 4), np.float32)
    assert array_of("boxes", boxes) is boxes


def test_releases_the_gil() -> None:
    boxes = np.random.default_rng(0).uniform(0, 100, (6000, 4))
    done = threading.Event()
    ticks = 0

    def work() -> None:
        visionops.numpy.box_iou(boxes, boxes, mode="ciou")
        done.set()

    worker = threading.Thread(target=work)
    worker.start()
    while not done.is_set():
        ticks += 1
        time.sleep(0)
    worker.join()
    # Holding the lock, the worker would let this thread tick once or twice around its call.
    assert ticks > 100


def test_results_do_not_depend_on_threads() -> None:
    rng = np.random.default_rng(0)
    boxes, scores = rng.uniform(0, 100, (3000, 4)), rng.uniform(size=3000)
    boxes[:, 2:] += boxes[:, :2]
    classes = rng.integers(0, 50, 3000)
    assert visionops.numpy.get_num_threads() == 1
    results = []
    try:
        for count in (1, 4):
            visionops.numpy.set_num_threads(count)
            iou = visionops.numpy.box_iou(boxes, boxes)
            results.append((iou, visionops.numpy.batched_nms(boxes, scores, classes, 0.5)))
    finally:
        visionops.numpy.set_num_threads(1)
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_threads_that_the_machine_does_not_give() -> None:
    code = (
        "import resource, numpy as np, visionops.numpy as vn\n"
        "vn.set_num_threads(2**40)\n"
        "masks = np.ones((1000, 1, 1), np.bool_)\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() + (64 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size, size))\n"
        "assert vn.get_num_threads() == 2**40\n"
        "assert vn.masks_to_boxes(masks).shape == (1000, 4)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_masks_of_too_many_pixels() -> None:
    masks = np.zeros((1, 2**16, 2**15), np.bool_)
    for call in (
        lambda: visionops.numpy.mask_iou(masks, masks),
        lambda: visionops.numpy.mask_iou(masks[:0], masks),
        lambda: visionops.numpy.mask_matrix_nms(masks, np.ones(1)),
    ):
        with pytest.raises(ValueError, match=r"masks: expected fewer than 2\^31 pixels each"):
            call()


def test_imports_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np, visionops.numpy as vn\n"
        "assert vn.nms(np.array([[0., 0, 1, 1]]), np.array([1.]), .5).tolist() == [0]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_imports_quickly() -> None:
    code = "import time, numpy; t = time.perf_counter(); import visionops.numpy; print(time.perf_counter() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True) for _ in range(3)]
    assert min(float(run.stdout) for run in runs) < 0.3


def test_rejects_what_it_does_not_know() -> None:
    boxes, scores = np.zeros((2, 4)), np.zeros(2)
    with pytest.raises(TypeError, match=r"boxes: expected a numpy.ndarray, got list"):
        visionops.numpy.nms([[0, 0, 1, 1]], scores, 0.5)
    with pytest.raises(TypeError, match="boxes: expected dtype floating or integer, got complex128"):
        visionops.numpy.nms(boxes.astype(complex), scores, 0.5)
    with pytest.raises(TypeError, match="boxes: expected dtype floating or integer, got object"):
        visionops.numpy.box_area(boxes.astype(object))
    with pytest.raises(ValueError, match=r"scores: expected shape \(N,\) with N=2, got \(3,\)"):
        visionops.numpy.nms(boxes, np.zeros(3), 0.5)
    with pytest.raises(ValueError, match="count: expected 1 or more, got 0"):
        visionops.numpy.set_num_threads(0)
