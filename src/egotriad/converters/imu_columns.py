"""Columns of numbers out of the file formats that IMU recordings come in."""

import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from egotriad.converters.imu_spec import ImuFileSpec
from egotriad.manifests.errors import MissingDependency, RecordingError

__all__ = ["Columns", "read_columns"]

MOST_COLUMNS = 10_000
MISSING_WORDS = ("NULL", "null", "NaN", "nan", "NA", "")


class Columns:
    """Columns of equal length by name or by number, made numbers when asked for.

    Args:
        where: names the file in messages.
        named: (N,) each, in the order of the file.
    """

    def __init__(self, where: str, named: Mapping[str, Any]) -> None:
        self._where = where
        self._named = dict(named)

    def __getitem__(self, column: str | int) -> NDArray[np.float64]:
        """One column, float64 (N,).

        Raises:
            RecordingError: no such column, or text among its numbers.
        """
        names = list(self._named)
        if isinstance(column, int):
            if not 0 <= column < len(names):
                raise RecordingError(
                    f"{self._where}: {len(names)} columns, need number {column} (counted from 0); "
                    f"is the delimiter right?"
                )
            column = names[column]
        if column not in self._named:
            raise RecordingError(
                f"{self._where}: no column {column!r}; it has {_listed(names)}; is the delimiter "
                f"right?"
            )
        try:
            return np.asarray(self._named[column], np.float64)
        except (ValueError, TypeError) as exc:
            raise RecordingError(
                f"{self._where}: column {column!r} is not numbers throughout: {exc}"
            ) from exc


