"""One safe call of the `ego4d` program (version 1.7.3), which is not safe by itself.

What it does, and what is done about it here: with several data sets it mixes their ledgers (one
data set a call); it asks on the terminal (-y); it deletes files beside those it fetches, whatever
their ending (a staging folder of its own); it ignores --video_uids for IMU and crashes on rows
without a path (a manifest of ours, `ego4d_manifest.py`); it exits with 0 whatever happened (sizes
are compared afterwards); it needs the keys in a profile (so do we).
"""

import re
import subprocess
import sys
from collections.abc import Callable, Collection
from importlib.util import find_spec
from pathlib import Path

from egotriad.manifests.errors import DownloadError, MissingDependency
from egotriad.pipelines.ego4d_manifest import RemoteFile, write_override

__all__ = ["DATASETS", "adopt", "run_ego4d"]

DATASETS = ("annotations", "imu", "video_540ss", "full_scale")
"""What is asked of the program; it would take any word for the name of a new data set."""

POLL_S = 5.0


def run_ego4d(
    staging: Path,
    files: Collection[RemoteFile],
    *,
    dataset: str,
    release: str,
    profile: str,
    tell: Callable[[int], None],
) -> str:
    """Fetches files of one data set into a staging folder; the outcome is in the folder alone.

    Args:
        staging: the program's output directory.
        files: what to fetch.
        dataset: one of DATASETS.
        release: v1, v2 or v2_1.
        profile: of the AWS credentials file; the program reads it anew.
        tell: called now and then with the bytes that are there.

    Returns:
        The last error it printed, empty without one.

    Raises:
        MissingDependency: the program is not installed.
        DownloadError: the data set is none of DATASETS.
    """
    if dataset not in DATASETS:
        raise DownloadError(f"{dataset!r}: need one of {', '.join(DATASETS)}")
    if find_spec("ego4d") is None:
        raise MissingDependency(
            "downloading Ego4D needs its download program: pip install 'egotriad[ego4d]'"
        )
    staging.mkdir(parents=True, exist_ok=True)
    manifest, log = staging / f"{dataset}.override.csv", staging / f"{dataset}.log"
    write_override(manifest, [file.wanted for file in files])
    command = [
        *(sys.executable, "-m", "ego4d.cli.cli", "-y", "--no-metadata"),
        *("--datasets", dataset, "--version", release),
        *("--output_directory", str(staging), "--manifest-override-path", str(manifest)),
        *("--aws_profile_name", profile),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while not _ended(process):
                tell(sum(file.stat().st_size for file in staging.rglob("*") if file.is_file()))
        finally:  # also when we are interrupted
            process.terminate()
            process.wait()
    problem = _last_error(log.read_text("utf-8", errors="replace"))
    return problem.replace(str(staging), "STAGING")  # reports travel; paths stay here


def _ended(process: "subprocess.Popen[bytes]") -> bool:
    try:
        process.wait(timeout=POLL_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _last_error(output: str) -> str:
    """The last line that reads like an exception or an error."""
    lines = [line.strip() for line in output.splitlines()]
    errors = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception|ERROR)\b", line)]
    return errors[-1] if errors else ""


def adopt(staging: Path, folder: str, file: RemoteFile, target: Path) -> bool:
    """Moves a file that is whole from the staging folder to its place.

    Args:
        staging: the program's output directory.
        folder: of the release below it.
        file: which.
        target: where it belongs, on the same file system.

    Returns:
        Whether it was there with the size that S3 has; a file of another size is deleted.
    """
    wanted = file.wanted
    place = staging / folder / wanted.dataset
    for name in (wanted.file, wanted.key.rpartition("/")[2]):
        path = place / name
        if not path.is_file():
            continue
        if path.stat().st_size == file.size_bytes:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
            return True
        path.unlink()
    return False
