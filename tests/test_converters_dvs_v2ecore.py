"""v2e as a back end: what it is told and asked, on a stand-in of its package and the real one."""

import atexit
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from egotriad.converters import dvs_v2ecore
from egotriad.converters.dvs import DvsConfig, DvsEmulator, emulate
from egotriad.manifests.errors import MissingDependency, UsageError

V2E = DvsConfig(timing="slots", compat="v2e")
GOLDEN = Path(__file__).parent / "data" / "v2e" / "02_drifting_texture_ideal.npz"

# One event for every pixel that has changed, in no order, at the end of the interval; and one for a
# pixel drawn from torch's own generator, a second too early.
STAND_IN = """
import atexit

import numpy as np
import torch


class EventEmulator:
    made = []

    def __init__(self, **settings):
        self.settings, self.before, self.seen = settings, None, []
        EventEmulator.made.append(self)
        atexit.register(self.cleanup)

    def cleanup(self):
        pass

    def generate_events(self, frame, time_s):
        self.seen.append((frame.dtype, time_s))
        before, self.before = self.before, frame.astype(float)
        if frame.max() == 66:
            raise SystemExit(1)
        if before is None or (before == frame).all():
            return None
        y, x = np.nonzero(before != frame)
        drawn = int(torch.randint(frame.shape[1], ()))
        rows = [(time_s, i, j, np.sign(frame[j, i] - before[j, i])) for i, j in zip(x, y)]
        return np.array([*rows[::-1], (time_s - 1.0003, drawn, 0, 1)], np.float32)
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The class of a stand-in for v2e, which can be imported in this test."""
    package = tmp_path / "v2ecore"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "emulator.py").write_text(STAND_IN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(dvs_v2ecore, "_noise_settings", {})
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name[:7] == "v2ecore"}
    yield __import__("v2ecore.emulator").emulator.EventEmulator
    for name in [name for name in sys.modules if name[:7] == "v2ecore"]:
        del sys.modules[name]
    sys.modules.update(hidden)


