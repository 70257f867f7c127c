"""v2e itself as a back end of the event emulator, where the user has installed it.

`v2ecore.emulator.EventEmulator` of https://github.com/SensorsINI/v2e (MIT licence) is on no package
index, and the `v2e` there is something else. Importing it takes its window and file libraries too,
used or not: torch, h5py, easygui, screeninfo, engineering_notation, dv_processing, and Python's
tkinter. None of them needs a screen for that, so v2e runs on a server once they are installed.

What is done for it here: it runs on the CPU (its own default is CUDA); it gets 8-bit frames (or log
intensity) and seconds; its float32 seconds become microseconds frame by frame, kept in their frame
interval and in canonical order; its draws come from a generator of our seeding and leave that of
the program alone. Its photoreceptor noise alone cannot be repeated: v2e finds the amplitude by a
simulation that it never seeds, once for the whole process.
"""

import atexit
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egotriad.converters.counter_rng import key_of
from egotriad.converters.dvs_config import DvsConfig
from egotriad.converters.dvs_place import Columns
from egotriad.manifests.errors import MissingDependency, UsageError

__all__ = ["V2ecoreEngine", "check_v2ecore"]

_INSTALL = (
    "it is on no package index: git clone https://github.com/SensorsINI/v2e && pip install -e v2e "
    "(and Python's tkinter, `python3-tk` of the system, also where there is no screen)"
)
_OURS = ("timing", "compat")  # parameters that v2e does not have
_noise_settings: dict[str, Any] = {}  # of the photoreceptor noise whose amplitude v2e remembers


def check_v2ecore(config: DvsConfig) -> None:
    """Raises UsageError unless v2e can do what is asked of it."""
    if config.compat != "v2e":
        raise UsageError(
            f"backend: got 'v2ecore' with compat {config.compat!r}, need compat 'v2e' and timing "
            "'slots', the only ones that v2e has"
        )


class V2ecoreEngine:
    """v2e's emulator; see `dvs_engines.Engine`.

    Args:
        config: parameters, with `compat="v2e"`.
        frame: the first frame, (H, W), uint8 luma; with `hdr` float32 log intensity.
        start_us: its time.
        seed: of mismatch and noise, which are not those that v2e draws with the same seed.
        recording: name of the recording.

    Raises:
        MissingDependency: when v2e or a library that it imports is not installed.
        UsageError: when v2e lacks an option; when an emulator with photoreceptor noise and other
            parameters has been made in this process.
    """

    def __init__(
        self,
        config: DvsConfig,
        frame: NDArray[Any],
        start_us: float,
        *,
        seed: int,
        recording: str,
    ) -> None:
        check_v2ecore(config)
        emulator_class = _emulator_class()
        settings = {name: v for name, v in asdict(config).items() if name not in _OURS}
        if config.photoreceptor_noise and _noise_settings.setdefault("of", settings) != settings:
            raise UsageError(
                "photoreceptor_noise: v2e keeps the amplitude that it computed for the first "
                "parameters in a process; run these others in a process of their own"
            )
        import torch

        generator = torch.Generator().manual_seed(int(key_of(seed, recording, "v2e")) >> 1)
        self._draws = generator.get_state()
        # A seed of zero: v2e would seed the generators of the whole program with any other.
        self._emulator = emulator_class(**settings, seed=0, device="cpu")
        # v2e would keep every emulator until the program ends, to close files that we never open.
        atexit.unregister(self._emulator.cleanup)
        self._step(frame, start_us)

    def advance(self, frames: NDArray[Any], times_us: NDArray[np.float64], number: int) -> Columns:
        """See `dvs_engines.Engine`."""
        parts = [np.empty((0, 4), np.int64)]
        for frame, begin_us, end_us in zip(frames, times_us[:-1], times_us[1:], strict=True):
            events = self._step(frame, end_us)
            first_us, last_us = np.floor(begin_us + 0.5) + 1, np.floor(end_us + 0.5)
            t_us = np.clip(np.floor(events[:, 0] * 1e6 + 0.5), first_us, last_us)
            x, y, on = events[:, 1], events[:, 2], events[:, 3] > 0
            order = np.lexsort((on, x, y, t_us))
            parts.append(np.stack([t_us, x, y, on], axis=1).astype(np.int64)[order])
        t_us, x, y, on = np.concatenate(parts).T
        return Columns(
            np.ascontiguousarray(t_us), x.astype(np.uint16), y.astype(np.uint16), on.astype(bool)
        )

    def _step(self, frame: NDArray[Any], time_us: float) -> NDArray[np.float64]:
        """Events (N, 4) of the next frame: seconds, column, row, +1 or -1."""
        try:
            with self._own_draws():
                events = self._emulator.generate_events(frame, time_us / 1e6)
        except SystemExit as exc:  # how v2e refuses, e.g. steps of CSDVS that would explode
            raise UsageError(
                "v2e gave up on these parameters; its log says why, and backend 'cpu' takes them "
                "with compat 'none'"
            ) from exc
        return np.empty((0, 4)) if events is None else np.asarray(events, np.float64)

    @contextmanager
    def _own_draws(self) -> Iterator[None]:
        """Puts this recording's generator in the place of torch's own, which v2e draws from."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._draws)
            yield
            self._draws = torch.get_rng_state()


def _emulator_class() -> Any:
    try:
        return importlib.import_module("v2ecore.emulator").EventEmulator
    except ImportError as exc:
        if exc.name in ("v2ecore", "v2ecore.emulator"):
            raise MissingDependency(f"backend 'v2ecore' needs v2e; {_INSTALL}") from exc
        raise MissingDependency(
            f"backend 'v2ecore': v2e is here but cannot be imported ({exc}); install what it "
            "imports, used or not: torch, opencv-python, h5py, easygui, screeninfo, "
            "engineering_notation, dv_processing, and Python's tkinter (`python3-tk` of the system)"
        ) from exc
