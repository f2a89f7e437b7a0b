"""Seals: what was changed on its way, or comes at another place than its own, is refused."""

from __future__ import annotations

import random

import pytest

from aiomanager._wire.framing import BULK_SIZE, MessageReader, pack
from aiomanager._wire.seals import TAG_SIZE, MessageForged, Seal

pytestmark = pytest.mark.every_python

KEY = b"the key of one direction"


def sealed(messages: list[bytes], key: bytes = KEY) -> list[bytes]:
    """Messages as they are written."""
    seal = Seal(key)
    return [b"".join(pack([message], seal)) for message in messages]


def opened(*written: bytes) -> list[bytes]:
    """What comes out of a stream."""
    reader = MessageReader()
    reader.seal = Seal(KEY)
    messages = []
    for piece in written:
        reader.feed(piece)
        while (message := reader.next()) is not None:
            messages.append(bytes(message))
    return messages


@pytest.mark.parametrize("size", [0, 1, 100, BULK_SIZE - TAG_SIZE, BULK_SIZE, 5 * 1024**2])
def test_what_was_sealed_comes_out(size: int):
    """Of any size, in parts or not, one after the other."""
    messages = [random.Random(size).randbytes(size), b"", b"word"]
    assert opened(*sealed(messages)) == messages
    halves = [messages[0][: size // 2], messages[0][size // 2 :]]
    assert opened(b"".join(pack(halves, Seal(KEY)))) == [messages[0]]


def test_a_hundred_thousand_that_were_tampered_with():
    """A bit that was flipped, in the message or in its tag; a message that comes again, too soon,
    in the place of another or with its end cut off: nothing of it comes out."""
    rng = random.Random(1)
    messages = [rng.randbytes(rng.randrange(60)) for _ in range(8)]
    written = sealed(messages)
    refused = 0
    for _ in range(100_000):
        at = rng.randrange(len(written) - 1)
        before, frame, after = written[:at], written[at], written[at + 1]
        match rng.randrange(4):
            case 0:
                flipped = bytearray(frame)
                flipped[rng.randrange(4, len(frame))] ^= 1 << rng.randrange(8)
                stream = [*before, bytes(flipped)]
            case 1:
                stream = [*before, frame, frame]
                before = [*before, frame]
            case 2:
                stream = [*before, after, frame]
            case _:
                kept = frame[4 : rng.randrange(4, len(frame))]
                stream = [*before, len(kept).to_bytes(4, "big") + kept]
        reader = MessageReader()
        reader.seal = Seal(KEY)
        reader.feed(b"".join(before))
        for message in messages[: len(before)]:
            assert reader.next() == message
        reader.feed(b"".join(stream[len(before) :]))
        try:
            reader.next()
        except MessageForged:
            refused += 1
    assert refused == 100_000


def test_what_comes_back_is_refused():
    """Each direction has a key of its own."""
    with pytest.raises(MessageForged):
        opened(*sealed([b"word"], b"the key of the other"))


def test_a_message_that_is_let_pass_is_looked_at():
    """For one that there is no memory for, its tag is looked at as it passes by."""
    large = b"x" * (BULK_SIZE * 2)
    (written, word) = sealed([large, b"word"])
    for damage in (None, 1000, len(written) - 1):
        stream = bytearray(written)
        if damage is not None:
            stream[damage] ^= 1
        heads: list[bytes] = []
        reader = MessageReader(shed=heads.append)
        reader.seal = Seal(KEY)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("aiomanager._wire.framing._space", _none)
            if damage is None:
                for start in range(0, len(stream), 999):
                    reader.feed(bytes(stream[start : start + 999]))
                    assert reader.next() is None
                reader.feed(word)
                assert reader.next() == b"word"
                assert heads == [large[:64]]
            else:
                with pytest.raises(MessageForged):
                    reader.feed(bytes(stream))
                    reader.next()
                assert heads == []


def _none(size: int) -> bytearray:
    raise MemoryError
