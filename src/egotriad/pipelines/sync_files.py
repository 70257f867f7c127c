"""Synchronisation of single files, for `egotriad sync`: finds, reads, compares and draws them."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from egotriad.converters.figures import page
from egotriad.converters.gpmf import read_gopro_imu
from egotriad.converters.imu_files import read_imu
from egotriad.converters.sync import SyncConfig, synchronise
from egotriad.converters.sync_figure import sync_section
from egotriad.converters.sync_report import SyncReport
from egotriad.converters.video_rotation import camera_rotation
from egotriad.converters.vrs import read_vrs_imu
from egotriad.manifests import ImuTrack
from egotriad.manifests.errors import RecordingError, UsageError, located
from egotriad.manifests.files import write_text
from egotriad.pipelines.sync import frames_to_compare

__all__ = ["SyncJob", "SyncOutcome", "find_jobs", "sync_file", "write_figure"]

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".vrs")
IMU_SUFFIXES = (".parquet", ".csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncJob:
    """One file to be synchronised.

    Attributes:
        video: mp4 and the like, or an Aria VRS file.
        imu: file with the IMU, on the video's clock as far as is known, or a folder that holds one
            of the video's name; None where the video's own file holds it (GoPro, Aria).
        focal_per_width: focal length over the picture's width, where it is known.
        config: settings.
        figure: whether to draw.
    """

    video: Path
    imu: Path | None = None
    focal_per_width: float | None = None
    config: SyncConfig = field(default_factory=SyncConfig)
    figure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncOutcome:
    """What came of a job: the report, and the HTML of its figure where one was asked for."""

    report: SyncReport
    section: str = ""


def find_jobs(inputs: tuple[Path, ...], imu: Path | None, template: SyncJob) -> list[SyncJob]:
    """One job per video, a folder's in the order of names.

    Args:
        inputs: video files, and folders of such.
        imu: IMU file of the one video, or a folder with one per video, of the same name.
        template: everything else about a job.

    Raises:
        UsageError: no videos, or one IMU file for several.
        RecordingError: a path that does not exist.
    """
    videos: list[Path] = []
    for path in inputs:
        if not path.exists():
            raise RecordingError(f"{path}: no such file or folder; check the path")
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        videos += [file for file in inside if file.suffix.lower() in VIDEO_SUFFIXES]
    if not videos:
        raise UsageError(
            f"no video among {', '.join(map(str, inputs)) or 'nothing'}; need files of "
            f"{', '.join(VIDEO_SUFFIXES)}"
        )
    if imu is not None and not imu.exists():
        raise RecordingError(f"{imu}: no such file or folder; check the path")
    if imu is not None and imu.is_file() and len(videos) > 1:
        raise UsageError(f"--imu: got one file for {len(videos)} videos; give a folder of them")
    return [replace(template, video=video, imu=imu) for video in videos]


def sync_file(job: SyncJob) -> SyncOutcome:
    """Reads, compares and judges one file; nothing is written.

    Raises:
        RecordingError: the video or the IMU cannot be read, or the folder does not hold exactly one
            IMU file for the video.
        MissingDependency: an Aria file without its reader.
    """
    with located(job.video.name):
        track = _read_imu(job)
        rotation = camera_rotation(
            frames_to_compare(job.video, track), focal_per_width=job.focal_per_width
        )
        report = synchronise(rotation, track, job.config)
        if not job.figure:
            return SyncOutcome(report=report)
        section = sync_section(job.video.name, rotation, track, report, job.config)
        return SyncOutcome(report=report, section=section)


def write_figure(path: Path, sections: list[str]) -> None:
    """Writes one page with the figures of all recordings."""
    write_text(path, page("IMU and video: synchronisation", "\n".join(sections)))


def _read_imu(job: SyncJob) -> ImuTrack:
    source = _imu_source(job)
    suffix = source.suffix.lower()
    if suffix == ".vrs":
        return read_vrs_imu(source)
    return read_gopro_imu(source) if suffix in VIDEO_SUFFIXES else read_imu(source)


def _imu_source(job: SyncJob) -> Path:
    if job.imu is None or not job.imu.is_dir():
        return job.imu or job.video
    candidates = [job.imu / f"{job.video.stem}{suffix}" for suffix in IMU_SUFFIXES]
    present = [path for path in candidates if path.is_file()]
    if len(present) != 1:
        raise RecordingError(
            f"got {len(present)} IMU files in {job.imu.name}, need one: "
            f"{' or '.join(path.name for path in candidates)}"
        )
    return present[0]
