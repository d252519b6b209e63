"""Checks settings that have a fixed set of values."""

from collections.abc import Sequence


def one_of(setting: str, value: str, allowed: Sequence[str]) -> str:
    """Returns `value` if it is allowed.

    Raises:
      ValueError: the value is not allowed; the message names the setting and the
        allowed values.
    """
    if value not in allowed:
        expected = ", ".join(map(repr, allowed))
        raise ValueError(f"{setting} is {value!r}; expected one of {expected}")
    return value
