"""Each example runs as it stands, and says what its header promises.

web/test_example.py has those with a web server.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from pathlib import Path

import pytest

from tests.support.programs import EXAMPLES, Program

KEY = "a key of the tests, long enough"
NAMES = sorted(path.name for path in EXAMPLES.glob("*.py"))
TESTED_HERE = {
    "quickstart.py",
    "pipeline.py",
    "server.py",
    "producer.py",
    "consumer.py",
    "blocking_producer.py",
    "blocking_consumer.py",
    "blocking_server.py",
}
TESTED_THERE = {"web_app.py", "web_worker.py"}


@pytest.mark.every_python
def test_every_example_has_a_test():
    """A new one without a test fails here."""
    assert set(NAMES) == TESTED_HERE | TESTED_THERE


@pytest.mark.every_python
@pytest.mark.parametrize("name", NAMES)
def test_header(name):
    """The docstring says what it shows, what it needs, how to run it and what to expect."""
    docstring = ast.get_docstring(ast.parse((EXAMPLES / name).read_text(encoding="utf-8")))
    assert docstring is not None
    headings = re.findall(r"^(\w+): +\S", docstring, re.MULTILINE)
    assert headings == ["Shows", "Needs", "Run", "Expect"]
    assert f"python {name}" in docstring


@pytest.mark.every_python
@pytest.mark.parametrize("name", sorted(name for name in NAMES if name.startswith("blocking_")))
def test_blocking_examples_need_nothing(name):
    """They import the standard library alone."""
    tree = ast.parse((EXAMPLES / name).read_text(encoding="utf-8"))
    modules = {
        (node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert {module.partition(".")[0] for module in modules} <= sys.stdlib_module_names


@pytest.mark.every_python
def test_quickstart(tmp_path):
    """Five jobs in order, then their end."""
    with Program(EXAMPLES / "quickstart.py", cwd=tmp_path) as program:
        assert program.end() == 0, program.text
    assert program.output == [
        *(f"job {number}: {number * number}" for number in range(5)),
        "all jobs are done",
    ]


@pytest.mark.every_python
@pytest.mark.parametrize(
    "serving, producer, consumer",
    [
        ("server.py", "producer.py", "consumer.py"),
        ("server.py", "producer.py", "blocking_consumer.py"),
        ("server.py", "blocking_producer.py", "blocking_consumer.py"),
        ("blocking_server.py", "producer.py", "consumer.py"),
    ],
)
def test_server_producer_consumer(serving, producer, consumer, tmp_path):
    """The programs of the article, each side in asyncio or with BaseManager alone: all tasks
    arrive in order, and Ctrl-C ends the server."""
    env = {**os.environ, "AIOMANAGER_AUTHKEY": KEY}
    with Program(EXAMPLES / serving, "0", cwd=tmp_path, env=env) as server:
        port = server.wait_for(r"Server started on tcp://127\.0\.0\.1:(\d+)\. Waiting")[1]
        with Program(EXAMPLES / producer, port, cwd=tmp_path, env=env) as putting:
            assert putting.end() == 0, putting.text
        # Not beside the producer: one that took long to start would find a consumer that has gone.
        with Program(EXAMPLES / consumer, port, cwd=tmp_path, env=env) as getting:
            assert getting.end() == 0, getting.text
        assert server.interrupt() == 0, server.text
    assert putting.output == [
        "Producer: Connecting to server...",
        "Producer: Connected.",
        *(f"Producer: Putting task {number} into the queue." for number in range(10)),
        "Producer: All tasks sent. Shutting down.",
    ]
    assert getting.output == [
        "Consumer: Connecting to server...",
        "Consumer: Connected.",
        *(f"Consumer: Got Task {number}. Processing..." for number in range(10)),
        "Consumer: Queue is empty. Shutting down.",
    ]
    assert server.output[1:] == ["Server shutting down."]


@pytest.mark.every_python
def test_pipeline(tmp_path):
    """The right counts of real files, in any order, and a file that cannot be read given up."""
    files = [tmp_path / f"{number}.txt" for number in range(20)]
    for number, path in enumerate(files):
        path.write_text("word " * number, encoding="utf-8")
    missing = tmp_path / "missing.txt"
    arguments = [*map(str, files), str(missing)]
    with Program(EXAMPLES / "pipeline.py", *arguments, cwd=tmp_path) as program:
        assert program.end() == 0, program.text
    *counts, given_up = program.output
    assert sorted(counts) == sorted(
        f"{number:6} words in {path.name}" for number, path in enumerate(files)
    )
    assert given_up.startswith(f"gave up {missing} after 3 attempts: FileNotFoundError: ")


@pytest.mark.every_python
def test_pipeline_without_arguments(tmp_path):
    """What the header says: Python's json package, and a file that does not exist."""
    with Program(EXAMPLES / "pipeline.py", cwd=tmp_path) as program:
        assert program.end() == 0, program.text
    lines = {Path(line.split()[-1]).name: line for line in program.output if " words in " in line}
    assert {"decoder.py", "encoder.py", "scanner.py"} <= lines.keys()
    assert program.output[-1].startswith("gave up no-such-file.txt after 3 attempts: ")
