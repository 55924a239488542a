"""The README is run as it is written: Python blocks share one namespace, `finegrid` command lines one folder.

A block behind the comment `<!-- not run -->` is left out.
"""

import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import finegrid

README = Path(__file__).parents[1] / "README.md"

_FENCE = re.compile(
    r"^(?P<mark>(?:<!-- not run -->\s*\n)?)```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)


class Block(NamedTuple):
    language: str
    text: str
    line: int


def blocks(markdown: str) -> list[Block]:
    """The fenced blocks that are to be run, each with the line of its first line."""
    found = [match for match in _FENCE.finditer(markdown) if not match["mark"]]
    return [Block(each["language"], each["text"], markdown.count("\n", 0, each.start("text")) + 1) for each in found]


def commands(text: str) -> list[list[str]]:
    """The arguments of every `finegrid` line of a shell block, without comments, continued lines joined."""
    lines = text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    return [each[1:] for each in words if each and each[0] == "finegrid"]


def run_command(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> object:
    """The exit code of `finegrid ARGUMENTS`, run in this process."""
    from finegrid.cli import main

    monkeypatch.setattr(sys, "argv", ["finegrid", *arguments])
    try:
        main()
    except SystemExit as end:
        return end.code or 0
    return 0


@pytest.mark.slow
@pytest.mark.skipif(not README.exists(), reason="there is no README.md yet")
def test_everything_in_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "readme"}
    runnable = blocks(README.read_text(encoding="utf-8"))
    assert any(block.language == "python" for block in runnable), "the README shows no Python"
    for block in runnable:
        if block.language == "python":
            source = "\n" * (block.line - 1) + block.text  # so that a traceback shows the line of the README
            exec(compile(source, str(README), "exec"), namespace)
        elif block.language in ("bash", "sh", "console"):
            for arguments in commands(block.text):
                assert run_command(arguments, monkeypatch) == 0, f"README.md, line {block.line}: finegrid {arguments}"


def test_blocks_are_found_with_their_line_and_those_marked_are_left_out():
    text = "# T\n```python\na = 1\n```\n<!-- not run -->\n```python\nb = 2\n```\n\n```bash\nfinegrid demo\n```\n"
    assert blocks(text) == [Block("python", "a = 1\n", 3), Block("bash", "finegrid demo\n", 11)]


def test_command_lines_are_split_as_a_shell_would():
    text = "make demo\n$ finegrid samples   # lists them\nfinegrid fit --coarse 'a b.nc' \\\n  --out model/\n"
    assert commands(text) == [["samples"], ["fit", "--coarse", "a b.nc", "--out", "model/"]]


def test_the_documentation_lists_every_public_name():
    pages = (README.parent / "docs" / "api.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^::: finegrid\.(\w+)$", pages, re.MULTILINE)) == set(finegrid.__all__) - {"__version__"}
