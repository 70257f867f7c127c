"""Speed of reading and writing event files, beside other packages where they are installed.

    OMP_NUM_THREADS=1 python benchmarks/bench_event_files.py [--events 2000000] [--json FILE]

Peers: h5py by itself, NumPy, aedat, dv_processing, evlib, expelliarmus. Every peer's events must be
those that were written, or it is left out and named.
"""

import argparse
import importlib
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness import compare, environment, table, write_json
from numpy.typing import NDArray

from egotriad.converters.event_files import FORMATS, open_events, write_events
from egotriad.manifests import Events

SIZE_WH = (640, 480)
TIMES = "t", "timestamp", "timestamps"
Read = Callable[[Path], NDArray[np.int64]]


def main() -> None:
    """Runs all formats, prints the table, writes the JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=2_000_000, help="events in a file")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each arm")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    options = parser.parse_args()
    events = moving_edges(options.events)
    comparisons = []
    with tempfile.TemporaryDirectory() as folder:
        for name in FORMATS:
            if FORMATS[name].sizes and SIZE_WH not in FORMATS[name].sizes:
                continue
            kind = FORMATS[name]
            path = Path(folder) / f"events{kind.suffixes[0] if kind.suffixes else '.raw'}"
            write_events(path, events, format=name)
            facts = {"bytes/event": path.stat().st_size / len(events)}
            for what, arms in (
                ("read", readers(name, path, events)),
                ("write", writers(name, path, events)),
            ):
                comparison = compare(
                    f"{what} {name}",
                    arms,
                    peer="egotriad",
                    rounds=options.rounds,
                    work={"event": len(events)},
                    facts=facts,
                )
                comparisons.append(comparison)
                print(table([comparison]), flush=True)
    packages = ("numpy", "numba", "h5py", "aedat", "dv-processing", "evlib", "expelliarmus")
    where = environment(packages)
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    if options.json:
        write_json(options.json, comparisons, where)


def moving_edges(count: int) -> Events:
    """Runs of a few pixels along rows, as moving edges make them, at 20 million events/s."""
    rng = np.random.default_rng(0)
    runs = rng.geometric(0.3, count)
    run = np.repeat(np.arange(count), runs)[:count]
    along = np.arange(count) - np.repeat(np.cumsum(runs) - runs, runs)[:count]
    return Events(
        t_us=run // 6,
        x=((rng.integers(0, 560, count)[run] + along) % SIZE_WH[0]).astype(np.uint16),
        y=rng.integers(0, SIZE_WH[1], count)[run].astype(np.uint16),
        p=(rng.random(count) < 0.5)[run],
        size_wh=SIZE_WH,
    ).canonical()


def readers(name: str, path: Path, events: Events) -> dict[str, Callable[[], object]]:
    """Ways to read a file whole, those that give the times that were written."""
    arms: dict[str, Callable[[], object]] = {
        "egotriad": lambda: open_events(path, size_wh=SIZE_WH, format=name).read()
    }
    for peer, read in peers_reading(name).items():
        try:
            times = read(path)
        except Exception as exc:
            print(f"  {peer} cannot read {name}: {' '.join(str(exc).split())[:100]}")
            continue
        if np.array_equal(np.sort(times), events.t_us):
            arms[peer] = partial(read, path)
        else:
            print(f"  {peer} reads other times from {name}")
    return arms


def peers_reading(name: str) -> dict[str, Read]:
    """What else reads this format here; each gives the times, having read all columns."""
    found: dict[str, Read] = {}
    if name == "dsec":
        found["h5py"] = lambda path: read_h5py(path)
    if name == "tonic":
        found["numpy"] = lambda path: np.load(path)["t"]
    if name == "text":
        found["numpy"] = lambda path: np.rint(np.loadtxt(path)[:, 0] * 1e6).astype(np.int64)
    if name == "aedat4" and (aedat := optional("aedat")):
        found["aedat"] = lambda path: np.concatenate(
            [packet["events"]["t"] for packet in aedat.Decoder(str(path))]
        ).astype(np.int64)
    if name == "aedat4" and (dv := optional("dv_processing")):
        found["dv_processing"] = lambda path: read_dv(dv, path)
    if name in ("evt2", "evt3", "dat") and (expelliarmus := optional("expelliarmus")):
        found["expelliarmus"] = lambda path: expelliarmus.Wizard(encoding=name).read(str(path))["t"]
    if name in ("dsec", "evt2", "evt3", "text") and (evlib := optional("evlib")):
        found["evlib"] = lambda path: read_evlib(evlib, path)
    return found


def writers(name: str, path: Path, events: Events) -> Mapping[str, Callable[[], object]]:
    """Ways to write a file."""
    other = path.with_name(f"other{path.suffix}")
    arms: dict[str, Callable[[], object]] = {
        "egotriad": lambda: write_events(other, events, format=name)
    }
    if name == "dsec":
        arms["h5py"] = lambda: write_h5py(other, events, compression=None)
        arms["h5py, gzip"] = lambda: write_h5py(other, events, compression="gzip")
    if name == "text":
        rows = np.stack([events.t_us / 1e6, events.x, events.y, events.p], axis=1)
        arms["numpy"] = lambda: np.savetxt(other, rows, fmt="%.6f %d %d %d")
    if name in ("evt2", "evt3", "dat") and (expelliarmus := optional("expelliarmus")):
        columns = np.empty(len(events), [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1")])
        columns["t"], columns["x"], columns["y"] = events.t_us, events.x, events.y
        columns["p"] = events.p
        arms["expelliarmus"] = lambda: expelliarmus.Wizard(encoding=name).save(str(other), columns)
    return arms


def read_h5py(path: Path) -> NDArray[np.int64]:
    """All columns, whole, as most scripts do it."""
    import h5py
    import hdf5plugin  # noqa: F401  (registers blosc)

    with h5py.File(path) as file:
        columns = [file["events"][name][:] for name in "txyp"]
    return columns[0].astype(np.int64)


def write_h5py(path: Path, events: Events, *, compression: str | None) -> None:
    """All columns, whole, without an index."""
    import h5py

    with h5py.File(path, "w") as file:
        for name, values in zip("txyp", (events.t_us, events.x, events.y, events.p), strict=True):
            file.create_dataset(f"events/{name}", data=values, compression=compression)


def read_dv(dv: Any, path: Path) -> NDArray[np.int64]:
    """All batches of the only stream."""
    recording, parts = dv.io.MonoCameraRecording(str(path)), []
    while recording.isRunning():
        batch = recording.getNextEventBatch()
        if batch is not None:
            parts.append(batch.numpy()["timestamp"])
    return np.concatenate(parts)


def read_evlib(evlib: Any, path: Path) -> NDArray[np.int64]:
    """The whole frame, collected; it keeps times as durations."""
    frame = evlib.load_events(str(path)).collect()
    times = frame[next(name for name in TIMES if name in frame.columns)]
    return (
        times.dt.total_microseconds().to_numpy() if times.dtype.is_temporal() else times.to_numpy()
    )


def optional(module: str) -> Any:
    """The module, or None where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


if __name__ == "__main__":
    main()
