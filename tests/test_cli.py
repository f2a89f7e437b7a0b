"""The command line from outside: each test starts `python -m aiomanager`, as a shell does."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

import anyio
import pytest
from typer.testing import CliRunner

import aiomanager
from aiomanager import AsyncManager, QueueStatistics
from aiomanager.cli import _consume, _serve, _story
from aiomanager.cli._app import app
from tests.waiting import wait_until_sync

T = TypeVar("T")

TIMEOUT = 30.0
KEY = "a key that only this test knows"


@dataclass
class Shell:
    """Runs commands with an environment of its own."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def start(
        self, *arguments: str | bytes, out: int | IO[bytes] = subprocess.PIPE
    ) -> subprocess.Popen[bytes]:
        """Start a command, with pipes to it and from it."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith("AIOMANAGER_A")}
        return subprocess.Popen(
            [sys.executable, "-m", "aiomanager", *arguments],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=environ | ROOT | self.environ,
        )

    def run(self, *arguments: str | bytes, stdin: bytes = b"", code: int = 0) -> Result:
        """Run a command to its end, which must be the exit code."""
        with self.start(*arguments) as process:
            out, err = process.communicate(stdin, TIMEOUT)
        result = Result(process.returncode, out, err.decode())
        assert result.code == code, result
        assert "Traceback" not in result.err
        return result

    def fail(self, *arguments: str | bytes, stdin: bytes = b"") -> str:
        """Run a command that ends with an error, and return its one line."""
        result = self.run(*arguments, stdin=stdin, code=1)
        assert result.err.count("\n") == 1, result.err
        assert result.err.startswith("error: ")
        return result.err

    def call(self, *arguments: str, code: int = 0) -> Result:
        """Run a command in this process, which is quicker: for those that leave the descriptors of
        standard input and output alone."""
        environ = self.environ | {"COLUMNS": "200"}
        result = CliRunner().invoke(app, arguments, env=environ, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return Result(code, result.stdout_bytes, result.stderr)

    # What a test needs beside the command that it is about goes without one.

    def put(self, queue: str, *items: Any) -> None:
        """Put items."""
        self._ask(lambda manager: manager.queue(queue).put_many(items))

    def items(self, queue: str) -> list[Any]:
        """Empty a queue."""

        async def get_all(manager: AsyncManager) -> list[Any]:
            jobs = manager.queue(queue)
            items: list[Any] = []
            while count := await jobs.qsize():
                items += await jobs.get_many(count)
            return items

        return self._ask(get_all)

    def counts(self, queue: str) -> QueueStatistics:
        """What the host counts."""
        return self._ask(lambda manager: manager.queue(queue).statistics())

    def _ask(self, question: Callable[[AsyncManager], Awaitable[T]]) -> T:
        async def ask() -> T:
            address, key = (self.environ[f"AIOMANAGER_{name}"] for name in ("ADDRESS", "AUTHKEY"))
            async with aiomanager.connect(address, key) as manager:
                return await question(manager)

        return anyio.run(ask)


# The package may not be installed.
ROOT = {"PYTHONPATH": str(Path(aiomanager.__file__).parent.parent), "COLUMNS": "200"}


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: bytes
    err: str


def first_line(process: subprocess.Popen[bytes]) -> str:
    """The first line on standard output."""
    assert process.stdout is not None
    return process.stdout.readline().decode()


def stop(process: subprocess.Popen[bytes], number: int) -> Result:
    """Send a signal, and see how the process ends."""
    process.send_signal(number)
    out, err = process.communicate(timeout=TIMEOUT)
    return Result(process.returncode, out, err.decode())


QUEUES = {"jobs": 0, "small": 100, "failed": 0}


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


# -- put and get ------------------------------------------------------------------------------


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


# -- consume ----------------------------------------------------------------------------------

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


# -- serve ------------------------------------------------------------------------------------


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


# -- stats and shutdown -----------------------------------------------------------------------


def test_stats_are_a_table(shell):
    """A row for each queue, of all unless some are named."""
    shell.put("small", "a", "b")
    rows = shell.call("stats").out.decode().splitlines()
    assert [row.split()[0] for row in rows] == ["queue", *sorted(QUEUES)]
    assert rows[-1].split()[:3] == ["small", "2", "100"]
    assert len(shell.items("small")) == 2
    assert len(shell.call("stats", "jobs").out.splitlines()) == 2


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


# -- demo -------------------------------------------------------------------------------------


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

    async def tell(story: _story.Story) -> _story.Outcome:
        return _story.Outcome("tcp", consumed=9_999, seconds=1.0)

    monkeypatch.setattr(_story.Story, "tell", tell)
    assert CliRunner().invoke(app, ["demo", "--transport", "tcp"]).exit_code == 1


# -- errors and options -----------------------------------------------------------------------


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
    "no name": (["serve", "-q", "my-jobs"], 1, "identifier"),
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
        (aiomanager.connect, _consume.consume, ["wait", "reconnect", "lane"]),
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
