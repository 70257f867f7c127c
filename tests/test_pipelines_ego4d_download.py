"""The download against a stand-in of S3 (moto), through the real `ego4d` program."""

import json
import logging
import shutil
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from egotriad.cli import main
from egotriad.converters.narration import clean
from egotriad.manifests import Clip
from egotriad.manifests.errors import AccessDenied, DiskFull, DownloadError, UsageError
from egotriad.manifests.shards import read_shards
from egotriad.pipelines import ego4d_fetch
from egotriad.pipelines.dataset_ego4d import DATASET
from egotriad.pipelines.download_ledger import DownloadLedger
from egotriad.pipelines.ego4d_manifest import BUCKET
from egotriad.pipelines.ego4d_options import Ego4dOptions
from egotriad.pipelines.ego4d_status import read_status
from egotriad.pipelines.fake_ego4d import FakeVideo, fake_uid, write_fake_ego4d
from egotriad.pipelines.fake_ego4d_bucket import fake_ego4d_objects
from egotriad.pipelines.world_plan import Scene, WorldOptions, direct, plan_world
from egotriad.pipelines.world_sensors import ideal_imu

pytest.importorskip("ego4d.cli")
moto_app = pytest.importorskip("moto.moto_server.werkzeug_app")
serving = pytest.importorskip("werkzeug.serving")

GOOD_KEY = "AKIAGOODGOODGOODGOOD"
ERROR = '<?xml version="1.0"?><Error><Code>{}</Code><Message>no</Message></Error>'


@dataclass
class Bucket:
    """A stand-in of S3 that counts calls and refuses what it is told to refuse.

    As S3 does, it says why only in the body of an answer to GET.
    """

    url: str = ""
    calls: list[str] = field(default_factory=list)
    good_keys: set[str] = field(default_factory=lambda: {GOOD_KEY})
    denied: set[str] = field(default_factory=set)
    expire_after: Callable[[str], bool] = lambda call: False

    def wrap(self, app: Any) -> Any:
        def serve(environ: dict[str, Any], start_response: Any) -> Any:
            call = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO'].lstrip('/')}"
            if not environ["PATH_INFO"].startswith("/moto-api"):
                self.calls.append(call)
            code = self._refusal(environ, call)
            if code is None:
                return app(environ, start_response)
            body = b"" if environ["REQUEST_METHOD"] == "HEAD" else ERROR.format(code).encode()
            start_response("403 Forbidden", [("Content-Length", str(len(body)))])
            return [body]

        return serve

    def _refusal(self, environ: dict[str, Any], call: str) -> str | None:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return None
        if self.expire_after(call):
            self.good_keys.discard(GOOD_KEY)
        credential = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2]
        if credential.partition("/")[0] not in self.good_keys:
            return "InvalidAccessKeyId"
        return "AccessDenied" if call.partition(" ")[2] in self.denied else None

    def fill(self, objects: dict[tuple[str, str], bytes]) -> None:
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=GOOD_KEY,
            aws_secret_access_key="x",
        )
        for bucket in {bucket for bucket, _ in objects}:
            client.create_bucket(Bucket=bucket)
            client.put_bucket_versioning(
                Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
            )
        for (bucket, key), content in objects.items():
            client.put_object(Bucket=bucket, Key=key, Body=content)
        self.calls.clear()

    def fetched(self) -> Counter[str]:
        """Files whose bytes were asked for, by how often."""
        names = [call.rpartition("/")[2] for call in self.calls if call.startswith("GET")]
        return Counter(name for name in names if not name.startswith("manifest"))


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    stand_in = Bucket()
    app = stand_in.wrap(moto_app.DomainDispatcherApplication(moto_app.create_backend_app))
    server = serving.make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stand_in.url = f"http://127.0.0.1:{server.server_port}"
    credentials = tmp_path / "credentials"
    write_keys(credentials, GOOD_KEY)
    monkeypatch.setenv("AWS_ENDPOINT_URL", stand_in.url)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    urllib.request.urlopen(
        urllib.request.Request(f"{stand_in.url}/moto-api/reset", method="POST")
    ).close()
    yield stand_in
    server.shutdown()
    server.server_close()


