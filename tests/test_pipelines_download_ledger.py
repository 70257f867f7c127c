import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from egotriad.manifests.errors import DownloadError
from egotriad.pipelines.download_ledger import DownloadLedger

NAME = "v2/imu/u1.csv"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / NAME).parent.mkdir(parents=True)
    (tmp_path / NAME).write_bytes(b"abc")
    return tmp_path


def test_a_recorded_file_is_known_to_the_next_process_with_its_size_version_and_hash(
    tree: Path,
) -> None:
    DownloadLedger(tree).record(NAME, version="v7")
    ledger = DownloadLedger(tree)
    entry = ledger.entry(NAME)
    assert entry is not None
    assert (entry.size_bytes, entry.version) == (3, "v7")
    assert entry.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert len(ledger) == 1
    assert ledger.entry("v2/imu/u2.csv") is None


def test_only_the_file_that_the_server_has_now_is_current(tree: Path) -> None:
    ledger = DownloadLedger(tree)
    assert not ledger.current(NAME, size_bytes=3)
    ledger.record(NAME, version="v7")
    assert ledger.current(NAME, size_bytes=3, version="v7")
    assert ledger.current(NAME, size_bytes=3)
    assert not ledger.current(NAME, size_bytes=3, version="v8")
    assert not ledger.current(NAME, size_bytes=4, version="v7")


def test_a_changed_or_vanished_file_is_not_intact_and_a_copied_tree_is(tree: Path) -> None:
    ledger = DownloadLedger(tree)
    ledger.record(NAME)
    os.utime(tree / NAME, ns=(0, 0))
    assert ledger.intact(NAME)
    (tree / NAME).write_bytes(b"xyz")
    os.utime(tree / NAME, ns=(0, 0))
    assert not ledger.intact(NAME)
    (tree / NAME).unlink()
    assert not ledger.intact(NAME)
    assert not ledger.current(NAME, size_bytes=3)


def test_half_a_line_of_a_killed_process_is_dropped_and_the_rest_stays(tree: Path) -> None:
    ledger = DownloadLedger(tree)
    ledger.record(NAME, version="v7")
    path = tree / DownloadLedger.FILE
    with path.open("a") as handle:
        handle.write('{"name":"v2/imu/u2')
    resumed = DownloadLedger(tree)
    assert resumed.intact(NAME)
    resumed.record(NAME, version="v8")
    assert path.read_text().count("\n") == 2
    entry = DownloadLedger(tree).entry(NAME)
    assert entry is not None
    assert entry.version == "v8"


def test_a_file_that_is_not_there_cannot_be_recorded(tree: Path) -> None:
    with pytest.raises(DownloadError, match=r"u2\.csv: was to be recorded as downloaded"):
        DownloadLedger(tree).record("v2/imu/u2.csv")


def test_a_foreign_line_is_named_with_what_to_do(tree: Path) -> None:
    (tree / DownloadLedger.FILE).write_text('{"uid":"u1"}\n')
    with pytest.raises(DownloadError, match=r"downloads\.jsonl, line 1: .* delete the file"):
        DownloadLedger(tree)


def test_one_process_at_a_time_and_what_others_recorded_is_read_on_entry(tree: Path) -> None:
    first, second = DownloadLedger(tree), DownloadLedger(tree)
    with first.claimed():
        first.record(NAME)
        with pytest.raises(DownloadError, match="another process downloads"), second.claimed():
            pass
    with second.claimed():
        assert second.intact(NAME)


def test_a_killed_process_leaves_no_claim_behind(tree: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path\n"
        "from egotriad.pipelines.download_ledger import DownloadLedger\n"
        "with DownloadLedger(Path(sys.argv[1])).claimed(): os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tree)], check=False)
    with DownloadLedger(tree).claimed():
        pass


def test_a_tree_may_move(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    DownloadLedger(tree).record(NAME)
    elsewhere = tmp_path_factory.mktemp("copy") / "tree"
    shutil.copytree(tree, elsewhere)
    assert DownloadLedger(elsewhere).intact(NAME)
