"""Names and options of queues: which can be one, and what is said of one that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from .errors import ConfigurationError

LONGEST_NAME = 255
"""Characters of the name of a queue."""


def check_name(name: object) -> str:
    """A name of a queue; raises `ConfigurationError` where it cannot be one."""
    if not isinstance(name, str) or not name or not name.isprintable() or len(name) > LONGEST_NAME:
        raise ConfigurationError(
            f"{name!r} cannot name a queue: give printable text of 1 to {LONGEST_NAME} characters"
        )
    return name


def check_options(
    name: str, maxsize: Any, lease_timeout: Any = None, max_deliveries: Any = None
) -> None:
    """Refuse what a queue cannot have."""
    if isinstance(maxsize, bool) or not isinstance(maxsize, int):
        raise ConfigurationError(f"the maxsize of {name!r} is {maxsize!r}; give an int")
    for what, value in (("lease_timeout", lease_timeout), ("max_deliveries", max_deliveries)):
        if value is not None and not (is_number(value) and value > 0):
            raise ConfigurationError(f"the {what} of {name!r} is {value!r}; give a number above 0")


def is_number(value: object) -> bool:
    """Whether it is a number, which True is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def not_known(name: str, names: Iterable[str]) -> str:
    """What is said of a name that nothing has, where there are these."""
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    listed = ", ".join(known) or "nothing"
    return f"no queue or object is registered here as {name!r}{hint}; there is: {listed}"
