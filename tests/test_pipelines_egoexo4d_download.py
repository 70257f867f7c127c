import errno
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from egotriad.manifests import Recording
from egotriad.manifests.errors import (
    AccessDenied,
    DiskFull,
    DownloadError,
    MissingDependency,
    RecordingError,
    UsageError,
)
from egotriad.manifests.shards import read_shards
from egotriad.pipelines import egoexo4d_download
from egotriad.pipelines.cli import build_shards
from egotriad.pipelines.dataset_egoexo4d import DATASET
from egotriad.pipelines.egoexo4d_cli import run_egoexo
from egotriad.pipelines.egoexo4d_options import EgoExo4DOptions
from egotriad.pipelines.egoexo4d_release import BUCKET, RemoteFile, manifest_key
from egotriad.pipelines.fake_egoexo4d import FAKE_TAKES, motion_of, scene_of
from egotriad.pipelines.fake_egoexo4d_bucket import fake_objects
from egotriad.pipelines.preflight import check_dataset
from egotriad.pipelines.s3_access import Terms, refusal
from egotriad.pipelines.verify_cli import verify_shards

pytest.importorskip("ego4d", reason="needs ego4d (egotriad[ego4d])")
pytest.importorskip("moto", reason="needs moto[s3,server]")
pytest.importorskip("projectaria_tools", reason="needs projectaria-tools (egotriad[aria])")

FIRST, SECOND, THIRD = FAKE_TAKES
ONE = EgoExo4DOptions(uids=(FIRST.name,), yes=True)
ALL = EgoExo4DOptions(splits=("train", "validation", "test"), yes=True)
GOOD_KEY = "AKIAGOOD"


