"""The README: its programs run as they stand and print what stands below them, and its commands
work in a shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import aiomanager
from tests.support.programs import PROJECT, Program

README = (PROJECT / "README.md").read_text(encoding="utf-8")

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[tuple[str, str, str | None]]:
    """Each fenced block: the heading that it stands under, its text, and the output below it."""
    found = []
    for match in _BLOCK.finditer(README):
        if match[1] == language:
            heading = re.findall(r"^#+ (.*)$", README[: match.start()], re.MULTILINE)[-1]
            found.append((heading, match[2], match[3]))
    return found


PROGRAMS = blocks("python")


@pytest.mark.every_python
@pytest.mark.parametrize(
    "source, output",
    [
        pytest.param(source, output, id=f"{number}-{heading.replace(' ', '-').lower()}")
        for number, (heading, source, output) in enumerate(PROGRAMS)
    ],
)
def test_program(source, output, tmp_path):
    """It ends well, and prints exactly what is promised; nothing where nothing is."""
    if "fastapi" in source:
        pytest.importorskip("fastapi")
    path = tmp_path / "program.py"
    path.write_text(source, encoding="utf-8")
    with Program(path, cwd=tmp_path) as program:
        assert program.end() == 0, program.text
    assert program.output == (output or "").splitlines()


def test_command_line(tmp_path):
    """The commands, in one shell, on the way through a queue."""
    pytest.importorskip("typer")
    ((_, source, _),) = [block for block in blocks("sh") if "On the command" in block[0]]
    (tmp_path / "aiomanager").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m aiomanager "$@"\n')
    (tmp_path / "aiomanager").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{source}wait\n"],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    lines = run.stdout.splitlines()
    assert sorted(line for line in lines if line.startswith("job ")) == [
        f"job {number}" for number in range(1, 6)
    ]


@pytest.mark.every_python
def test_links_and_names():
    """Each file that is linked or named is there, and each public name is mentioned."""
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (PROJECT / target).exists(), target
    for name in re.findall(r"`((?:\w+/)*_?\w+\.py)`", README):
        assert (PROJECT / name).exists() or (Path(aiomanager.__path__[0]) / name).exists(), name
    unmentioned = [name for name in aiomanager.__all__ if name not in README]
    assert unmentioned == []


@pytest.mark.every_python
def test_the_command_that_tests():
    """One line in one block, which .ci/run takes from here."""
    section = README.partition("\n## Tests\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"^```\w*\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert len(block.splitlines()) == 1
    assert "-m pytest" in block
