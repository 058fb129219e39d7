"""The numbers that stand for names at the compiled boundary: the enums of csrc, for the stable ABI leaks strings."""

IOU_MODES = {"iou": 0, "giou": 1, "diou": 2, "ciou": 3, "iof": 4}  # csrc/boxes/box_iou.h
BOX_FORMATS = {"xyxy": 0, "xywh": 1, "cxcywh": 2}  # csrc/boxes/box_convert.h
SOFT_NMS_METHODS = {"linear": 0, "gaussian": 1}  # csrc/suppression/soft_nms.h
MATRIX_NMS_KERNELS = {"gaussian": 0, "linear": 1}  # csrc/suppression/matrix_nms.h
# csrc/common/activation.h
ACTIVATIONS = {None: 0, "relu": 1, "leaky_relu": 2, "relu6": 3, "silu": 4, "hardswish": 5, "gelu": 6}
