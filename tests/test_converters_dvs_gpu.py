"""The event emulator on a GPU: the events of the CPU, bit for bit, by every way they can be made.

The tests of events run in torch on the CPU, on a device with `-m gpu`, and in Triton's interpreter,
which a test of its own starts where Triton is installed.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from egotriad.converters import dvs_gpu, dvs_gpu_order, dvs_gpu_triton
from egotriad.converters.dvs import PRESETS, DvsConfig, DvsEmulator, emulate
from egotriad.converters.dvs_engines import WalkEngine
from egotriad.converters.dvs_gpu import GpuBatch, new_engine
from egotriad.converters.dvs_gpu_place import new_clock
from egotriad.converters.dvs_gpu_triton import interprets
from egotriad.converters.dvs_place import Columns
from egotriad.manifests.errors import MissingDependency, UsageError

torch = pytest.importorskip("torch")

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
SIZE_WH, FRAMES = ((13, 7), 6) if interprets() else ((37, 23), 14)
CONFIGS = {
    "ideal": DvsConfig(),
    "slots": DvsConfig(timing="slots"),
    "v2e": DvsConfig(timing="slots", compat="v2e"),
    "clean": DvsConfig.preset("clean"),
    "many events of a pixel": DvsConfig(pos_thres=0.05, neg_thres=0.08),
    "noisy": DvsConfig.preset("noisy", shot_noise_rate_hz=50.0),
    "noisy slots": DvsConfig.preset("noisy", shot_noise_rate_hz=50.0, timing="slots"),
    "v2e-defaults": DvsConfig.preset("v2e-defaults"),
    "low pass": DvsConfig(cutoff_hz=10.0),
    "dead time": DvsConfig(refractory_period_s=0.004),
    "dead for frames": DvsConfig(refractory_period_s=0.05, shot_noise_rate_hz=20.0),
    "leak": DvsConfig(leak_rate_hz=20.0, leak_jitter_fraction=0.5, noise_rate_cov_decades=0.3),
    "fast steady leak": DvsConfig(leak_rate_hz=500.0),
    "shot noise in the dead time": DvsConfig(shot_noise_rate_hz=300.0, refractory_period_s=0.003),
    "everything": DvsConfig.preset(
        "noisy", shot_noise_rate_hz=300.0, leak_rate_hz=30.0, refractory_period_s=0.002
    ),
    "photoreceptor noise": DvsConfig(
        cutoff_hz=30.0, shot_noise_rate_hz=5.0, photoreceptor_noise=True
    ),
    "centre-surround": DvsConfig(cs_lambda_pixels=3.0, cs_tau_p_ms=2.0),
    "high pass": DvsConfig(scidvs=True),
    "hdr": DvsConfig(hdr=True, shot_noise_rate_hz=20.0, cutoff_hz=50.0),
}


def texture(n: int, size_wh: tuple[int, int], seed: int = 3) -> NDArray[np.uint8]:
    """Blurred noise that moves two pixels a frame, uint8 (n, H, W)."""
    extent = (size_wh[1], size_wh[0] + 2 * n)
    smooth = cv2.GaussianBlur(np.random.default_rng(seed).random(extent), (0, 0), 2.0)
    levels = (5 + 245 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    return np.stack([levels[:, 2 * k : 2 * k + size_wh[0]] for k in range(n)])


def irregular_times_us(n: int = FRAMES, seed: int = 1) -> NDArray[np.float64]:
    return 1e5 + np.cumsum(np.random.default_rng(seed).uniform(2000, 40_000, n))


def frames_for(config: DvsConfig, seed: int = 3) -> NDArray[Any]:
    frames = texture(FRAMES, SIZE_WH, seed)
    return np.log(frames.astype(np.float32) + 1) if config.hdr else frames


def cpu_and_gpu(config: DvsConfig, frame: NDArray[Any], device: str) -> tuple[Any, Any]:
    """An engine of each kind that has memorised the frame."""
    emulator = DvsEmulator(config, frame.shape[::-1], seed=5, recording="r")
    cpu, maps = emulator._new_engine(frame, 0.0), emulator.maps
    return cpu, new_engine(config, frame, maps, seed=5, recording="r", device=device)


def assert_same(found: Columns, expected: Columns) -> None:
    for name, theirs, ours in zip(Columns._fields, expected, found, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs, name)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CONFIGS)
def test_events_and_state_are_those_of_the_cpu(name: str, device: str) -> None:
    frames, times_us = frames_for(CONFIGS[name]), irregular_times_us()
    cpu, gpu = cpu_and_gpu(CONFIGS[name], frames[0], device)
    expected = cpu.advance(frames[1:], times_us, 1)
    assert len(expected.t_us) > 30
    assert_same(gpu.advance(frames[1:], times_us, 1), expected)
    if isinstance(cpu, WalkEngine):
        ours, theirs = gpu._batch._pixels._state, cpu._start.state
        for column in ("log", "lag", "difference", "leak"):
            found = getattr(ours, column).cpu().numpy()
            np.testing.assert_array_equal(found, getattr(theirs, column), column)
        asleep = np.isinf(theirs.difference)
        np.testing.assert_array_equal(ours.wake_us.cpu().numpy()[asleep], theirs.wake_us[asleep])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["ideal", "everything"])
def test_cutting_a_stream_into_pieces_changes_nothing(name: str, device: str) -> None:
    frames, times_us = frames_for(CONFIGS[name]), irregular_times_us()
    cpu, gpu = cpu_and_gpu(CONFIGS[name], frames[0], device)
    cuts = [1, 2, 2, 5, FRAMES]
    parts = [
        gpu.advance(frames[begin:end], times_us[begin - 1 : end], begin)
        for begin, end in pairwise(cuts)
    ]
    joined = Columns(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    assert_same(joined, cpu.advance(frames[1:], times_us, 1))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["clean", "slots", "everything"])
def test_clips_of_a_batch_do_not_know_of_each_other(name: str, device: str) -> None:
    config, seeds, names = CONFIGS[name], [7, 7, 8], ["a", "b", "a"]
    frames = np.stack([frames_for(config, seed) for seed in range(3)])
    times_us = np.stack([irregular_times_us(seed=seed) * (seed + 1) for seed in range(3)])
    emulators = [
        DvsEmulator(config, SIZE_WH, seed=seed, recording=recording)
        for seed, recording in zip(seeds, names, strict=True)
    ]
    maps = [emulator.maps for emulator in emulators]
    options: dict[str, Any] = {"seeds": seeds, "recordings": names, "device": device}
    batch = GpuBatch(config, frames[:, 0], maps, **options)
    given = torch.from_numpy(frames[:, 1:]).to(device)
    found = batch.advance(given, times_us, 1)
    begin = 0
    for clip, end in enumerate(found.ends.tolist()):
        ours = Columns(*(column[begin:end].cpu().numpy() for column in found[:4]))
        engine = emulators[clip]._new_engine(frames[clip, 0], 0.0)
        assert_same(ours, engine.advance(frames[clip, 1:], times_us[clip], 1))
        begin = end
    assert begin == len(found.t_us)


@pytest.mark.parametrize("device", DEVICES)
def test_noise_of_many_blocks_of_pixels_is_that_of_the_cpu(device: str) -> None:
    config = DvsConfig(shot_noise_rate_hz=20.0)
    size_wh = (66, 64) if interprets() else (130, 65)
    frames = np.stack([texture(2, size_wh, seed)[0] for seed in range(2)])
    cpu, gpu = cpu_and_gpu(config, frames[0], device)
    times_us = np.array([0.0, 3000.0])
    assert_same(gpu.advance(frames[1:], times_us, 9), cpu.advance(frames[1:], times_us, 9))


@pytest.mark.parametrize("device", DEVICES)
def test_many_events_at_one_time_are_in_order(device: str) -> None:
    config = DvsConfig(timing="slots", pos_thres=0.5)
    frames = np.full((2, 20, 20), 10, np.uint8)
    frames[1] = 250  # all pixels alike: 400 events in each slot
    cpu, gpu = cpu_and_gpu(config, frames[0], device)
    times_us = np.array([0.0, 1000.0])
    expected = cpu.advance(frames[1:], times_us, 1)
    assert Counter(expected.t_us.tolist()).most_common()[-1][1] == 400
    assert_same(gpu.advance(frames[1:], times_us, 1), expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["ideal", "everything"])
def test_a_still_picture_and_no_frames_at_all_are_silent(name: str, device: str) -> None:
    config = DvsConfig() if name == "ideal" else DvsConfig(cutoff_hz=30.0)
    frames = np.full((3, 5, 4), 77, np.uint8)
    _, gpu = cpu_and_gpu(config, frames[0], device)
    for number in (0, 2):
        found = gpu.advance(frames[:number], np.arange(number + 1) * 1e4, 1)
        assert [column.dtype for column in found] == [np.int64, np.uint16, np.uint16, np.bool_]
        assert not len(found.t_us)


def test_long_inputs_are_cut_where_memory_or_sort_keys_end(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, times_us = frames_for(CONFIGS["ideal"]), irregular_times_us()
    cpu, gpu = cpu_and_gpu(CONFIGS["ideal"], frames[0], "cpu")
    expected = cpu.advance(frames[1:], times_us, 1)
    monkeypatch.setattr(dvs_gpu, "_PIECE_PIXELS", 3 * SIZE_WH[0] * SIZE_WH[1])
    assert dvs_gpu._pieces(np.arange(8) * 1e4, SIZE_WH) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert_same(gpu.advance(frames[1:], times_us, 1), expected)
    # 2 x 2^20 addresses leave 2^42 us of time: frames a week apart do not share a launch.
    monkeypatch.setattr(dvs_gpu, "_PIECE_PIXELS", 1 << 40)
    week_us = np.arange(12) * 6.048e11
    pieces = dvs_gpu._pieces(week_us, (1024, 1024))
    assert len(pieces) > 1
    for piece in pieces:
        new_clock(week_us[None, piece.start : piece.stop + 1], (1024, 1024), "cpu")
    with pytest.raises(UsageError, match=r"1 clips of 1024x1024 pixels over 2\^43 us"):
        new_clock(week_us[None], (1024, 1024), "cpu")


def test_a_scan_is_run_again_when_a_program_has_more_hits_than_expected() -> None:
    capacities = []

    def scan(found: dvs_gpu_order.Stretches) -> None:
        capacities.append(found.capacity)
        assert found.hits.shape == (2, 6 * found.capacity)
        found.used[:] = torch.tensor([1, 0, 33, 5, 4, 2])

    found = dvs_gpu_order.stretches(scan, (2, 3, 4), words=2, likely=5, device="cpu")
    assert capacities == [16, 48]
    assert found.capacity == 48


def test_what_the_gpu_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = np.zeros((3, 4), np.uint8)
    with pytest.raises(UsageError, match="compat: got 'v2e' with more than thresholds"):
        cpu_and_gpu(DvsConfig(cutoff_hz=5.0, timing="slots", compat="v2e"), frame, "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="torch sees no CUDA device; use backend 'cpu'"):
        cpu_and_gpu(DvsConfig(), frame, "cuda")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependency, match=r"pip install 'egotriad\[train\]'"):
        cpu_and_gpu(DvsConfig(), frame, "cpu")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("preset", ["noisy"] if interprets() else PRESETS)
def test_public_calls_give_the_events_of_the_cpu(
    preset: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvs_gpu, "_usable", lambda _: device)
    size_wh, n = ((13, 7), 5) if interprets() else ((346, 260), 12)
    frames, times_s = texture(n, size_wh), np.arange(n) / 100
    config = DvsConfig.preset(preset)
    expected = emulate(frames, times_s, config)
    assert len(expected)
    assert emulate(frames, times_s, config, backend="gpu").same_as(expected)
    emulator = DvsEmulator(config, size_wh, backend="gpu")
    parts = [emulator.feed(frames[k : k + 3], np.arange(n)[k : k + 3] * 10_000) for k in (0, 3)]
    cut = expected.t_us <= 50_000
    assert sum(map(len, parts)) == np.count_nonzero(cut)
    np.testing.assert_array_equal(np.concatenate([part.t_us for part in parts]), expected.t_us[cut])


def test_what_kernels_would_read_beyond_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, times_us = np.zeros((2, 3, 7, 13), np.uint8), np.tile(np.arange(4) * 1e3, (2, 1))
    maps = [DvsEmulator(DvsConfig(), (13, 7)).maps] * 2
    options: dict[str, Any] = {"seeds": [0, 1], "recordings": ["a", "b"], "device": "cpu"}
    batch = GpuBatch(DvsConfig(), frames[:, 0], maps, **options)
    for wrong in (frames[:1], frames[:, :0], frames[:, 0], frames[..., 1:], frames.astype("f4")):
        with pytest.raises(UsageError, match=r"need uint8 \(2, n, 7, 13\) with n of 1 or more"):
            batch.advance(wrong, times_us, 1)
    for wrong_us in (times_us[:, 1:], times_us.astype(int)):
        with pytest.raises(UsageError, match=r"need float64 \(2, 4\), borders of 3 intervals"):
            batch.advance(frames, wrong_us, 1)
    with pytest.raises(UsageError, match="got steps of -1000 to -1000 us"):
        batch.advance(frames, -times_us, 1)
    assert not len(batch.advance(torch.from_numpy(frames), times_us, 1).t_us)
    monkeypatch.setattr(dvs_gpu, "_MOST_PIXELS", 100)
    with pytest.raises(UsageError, match=r"got \(2, 7, 13\) \(clips, H, W\), need at most"):
        GpuBatch(DvsConfig(), frames[:, 0], maps, **options)


def test_importing_the_package_imports_neither_torch_nor_triton() -> None:
    script = (
        "import sys\nimport egotriad.converters.dvs\n"
        "assert not {'torch', 'triton'} & set(sys.modules)\n"
        "import egotriad.converters.dvs_gpu\nassert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.skipif(interprets(), reason="the interpreter takes minutes")
def test_the_suite_for_devices_works_on_a_cpu(tmp_path: Path) -> None:
    suite, report = Path(__file__).parents[1] / "benchmarks" / "gpu_suite.py", tmp_path / "r.json"
    command = [sys.executable, str(suite), "--dry-run", "--only", "emulator", "--json", str(report)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    section = json.loads(report.read_text())["sections"]["emulator"]
    copy, *rows = section["records"]
    assert section["passed"]
    assert copy["copy_gb_s"] > 0
    assert len(rows) == 9
    assert all(row["equal"] and min(row["events"]) > 0 for row in rows)


needs_triton = pytest.mark.skipif(not find_spec("triton"), reason="Triton is not installed")


@pytest.mark.slow
@needs_triton
@pytest.mark.skipif(interprets(), reason="runs in the interpreter already")
def test_kernels_in_the_interpreter_pass_all_of_these_tests() -> None:
    import triton

    if int(triton.__version__.split(".")[1]) < 9 and np.lib.NumpyVersion(np.__version__) >= "2.4.0":
        pytest.skip(f"the interpreter of Triton {triton.__version__} fails with NumPy 2.4")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "ignore::RuntimeWarning", __file__]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
@needs_triton
@pytest.mark.skipif(interprets(), reason="the interpreter does not compile")
@pytest.mark.parametrize("clips", [1, 3])
def test_kernels_compile_for_hopper_without_fused_arithmetic(
    clips: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import triton
    from triton.backends.compiler import GPUTarget

    launches: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    def launch(kernel: Any, _: tuple[int, ...]) -> Any:
        def record(*arguments: Any, **options: Any) -> None:
            launches.append((kernel, arguments, options))
            for argument in arguments:
                if isinstance(argument, torch.Tensor):
                    argument.zero_()

        return record

    monkeypatch.setattr(triton.runtime.jit.KernelInterface, "__getitem__", launch)
    monkeypatch.setattr(dvs_gpu_triton, "interprets", lambda: True)
    for name in ("ideal", "slots", "leak", "everything", "noisy slots", "hdr"):
        frames = np.stack([frames_for(CONFIGS[name])] * clips)
        maps = [DvsEmulator(CONFIGS[name], SIZE_WH).maps] * clips
        seeds, names = list(range(clips)), ["r"] * clips
        batch = GpuBatch(
            CONFIGS[name], frames[:, 0], maps, seeds=seeds, recordings=names, device="cpu"
        )
        batch.advance(frames[:, 1:], np.stack([irregular_times_us()] * clips), 1)
    compiled = {}
    for kernel, arguments, options in launches:
        source, settings = as_launched(kernel, arguments, options)
        key = (kernel.__name__, kernel.__module__, str(source.signature), str(source.constants))
        if key not in compiled:
            target = GPUTarget("cuda", 90, 32)
            compiled[key] = triton.compile(source, target=target, options=settings).asm["ptx"]
    assert {key[0] for key in compiled} == {"_scan", "_place", "_sort", "_draw"}
    for key, code in compiled.items():
        assert not re.search(r"\b(fma|ex2|lg2|rcp|sqrt)\.", code), key
        if key[:2] != ("_scan", "egotriad.converters.dvs_gpu_levels"):
            assert "div.full" not in code, key


def as_launched(
    kernel: Any, arguments: tuple[Any, ...], options: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """What Triton would compile for a launch: the number 1 is a constant to it."""
    from triton.compiler import ASTSource

    types = {
        torch.uint8: "u8",
        torch.bool: "i1",
        torch.uint16: "u16",
        torch.int32: "i32",
        torch.int64: "i64",
        torch.float32: "fp32",
        torch.float64: "fp64",
    }
    signature: dict[str, str] = {}
    constants: dict[tuple[int, ...], Any] = {}
    values = dict(zip(kernel.arg_names, arguments, strict=False))
    values |= {name: value for name, value in options.items() if name in kernel.arg_names}
    for place, (name, value) in enumerate(values.items()):
        if isinstance(value, torch.Tensor):
            signature[name] = f"*{types[value.dtype]}"
        elif name in options or value == 1:
            signature[name], constants[(place,)] = "constexpr", value
        else:
            signature[name] = "i32" if abs(value) < 1 << 31 else "i64"
    settings = {name: value for name, value in options.items() if name not in kernel.arg_names}
    return ASTSource(fn=kernel, signature=signature, constexprs=constants), settings
