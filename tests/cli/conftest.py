"""The command line from outside: each test starts `python -m aiomanager`, as a shell does."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.shells import KEY, QUEUES, Shell, first_line, stop


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, scratch: Path) -> Iterator[Shell]:
    """A shell beside a host."""
    shell = Shell(tmp_path_factory.mktemp("cli"), {"AIOMANAGER_AUTHKEY": KEY})
    options = [word for name, size in QUEUES.items() for word in ("--queue", f"{name}={size}")]
    with shell.start("serve", "--json", *options) as host:
        shell.environ["AIOMANAGER_ADDRESS"] = json.loads(first_line(host))["address"]
        yield shell
        assert stop(host, signal.SIGTERM).code == 0


@pytest.fixture
def shell(served: Shell) -> Iterator[Shell]:
    """The shell, and queues that were empty before and after."""
    yield served
    left = {name: served.items(name) for name in QUEUES}
    assert not any(left.values()), left


@pytest.fixture
def alone(tmp_path: Path, scratch: Path) -> Shell:
    """A shell without a host."""
    return Shell(tmp_path)
