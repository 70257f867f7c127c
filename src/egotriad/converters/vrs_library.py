"""`projectaria-tools` behind two doors: a clear word when it is missing, and silence when it works.

The library (C++) logs every stream it opens to the process's standard error and warns on standard
output, past Python and past any setting of its own.
"""

import importlib
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from egotriad.converters.vrs_container import check_vrs
from egotriad.manifests.errors import MissingDependency, RecordingError

__all__ = ["aria_errors", "open_provider", "sensor_data"]

_ONE_AT_A_TIME = threading.RLock()


def open_provider(path: Path) -> Any:
    """The library's reader (`VrsDataProvider`) of a file that has been checked.

    Raises:
        MissingDependency: projectaria-tools is not installed.
        RecordingError: as `check_vrs`, and what the library cannot open.
    """
    data_provider = _library("data_provider")
    check_vrs(path)
    with quiet(), aria_errors(path):
        provider = data_provider.create_vrs_data_provider(str(path))
    if provider is None:
        raise RecordingError(f"{path.name}: a damaged VRS file, no reader opens it; copy it again")
    return provider


def sensor_data() -> Any:
    """The library's enumerations (`TimeDomain`, `TimeSyncMode`, ...).

    Raises:
        MissingDependency: projectaria-tools is not installed.
    """
    return _library("sensor_data")


@contextmanager
def aria_errors(path: Path) -> Iterator[None]:
    """Turns what the library throws into a RecordingError."""
    try:
        yield
    except (RuntimeError, ValueError, IndexError) as exc:
        raise RecordingError(
            f"{path.name}: a damaged VRS file, or one that is not an Aria's ({exc})"
        ) from exc


@contextmanager
def quiet() -> Iterator[None]:
    """Sends what the process prints to a debug log instead, C++ included.

    File descriptors 1 and 2 belong to the whole process: what other threads print meanwhile goes
    the same way. Opening a file takes a tenth of a second.
    """
    with _ONE_AT_A_TIME, tempfile.TemporaryFile() as sink:
        sys.stdout.flush()
        sys.stderr.flush()
        kept = [(number, os.dup(number)) for number in (1, 2)]
        try:
            for number, _ in kept:
                os.dup2(sink.fileno(), number)
            yield
        finally:
            for number, copy in kept:
                os.dup2(copy, number)
                os.close(copy)
            sink.seek(0)
            for line in sink.read().decode("utf-8", "replace").splitlines():
                logging.getLogger(__name__).debug("projectaria-tools: %s", line)


def _library(module: str) -> Any:
    try:
        with quiet():
            return importlib.import_module(f"projectaria_tools.core.{module}")
    except ImportError as exc:
        raise MissingDependency(
            "Project Aria recordings (VRS) need projectaria-tools: pip install 'egotriad[aria]'"
        ) from exc