class FakeS3:
    """moto behind a gate that counts requests and refuses some, as S3 refuses them."""

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self._app = DomainDispatcherApplication(create_backend_app)
        self.requests: list[tuple[str, str]] = []
        self.refuse: Callable[[str, str, str], str | None] = lambda method, path, key: None
        self._server = make_server("127.0.0.1", 0, self._gate, threaded=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _gate(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        key = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].partition("/")[0]
        if key != "writer":
            self.requests.append((method, path))
            code = self.refuse(method, path, key)
            if code is not None:
                body = f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode()
                start("403 Forbidden", [("Content-Type", "application/xml")])
                return [b"" if method == "HEAD" else body]
        return self._app(environ, start)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def client(self) -> Any:
        import boto3

        keys = {"aws_access_key_id": "writer", "aws_secret_access_key": "x"}
        return boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", **keys)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("egoexo4d")
    DATASET.fake(root)
    return root


@pytest.fixture
def s3(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    """The release on a server, and a profile whose keys open it."""
    server = FakeS3()
    client = server.client()
    for item in fake_objects(tree):
        if item.bucket not in {b["Name"] for b in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=item.bucket)
        client.put_object(Bucket=item.bucket, Key=item.key, Body=item.content)
    write_keys(tmp_path, GOOD_KEY)
    for name, value in {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    yield server
    for bucket in client.list_buckets()["Buckets"]:  # moto's buckets outlive its servers
        for item in client.list_objects_v2(Bucket=bucket["Name"]).get("Contents", ()):
            client.delete_object(Bucket=bucket["Name"], Key=item["Key"])
    server.close()


def write_keys(folder: Path, key: str, profile: str = "default") -> None:
    text = f"[{profile}]\naws_access_key_id = {key}\naws_secret_access_key = secret\n"
    (folder / "credentials").write_text(text)


def files_of(raw: Path) -> set[str]:
    ours = {"downloads.jsonl", "downloads.jsonl.lock", "egoexo.log", "downloads_failed.json"}
    return {p.relative_to(raw).as_posix() for p in raw.rglob("*") if p.is_file()} - ours


def test_only_what_a_take_needs_is_fetched_and_a_second_run_asks_for_nothing(
    s3: FakeS3, tree: Path, tmp_path: Path
):
    raw = tmp_path / "raw"
    DATASET.download(raw, ONE)
    folder = f"takes/{FIRST.name}"
    assert files_of(raw) == {
        "takes.json",
        "annotations/splits.json",
        "annotations/atomic_descriptions_train.json",
        "annotations/atomic_descriptions_val.json",
        f"captures/{FIRST.capture}/timesync.csv",
        f"{folder}/aria01_noimagestreams.vrs",
        f"{folder}/frame_aligned_videos/downscaled/448/aria01_214-1.mp4",
    }
    for name in files_of(raw):
        assert (raw / name).read_bytes() == (tree / name).read_bytes()
    # Two parts for the tables, three for the take: read once by us, by the program in four calls.
    # Each file: a HEAD and a GET.
    assert len(s3.requests) == 5 * (1 + 4) + 7 * 2
    (recording,) = DATASET.recordings(raw, ONE)
    assert isinstance(recording, Recording)
    assert len(recording.narrations) == 4

    s3.requests.clear()
    DATASET.download(raw, ONE)
    assert s3.requests == []


@pytest.mark.slow
def test_what_was_damaged_afterwards_is_fetched_again_and_halves_are_removed(
    s3: FakeS3, tree: Path, tmp_path: Path
):
    raw = tmp_path / "raw"
    folder = raw / "takes" / FIRST.name
    # Laid by hand, but for one file, of which a killed run left a half.
    shutil.copytree(tree, raw)
    vrs = folder / "aria01_noimagestreams.vrs"
    vrs.unlink()
    half, beside = folder / f"{vrs.name}.8fA0c2B1", folder / f"{vrs.name}.json"
    for path in (half, beside):
        path.write_text("x")
    DATASET.download(raw, ONE)
    assert (half.exists(), beside.exists()) == (False, True)
    assert len(s3.requests) == (1 + 4) + 2

    s3.requests.clear()
    vrs.write_bytes(bytes(vrs.stat().st_size))
    DATASET.download(raw, ONE)
    assert vrs.read_bytes() == (tree / vrs.relative_to(raw)).read_bytes()
    assert len(s3.requests) == (1 + 4) + 2


@pytest.mark.slow
def test_a_missing_and_a_short_object_cost_their_takes_and_no_other(
    s3: FakeS3, tree: Path, tmp_path: Path
):
    vrs = {take: f"takes/{take.name}/{take.camera}_noimagestreams.vrs" for take in FAKE_TAKES}
    s3.client().delete_object(
        Bucket=f"ego4d-{SECOND.university}", Key=f"egoexo-public/v2/{vrs[SECOND]}"
    )
    s3.client().put_object(
        Bucket=f"ego4d-{THIRD.university}", Key=f"egoexo-public/v2/{vrs[THIRD]}", Body=b"short"
    )
    raw = tmp_path / "raw"
    DATASET.download(raw, ALL)
    first, second, third = DATASET.recordings(raw, ALL)
    assert isinstance(first, Recording)
    with pytest.raises(RecordingError, match=r"missing-file: .*: missing-object: s3://ego4d-cmu/"):
        second.read_imu()
    size = (tree / vrs[THIRD]).stat().st_size
    with pytest.raises(RecordingError, match=f"incomplete: 5 of {size} bytes came, 2 times"):
        third.read_imu()


@pytest.mark.slow
def test_keys_that_expire_on_the_way_cost_what_was_left_and_new_ones_bring_it(
    s3: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(egoexo4d_download, "BATCH_FILES", 3)
    seen = threading.Event()

    def expire(method: str, path: str, key: str) -> str | None:
        if f"/takes/{THIRD.name}/" in path:
            seen.set()
        return "InvalidAccessKeyId" if seen.is_set() and key == GOOD_KEY else None

    s3.refuse = expire
    raw = tmp_path / "raw"
    DATASET.download(raw, ALL)
    first, second, third = DATASET.recordings(raw, ALL)
    assert isinstance(first, Recording)
    assert isinstance(second, Recording)
    assert (
        "expired-keys: AWS does not know the keys of profile 'default' (any more)" in third.message
    )
    assert "sign again at https://ego4d.dev" in third.message

    s3.requests.clear()
    write_keys(tmp_path, "AKIANEW")
    DATASET.download(raw, ALL)
    assert all(isinstance(r, Recording) for r in DATASET.recordings(raw, ALL))
    fetched = {path for method, path in s3.requests if method == "GET" and "/takes/" in path}
    assert all(
        f"/takes/{THIRD.name}/" in path or path.endswith("manifest.json") for path in fetched
    )
    assert not (raw / "downloads_failed.json").exists()


@pytest.mark.slow
def test_new_keys_are_waited_for_and_read(
    s3: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def expire(method: str, path: str, key: str) -> str | None:
        return "ExpiredToken" if f"/takes/{FIRST.name}/" in path and key == GOOD_KEY else None

    def renew(seconds: float) -> None:
        write_keys(tmp_path, "AKIANEW")

    def manifests_too(method: str, path: str, key: str) -> str | None:
        known = expire(method, path, key)
        if known:
            s3.refuse = lambda method, path, key: known if key == GOOD_KEY else None
        return known

    s3.refuse = manifests_too
    monkeypatch.setattr(
        egoexo4d_download, "time", SimpleNamespace(monotonic=iter(range(99)).__next__, sleep=renew)
    )
    raw = tmp_path / "raw"
    DATASET.download(raw, replace(ONE, keys_wait_min=1.0))
    assert isinstance(DATASET.recordings(raw, ONE)[0], Recording)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("InvalidAccessKeyId", r"expired-keys: .* expire after 14 days; sign again at https://"),
        ("SignatureDoesNotMatch", r"wrong-secret: the secret key of profile 'default' does not"),
        ("AccessDenied", r"denied: s3://ego4d-consortium-sharing/egoexo-public/v2/metadata/mani"),
    ],
)
def test_keys_that_open_nothing_say_why(s3: FakeS3, tmp_path: Path, code: str, message: str):
    s3.refuse = lambda method, path, key: code
    with pytest.raises(AccessDenied, match=message):
        DATASET.download(tmp_path / "raw", ONE)
    assert len(s3.requests) == 1


def test_keys_that_open_nothing_cost_no_take_that_lies_there(
    s3: FakeS3, tree: Path, tmp_path: Path
):
    raw = Path(shutil.copytree(tree, tmp_path / "raw"))
    shutil.rmtree(raw / "takes" / SECOND.name)
    s3.refuse = lambda method, path, key: "InvalidAccessKeyId"
    DATASET.download(raw, ALL)
    assert len(s3.requests) == 1
    first, second, third = DATASET.recordings(raw, ALL)
    assert isinstance(first, Recording)
    assert isinstance(third, Recording)
    assert second.message.count("expired-keys: ") == 1


def test_without_keys_or_a_server_the_way_to_them_is_told(
    s3: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    raw = tmp_path / "raw"
    with pytest.raises(AccessDenied, match=r"no-profile: .* aws configure --profile ego"):
        DATASET.download(raw, replace(ONE, profile="ego"))
    (tmp_path / "credentials").write_text("[default]\n")
    with pytest.raises(AccessDenied, match=r"no-keys: the AWS profile 'default' holds no key"):
        DATASET.download(raw, ONE)
    write_keys(tmp_path, GOOD_KEY)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3.refuse = lambda method, path, key: "NoSuchKey"
    with pytest.raises(DownloadError, match=r"missing-object: .*manifest\.json: does not exist"):
        DATASET.download(raw, ONE)


@pytest.mark.parametrize(
    ("says", "code", "outcome"),
    [
        ("ModuleNotFoundError: No module named 'ego4d'", 1, MissingDependency),
        ("this version of ego4d reads its manifests in another way", 70, DownloadError),
        ("egoexo: error: unrecognized arguments: --release", 2, DownloadError),
        ("botocore.exceptions.ProfileNotFound: no such profile", 1, "botocore.exceptions.Pro"),
        ("Please retry the download (... returning with error code 2)", 2, ""),
    ],
)
def test_a_program_that_is_missing_another_one_or_crashes_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    says: str,
    code: int,
    outcome: type[Exception] | str,
):
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\necho "{says}"\necho " 50%|#####     |"\nexit {code}\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    file = RemoteFile(name="takes.json", part="metadata", bucket="b", key="k", size_bytes=1)
    if isinstance(outcome, str):
        assert run_egoexo(tmp_path, [file], "default").startswith(outcome)
        return
    with pytest.raises(outcome):
        run_egoexo(tmp_path, [file], "default")


def test_a_server_that_cannot_be_reached_and_other_errors_are_told_apart():
    from botocore.exceptions import ClientError, EndpointConnectionError

    terms = Terms(dataset="Ego-Exo4D", sign_url="https://sign", profile="p")
    offline = refusal(EndpointConnectionError(endpoint_url="https://s3"), terms, "s3://b/k")
    assert (offline.reason, offline.of_keys) == ("offline", False)
    assert "--no-download" in offline.message
    odd = ClientError({"Error": {"Code": "SlowDown"}}, "GetObject")
    assert str(refusal(odd, terms, "s3://b/k").error()) == "s3-error: s3://b/k: SlowDown"


def test_nothing_is_fetched_before_the_licence_is_signed_or_without_room(
    s3: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    raw = tmp_path / "raw"
    with pytest.raises(
        UsageError, match=r"licence must be signed first, at https://ego4d.dev.*--yes"
    ):
        DATASET.download(raw, replace(ONE, yes=False))
    assert s3.requests == []
    monkeypatch.setattr(egoexo4d_download, "free_bytes", lambda folder: 1000)
    with pytest.raises(
        DiskFull, match=r"GB are to be downloaded and 0\.000 GB of the disk are free"
    ) as full:
        DATASET.download(raw, ONE)
    assert full.value.exit_code == 74
    assert {path for _, path in s3.requests} == {
        f"/{BUCKET}/{manifest_key(part)}" for part in ("metadata", "annotations")
    }


@pytest.mark.slow
def test_a_file_that_no_manifest_lists_and_a_manifest_of_another_make(s3: FakeS3, tmp_path: Path):
    raw = tmp_path / "raw"
    client, key = s3.client(), manifest_key("annotations")
    manifest = json.loads(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    kept = [entry for entry in manifest if entry["uid"] != "atomic_descriptions"]
    client.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(kept).encode())
    DATASET.download(raw, ONE)
    failed = json.loads((raw / "downloads_failed.json").read_text())
    assert failed["annotations/atomic_descriptions_val.json"].startswith(
        "missing-object: part annotations of release v2 has no such file"
    )
    assert DATASET.recordings(raw, ONE)[0].text_source == "none"
    client.put_object(Bucket=BUCKET, Key=manifest_key("captures"), Body=b'{"a": 1}')
    shutil.rmtree(raw / "captures")
    with pytest.raises(DownloadError, match="is no manifest of Ego-Exo4D"):
        DATASET.download(raw, ONE)


def test_what_lies_there_is_read_without_any_network(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*args: object) -> None:
        raise OSError(errno.ENETUNREACH, "blocked")

    monkeypatch.setattr("socket.socket.connect", refuse)
    raw = Path(shutil.copytree(tree, tmp_path / "raw"))
    before = files_of(raw)
    for options in (EgoExo4DOptions(), ONE, ALL, replace(ONE, uids=("nobody",), download=False)):
        DATASET.download(raw, options)
    assert files_of(raw) == before
    assert len(DATASET.recordings(raw, EgoExo4DOptions())) == 3


def test_a_preflight_counts_takes_bytes_and_what_is_wrong_and_fetches_no_take(
    s3: FakeS3, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    raw = tmp_path / "raw"
    shutil.copytree(tree / "annotations", raw / "annotations")
    shutil.copy(tree / "takes.json", raw)
    client, key = s3.client(), manifest_key("take_vrs_noimagestream")
    manifest = json.loads(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    for entry in manifest:  # the format allows for it
        entry["paths"][0]["size"] = None
    client.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(manifest).encode())
    words = ["egoexo4d", "--raw", str(raw), "--uids", FIRST.uid, "--uids", "nobody", "--json"]
    assert check_dataset(words) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["keys"] == "ok"
    assert found["counts"] == {
        "asked for": 2,
        "in takes.json": 1,
        "with IMU": 1,
        "described": 1,
        "present": 0,
        "hours": 0,
    }
    vrs = tree / "takes" / FIRST.name / "aria01_noimagestreams.vrs"
    assert found["fetch_bytes"]["take_vrs_noimagestream"] == vrs.stat().st_size
    assert found["fetch_files"] == {
        "captures": 1,
        "take_vrs_noimagestream": 1,
        "downscaled_takes/448": 1,
    }
    assert list(found["problems"]) == ["nobody"]
    assert len(s3.requests) == 3 + 1, "three manifests, and one size that they do not tell"
    s3.refuse = lambda method, path, key: "InvalidAccessKeyId"
    assert check_dataset(words) == 3
    assert json.loads(capsys.readouterr().out)["keys"].startswith("expired-keys: ")
    assert not (raw / "takes").exists()

    whole = ["egoexo4d", "--raw", str(tree), "--uids", FIRST.uid]
    assert check_dataset(whole) == 0
    assert "keys: not needed" in capsys.readouterr().out


@pytest.mark.slow
def test_the_programs_own_filters_and_exit_codes_are_what_they_are_said_to_be(
    s3: FakeS3, tmp_path: Path
):
    def egoexo(name: str, *words: str) -> tuple[int, list[str]]:
        out = tmp_path / name
        main = "from ego4d.egoexo.download.cli import main; main()"
        command = [sys.executable, "-c", main, "-o", str(out), "-y", "--uids", FIRST.uid, *words]
        done = subprocess.run(command, capture_output=True, check=False)
        return done.returncode, sorted(path.name for path in out.rglob("*.*"))

    assert egoexo("tables", "--parts", "metadata", "annotations") == (0, [])
    small = ["--parts", "downscaled_takes/448", "--views", "ego"]
    assert egoexo("views", *small) == (0, ["aria01_214-1.mp4", "cam01.mp4", "cam02.mp4"])
    vrs = f"takes/{FIRST.name}/aria01_noimagestreams.vrs"
    s3.client().put_object(Bucket="ego4d-cmu", Key=f"egoexo-public/v2/{vrs}", Body=b"short")
    found = egoexo("short", "--parts", "take_vrs_noimagestream")
    assert found == (0, ["aria01_noimagestreams.vrs"])


@pytest.mark.slow
def test_build_shards_from_the_bucket_to_verified_shards_with_every_fault_named(
    s3: FakeS3, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    client, folder = s3.client(), f"takes/{SECOND.name}/frame_aligned_videos/downscaled/448"
    video = tree / folder / f"{SECOND.camera}_214-1.mp4"
    broken = video.read_bytes()[:40_000].ljust(video.stat().st_size, b"\x00")
    client.put_object(
        Bucket="ego4d-cmu", Key=f"egoexo-public/v2/{folder}/{video.name}", Body=broken
    )
    client.delete_object(
        Bucket="ego4d-iiith", Key=f"egoexo-public/v2/captures/{THIRD.capture}/timesync.csv"
    )
    out, raw = tmp_path / "out", tmp_path / "raw"
    words = ["egoexo4d", "--out", str(out), "--raw", str(raw), "--yes", "--json"]
    words += ["--window-seconds", "2", "--sensor", "32x24", "--workers", "1", "--windows", "grid"]
    for uid in (FIRST.uid, SECOND.name, THIRD.name, "nobody"):
        words += ["--uids", uid]
    assert build_shards(words) == 3
    report = json.loads(capsys.readouterr().out)
    assert (report["recordings"], report["clips"]) == (1, 5)
    assert set(report["failed"]) == {SECOND.uid, THIRD.uid, "nobody"}
    assert "aria01_214-1.mp4" in report["failed"][SECOND.uid]
    assert "timesync.csv: missing-object" in report["failed"][THIRD.uid]
    assert "unknown-uid" in report["failed"]["nobody"]
    assert verify_shards([str(out)]) == 0

    scene = scene_of(FIRST)
    told = {spoken.text.removeprefix("#C ") for spoken in scene.spoken}
    texts = set()
    for clip in read_shards(out):
        start_s = clip.t_start_us / 1e6
        accel, gyro = motion_of(FIRST, start_s + np.arange(400) / 200)
        assert np.abs(clip.imu.data[:3].T - accel).max() < 0.05
        assert np.abs(clip.imu.data[3:].T - gyro).max() < 0.01
        assert clip.align.status == "hardware"
        texts |= {narration.text for narration in clip.narrations}
    assert texts == told

    s3.requests.clear()
    capsys.readouterr()
    assert build_shards(words) == 3
    assert json.loads(capsys.readouterr().out)["reused"] == 1
    assert not any("/takes/" in path for method, path in s3.requests if not path.endswith(".json"))
