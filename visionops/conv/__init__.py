"""Room `conv`: convolutions, and the column matrix that explains them."""

from visionops.conv.im2col import col2im, im2col

__all__ = ["col2im", "im2col"]
