"""Each target on a few hundred inputs; `python -m tests.fuzz` takes a million."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomanager._wire.framing import pack
from tests.fuzz.source import Source
from tests.fuzz.targets import TARGETS, Target

# What a peer of either side says, and its beginnings: what is not random gets further.
SAID = [
    b"", b"#CHALLENGE#", b"#CHALLENGE#" + b"x" * 20, b"#CHALLENGE#{sha256}" + b"x" * 40,
    b"#CHALLENGE#{md5}x", b"#CHALLENGE#{sha1}x", b"{sha256}" + b"x" * 32, b"{md5}" + b"x" * 16,
    b"x" * 16, b"{", b"{}", b"#WELCOME#", b"#FAILURE#", b"x" * 256, b"x" * 257,
]  # fmt: skip
FRAMED = [b"".join(pack([message])) for message in SAID] + [
    b"\xff\xff\xff\xff" + bytes([0] * 7 + [5]) + b"large", b"\xff\xff\xff\xfe", b"\x7f\xff\xff\xff",
]  # fmt: skip
LISTED = [bytes([min(255, len(message))]) + message for message in SAID]

streams = st.binary(max_size=300) | st.lists(
    st.sampled_from(FRAMED + LISTED) | st.binary(max_size=8), max_size=6
).map(b"".join)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_any_bytes(target: Target):
    """What must hold of any bytes holds of these."""

    @settings(max_examples=150)
    @given(st.binary(max_size=9), streams)
    def holds(head: bytes, stream: bytes) -> None:
        target(head + stream)

    holds()


def test_a_million_by_one_command():
    """The command says of each target how much it executed, how fast, and what memory it took."""
    command = [sys.executable, "-m", "tests.fuzz", "--executions", "1000", "--engine", "random"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    row = re.compile(r"^\| (\w+) \| 167 \| no failure \| [\d,]+ \| \d+ \| .*\|$", re.MULTILINE)
    assert row.findall(run.stdout) == list(TARGETS)


def test_a_target_that_fails_is_reported():
    """The harness itself: what does not hold is not passed over."""
    program = (
        "from tests.fuzz import __main__, targets\n"
        "def broken(data):\n"
        "    assert len(data) < 100\n"
        "targets.TARGETS['broken'] = broken\n"
        "__main__.fuzz('broken', 'random', 1000, 1)\n"
    )
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert run.returncode == 1
    assert "AssertionError" in run.stderr


def test_a_source_that_is_empty_says_zero():
    """Every input is a whole one."""
    source = Source(b"")
    assert (source.number(10), source.choice("ab"), source.take(5), bool(source)) == (
        0, "a", b"", False,
    )  # fmt: skip
    assert source.pieces(b"abc") == [b"abc"]
