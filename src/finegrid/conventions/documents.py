"""JSON of files that others may have made: of limited size and depth.

Python's reader takes as much memory as a file asks for and gives up on deep nesting with RecursionError. Here both end
in ValueError, which whoever reads a file turns into a sentence about that file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finegrid.conventions.errors import InputError

MOST_BYTES = 512_000_000
"""Of one file; descriptions of models on large curvilinear grids have tens of megabytes."""
DEEPEST = 64
"""Tables and lists within each other; ours have about ten."""


def read_text(path: Path, *, most: int = MOST_BYTES) -> str:
    """What a text file holds, in UTF-8.

    Raises:
        OSError: when it cannot be read.
        ValueError: when it is larger than that, or no text.
    """
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return content.decode("utf-8")


def read_json(path: Path, *, most: int = MOST_BYTES) -> Any:
    """What a JSON file holds.

    Raises:
        OSError: when it cannot be read.
        ValueError: when it is no JSON, too large, or nested too deeply.
    """
    return json_of(read_text(path, most=most))


def json_of(content: str | bytes) -> Any:
    """The values of a JSON text.

    Raises:
        ValueError: when it is no JSON, or nested too deeply.
    """
    try:
        values = json.loads(content)
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST} times") from None
    level = [values]
    for _ in range(DEEPEST):
        level = [each for value in level for each in _inner(value) if isinstance(each, dict | list)]
        if not level:
            return values
    raise ValueError(f"it is nested more than {DEEPEST} times")


def _inner(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


@contextmanager
def understood(source: str | Path, remedy: str) -> Iterator[None]:
    """Within it, what a file describes is made: values of other kinds than we write are a fault of the file.

    Args:
        source: the file or folder.
        remedy: what to do, in words.

    Raises:
        InputError: on anything that goes wrong.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # a wrong type or size may fail anywhere below
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise InputError(
            f"{source} is not as finegrid writes it ({reason[:200]}); expected what it wrote, unchanged; {remedy}"
        ) from error
