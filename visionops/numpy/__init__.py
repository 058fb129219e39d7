"""The operations on NumPy arrays, without torch: same names and arguments, `backend` and `padded` apart."""

from visionops import _isa
from visionops.numpy import _kernels
from visionops.numpy._threads import get_num_threads, set_num_threads
from visionops.numpy.boxes import (
    box_area,
    box_convert,
    box_iou,
    clip_boxes_to_image,
    complete_box_iou,
    distance_box_iou,
    generalized_box_iou,
    mask_iou,
    masks_to_boxes,
    remove_small_boxes,
    wh_iou,
)
from visionops.numpy.roi import roi_align
from visionops.numpy.suppression import batched_nms, fast_nms, mask_matrix_nms, matrix_nms, nms, soft_nms

_isa.check_forced(_isa.NAMES[_kernels.isa()])

__all__ = [
    "batched_nms",
    "box_area",
    "box_convert",
    "box_iou",
    "clip_boxes_to_image",
    "complete_box_iou",
    "distance_box_iou",
    "fast_nms",
    "generalized_box_iou",
    "get_num_threads",
    "mask_iou",
    "mask_matrix_nms",
    "masks_to_boxes",
    "matrix_nms",
    "nms",
    "remove_small_boxes",
    "roi_align",
    "set_num_threads",
    "soft_nms",
    "wh_iou",
]
