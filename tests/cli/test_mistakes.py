"""Errors and options."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import aiomanager
from aiomanager.cli import _consume, _serve
from aiomanager.cli._app import app
from tests.cli.shells import KEY, ROOT, TIMEOUT, Shell, first_line, stop

COMMANDS = [["put"], ["get"], ["stats"], ["shutdown"], ["consume", "--exec", "cat"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_unregistered_queue_is_a_clear_error(shell, command):
    """For each command that names one."""
    error = shell.call(*command, "nope", code=1).err
    assert "registered" in error
    assert error.count("\n") == 1


def test_unregistered_dead_letter_queue_is_found_before_a_failure(shell):
    """Not when the first item has failed."""
    shell.put("jobs", "an item")
    error = shell.call("consume", "jobs", "--exec", "false", "--dead-letter", "nope", code=1).err
    assert "'nope'" in error
    assert shell.items("jobs") == ["an item"]
    error = shell.call("consume", "jobs", "--exec", "false", "--dead-letter", "jobs", code=1).err
    assert "--dead-letter is the queue itself" in error


def test_wrong_key_is_a_clear_error(shell):
    """And says how to give the right one on a command line."""
    wrong = Shell(shell.folder, shell.environ | {"AIOMANAGER_AUTHKEY": "wrong"})
    error = wrong.call("stats", code=1).err
    assert "another authkey" in error
    assert "--authkey-file" in error


@pytest.mark.parametrize("address", ["nowhere.sock", "localhost:1", "unix:///nowhere/at/all"])
def test_no_host_is_a_clear_error(alone, address):
    """And says how to wait for one, in the words of the command line."""
    alone.environ["AIOMANAGER_AUTHKEY"] = KEY
    error = alone.call("stats", "-a", address, code=1).err
    assert "no host at" in error
    assert "--wait 10" in error


def test_wait_is_for_a_host_that_still_starts(alone, socket_path):
    """The client may come first."""
    alone.environ |= {"AIOMANAGER_AUTHKEY": KEY, "AIOMANAGER_ADDRESS": socket_path}
    with (
        alone.start("get", "jobs", "--wait", str(TIMEOUT)) as get,
        alone.start("serve", "-q", "jobs") as host,
    ):
        alone.run("put", "jobs", "item", "--wait", str(TIMEOUT))
        assert first_line(get) == "item\n"
        get.wait(TIMEOUT)
        stop(host, signal.SIGTERM)


MISTAKES = {
    "no address": (["stats"], 2, "AIOMANAGER_ADDRESS"),
    "no key": (["stats", "-a", "x.sock"], 1, "AIOMANAGER_AUTHKEY"),
    "no address at all": (["stats", "-a", "ftp://x"], 1, "'ftp://x' is no address"),
    "memory": (["put", "jobs", "-a", "memory://"], 1, "inside one process"),
    "no queue to host": (["serve"], 2, "--queue"),
    "no size": (["serve", "-q", "jobs=many"], 2, "jobs=1000"),
    "no name": (["serve", "-q", "my\njobs"], 1, "cannot name a queue"),
    "nothing to listen on": (["serve", "memory://", "-q", "jobs"], 1, "inside one process"),
    "a queue twice": (["serve", "-q", "jobs=1", "-q", "jobs=2"], 2, "'jobs' is there twice"),
    "no time at all": (["serve", "-q", "jobs", "--lease-timeout", "0"], 1, "--lease-timeout is 0"),
    "no port": (["serve", "localhost:http", "-q", "jobs"], 1, "the number of a port"),
    "too high a port": (["stats", "-a", "localhost:70000"], 1, "has no port from 1 to 65535"),
    "an address of Python's": (
        ["stats", "-a", "tcp://x/y"],
        1,
        "host:port, a path, tcp://host:port, or unix:///path",
    ),
    "an empty key": (["stats", "-a", "x.sock"], 1, "$AIOMANAGER_AUTHKEY is empty"),
    "two ends for failures": (
        ["consume", "jobs", "-a", "x.sock", "-x", "cat", "-k", "--dead-letter", "failed"],
        2,
        "exclude",
    ),
    "nothing to shut down": (["shutdown", "-a", "x.sock"], 2, "name queues"),
    "no command": (["consume", "jobs", "-a", "x.sock"], 2, "--exec"),
    "half a quotation": (["consume", "jobs", "-a", "x.sock", "-x", "echo '"], 2, "quotation"),
    "two forms": (["put", "jobs", "-a", "x.sock", "--json", "--bytes"], 2, "exclude"),
}


@pytest.mark.parametrize("arguments, code, message", MISTAKES.values(), ids=MISTAKES)
def test_mistake_is_explained(monkeypatch, arguments, code, message):
    """Exit code 2 for what the command line itself shows to be wrong, else 1."""
    monkeypatch.delenv("AIOMANAGER_ADDRESS", raising=False)
    if "AUTHKEY" not in message:
        monkeypatch.setenv("AIOMANAGER_AUTHKEY", KEY)
    elif "empty" in message:
        monkeypatch.setenv("AIOMANAGER_AUTHKEY", "")
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr


def test_options_have_the_defaults_of_the_functions():
    """Whoever moves from a script to the command line meets no surprise, and the other way."""
    for function, command, names in (
        (aiomanager.connect, _consume.consume, ["wait", "reconnect", "transport"]),
        (
            aiomanager.consume,
            _consume.consume,
            ["concurrency", "retries", "backoff", "dead_letter", "drain_timeout"],
        ),
        (
            aiomanager.QueueManager,
            _serve.serve,
            ["address", "lease_timeout", "handshake_timeout", "allow_short_key"],
        ),
    ):
        ours = inspect.signature(command).parameters
        theirs = inspect.signature(function).parameters
        for name in names:
            assert ours[name].default == theirs[name].default, name


def test_help_has_every_command():
    """And no command is without a help of its own."""
    commands = ["demo", "serve", "put", "get", "consume", "stats", "shutdown", "keygen"]
    out = CliRunner().invoke(app, ["--help"]).stdout
    assert all(f" {command} " in out for command in commands)
    for command in commands:
        result = CliRunner().invoke(app, [command, "-h"])
        assert result.exit_code == 0
        assert "Usage" in result.stdout


@pytest.mark.every_python
@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_missing_extra_is_named(missing):
    """One line that says what to install."""
    code = f"import sys; sys.modules[{missing!r}] = None; import aiomanager.cli as c; c.main()"
    environ = os.environ | ROOT
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, check=False, capture_output=True, text=True, env=environ)
    assert run.returncode == 1
    assert run.stderr == (
        f"aiomanager: the command line needs {missing}, which is not installed: "
        "pip install 'aiomanager[cli]'\n"
    )
