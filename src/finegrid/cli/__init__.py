"""The command line: one verb a command. `finegrid --help` lists them, `finegrid fit --help` shows how one is used.

Exit codes: 0, done; 2, something that the user can put right (the message on stderr says what and how); 130, stopped
with Ctrl-C or, where a job can go on later, SIGTERM; anything else is a fault of the program and comes with its
traceback. `--debug` shows the traceback of code 2, too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from finegrid.cli.codes import STOPPED, WRONG

_DEBUG = "--debug"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line, by default that of the process, and exit."""
    # Before torch loads: threads that wait long in a busy loop are 20 to 200 times slower beside other programs, and
    # threads that sleep at once a third slower without. Ten thousand turns are about a tenth of a millisecond.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    from typer import Abort

    from finegrid.cli.app import app

    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = _DEBUG in words
    try:
        code = app([word for word in words if word != _DEBUG], prog_name="finegrid", standalone_mode=False)
    except (Abort, KeyboardInterrupt):
        code = STOPPED
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # typer's own: an unknown option, a missing argument
            error.show()
            sys.exit(error.exit_code)
        words_for_user = _explained(error)
        if debug or words_for_user is None:
            raise
        _tell(f"Error: {words_for_user}")
        sys.exit(WRONG)
    if code == STOPPED:  # also where typer has made an exit code of Ctrl-C
        _tell("Stopped. Nothing half-written was kept.")
    sys.exit(code or 0)


def _explained(error: Exception) -> str | None:
    """What to tell the user; None for a fault of the program."""
    from finegrid.conventions import InputError

    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error}. Check that the path exists, may be read and written to, and that the disk has space left"
    if isinstance(error, RuntimeError) and "NetCDF" in str(error):
        return f"a file is damaged or was truncated while it was read ({error}). Copy or download it again"
    return None


def _tell(words: str) -> None:
    print(words, file=sys.stderr)  # noqa: T201
