"""What all command lines share: parsing, logging, exit codes, and one line of JSON.

0 done, 1 failed, 2 usage, 3 finished but something asked for is missing, 74 disk full,
75 interrupted and resumable.
"""

import errno
import json
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

from cyclopts import App, CycloptsError
from rich.console import Console

from egotriad.manifests.errors import EgotriadError

__all__ = ["EXIT_FAILED", "EXIT_INCOMPLETE", "finish", "run_app"]

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INCOMPLETE = 3
EXIT_DISK_FULL = 74
EXIT_INTERRUPTED = 75


def run_app(make_app: Callable[[list[str]], App], tokens: Sequence[str] | None) -> int:
    """Runs a command line and turns what happens into an exit code and, on error, one message.

    Args:
        make_app: builds the app from the words of the command line (it may load plug-ins).
        tokens: the words after the command's name; None = those of this process.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    words = list(sys.argv[1:] if tokens is None else tokens)
    try:
        app = make_app(words)
        app.suppress_keyboard_interrupt = False  # it would exit with 130 before we can say 75
        result = app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as exc:
        return _complain(str(exc), EXIT_USAGE)
    except EgotriadError as exc:
        return _complain(str(exc), exc.exit_code)
    except KeyboardInterrupt as exc:
        message = str(exc) or "interrupted; run the same command again to go on"
        return _complain(message, EXIT_INTERRUPTED)
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _complain("the disk is full; free space and run again", EXIT_DISK_FULL)
    return int(result or 0)


def finish(
    values: dict[str, Any], *, as_json: bool, show: Callable[[Console], None], code: int = 0
) -> int:
    """Prints a command's result: as one line of JSON, or for people; returns the exit code."""
    if as_json:
        sys.stdout.write(json.dumps(values, ensure_ascii=False) + "\n")
    else:
        show(Console())
    return code


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"error: {message}\n")
    return code
