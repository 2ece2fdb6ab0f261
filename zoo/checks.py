"""Checks of arguments: each takes a name and a value, and returns the value as a Python type or raises an error.

NumPy's numbers are accepted as numbers, and `True` is not.
"""

import math
import numbers
from typing import Any


def positive_integer(name: str, value: Any) -> int:
    """Check that `value` is a positive integer.

    Raises:
        ValueError: It is not; the message has the argument and the received value.

    Example:
    >>> positive_integer("units", 2.5)
    Traceback (most recent call last):
    ValueError: `units` must be a positive integer, received 2.5.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value <= 0:
        raise ValueError(f"`{name}` must be a positive integer, received {value!r}.")
    return int(value)


def finite_number(name: str, value: Any) -> float:
    """Check that `value` is a finite number.

    Raises:
        ValueError: It is not; the message has the argument and the received value.

    Example:
    >>> finite_number("negative_slope", 1)
    1.0
    """
    if not is_finite_number(value):
        raise ValueError(f"`{name}` must be a finite number, received {value!r}.")
    return float(value)


def positive_number(name: str, value: Any, example: str = "1e-5") -> float:
    """Check that `value` is a positive finite number.

    Raises:
        ValueError: It is not; the message has the argument, the received value and an `example` of a valid one.

    Example:
    >>> import numpy as np
    >>> positive_number("epsilon", np.float32(0.5)), positive_number("epsilon", 1)
    (0.5, 1.0)
    >>> positive_number("epsilon", 0)
    Traceback (most recent call last):
    ValueError: `epsilon` must be a positive finite number such as 1e-5, received 0.
    """
    if not is_finite_number(value) or value <= 0:
        raise ValueError(f"`{name}` must be a positive finite number such as {example}, received {value!r}.")
    return float(value)


def share(name: str, value: Any, meaning: str, whole: bool = False) -> float:
    """Check that `value` is a number in [0, 1), or in [0, 1] with `whole`.

    Args:
        name: Name of the argument.
        value: The received value.
        meaning: The meaning of the argument, for the message: "the share of units dropped".
        whole: Whether 1 is allowed.

    Raises:
        ValueError: It is not; the message has the argument, its meaning and the received value.

    Example:
    >>> share("dropout", 1, "the share of units dropped")
    Traceback (most recent call last):
    ValueError: `dropout` is the share of units dropped, a number in [0, 1); received 1.
    """
    if not is_finite_number(value) or not 0 <= value <= 1 or (value == 1 and not whole):
        raise ValueError(f"`{name}` is {meaning}, a number in [0, 1{']' if whole else ')'}; received {value!r}.")
    return float(value)


def python_number(value: Any) -> int | float:
    """Convert a finite number to Python's `int` or `float`, depending on its type.

    Example:
    >>> import numpy as np
    >>> python_number(np.int64(3)), python_number(np.float32(0.5))
    (3, 0.5)
    """
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def is_finite_number(value: Any) -> bool:
    """Whether `value` is a finite real number of Python or NumPy.

    Example:
    >>> [is_finite_number(value) for value in (1, 0.5, True, "1", float("nan"), None)]
    [True, True, False, False, False, False]
    """
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