def read_columns(path: Path, spec: ImuFileSpec) -> Columns:
    """All columns of a file, chosen by its suffix: .csv .tsv .txt .npz .ts .mat .aedat4 .parquet.

    Raises:
        RecordingError: no such file, an empty or damaged one, no such entry, or a suffix that is
            none of these.
        MissingDependency: .aedat4 without the `aedat` package.
    """
    if not path.is_file():
        raise RecordingError(f"{path}: no such file; check the path")
    if not path.stat().st_size:
        raise RecordingError(f"{path.name}: the file is empty; copy it again")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise RecordingError(
            f"{path.name}: not an IMU format known here; need one of {', '.join(READERS)}"
        )
    try:
        named = reader(path, spec)
    except RecordingError as exc:
        raise RecordingError(f"{path.name}: {exc}") from exc
    except DAMAGED as exc:
        kind = path.suffix.removeprefix(".")
        raise RecordingError(f"{path.name}: cannot be read as {kind}: {exc}") from exc
    lengths = {len(column) for column in named.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise RecordingError(
            f"{path.name}: need columns of one length above 0, got {len(named)} columns of "
            f"{_listed(lengths) or 'no'} rows"
        )
    return Columns(path.name, named)


# What the libraries below raise on damaged files, MemoryError for headers that promise too much.
DAMAGED = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    OSError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def _text(path: Path, spec: ImuFileSpec) -> dict[str, Any]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else spec.delimiter
    table = pd.read_csv(
        path,
        sep=r"\s+" if delimiter == " " else delimiter,
        header=(None, 0, [0, 1])[spec.header_rows],
        na_values=list(MISSING_WORDS),
        keep_default_na=False,
        skipinitialspace=True,
        low_memory=False,
    )
    if not isinstance(table.index, pd.RangeIndex):  # pandas took surplus cells for row names
        raise RecordingError("rows have more cells than the header has columns")
    if table.shape[1] > MOST_COLUMNS:
        raise RecordingError(f"{table.shape[1]} columns, need at most {MOST_COLUMNS}")
    return {_heading(name): table.iloc[:, k] for k, name in enumerate(table.columns)}


def _heading(name: Any) -> str:
    parts = name if isinstance(name, tuple) else (name,)
    return ".".join(str(part).strip() for part in parts)


def _npz(path: Path, spec: ImuFileSpec) -> dict[str, Any]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        if not spec.entry:
            return _flat({key: arrays[key] for key in arrays.files})
        if spec.entry not in arrays.files:
            raise RecordingError(f"no entry {spec.entry!r}; it has {_listed(arrays.files)}")
        array = arrays[spec.entry]
    if array.dtype.names:
        return {name: array[name] for name in array.dtype.names}
    return _flat({"": array})


def _ts(path: Path, spec: ImuFileSpec) -> dict[str, Any]:
    """One case of a .ts file (aeon): dimensions between colons, the label last."""
    case = int(spec.entry or 0)
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip().lower() == "@data":
                break
        else:
            raise RecordingError("no @data line; not a .ts file")
        chosen = next(islice((line for line in lines if line.strip()), case, None), None)
    if chosen is None or case < 0:
        raise RecordingError(f"no case number {case}; give the number of a case as the entry")
    *dimensions, _label = chosen.strip().split(":")
    series = [np.array(part.split(","), np.float64) for part in dimensions]
    return {str(k): values for k, values in enumerate(series)}


def _mat(path: Path, spec: ImuFileSpec) -> dict[str, Any]:
    """Fields of the structure that `entry` leads to in a MATLAB file up to version 7."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        node: Any = loadmat(path, squeeze_me=True, struct_as_record=False)
    except (MatReadError, NotImplementedError) as exc:
        raise RecordingError(f"not a MATLAB file up to version 7: {exc}") from exc
    for name in filter(None, spec.entry.split(".")):
        fields = _fields(node)
        if name not in fields:
            raise RecordingError(f"no field {name!r} of {spec.entry!r}; there is {_listed(fields)}")
        node = fields[name]
    if isinstance(node, np.ndarray):
        return _flat({"": node})
    arrays = {name: value for name, value in _fields(node).items() if np.size(value) > 1}
    if not arrays:
        raise RecordingError(f"no arrays at {spec.entry!r}; it has {_listed(_fields(node))}")
    return _flat({name: value for name, value in arrays.items() if isinstance(value, np.ndarray)})


def _fields(node: Any) -> dict[str, Any]:
    if isinstance(node, dict):
        return {name: value for name, value in node.items() if not name.startswith("__")}
    return {name: getattr(node, name) for name in getattr(node, "_fieldnames", ())}


def _aedat4(path: Path, spec: ImuFileSpec) -> dict[str, Any]:
    try:
        import aedat
    except ImportError as exc:
        raise MissingDependency(
            "AEDAT4 files need the package aedat: pip install 'egotriad[aedat]'"
        ) from exc
    try:
        packets = [packet["imus"] for packet in aedat.Decoder(str(path)) if "imus" in packet]
    except BaseException as exc:
        # A panic of the library's Rust code, which is no Exception.
        if type(exc).__name__ == "PanicException":
            raise RecordingError(f"damaged: {exc}") from exc
        raise
    if not packets:
        raise RecordingError("no IMU stream in it")
    samples = np.concatenate(packets)
    return {name: samples[name] for name in samples.dtype.names or ()}


def _parquet(path: Path, spec: ImuFileSpec) -> dict[str, Any]:
    table = pq.read_table(path)
    return {name: table.column(name).to_numpy() for name in table.column_names}


def _flat(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Arrays (N,) as columns, (N, K) as K columns `name.0` ..., for an unnamed one `0` ...

    Arrays of another length than the longest are something else (settings, labels) and left out.
    """
    longest = max((len(array) for array in arrays.values() if array.ndim in (1, 2)), default=0)
    columns: dict[str, Any] = {}
    for name, array in arrays.items():
        if array.ndim not in (1, 2) or len(array) != longest:
            continue
        if array.ndim == 1:
            columns[name or "0"] = array
        else:
            columns |= {f"{name}.{k}".lstrip("."): array[:, k] for k in range(array.shape[1])}
    return columns


def _listed(names: Iterable[Any]) -> str:
    """Names for a message, not more than thirty."""
    shown = [str(name)[:60] for name in islice(names, 31)]
    return ", ".join([*shown[:30], "..."] if len(shown) > 30 else shown)


READERS: dict[str, Callable[[Path, ImuFileSpec], dict[str, Any]]] = {
    ".csv": _text,
    ".tsv": _text,
    ".txt": _text,
    ".npz": _npz,
    ".ts": _ts,
    ".mat": _mat,
    ".aedat4": _aedat4,
    ".parquet": _parquet,
}
