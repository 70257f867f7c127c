"""Runs the `egoexo` download program for exactly the files wanted, and trusts none of its words.

Measured with ego4d 1.7.3: it exits with 0 when nothing was found, all lay there, or a file came
short; with 2 when some files failed, with 1 when no manifest could be read (keys or names). It
knows no checksum and asks unless given `-y`. `-d`, which deletes every file of the tree that this
call did not ask for, is never given. A file is written under a temporary name
(`aria01.vrs.8fA0c2B1`) and renamed, so what has its name is what the server sent; what a killed run
left is removed here.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from egotriad.manifests.errors import DownloadError, MissingDependency
from egotriad.manifests.files import write_text
from egotriad.pipelines.egoexo4d_release import RELEASE, RemoteFile

__all__ = ["run_egoexo"]

WANTED, LOG = "egoexo_wanted.json", "egoexo.log"
LOOK_EVERY_S = 1.0
THREADS = 8
HALF_FETCHED = re.compile(r"\.[0-9A-Fa-f]{8}")
CRASH = re.compile(r"[\w.]*(Error|Exception|NotFound)\b.*")


def run_egoexo(
    raw: Path,
    wanted: Sequence[RemoteFile],
    profile: str,
    *,
    look: Callable[[], None] = lambda: None,
) -> str:
    """Lets the program bring files into the tree; whether it did, is for the caller to see.

    Args:
        raw: root of the tree.
        wanted: what to bring; a file that lies there with the right size is left alone by it.
        profile: of the AWS credentials file, which it reads anew.
        look: called once a second while it runs.

    Returns:
        What it crashed with, or nothing.

    Raises:
        MissingDependency: it is not installed.
        DownloadError: it is another version than the one that is known.
    """
    write_text(raw / WANTED, json.dumps([file.name for file in wanted]))
    command = [sys.executable, "-m", "egotriad.pipelines.egoexo4d_narrow", str(raw / WANTED)]
    command += ["-o", str(raw), "-y", "--release", RELEASE, "--s3_profile", profile]
    command += ["--num_workers", str(min(THREADS, len(wanted)))]
    command += ["--parts", *sorted({file.part for file in wanted})]
    _remove_halves(raw, wanted)
    with (raw / LOG).open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            while _runs(process):
                look()
        finally:
            process.kill()  # it writes no file under its name before that is whole
            process.wait()
    (raw / WANTED).unlink()
    _remove_halves(raw, wanted)
    said = _last_words(raw)
    if "ModuleNotFoundError: No module named 'ego4d'" in said:
        raise MissingDependency(
            "downloading Ego-Exo4D needs its download program: pip install 'egotriad[ego4d]'"
        )
    if process.returncode == 70 or "unrecognized arguments" in said:
        raise DownloadError(f"egoexo: {said}; install the version that is known: ego4d 1.7.3")
    return said if CRASH.fullmatch(said) else ""


def _last_words(raw: Path) -> str:
    """The last line of the program's last run that is no progress bar."""
    lines = re.split(r"[\r\n]+", (raw / LOG).read_text("utf-8", "replace"))
    return next((line for line in reversed(lines) if line.strip() and "%|" not in line), "")


def _runs(process: subprocess.Popen[bytes]) -> bool:
    """Waits a moment; whether it still runs then."""
    try:
        process.wait(LOOK_EVERY_S)
    except subprocess.TimeoutExpired:
        return True
    return False


def _remove_halves(raw: Path, wanted: Sequence[RemoteFile]) -> None:
    for file in wanted:
        path = raw / file.name
        for half in path.parent.glob(f"{path.name}.*"):
            if HALF_FETCHED.fullmatch(half.name.removeprefix(path.name)):
                half.unlink()
