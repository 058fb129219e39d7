"""How many threads the NumPy operations use."""

from visionops import _check
from visionops.numpy import _kernels


def get_num_threads() -> int:
    """How many threads an operation of this module may use; 1 unless set.

    >>> get_num_threads()
    1
    """
    return _kernels.get_num_threads()


def set_num_threads(count: int) -> None:
    """Let each operation of this module use up to `count` threads of its own.

    They are started by a call and end with it, so that a process may fork between calls. Results do not depend on
    their number.

    Args:
        count: 1 or more.

    Raises:
        TypeError: not an integer.
        ValueError: less than 1.
    """
    _check.count("count", count)
    if count < 1:
        raise ValueError(f"count: expected 1 or more, got {count}")
    _kernels.set_num_threads(count)