def write_keys(path: Path, key: str) -> None:
    path.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[FakeVideo, ...]]:
    """A tree as the buckets hold it: three videos, one without IMU."""
    raw = tmp_path_factory.mktemp("source") / "raw"
    world = WorldOptions(
        clips_per_recording=2, size_wh=(64, 48), frame_rate_hz=30.0, render_workers=1
    )
    return raw, write_fake_ego4d(raw, ("", "", "no-imu"), world=world)


UIDS = tuple(fake_uid(number) for number in range(3))
A, B, C = UIDS


def options(*uids: str, **more: Any) -> Ego4dOptions:
    return Ego4dOptions(uids=uids or (A, B), yes=True, **more)


def states(raw: Path) -> dict[str, tuple[str, str]]:
    return {uid: (status.state, status.reason) for uid, status in read_status(raw).items()}


def test_only_what_is_asked_for_comes_and_a_second_run_asks_nothing(
    bucket: Bucket, source: tuple[Path, Any], tmp_path: Path
) -> None:
    bucket.fill(fake_ego4d_objects(source[0]))
    raw = tmp_path / "raw"
    beside = raw / "v2" / "imu" / f"{A}.mine.json"  # the program deletes such files
    beside.parent.mkdir(parents=True)
    beside.write_text("mine")
    DATASET.download(raw, options())
    assert beside.read_text() == "mine"
    for name in (f"imu/{A}.csv", f"imu/{B}.csv", f"video_540ss/{A}.mp4", f"video_540ss/{B}.mp4"):
        assert (raw / "v2" / name).read_bytes() == (source[0] / "v2" / name).read_bytes()
    assert not list(raw.rglob(f"{C}*"))
    assert not (raw / "staging-ego4d").exists()
    assert set(bucket.fetched()) == {
        "ego4d.json",
        "narration.json",
        *(f"{uid}.{suffix}" for uid in (A, B) for suffix in ("csv", "mp4")),
    }
    assert max(bucket.fetched().values()) == 1
    # Per file: our HEAD, the program's two, boto3's one before it loads, and the GET.
    assert len(bucket.calls) <= 4 + 5 * 5
    assert states(raw) == {A: ("done", ""), B: ("done", "")}
    ledger = DownloadLedger(raw)
    entry = ledger.entry(f"v2/imu/{A}.csv")
    assert entry is not None
    assert entry.version
    assert ledger.intact(f"v2/imu/{A}.csv")

    bucket.calls.clear()
    DATASET.download(raw, options())
    assert bucket.calls == []
    DATASET.download(raw, options(A, C, video="none"))
    assert bucket.calls == []  # C has no IMU, and nothing else of it is wanted


@pytest.mark.slow
def test_each_file_that_cannot_be_had_is_named_and_the_rest_comes(
    bucket: Bucket, source: tuple[Path, Any], tmp_path: Path
) -> None:
    uids = [*UIDS, *(fake_uid(number) for number in range(3, 7))]
    raw, more = tmp_path / "raw", tmp_path / "more"
    world = WorldOptions(
        clips_per_recording=1, size_wh=(64, 48), frame_rate_hz=30.0, render_workers=1
    )
    write_fake_ego4d(more, [""] * 7, world=world)
    denied = f"video_540ss/{uids[5]}.mp4"
    bucket.denied.add(f"ego4d-minnesota/public/v2/{denied}")
    bucket.fill(
        fake_ego4d_objects(
            more,
            missing=[f"imu/{uids[0]}.csv"],
            unlisted=[f"imu/{uids[1]}.csv"],
            pathless=[f"video_540ss/{uids[2]}.mp4"],
        )
    )
    DATASET.download(raw, options(*uids[:6], "11111111-aaaa", has=("imu",)))
    assert states(raw) == {
        uids[0]: ("missing", "missing-object"),
        uids[1]: ("missing", "not-in-manifest"),
        uids[2]: ("missing", "not-in-manifest"),
        uids[3]: ("done", ""),
        uids[4]: ("done", ""),
        uids[5]: ("missing", "denied"),
        "11111111-aaaa": ("missing", "unknown-uid"),
    }
    status = read_status(raw)
    assert "imu/" in status[uids[0]].message
    assert "does not exist on the server" in status[uids[0]].message
    assert "lists no file" in status[uids[1]].message
    assert "has a row without a usable path" in status[uids[2]].message
    assert "approved" in status[uids[5]].message
    # The pictures of a video without IMU are not worth their bytes.
    assert not (raw / "v2" / "video_540ss" / f"{uids[0]}.mp4").exists()
    found = {
        recording.recording_id: recording
        for recording in DATASET.recordings(raw, options(*uids[:6], has=("imu",)))
    }
    assert str(getattr(found[uids[5]], "message", "")).startswith("denied: ")
    bucket.calls.clear()
    DATASET.download(raw, options(*uids[:6], has=("imu",)))
    assert not bucket.fetched() - Counter({f"{uids[5]}.mp4": 1})  # asked once more for the reason
    assert states(raw)[uids[3]] == ("done", "")


