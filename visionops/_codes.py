"""The numbers that stand for names at the compiled boundary: the enums of csrc, for the stable ABI leaks strings."""

IOU_MODES = {"iou": 0, "giou": 1, "diou": 2, "ciou": 3, "iof": 4}  # csrc/boxes/box_iou.h
BOX_FORMATS = {"xyxy": 0, "xywh": 1, "cxcywh": 2}  # csrc/boxes/box_convert.h
ACTIVATIONS = {  # csrc/conv/activation.h
    None: 0,
    "relu": 1,
    "leaky_relu": 2,
    "relu6": 3,
    "silu": 4,
    "hardswish": 5,
    "gelu": 6,
}
