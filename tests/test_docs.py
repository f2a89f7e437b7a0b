"""README.md and the pages of docs/: everything in them that can be run is run.

The conventions of a page:

* A block marked `python` is a whole program; there are no fragments. It runs as it stands, in an
  empty folder, and prints the `text` block right below it, or nothing where there is none.
* A block marked `sh` runs in bash, in an empty folder, where `aiomanager` and `python` are
  commands. Each of its commands succeeds, and together they print the lines of the `text` block
  right below it; the order is not compared, since some of them run at once. A block that installs
  something is not run: its extras, groups, modules and commands have to exist.
* A `text` block anywhere else is a picture.
* Code in a line is checked for the names in it: files, modules, keyword arguments and options.

docs/benchmarks.md is left out: `python -m benchmarks` writes it.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import aiomanager
from tests.support.programs import PROJECT, Program

README = PROJECT / "README.md"
README_LINES = 170
GENERATED = {"benchmarks.md"}
PAGES = [README, *(p for p in sorted((PROJECT / "docs").glob("*.md")) if p.name not in GENERATED)]
PACKAGE = Path(aiomanager.__path__[0])

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"^```.*?^```\n", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_INSTALLS = "pip install"
_TOP_FOLDERS = "aiomanager", "benchmarks", "docs", "examples", "tests", ".ci"


@dataclass(frozen=True)
class Block:
    """A fenced block, and where it stands."""

    page: Path
    heading: str
    language: str
    source: str
    output: str | None

    @property
    def lines(self) -> list[str]:
        """The lines that it is to print."""
        return (self.output or "").splitlines()


def blocks(language: str) -> list[Block]:
    """The blocks of all pages in one language."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        # A comment of a program looks like a heading.
        headings = _HEADING.finditer(_FENCED.sub(lambda match: " " * len(match[0]), text))
        starts = [(match.start(), match[1]) for match in headings]
        for match in _BLOCK.finditer(text):
            if match[1] == language:
                heading = [name for start, name in starts if start < match.start()][-1]
                found.append(Block(page, heading, language, match[2], match[3]))
    return found


def named(found: list[Block]) -> list[Any]:
    """The blocks as parameters: the page, the number of the block and its heading."""
    return [
        pytest.param(block, id=f"{block.page.stem}-{number}-{slug(block.heading)}")
        for number, block in enumerate(found)
    ]


def slug(heading: str) -> str:
    """The anchor that a heading has on a page."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def spans(page: Path) -> list[str]:
    """Code in the lines of a page."""
    return re.findall(r"`([^`]+)`", prose(page))


pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@pytest.mark.every_python
@pytest.mark.parametrize("block", named(blocks("python")))
def test_program(block: Block, tmp_path: Path):
    """It ends well, and prints exactly the block below it; nothing where there is none."""
    if "fastapi" in block.source:
        pytest.importorskip("fastapi")
    path = tmp_path / "program.py"
    path.write_text(block.source, encoding="utf-8")
    with Program(path, cwd=tmp_path) as program:
        assert program.end() == 0, program.text
    assert program.output == block.lines


@pytest.mark.parametrize(
    "block", named([block for block in blocks("sh") if _INSTALLS not in block.source])
)
def test_commands(block: Block, tmp_path: Path):
    """The commands of a block, in one shell."""
    pytest.importorskip("typer")
    folder = tmp_path / "empty"
    folder.mkdir()
    for command, runs in ("python", ""), ("aiomanager", " -m aiomanager"):
        script = tmp_path / command
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}"{runs} "$@"\n')
        script.chmod(0o755)
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{block.source}wait\n"],
        cwd=folder,
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert sorted(run.stdout.splitlines()) == sorted(block.lines)


@pytest.mark.every_python
@pages
def test_installations(page: Path):
    """Each extra, each group and each module that a command of the page names is there."""
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = settings["project"]["optional-dependencies"]
    text = page.read_text(encoding="utf-8")
    for names in re.findall(r"(?:aiomanager|\.)\[([\w,]+)\]", text):
        assert set(names.split(",")) <= extras.keys(), names
    groups = re.findall(r"--group (\w+)", text)
    assert set(groups) <= settings["dependency-groups"].keys()
    for module in re.findall(r"python -m ([\w.]+)", text):
        if module.partition(".")[0] in _TOP_FOLDERS:
            path = PROJECT / module.replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


@pages
def test_options(page: Path):
    """Each command of `aiomanager`, with its options, is one that there is."""
    typer = pytest.importorskip("typer")
    from aiomanager.cli._app import app

    commands = typer.main.get_command(app).commands
    options = {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in commands.items()
    }
    text = page.read_text(encoding="utf-8")
    for line in re.findall(r"aiomanager ([a-z]+ [^|`#\n]*|[a-z]+)", text):
        name, *rest = line.split()
        if name in commands:
            assert {word for word in rest if word.startswith("--")} <= options[name], line
    known = {"--help", *(option for names in options.values() for option in names)}
    if page.name == "command-line.md":
        assert [name for name in commands if f"aiomanager {name}" not in text] == []
        assert {word for word in spans(page) if re.fullmatch(r"--[\w-]+", word)} <= known


@pytest.mark.every_python
@pages
def test_links(page: Path):
    """Each file that is linked is there, and has the heading that is meant."""
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", prose(page)):
        path = page.parent / target if target else page
        assert path.exists(), target
        if anchor:
            assert anchor in map(slug, _HEADING.findall(prose(path))), f"{target}#{anchor}"


@pytest.mark.every_python
@pages
def test_files(page: Path):
    """Each file and each folder that is named is there."""
    for name in spans(page):
        if re.fullmatch(r"\.?\w[\w./-]*(?:\.py|/)", name) or (
            re.fullmatch(r"[\w./-]+/[\w./-]+", name) and name.split("/")[0] in _TOP_FOLDERS
        ):
            places = PROJECT / name, PACKAGE / name
            assert any(place.exists() for place in places), name


@pytest.mark.every_python
@pages
def test_keywords(page: Path):
    """A keyword argument by itself is one of something public; in a call of something public, it
    is one of that."""
    known = parameters()
    for span in spans(page):
        if alone := re.fullmatch(r"([a-z_]+)=[^=]*", span):
            assert any(alone[1] in names for names in known.values()), span
        for called, arguments in re.findall(r"(\w+)\(([^()]*)\)", span):
            if called in known:
                assert set(re.findall(r"\b([a-z_]+)=", arguments)) <= known[called], span


def parameters() -> dict[str, set[str]]:
    """The names of all parameters of each public function, class and method."""
    found: dict[str, set[str]] = {}
    for name in aiomanager.__all__:
        thing = getattr(aiomanager, name)
        functions = inspect.getmembers(thing, inspect.isfunction) if inspect.isclass(thing) else []
        for called, function in [*functions, (name, thing)]:
            with contextlib.suppress(TypeError, ValueError):  # a constant, or written in C
                found.setdefault(called, set()).update(inspect.signature(function).parameters)
    return found


@pytest.mark.every_python
def test_public_names():
    """Each is mentioned on a page."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in aiomanager.__all__ if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.every_python
def test_the_readme_is_short():
    """What does not fit has a page in docs/, which the README links."""
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= README_LINES
    for page in PAGES:
        assert page == README or f"](docs/{page.name})" in text


@pytest.mark.every_python
def test_the_command_that_tests():
    """One line in one block, which .ci/run takes from here."""
    section = README.read_text(encoding="utf-8").partition("\n## Tests\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"^```\w*\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert len(block.splitlines()) == 1
    assert "-m pytest" in block
