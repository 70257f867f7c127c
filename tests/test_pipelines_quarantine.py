"""Quarantine: classes of failure, what stands in a record, and when it is good for nothing."""

import dataclasses
import errno
import json
from pathlib import Path

import pytest

from egotriad.manifests.errors import MissingDependency, RecordingError, WorkerLost
from egotriad.pipelines import quarantine as quarantine_module
from egotriad.pipelines.quarantine import Quarantine, failure_of


class OutOfMemoryError(RuntimeError):
    """As torch.cuda has it."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RecordingError("row 3"), "input"),
        (FileNotFoundError("a.mp4"), "missing"),
        (WorkerLost("SIGKILL"), "machine"),
        (MemoryError(), "machine"),
        (OutOfMemoryError("CUDA out of memory"), "machine"),
        (OSError(errno.EIO, "Input/output error"), "machine"),
        (MissingDependency("pip install"), "machine"),
        (IndexError("list index out of range"), "defect"),
    ],
)
def test_failures_are_classed_by_whose_fault_they_are(error: Exception, kind: str) -> None:
    assert failure_of("r", "k", error).kind == kind


def test_a_recording_whose_file_is_gone_misses_it(tmp_path: Path) -> None:
    gone = tmp_path / "gone.mp4"
    assert failure_of("r", "k", RecordingError("cannot be opened"), [gone]).kind == "missing"


def test_a_defect_keeps_its_traceback_and_no_record_keeps_folders(tmp_path: Path) -> None:
    try:
        json.loads("{")
    except ValueError as exc:
        failure = failure_of("r", "k", exc)
    assert failure.kind == "defect"
    assert "decoder.py" in failure.traceback
    assert "/" not in failure.traceback.replace("m/s", "")
    where = failure_of("r", "k", RecordingError(f"{tmp_path}/raw/a.mp4: 3 m/s^2 and/or less"))
    assert where.message == "a.mp4: 3 m/s^2 and/or less"
    assert where.traceback is None


def test_records_are_read_back_and_cleared(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "quarantine")
    failure = failure_of("r", "k", RecordingError("row 3"), attempts=2)
    assert quarantine.find("r") is None
    quarantine.add(failure)
    assert quarantine.find("r") == failure
    record = json.loads((tmp_path / "quarantine" / "r.json").read_text())
    assert (record["class"], record["error"], record["attempts"]) == ("input", "RecordingError", 2)
    quarantine.clear("r")
    assert quarantine.find("r") is None


def test_input_and_defects_stand_until_something_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quarantine = Quarantine(tmp_path)
    broken = failure_of("r", "k", RecordingError("row 3"))
    quarantine.add(broken)
    assert quarantine.stands("r", "k") == broken
    assert quarantine.stands("r", "other files or options") is None
    quarantine.add(dataclasses.replace(broken, kind="machine"))
    assert quarantine.stands("r", "k") is None
    quarantine.add(dataclasses.replace(broken, kind="defect"))
    assert quarantine.stands("r", "k") is not None
    monkeypatch.setattr(quarantine_module, "BUILDER", "egotriad 99")
    assert quarantine.stands("r", "k") is None


def test_records_of_unknown_shape_do_not_stand(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"error": "RecordingError", "message": "of old"}\n')
    assert Quarantine(tmp_path).stands("r", "k") is None
    Quarantine(tmp_path).keep_only({"other"})
    assert not list(tmp_path.iterdir())
