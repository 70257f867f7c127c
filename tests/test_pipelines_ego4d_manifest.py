from pathlib import Path

import pytest

from egotriad.manifests.errors import DownloadError
from egotriad.pipelines.ego4d_manifest import Wanted, ends_all, find_rows, write_override
from egotriad.pipelines.s3_access import Refusal


def manifest(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "manifest.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("video_uid,type,s3_path", "u1,csv,s3://b/public/v2/imu/u1.csv"),
        ("file_uid,type,canonical_s3_location", "u1,file,s3://b/public/v2/imu/u1.csv"),
        ("file_uid,type,canonical_s3_location", "0af3,file,s3://b/public/v2/imu/u1.csv"),
        ("video_uid,canonical_s3_location,s3_path", "u1,,s3://b/public/v2/imu/u1.csv"),
    ],
)
def test_the_columns_of_every_known_manifest_lead_to_the_object(
    tmp_path: Path, header: str, row: str
) -> None:
    path = manifest(tmp_path, f"{header}\r\n{row}\r\nu2,x,s3://b/k/u2.csv\r\n")
    found, useless = find_rows(path, "imu", ["u1"], suffix=".csv")
    assert found == {
        "u1": Wanted(dataset="imu", uid="u1", file="u1.csv", bucket="b", key="public/v2/imu/u1.csv")
    }
    assert useless == {}


def test_rows_without_a_path_are_no_use_unless_another_row_has_one(tmp_path: Path) -> None:
    path = manifest(tmp_path, "video_uid,s3_path\nu1,\nu2,\nu2,s3://b/u2.mp4\nu3,/local/u3.mp4\n")
    found, useless = find_rows(path, "full_scale", ["u1", "u2", "u3"], suffix=".mp4")
    assert list(found) == ["u2"]
    assert sorted(useless) == ["u1", "u3"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"uid,path\nu1,x\n", "got columns uid, path; need video_uid or file_uid, and canonical"),
        (b"\x1f\x8b\x00\xff", "is no table"),
        (b"", r"got columns \(none\)"),
    ],
)
def test_another_table_is_named_with_what_was_needed(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "manifest.csv").write_bytes(content)
    with pytest.raises(DownloadError, match=rf"^unknown-manifest: imu/manifest\.csv: {message}"):
        find_rows(tmp_path / "manifest.csv", "imu", ["u1"], suffix=".csv")


def test_what_the_program_gets_to_read_is_read_by_it_as_meant(tmp_path: Path) -> None:
    program = pytest.importorskip("ego4d.cli.manifest")
    files = [
        Wanted(dataset="imu", uid="u1", file="u1.csv", bucket="b", key="k/u1.csv"),
        Wanted(dataset="full_scale", uid="u1", file="u1.mp4", bucket="b", key="k/other.mp4"),
    ]
    write_override(tmp_path / "o.csv", files)
    read = list(program.list_videos_in_manifest(tmp_path / "o.csv", set(), set()))
    assert [(row.filename_base, row.s3_bucket, row.s3_object_key) for row in read] == [
        ("u1.csv", "b", "k/u1.csv"),
        ("u1.mp4", "b", "k/other.mp4"),
    ]


def test_only_what_holds_for_every_object_ends_a_download() -> None:
    of_all = ("no-profile", "no-keys", "expired-keys", "wrong-secret", "offline")
    of_one = ("denied", "missing-object", "s3-error", "unknown-manifest")
    refusals = [Refusal(reason=reason, message="") for reason in (*of_all, *of_one)]
    assert tuple(why.reason for why in refusals if ends_all(why)) == of_all
