"""`consume`."""

from __future__ import annotations

import json
import signal
import sys

import pytest

from tests.cli.shells import TIMEOUT, Result, Shell, first_line, stop
from tests.support.waiting import wait_until_sync

PYTHON = f"'{sys.executable}' -c"


def test_consume_runs_a_command_for_each_item(shell):
    """The item is the command's argument and its standard input, and never a shell's."""
    shell.put("jobs", "one", "two words", "$HOME; 'quoted'", None)
    code = "import sys; print(sys.argv[1:], repr(sys.stdin.read()))"
    result = shell.run("consume", "jobs", "--exec", f'{PYTHON} "{code}" <{{}}> {{}}')
    expected = [
        f"{[f'<{item}>', item]} {item + chr(10)!r}"
        for item in ("one", "two words", "$HOME; 'quoted'")
    ]
    assert result.out.decode().splitlines() == expected


def test_consume_runs_several_at_a_time(shell, tmp_path):
    """Each of two commands waits for the other."""
    shell.put("jobs", "a", "b", None)
    command = f"sh -c 'cd {tmp_path}; touch $0; until [ -e a -a -e b ]; do sleep 0.01; done' {{}}"
    shell.run("consume", "jobs", "-j", "2", "--exec", command)


def test_failed_item_stays_and_ends_a_consume(shell):
    """Nothing is lost unless the user says so."""
    shell.put("jobs", "bad", "good")
    error = shell.fail("consume", "jobs", "--exec", "sh -c 'test {} = good'")
    assert "'test bad = good': exit code 1; the item is in the queue again" in error
    assert shell.items("jobs") == ["bad", "good"]


def test_failed_item_goes_to_the_dead_letter_queue(shell):
    """After its retries; and from there `get` brings it back."""
    shell.put("jobs", "bad", "good", None)
    command = ("--exec", "sh -c 'exec test {} = good'", "--retries", "1", "--backoff", "0.05")
    result = shell.run("consume", "jobs", *command, "--dead-letter", "failed", code=1)
    assert result.err.count("exit code 1") == 2
    assert "attempt 1 of 2" in result.err
    [letter] = shell.items("failed")
    shell.put("failed", letter, letter)
    assert json.loads(shell.run("get", "failed", "--json").out) == {
        "item": "bad",
        "reason": "CommandFailed: exit code 1",
        "attempts": 2,
        "queue": "jobs",
    }
    # As text it is the item itself, so that it can be put again.
    assert shell.run("get", "failed").out == b"bad\n"


def test_failed_items_are_dropped_where_the_user_says_so(shell):
    """With --keep-going, and the exit code says that there were some."""
    shell.put("jobs", "bad", "worse", None)
    result = shell.run("consume", "jobs", "--exec", "sh -c 'kill $$'", "--keep-going", code=1)
    assert result.err.count("killed by SIGTERM") == 2
    assert result.err.endswith("error: 2 failed for good, dropped\n")


def test_command_need_not_read_its_input(shell):
    """However long that is."""
    shell.put("jobs", b"x" * 3_000_000, None)
    shell.run("consume", "jobs", "--exec", "true")


def test_missing_command_is_no_fault_of_the_items(shell):
    """It is found before the first is received."""
    shell.put("jobs", "item")
    result = shell.run("consume", "jobs", "--exec", "no-such-command {}", "-k", code=2)
    assert "no-such-command" in result.err
    assert shell.items("jobs") == ["item"]


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_signal_lets_commands_end(shell, tmp_path, number, code):
    """The running command ends in peace, its item is done, and nothing else is begun."""
    shell.put("jobs", "now")
    command = f"sh -c 'cd {tmp_path}; echo runs; until [ -e go ]; do sleep 0.01; done; echo ends'"
    with shell.start("consume", "jobs", "-j", "2", "--exec", command) as consume:
        assert first_line(consume) == "runs\n"
        consume.send_signal(number)
        wait_until_sync(lambda: receives_nothing(shell), timeout=TIMEOUT, description="it drains")
        shell.put("jobs", "later")
        (tmp_path / "go").touch()
        out, err = consume.communicate(timeout=TIMEOUT)
    assert (consume.returncode, out, err) == (code, b"ends\n", b"")
    assert shell.items("jobs") == ["later"]


def test_second_signal_kills_commands(shell):
    """With all that they started, and their items are handed out again."""
    shell.put("jobs", "item")
    command = "sh -c 'echo runs; sleep 100; echo ends'"
    with shell.start("consume", "jobs", "-j", "2", "--retries", "9", "-x", command) as consume:
        assert first_line(consume) == "runs\n"
        consume.send_signal(signal.SIGINT)
        wait_until_sync(lambda: receives_nothing(shell), timeout=TIMEOUT, description="it drains")
        assert stop(consume, signal.SIGINT) == Result(130, b"", "")
    assert shell.items("jobs") == ["item"]


def receives_nothing(shell: Shell) -> bool:
    """Whether the consumer has seen the first signal."""
    return shell.counts("jobs").waiting_getters == 0