def test_keys_that_expire_on_the_way_stop_the_rest_and_new_ones_finish_it(
    bucket: Bucket, source: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.fill(fake_ego4d_objects(source[0]))
    raw = tmp_path / "raw"
    monkeypatch.setattr(ego4d_fetch, "BATCH_FILES", 1)
    bucket.expire_after = lambda call: call == f"GET ego4d-minnesota/public/v2/video_540ss/{B}.mp4"
    DATASET.download(raw, options())
    assert states(raw) == {A: ("done", ""), B: ("missing", "expired-keys")}
    assert "14 days" in read_status(raw)[B].message
    bucket.expire_after = lambda call: False
    bucket.calls.clear()
    bucket.good_keys.add("AKIANEWNEWNEWNEWNEWN")
    write_keys(tmp_path / "credentials", "AKIANEWNEWNEWNEWNEWN")
    DATASET.download(raw, options())
    assert states(raw) == {A: ("done", ""), B: ("done", "")}
    assert set(bucket.fetched()) == {f"{B}.mp4"}


@pytest.mark.slow
def test_new_keys_written_while_it_waits_are_taken_up(
    bucket: Bucket, source: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.fill(fake_ego4d_objects(source[0]))
    raw = tmp_path / "raw"
    bucket.expire_after = lambda call: call == f"GET {BUCKET}/public/v2/imu/{B}.csv"
    naps = []

    def renew(seconds: float) -> None:
        naps.append(seconds)
        bucket.expire_after = lambda call: False
        bucket.good_keys.add("AKIANEWNEWNEWNEWNEWN")
        write_keys(tmp_path / "credentials", "AKIANEWNEWNEWNEWNEWN")

    monkeypatch.setattr(ego4d_fetch, "sleep", renew)
    DATASET.download(raw, options(video="none", keys_wait_min=5.0))
    assert states(raw) == {A: ("done", ""), B: ("done", "")}
    assert naps == [ego4d_fetch.POLL_KEYS_S]


def test_keys_that_open_nothing_end_the_call_under_their_name(
    bucket: Bucket, source: tuple[Path, Any], tmp_path: Path
) -> None:
    bucket.fill(fake_ego4d_objects(source[0]))
    bucket.good_keys.clear()
    with pytest.raises(AccessDenied, match=r"^expired-keys: .* 14 days; sign again at https"):
        DATASET.download(tmp_path / "raw", options())
    (tmp_path / "credentials").write_text("[other]\naws_access_key_id = x\n")
    with pytest.raises(AccessDenied, match=r"^no-profile: there is no AWS profile 'default'"):
        DATASET.download(tmp_path / "raw", options())


def test_a_release_the_keys_may_not_read_is_told_from_expired_keys(
    bucket: Bucket, source: tuple[Path, Any], tmp_path: Path
) -> None:
    bucket.fill(fake_ego4d_objects(source[0]))
    bucket.denied.add(f"{BUCKET}/public/v2/ego4d.json")
    with pytest.raises(DownloadError, match=r"^denied: .*ego4d\.json: the keys .* may not read"):
        DATASET.download(tmp_path / "raw", options(release="v2"))


def test_what_is_there_is_built_on_when_the_keys_fail(
    bucket: Bucket, source: tuple[Path, Any], tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(source[0], raw)
    (raw / "v2" / "video_540ss" / f"{B}.mp4").unlink()
    bucket.good_keys.clear()
    DATASET.download(raw, options())
    assert states(raw) == {A: ("done", ""), B: ("missing", "expired-keys")}


def test_the_licence_is_asked_for_before_anything_is_fetched(
    bucket: Bucket, source: tuple[Path, Any], tmp_path: Path
) -> None:
    bucket.fill(fake_ego4d_objects(source[0]))
    with pytest.raises(
        UsageError, match=r"licence: .*ego4ddataset\.com/; when you have, add --yes"
    ):
        DATASET.download(tmp_path / "raw", Ego4dOptions(uids=(A,)))
    assert bucket.calls == []
    assert not (tmp_path / "raw").exists()


def test_a_full_disk_is_seen_before_the_first_byte_with_numbers(
    bucket: Bucket, source: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.fill(fake_ego4d_objects(source[0]))
    raw = tmp_path / "raw"
    monkeypatch.setattr(ego4d_fetch, "free_bytes", lambda folder: 2_000_000)
    with pytest.raises(
        DiskFull, match=r"^disk-full: 1 files of annotations take .* 0\.00 GB are free"
    ):
        DATASET.download(raw, options())
    assert not bucket.fetched() - Counter(["ego4d.json"])


def test_two_releases_do_not_mix_in_one_folder(
    bucket: Bucket, source: tuple[Path, Any], tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(source[0], raw)
    DownloadLedger(raw).record("ego4d.json", version="v1")
    with pytest.raises(UsageError, match="got v2_1, the raw folder holds v1"):
        DATASET.download(raw, options())


def test_an_interrupted_download_takes_up_what_was_staged(
    bucket: Bucket, source: tuple[Path, Any], tmp_path: Path
) -> None:
    bucket.fill(fake_ego4d_objects(source[0]))
    raw = tmp_path / "raw"
    for name in ("ego4d.json", "v2/annotations/narration.json", f"v2/imu/{A}.csv"):
        target = raw / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source[0] / name, target)
    staged = raw / "staging-ego4d" / "v2" / "imu"
    staged.mkdir(parents=True)
    shutil.copyfile(source[0] / "v2" / "imu" / f"{B}.csv", staged / f"{B}.csv")
    (staged / f"{B}.csv.Fe34aB12").write_text("half")
    DATASET.download(raw, options(video="none"))
    assert not bucket.fetched()
    assert states(raw) == {A: ("done", ""), B: ("done", "")}
    assert not (raw / "staging-ego4d").exists()


def test_the_preflight_counts_what_a_build_would_meet_and_fetches_nothing(
    bucket: Bucket, source: tuple[Path, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket.fill(fake_ego4d_objects(source[0], missing=[f"video_540ss/{B}.mp4"]))
    raw = tmp_path / "raw"
    copied = raw / "v2" / "imu" / f"{A}.csv"
    copied.parent.mkdir(parents=True)
    shutil.copyfile(source[0] / "v2" / "imu" / f"{A}.csv", copied)
    words = ["check", "ego4d", "--raw", str(raw), "--uids", f"{A},{B}", "--uids", C]
    assert main([*words, "--uids", "zz", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["keys"] == "ok"
    assert found["counts"] == {
        "asked for": 4,
        "in ego4d.json": 3,
        "with IMU": 2,
        "present": 0,
        "hours": 0,
        "in the manifests": 3,
    }
    tree = source[0] / "v2"
    sizes = {uid: (tree / "video_540ss" / f"{uid}.mp4").stat().st_size for uid in UIDS}
    assert found["fetch_bytes"] == {
        "imu": (tree / "imu" / f"{B}.csv").stat().st_size,
        "video_540ss": sizes[A] + sizes[C],
    }
    assert found["fetch_files"] == {"imu": 1, "video_540ss": 2}
    assert found["problems"]["zz"].startswith("unknown-uid: ")
    assert found["problems"][B].startswith("missing-object: ")
    assert found["fits"]
    assert not found["ready"]
    assert set(bucket.fetched()) == {"ego4d.json"}
    assert main([*words[:-2], "--no-download"]) == 3
    assert "not-downloaded" in capsys.readouterr().out
    bucket.good_keys.clear()
    assert main([*words, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["keys"].startswith("expired-keys: ")


def test_from_uids_to_verified_shards_whose_clean_windows_equal_the_truth(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, raw, out = tmp_path / "source", tmp_path / "raw", tmp_path / "shards"
    world = WorldOptions(
        wearers=4,
        recordings_per_wearer=1,
        clips_per_recording=6,
        size_wh=(128, 96),
        frame_rate_hz=30.0,
        render_workers=1,
    )
    videos = write_fake_ego4d(source, ("", "late-clock", "cut-video", ""), world=world)
    bucket.fill(fake_ego4d_objects(source, missing=[f"video_540ss/{videos[3].uid}.mp4"]))
    asked = ",".join([*(video.uid for video in videos), "not-a-video"])
    words = ["build-shards", "ego4d", "--uids", asked, "--raw", str(raw), "--out", str(out)]
    words += ["--yes", "--sync", "correct", "--engine", "serial", "--json"]
    words += ["--sensor", "32x24", "--event-spans", "0.05s@center", "--upsample", "none"]
    words += ["--windows", "grid", "--window-seconds", "4"]
    assert main(words) == 3
    report = json.loads(capsys.readouterr().out)
    assert report["recordings"] == 2
    assert {name: why.partition(":")[0] for name, why in report["failed"].items()} == {
        videos[2].uid: "broken-video",
        videos[3].uid: "missing-object",
        "not-a-video": "unknown-uid",
    }
    assert read_status(raw)[videos[2].uid].state == "broken"
    assert main(["verify-shards", str(out)]) == 0
    capsys.readouterr()
    bucket.calls.clear()
    assert main(words) == 3
    assert not bucket.fetched()

    clips = list(read_shards(out))
    for number, video in enumerate(videos[:2]):
        scene = direct(world, plan_world(world)[number])
        mine = [clip for clip in clips if clip.recording == video.uid]
        assert len(mine) >= 5
        for clip in mine:
            assert_imu_is_the_truth_within_noise(clip, scene)
            assert clip.align.status == "estimated"
            assert abs((clip.align.offset_us or 0) + 400_000 * number) < 2000
            heard = {(clip.t_start_us + n.t_us, n.text) for n in clip.narrations}
            assert heard == {
                (round((segment["narration_s"] + late_s) * 1e6), clean(segment["narration"]).text)
                for segment in video.truth["segments"]
                for late_s in (0.0, 0.4)
                if 0 <= round((segment["narration_s"] + late_s) * 1e6) - clip.t_start_us < 4e6
            }


def assert_imu_is_the_truth_within_noise(clip: Clip, scene: Scene) -> None:
    """Noise of the simulated sensors (bias taken out) and of 2 ms of clock."""
    assert clip.imu is not None
    times = clip.t_start_us / 1e6 + np.arange(clip.imu.data.shape[1]) / clip.imu.rate_hz
    truth = np.concatenate(ideal_imu(scene.choreography.path, scene.wearer, times), axis=1).T
    error = clip.imu.data - truth
    error -= error.mean(axis=1, keepdims=True)
    shift = 0.002 * np.abs(np.gradient(truth, 1 / clip.imu.rate_hz, axis=1))
    noise = np.repeat([2.0e-3, 1.6968e-4], 3)[:, None] * np.sqrt(200.0)
    assert (
        np.abs(error) < 6 * noise + shift + 0.02 * truth.std(axis=1, keepdims=True)
    ).mean() > 0.99
