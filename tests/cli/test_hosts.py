"""`serve`, `keygen`, `stats`, `shutdown` and `demo`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aiomanager import QueueStatistics
from aiomanager.cli import _standard, _tables
from aiomanager.cli._app import app
from aiomanager.cli._demo import story
from tests.cli.shells import KEY, QUEUES, ROOT, TIMEOUT, Shell, first_line, stop


# -- serve ------------------------------------------------------------
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_ends_with_a_signal(alone, socket_path, number):
    """With exit code 0, and without its socket."""
    with alone.start("serve", socket_path, "-q", "jobs", "-q", "results=10") as host:
        assert first_line(host) == f"ready: unix://{socket_path} hosts jobs, results (at most 10)\n"
        assert stop(host, number).code == 0
    assert not Path(socket_path).exists()


def test_serve_says_what_clients_need(alone):
    """A new key, where there is none: the lines are for a shell to evaluate."""
    with alone.start("serve", "localhost:0", "-q", "jobs") as host:
        first_line(host)
        assert first_line(host) == "clients need:\n"
        for _ in range(2):
            export, name_and_value = first_line(host).split()
            name, _, alone.environ[name] = name_and_value.partition("=")
            assert export == "export"
        assert alone.environ["AIOMANAGER_ADDRESS"].startswith("tcp://127.0.0.1:")
        assert alone.counts("jobs").maxsize == 0
        assert "listens" in alone.fail("serve", alone.environ["AIOMANAGER_ADDRESS"], "-q", "jobs")
        alone.call("shutdown", "--host")
        assert host.wait(TIMEOUT) == 0


def test_served_address_is_good_in_every_folder(tmp_path, scratch):
    """Whatever the path was where the host was started, and whatever is in it."""
    folder = tempfile.mkdtemp(dir=scratch)
    host_shell, alone = Shell(Path(folder)), Shell(tmp_path)
    name = "50%41 ä.sock"
    with host_shell.start("serve", name, "--json", "-q", "jobs") as host:
        described = json.loads(first_line(host))
        alone.environ["AIOMANAGER_AUTHKEY"] = described["authkey"]
        alone.environ["AIOMANAGER_ADDRESS"] = described["address"]
        assert (Path(folder) / name).is_socket()
        alone.put("jobs", "an item")
        assert alone.items("jobs") == ["an item"]
        stop(host, signal.SIGTERM)
    Path(folder).rmdir()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract names")
def test_served_abstract_name_is_one_that_clients_read(alone, socket_path):
    """It goes through environment variables and JSON, which can hold no NUL."""
    url = f"unix://%00{socket_path}"
    with alone.start("serve", url, "--json", "-q", "jobs") as host:
        described = json.loads(first_line(host))
        assert described["address"] == url
        alone.environ["AIOMANAGER_AUTHKEY"] = described["authkey"]
        alone.environ["AIOMANAGER_ADDRESS"] = url
        alone.put("jobs", "an item")
        assert alone.items("jobs") == ["an item"]
        stop(host, signal.SIGTERM)


def test_serve_goes_on_where_nobody_reads_what_it_says(alone, socket_path):
    """A full disk under its log is no reason to end."""
    alone.environ |= {"AIOMANAGER_AUTHKEY": KEY, "AIOMANAGER_ADDRESS": socket_path}
    with Path("/dev/full").open("wb") as full, alone.start("serve", "-q", "jobs", out=full) as host:
        alone.run("put", "jobs", "an item", "--wait", str(TIMEOUT))
        assert alone.items("jobs") == ["an item"]
        assert "No space left" in stop(host, signal.SIGTERM).err


@pytest.mark.parametrize("command", ["keygen", "stats"])
@pytest.mark.parametrize("out", ["full", "closed"])
def test_output_that_goes_nowhere_is_an_error(shell, command, out):
    """A key that nobody has seen is worse than none."""
    redirection = {"full": ">/dev/full", "closed": ">&-"}[out]
    result = subprocess.run(
        ["/bin/sh", "-c", f'"$0" -m aiomanager {command} {redirection}', sys.executable],
        check=False,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | ROOT | shell.environ,
        timeout=TIMEOUT,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_serve_takes_the_key_from_a_file(alone, tmp_path):
    """Which keygen has written, for its owner alone, and does not write again."""
    key = str(tmp_path / "key")
    alone.call("keygen", key)
    assert Path(key).stat().st_mode & 0o777 == 0o600
    with alone.start("serve", "--json", "-q", "jobs", "--authkey-file", key) as host:
        described = json.loads(first_line(host))
        assert described.keys() == {"address", "queues", "pid"}
        assert described["pid"] == host.pid
        alone.environ["AIOMANAGER_ADDRESS"] = described["address"]
        alone.run("put", "jobs", "item", "--authkey-file", key)
        assert "is there already" in alone.call("keygen", key, code=1).err
        assert alone.run("get", "jobs", "--authkey-file", key).out == b"item\n"
        stop(host, signal.SIGTERM)


def test_keygen_makes_a_new_key_each_time(alone):
    """Of 256 bits, in characters that a shell leaves alone."""
    keys = {alone.call("keygen").out.decode().strip() for _ in range(2)}
    assert len(keys) == 2
    assert all(len(key) == 43 and key.replace("-", "").replace("_", "").isalnum() for key in keys)


# -- stats and shutdown ------------------------------------------------------------
def test_stats_are_a_table(shell):
    """A row for each queue, of all unless some are named."""
    shell.put("small", "a", "b")
    rows = shell.call("stats").out.decode().splitlines()
    assert [row.split()[0] for row in rows] == ["queue", *sorted(QUEUES)]
    assert rows[-1].split()[:3] == ["small", "2", "100"]
    assert len(shell.items("small")) == 2
    assert len(shell.call("stats", "jobs").out.splitlines()) == 2


LONG = "a_queue_whose_name_is_as_long_as_names_of_services_and_regions_make_it"


@pytest.mark.parametrize("columns", [60, 100, 200])
@pytest.mark.parametrize("names", [["jobs"], [LONG[:40]], ["jobs", LONG]], ids=len)
def test_stats_never_cut_a_name(capsys, monkeypatch, columns, names):
    """Where a terminal is too narrow for the table, a queue's counts stand below its name."""
    monkeypatch.setattr(_standard, "is_terminal", lambda _: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    counts = {name: QueueStatistics(qsize=1234, puts=98765432, is_shutdown=True) for name in names}
    with _tables.shown(as_json=False, live=False) as show:
        show(counts)
    shown = capsys.readouterr().out
    lines = [line.rstrip() for line in shown.splitlines()]
    for name in names:
        (line,) = [line for line in lines if line.startswith(name)]
        assert line.startswith(f"{name} shut down")
    for title in ("waiting", "maxsize", "putters"):
        assert title in shown
    assert shown.count("1,234") == shown.count("98,765,432") == len(names)
    assert all(len(line) <= columns for line in lines if LONG not in line)


def test_stats_in_a_narrow_terminal(alone):
    """The same from outside, once and as --watch shows it."""
    alone.environ |= {"AIOMANAGER_AUTHKEY": KEY, "COLUMNS": "60", "TERM": "xterm"}
    with alone.start("serve", "--json", "-q", LONG) as host:
        alone.environ["AIOMANAGER_ADDRESS"] = json.loads(first_line(host))["address"]
        for options in ([], ["--watch", "--interval", "0.05"]):
            ours, theirs = os.openpty()
            with os.fdopen(theirs, "wb") as out, alone.start("stats", *options, out=out) as stats:
                shown = b""
                while b"putters" not in shown:
                    shown += os.read(ours, 4096)
                if options:
                    stop(stats, signal.SIGINT)
                else:
                    assert stats.wait(TIMEOUT) == 0
            os.close(ours)
            assert LONG in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|[\r\n]", "", shown.decode())
        stop(host, signal.SIGTERM)


def test_stats_watch_goes_on_until_ctrl_c(shell):
    """Quietly, and until then a line for each look."""
    with shell.start("stats", "jobs", "--watch", "--json", "--interval", "0.05") as stats:
        looks = [json.loads(first_line(stats)) for _ in range(3)]
        result = stop(stats, signal.SIGINT)
    assert [look["queue"] for look in looks] == ["jobs"] * 3
    assert (result.code, result.err) == (130, "")


def test_shutdown_ends_consumers_and_producers(alone):
    """In every process, when what is in the queue is done."""
    alone.environ["AIOMANAGER_AUTHKEY"] = KEY
    with alone.start("serve", "--json", "-q", "jobs") as host:
        alone.environ["AIOMANAGER_ADDRESS"] = json.loads(first_line(host))["address"]
        alone.put("jobs", "item")
        alone.run("shutdown", "jobs")
        assert alone.counts("jobs").is_shutdown
        assert "'jobs' was shut down" in alone.fail("put", "jobs", "item")
        assert alone.run("get", "jobs", "--follow").out == b"item\n"
        assert "'jobs' was shut down" in alone.fail("get", "jobs")
        alone.call("shutdown", "--host")
        assert host.wait(TIMEOUT) == 0


# -- demo ------------------------------------------------------------
def test_demo_counts_the_items_over_both_transports(alone):
    """Four processes, the tree of them, and the count of the first article."""
    out = alone.run("demo").out.decode()
    assert out.count("done producing") == 2
    assert out.count("done consuming 10000\n") == 2
    for role in ("demo", "host", "consumer", "producer", "terminator"):
        assert out.count(f"{role}") >= 2
    assert "unix://" in out
    assert "tcp://127.0.0.1:" in out


def test_demo_fails_where_items_are_missing(monkeypatch):
    """The exit code is for scripts."""

    async def tell(told: story.Story) -> story.Outcome:
        return story.Outcome("tcp", consumed=9_999, seconds=1.0)

    monkeypatch.setattr(story.Story, "tell", tell)
    assert CliRunner().invoke(app, ["demo", "--transport", "tcp"]).exit_code == 1
