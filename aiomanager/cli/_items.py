"""Items as lines of text, as JSON and as bytes.

Text is UTF-8. Bytes that are not travel inside the string (`surrogateescape`) and come out as they
went in. A line ends at a newline and at nothing else, and its item is the line without it; output
adds one newline to each item. Where the last newline of a file may be missing, or a file is not
made of lines, bytes keep everything: `bytes` items hold their newline, and are written as they are.
"""

from __future__ import annotations

import json
import os
from enum import Enum
from typing import Any

from aiomanager import DeadLetter

from ._running import CommandError


class Form(Enum):
    """What an item is on standard input and output."""

    TEXT = "text"
    JSON = "json"
    BYTES = "bytes"


class Lines:
    """Cuts input into lines; `feed` returns those that are complete, without their newline."""

    def __init__(self) -> None:
        self._unfinished = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read, and return the lines that it completes."""
        head, newline, rest = data.rpartition(b"\n")
        if not newline:
            self._unfinished += data
            return []
        lines = bytes(self._unfinished + head).split(b"\n")
        self._unfinished = bytearray(rest)
        return lines

    @property
    def rest(self) -> bytes:
        """What stands after the last newline."""
        return bytes(self._unfinished)


def parse(line: bytes, form: Form) -> Any:
    """The item that a line, without its newline, stands for.

    Raises `CommandError` where the line is no JSON.
    """
    if form is Form.BYTES:
        return line
    text = line.decode("utf-8", "surrogateescape")
    if form is Form.TEXT:
        return text
    try:
        return json.loads(text)
    except ValueError as exc:
        raise CommandError(f"{_shortened(repr(text))} is not JSON: {exc}") from exc


def render(item: Any, form: Form) -> bytes:
    """An item as output has it, with its newline.

    Raises `CommandError` where JSON has no form for the item.
    """
    if form is Form.JSON:
        return _json(item) + b"\n"
    if isinstance(item, DeadLetter):
        letter: DeadLetter[Any] = item
        item = letter.item  # so that what was given up can be put again
    if isinstance(item, (bytes, bytearray)):
        return bytes(item)
    return str(item).encode("utf-8", "surrogateescape") + b"\n"


def argument(item: Any, form: Form) -> str:
    """An item as a command's argument."""
    return os.fsdecode(render(item, form).removesuffix(b"\n"))


def _json(item: Any) -> bytes:
    try:
        try:
            return json.dumps(item, ensure_ascii=False, default=_plain).encode()
        except UnicodeEncodeError:
            # What was no UTF-8 is no JSON either, unless escaped.
            return json.dumps(item, default=_plain).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise CommandError(f"an item has no form in JSON: {exc}") from exc


def _plain(value: object) -> object:
    if isinstance(value, DeadLetter):
        letter: DeadLetter[Any] = value
        return {
            "item": letter.item,
            "reason": letter.reason,
            "attempts": letter.attempts,
            "queue": letter.queue,
        }
    raise TypeError(f"{_shortened(repr(value))} is of type {type(value).__qualname__}")


def _shortened(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 40 else f"{text[:39]}…"