def clip(n: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Frames in which pixel (1, 0) brightens and pixel (0, 2) darkens each time."""
    frames = np.full((n, 3, 4), 100, np.uint8)
    frames[:, 0, 1] += np.arange(n, dtype=np.uint8)
    frames[:, 2, 0] -= np.arange(n, dtype=np.uint8)
    return frames, 0.01 * np.arange(n)


def test_v2e_gets_its_parameters_the_cpu_and_seconds(stand_in: Any) -> None:
    frames, times_s = clip()
    emulate(
        frames, times_s, DvsConfig(timing="slots", compat="v2e", pos_thres=0.3), backend="v2ecore"
    )
    (made,) = stand_in.made
    assert made.settings["device"] == "cpu"
    assert made.settings["seed"] == 0
    assert made.settings["pos_thres"] == 0.3
    assert set(made.settings) == {
        "pos_thres", "neg_thres", "sigma_thres", "cutoff_hz", "leak_rate_hz",
        "leak_jitter_fraction", "noise_rate_cov_decades", "shot_noise_rate_hz",
        "refractory_period_s", "photoreceptor_noise", "cs_lambda_pixels", "cs_tau_p_ms",
        "scidvs", "hdr", "seed", "device",
    }  # fmt: skip
    assert made.seen == [(np.uint8, pytest.approx(t)) for t in times_s]


def test_its_events_become_canonical_microseconds_inside_their_frame_interval(
    stand_in: Any,
) -> None:
    frames, times_s = clip()
    events = emulate(frames, times_s + 5, V2E, backend="v2ecore")
    assert events.canonical() is events
    at_frame = events.t_us % 10_000 == 0
    assert events.t_us[at_frame].tolist() == [5_010_000] * 2 + [5_020_000] * 2 + [5_030_000] * 2
    assert events.x[at_frame].tolist() == [1, 0] * 3
    assert events.y[at_frame].tolist() == [0, 2] * 3
    assert events.p[at_frame].tolist() == [True, False] * 3
    # The drawn ones came out a second before their frame; v2e's clock has the second frame's
    # interval begin at zero.
    assert events.t_us[~at_frame].tolist() == [4_009_700, 5_010_001, 5_020_001]


def test_draws_depend_on_seed_and_recording_and_on_nothing_else(stand_in: Any) -> None:
    frames, times_s = clip(40)

    def run(seed: int, recording: str) -> list[int]:
        events = emulate(frames, times_s, V2E, seed=seed, recording=recording, backend="v2ecore")
        return events.x[events.t_us % 10_000 == 1].tolist()

    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    first = run(1, "a")
    assert len(set(first)) == 4  # it goes on from frame to frame
    torch.rand(3)
    assert run(1, "a") == first
    assert len({tuple(run(*key)) for key in ((1, "a"), (2, "a"), (1, "b"), (0, ""))}) == 4
    torch.set_rng_state(before[0])
    run(3, "c")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]  # noqa: NPY002


def test_pieces_give_the_events_of_the_whole_and_streams_do_not_mix(stand_in: Any) -> None:
    frames, times_s = clip(12)
    t_us = np.round(times_s * 1e6).astype(np.int64)
    whole = DvsEmulator(V2E, (4, 3), backend="v2ecore").feed(frames, t_us)
    streams = [DvsEmulator(V2E, (4, 3), seed=seed, backend="v2ecore") for seed in (0, 9)]
    parts = [[s.feed(frames[k : k + 1], t_us[k : k + 1]) for s in streams] for k in range(12)]
    joined = np.concatenate([part[0].x for part in parts])
    np.testing.assert_array_equal(joined, whole.x)
    assert len(DvsEmulator(V2E, (4, 3), backend="v2ecore").feed(frames[:1], t_us[:1])) == 0


def test_emulators_are_not_kept_until_the_program_ends(
    stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[Any] = []
    monkeypatch.setattr(atexit, "unregister", dropped.append)
    emulate(*clip(2), V2E, backend="v2ecore")
    assert dropped == [stand_in.made[0].cleanup]


def test_other_parameters_of_photoreceptor_noise_need_another_process(stand_in: Any) -> None:
    noisy = {"timing": "slots", "compat": "v2e", "cutoff_hz": 30.0, "photoreceptor_noise": True}
    for rate_hz in (5.0, 5.0):
        emulate(*clip(2), DvsConfig(shot_noise_rate_hz=rate_hz, **noisy), backend="v2ecore")
    emulate(*clip(2), V2E, backend="v2ecore")
    with pytest.raises(UsageError, match="these others in a process of their own"):
        emulate(*clip(2), DvsConfig(shot_noise_rate_hz=4.0, **noisy), backend="v2ecore")


def test_where_v2e_quits_the_program_we_raise(stand_in: Any) -> None:
    frames, times_s = clip(3)
    frames[2] = 66
    with pytest.raises(UsageError, match="v2e gave up on these parameters; its log says why"):
        emulate(frames, times_s, V2E, backend="v2ecore")


def test_what_v2e_cannot_do_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="backend: got 'v2ecore' with compat 'none', need compat"):
        DvsEmulator(DvsConfig(), (4, 3), backend="v2ecore")
    ones = np.ones((3, 4), np.float32)
    with pytest.raises(UsageError, match="got 'v2ecore' and a map, but v2e draws its own"):
        DvsEmulator(V2E, (4, 3), leak_rate_map=ones, backend="v2ecore")


def test_a_missing_v2e_or_a_missing_part_of_it_is_named(
    stand_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name[:7] == "v2ecore"]:
        del sys.modules[name]
    (tmp_path / "v2ecore" / "emulator.py").write_text("import tkinter_of_the_system\n")
    with pytest.raises(MissingDependency, match=r"No module named 'tkinter_of.*python3-tk"):
        emulate(*clip(2), V2E, backend="v2ecore")
    monkeypatch.setitem(sys.modules, "v2ecore", None)
    with pytest.raises(MissingDependency, match=r"git clone https://github\.com/SensorsINI/v2e &&"):
        emulate(*clip(2), V2E, backend="v2ecore")


@pytest.mark.slow
def test_the_real_v2e_gives_its_golden_events() -> None:
    pytest.importorskip("v2ecore.emulator", exc_type=ImportError)
    golden = np.load(GOLDEN)
    params = json.loads(str(golden["params"]))
    config = DvsConfig(
        timing="slots",
        compat="v2e",
        pos_thres=params["pos_thres"],
        neg_thres=params["neg_thres"],
    )
    theirs = emulate(golden["frames"], golden["timestamps"], config, backend="v2ecore")
    ours = emulate(golden["frames"], golden["timestamps"], config)
    assert len(theirs) == len(golden["events_t"])
    np.testing.assert_allclose(theirs.t_us, ours.t_us, atol=1)
