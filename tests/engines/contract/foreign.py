"""A class that a process may lack: tests take this module away from themselves."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass

import pytest


@dataclass
class Parcel:
    """Something to send."""

    content: object


def parcel(content: object) -> object:
    """A parcel, of whatever class this process knows under that name now."""
    return importlib.import_module(__name__).Parcel(content)


def lose(patch: pytest.MonkeyPatch) -> None:
    """Make this process unable to import the class."""
    patch.setitem(sys.modules, __name__, None)
