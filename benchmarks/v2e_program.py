"""v2e's own program (`v2e.py` of a checkout of SensorsINI/v2e), run without a screen.

    python benchmarks/v2e_program.py CHECKOUT --input CLIP.mp4 ...

passes everything after the checkout on to v2e. Packages that it imports and that are not installed
are replaced by empty ones: what they are for (windows, SuperSloMo, AEDAT4, notifications) is not
used here. One thread. OpenCV 5 answers a question of v2e's (is the video grey?) with -1, which v2e
takes for yes, and then carries three channels through its files; with OpenCV 4 it runs as meant.
"""

import importlib.abc
import importlib.machinery
import resource
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

__all__ = ["SETTINGS", "program_cpu_s", "v2e_command"]

OPTIONAL = (
    "argcomplete",
    "dv_processing",
    "easygui",
    "engineering_notation",
    "matplotlib",
    "plyer",
    "screeninfo",
    "tkinter",
    "torchvision",
)
SETTINGS = (
    "--disable_slomo",
    "--auto_timestamp_resolution=false",
    "--no_preview",
    "--skip_video_output",
    "--dvs346",
    "--dvs_h5=events.h5",
)
"""No interpolation, no pictures, 346x260, events as compressed HDF5."""


def v2e_command(checkout: Path, video: Path, out: Path, preset: str) -> list[str]:
    """Command line of one run; whatever lies in `out` is replaced.

    Args:
        checkout: of SensorsINI/v2e.
        video: any that OpenCV reads.
        out: folder of the results.
        preset: `clean` or `noisy`, v2e's `--dvs_params`.
    """
    places = [f"--input={video.resolve()}", f"--output_folder={out}", "--overwrite"]
    launcher = [sys.executable, str(Path(__file__).resolve()), str(checkout.resolve())]
    return [*launcher, *places, *SETTINGS, f"--dvs_params={preset}"]


def program_cpu_s(command: Sequence[str], environment: dict[str, str]) -> float:
    """CPU seconds of a program from its start to its end.

    Raises:
        SystemExit: it failed; with what it said.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)}\n{ended.stderr[-2000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class _Empty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds optional packages that nobody else has found, and has nothing in them."""

    def find_spec(
        self, fullname: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] not in OPTIONAL:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module: ModuleType = MagicMock(name=spec.name, __spec__=spec, __path__=[])
        return module

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


def main() -> None:
    """Becomes v2e."""
    checkout, *words = sys.argv[1:]
    program = Path(checkout) / "v2e.py"
    sys.meta_path.append(_Empty())
    sys.path.insert(0, checkout)
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    sys.argv = [str(program), *words]
    runpy.run_path(str(program), run_name="__main__")


if __name__ == "__main__":
    main()
