"""Room `boxes`: formats, areas and intersection over union of axis-aligned boxes."""

from visionops.boxes.box_area import box_area
from visionops.boxes.box_convert import box_convert
from visionops.boxes.box_iou import box_iou, complete_box_iou, distance_box_iou, generalized_box_iou, wh_iou
from visionops.boxes.clip_boxes_to_image import clip_boxes_to_image
from visionops.boxes.mask_iou import mask_iou
from visionops.boxes.masks_to_boxes import masks_to_boxes
from visionops.boxes.remove_small_boxes import remove_small_boxes

__all__ = [
    "box_area",
    "box_convert",
    "box_iou",
    "clip_boxes_to_image",
    "complete_box_iou",
    "distance_box_iou",
    "generalized_box_iou",
    "mask_iou",
    "masks_to_boxes",
    "remove_small_boxes",
    "wh_iou",
]
