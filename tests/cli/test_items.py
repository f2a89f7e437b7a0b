"""`put` and `get`."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import threading

import pytest

from tests.cli.shells import TIMEOUT, Result, first_line, stop
from tests.support.waiting import wait_until_sync


@pytest.fixture(scope="module")
def text() -> bytes:
    """Ten thousand lines, of all kinds that a file may have."""
    some = random.Random(0)
    kinds = [
        lambda n: b"",
        lambda n: b"line %d" % n,
        lambda n: "später\u2028oder\x85nie 🎉".encode(),
        lambda n: bytes(byte for byte in some.randbytes(30) if byte != 10),
        lambda n: b"windows\r",
        lambda n: b"\xff\xfe\x00 not UTF-8",
        lambda n: b"x" * 3000,
    ]
    return b"".join(some.choice(kinds)(number) + b"\n" for number in range(10_000))


def sha256(data: bytes) -> str:
    """What to compare, as a difference of ten thousand lines helps nobody."""
    return hashlib.sha256(data).hexdigest()


def test_file_passes_through_a_pipeline(shell, text):
    """A text file comes out of a bounded queue byte for byte, while it still goes in."""
    with shell.start("put", "small", "--sentinel") as put, shell.start("get", "small", "-f") as get:
        feeder = threading.Thread(target=put.communicate, args=(text, TIMEOUT))
        feeder.start()
        out, err = get.communicate(timeout=TIMEOUT)
        feeder.join()
    assert (put.returncode, get.returncode, err) == (0, 0, b"")
    assert sha256(out) == sha256(text)


def test_json_lines_pass(shell, text):
    """The same file as JSON lines; what is no UTF-8 is escaped, so that it is JSON for anybody."""
    shell.run("put", "jobs", "--sentinel", stdin=text)
    lines = shell.run("get", "jobs", "--follow", "--json").out
    assert all(isinstance(json.loads(line.decode()), str) for line in lines.splitlines())
    shell.run("put", "jobs", "--json", stdin=lines)
    assert sha256(shell.run("get", "jobs", "-f", "--timeout", "0").out) == sha256(text)


def test_json_documents_keep_their_types(shell):
    """What goes in as JSON is what a Python consumer sees, and comes out as JSON again."""
    documents = [{"a": [1, 2.5, None, "é"]}, [], True, 10**30, "", {"nested": {"b": False}}]
    lines = "".join(json.dumps(each) + "\n" for each in documents)
    shell.run("put", "jobs", "--json", stdin=lines.encode() + b"\n  \n")
    assert shell.items("jobs") == documents
    shell.put("jobs", *documents)
    out = shell.run("get", "jobs", "-n", "6", "--json").out
    assert [json.loads(line) for line in out.splitlines()] == documents


@pytest.mark.parametrize("end", [b"\n", b"no newline"])
def test_bytes_pass_as_they_are(shell, end):
    """With --bytes any file comes out byte for byte, whatever it ends with."""
    data = random.Random(1).randbytes(100_000) + end
    shell.run("put", "jobs", "--bytes", "--sentinel", stdin=data)
    assert sha256(shell.run("get", "jobs", "--follow").out) == sha256(data)


def test_text_gets_its_last_newline(shell):
    """A line is a line, also the last one without a newline."""
    shell.run("put", "jobs", stdin=b"one\n\ntwo")
    assert shell.items("jobs") == ["one", "", "two"]
    shell.put("jobs", "one", "", "two")
    assert shell.run("get", "jobs", "-n", "3").out == b"one\n\ntwo\n"


def test_arguments_are_items(shell):
    """Arguments go in as they are, and standard input is left alone."""
    shell.run("put", "jobs", "a b", b"\xff", "--", "-n", stdin=b"not this\n")
    assert shell.items("jobs") == ["a b", "\udcff", "-n"]


def test_bad_json_says_where(shell):
    """What stands before the line that is no JSON has been put, and the message says so."""
    error = shell.fail("put", "jobs", "--json", stdin=b'{"a": 1}\n[2]\n{oops\n4\n')
    assert "line 3" in error
    assert "2 items put before that" in error
    assert shell.items("jobs") == [{"a": 1}, [2]]


def test_full_queue_is_an_error_after_the_timeout(shell):
    """The message says how many items had room."""
    lines = b"".join(b"%d\n" % number for number in range(5000))
    assert "100 items put before" in shell.fail("put", "small", "--timeout", "0.1", stdin=lines)
    assert shell.items("small") == lines.decode().splitlines()[:100]


def test_empty_queue_is_an_error_after_the_timeout(shell):
    """Fewer items than were asked for are an error; with --follow they are an end."""
    shell.put("jobs", "one")
    result = shell.run("get", "jobs", "-n", "3", "--timeout", "0.1", code=1)
    assert result.out == b"one\n"
    assert "2 items missing" in result.err
    assert shell.run("get", "jobs", "--follow", "--timeout", "0").out == b""


def test_sentinel_ends_a_get_and_stays_out_of_it(shell):
    """What stands behind the sentinel stays in the queue, and --no-sentinel hands None out."""
    shell.put("jobs", "a", None, "b", None)
    assert shell.run("get", "jobs", "--follow").out == b"a\n"
    assert shell.run("get", "jobs", "-n", "2", "--no-sentinel", "--json").out == b'"b"\nnull\n'


def test_closed_pipe_ends_a_get_quietly(shell):
    """What was not written when the reader went is in the queue again."""
    shell.put("jobs", *["x" * 100_000] * 3)
    with shell.start("get", "jobs", "--follow") as get:
        assert get.stdout.read(10) == b"x" * 10
        get.stdout.close()
        assert get.stderr.read() == b""
    assert get.returncode == 0
    assert [len(item) for item in shell.items("jobs")] == [100_000] * 3


def test_closed_pipe_ends_a_get_that_waits(shell):
    """Nothing has to be written for that."""
    with shell.start("get", "jobs", "--follow") as get:
        wait_until_sync(
            lambda: shell.counts("jobs").waiting_getters, timeout=TIMEOUT, description="it waits"
        )
        get.stdout.close()
        assert get.stderr.read() == b""
    assert get.returncode == 0


def test_items_without_json_stay_in_the_queue(shell):
    """An item that cannot be written is not lost, nor is what came with it."""
    shell.put("jobs", b"a", b"b")
    assert "of type bytes" in shell.fail("get", "jobs", "-n", "2", "--json")
    assert shell.items("jobs") == [b"a", b"b"]


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_a_get_quietly(shell, number, code):
    """With the exit code that a shell gives it, and not a word."""
    with shell.start("get", "jobs") as get:
        wait_until_sync(
            lambda: shell.counts("jobs").waiting_getters, timeout=TIMEOUT, description="it waits"
        )
        assert stop(get, number) == Result(code, b"", "")


def test_signal_in_the_middle_of_a_get_doubles_nothing(shell):
    """Each item was written or is in the queue, never both."""
    numbers = [str(number) for number in range(3000)]
    shell.put("jobs", *numbers)
    with shell.start("get", "jobs", "--follow") as get:
        assert first_line(get) == "0\n"
        get.send_signal(signal.SIGTERM)
        written = ["0", *get.stdout.read().decode().split()]
    assert written + shell.items("jobs") == numbers


def test_ctrl_c_ends_a_put_quietly(shell):
    """Lines are put as they come; what was typed before Ctrl-C is in the queue."""
    with shell.start("put", "jobs") as put:
        put.stdin.write(b"typed\nhalf")
        put.stdin.flush()
        wait_until_sync(
            lambda: shell.counts("jobs").qsize, timeout=TIMEOUT, description="it was put"
        )
        assert stop(put, signal.SIGINT) == Result(130, b"", "")
    assert shell.items("jobs") == ["typed"]


def test_put_and_get_on_a_stock_host(alone):
    """A host that knows nothing but the standard library serves as well."""
    script = """if True:
        import queue, sys
        from multiprocessing.managers import BaseManager
        jobs = queue.Queue()
        BaseManager.register("get_task_queue", callable=lambda: jobs)
        server = BaseManager(("127.0.0.1", 0), b"abracadabra").get_server()
        print(server.address[1], flush=True)
        server.serve_forever()
    """
    alone.environ["AIOMANAGER_AUTHKEY"] = "abracadabra"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as stock:
        alone.environ["AIOMANAGER_ADDRESS"] = f"localhost:{first_line(stock).strip()}"
        lines = b"".join(b"%d\n" % number for number in range(500))
        alone.run("put", "get_task_queue", "--sentinel", stdin=lines)
        assert "501" in alone.call("stats", "get_task_queue").out.decode()
        assert alone.run("get", "get_task_queue", "--follow").out == lines
        assert "name them" in alone.call("stats", code=1).err
        alone.call("shutdown", "--host")
