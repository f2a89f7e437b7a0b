"""What holds bytes: of a message, or of an item."""

from __future__ import annotations

Buffer = bytes | bytearray | memoryview
