"""Room `conv`: convolutions, and the column matrix that explains them."""

from visionops.conv.channel_shuffle import channel_shuffle
from visionops.conv.conv2d import conv2d, im2col_conv2d
from visionops.conv.conv_transpose2d import conv_transpose2d
from visionops.conv.cost import conv_cost, receptive_field
from visionops.conv.depthwise import depthwise_conv2d, depthwise_separable_conv2d, pointwise_conv2d
from visionops.conv.im2col import col2im, im2col

__all__ = [
    "channel_shuffle",
    "col2im",
    "conv2d",
    "conv_cost",
    "conv_transpose2d",
    "depthwise_conv2d",
    "depthwise_separable_conv2d",
    "im2col",
    "im2col_conv2d",
    "pointwise_conv2d",
    "receptive_field",
]
