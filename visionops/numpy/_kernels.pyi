"""Signatures of the compiled module (csrc/numpy). Arrays are C-contiguous, aligned and of native byte order."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

def isa() -> int: ...
def get_num_threads() -> int: ...
def set_num_threads(count: int) -> None: ...
def box_iou(
    boxes1: NDArray[Any], boxes2: NDArray[Any], mode: int, aligned: bool, pixel_offset: int
) -> NDArray[Any]: ...
def box_convert(boxes: NDArray[Any], in_format: int, out_format: int) -> NDArray[Any]: ...
def box_area(boxes: NDArray[Any], pixel_offset: int) -> NDArray[Any]: ...
def clip_boxes_to_image(boxes: NDArray[Any], height: float, width: float) -> NDArray[Any]: ...
def remove_small_boxes(boxes: NDArray[Any], min_size: float) -> NDArray[np.int64]: ...
def masks_to_boxes(masks: NDArray[Any]) -> NDArray[np.float32]: ...
def mask_iou(masks1: NDArray[Any], masks2: NDArray[Any]) -> NDArray[np.float32]: ...
def roi_align(
    input: NDArray[Any],
    boxes: NDArray[Any],
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    maximum: bool,
    channels_last: bool,
) -> NDArray[Any]: ...
def nms(
    boxes: NDArray[Any],
    scores: NDArray[Any],
    idxs: NDArray[np.int64] | None,
    iou_threshold: float,
    score_threshold: float | None,
    max_output: int | None,
    pixel_offset: int,
    fast: bool,
) -> NDArray[np.int64]: ...
def soft_nms(
    boxes: NDArray[Any],
    scores: NDArray[Any],
    idxs: NDArray[np.int64] | None,
    method: int,
    iou_threshold: float,
    sigma: float,
    score_threshold: float | None,
    max_output: int | None,
    pixel_offset: int,
) -> tuple[NDArray[np.int64], NDArray[Any]]: ...
def matrix_nms(
    boxes: NDArray[Any],
    scores: NDArray[Any],
    idxs: NDArray[np.int64] | None,
    kernel: int,
    sigma: float,
    score_threshold: float | None,
    max_output: int | None,
    pixel_offset: int,
) -> tuple[NDArray[np.int64], NDArray[Any]]: ...
def mask_matrix_nms(
    masks: NDArray[Any],
    scores: NDArray[Any],
    idxs: NDArray[np.int64] | None,
    kernel: int,
    sigma: float,
    score_threshold: float | None,
    max_output: int | None,
) -> tuple[NDArray[np.int64], NDArray[Any]]: ...
