"""What a user may ask of Ego-Exo4D."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from egotriad.pipelines.ego4d_options import check_choice, check_download
from egotriad.pipelines.provenance import PRIVATE

__all__ = ["EgoExo4DOptions"]

Has = Literal["imu", "narration"]
Split = Literal["train", "validation", "test"]
VideoSize = Literal["448", "full", "none"]
Side = Literal["right", "left"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EgoExo4DOptions:
    """Options of the dataset `egoexo4d`.

    Without any selection, what lies in the raw folder is built and nothing is downloaded.

    Attributes:
        uids: uids or names of takes, or files that list them (text, or a JSON list).
        universities: only takes recorded there (`cmu`, `unc`, ...).
        scenarios: only takes of these parent tasks (`Cooking`, `Bike Repair`, ...).
        has: only takes that were released with an IMU, and that are described.
        splits: only takes of these official splits.
        limit_hours: at most so many hours of the glasses' video, always the same takes first.
        video: 448 pixels on the shorter side, full (about 24 times the bytes), or none (IMU and
            text).
        imu_side: which of the two IMUs: right at 1000 Hz, left at 800 Hz.
        download: whether to fetch what is missing; --no-download never uses the network.
        profile: of the AWS credentials file that holds your Ego-Exo4D keys.
        yes: you have signed Ego-Exo4D's licence, and the download may start.
        keys_wait_min: when the keys expire during a download, wait so many minutes for new ones in
            the credentials file before going on without the rest.
    """

    uids: tuple[str, ...] = ()
    universities: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    has: tuple[Has, ...] = ()
    splits: tuple[Split, ...] = ()
    limit_hours: float | None = None
    video: VideoSize = "448"
    imu_side: Side = "right"
    download: bool = True
    profile: str = field(default="default", metadata={PRIVATE: True})
    yes: bool = field(default=False, metadata={PRIVATE: True})
    keys_wait_min: float = field(default=0.0, metadata={PRIVATE: True})

    def __post_init__(self) -> None:
        for flag, values, allowed in (
            ("--has", self.has, get_args(Has)),
            ("--splits", self.splits, get_args(Split)),
            ("--video", (self.video,), get_args(VideoSize)),
            ("--imu-side", (self.imu_side,), get_args(Side)),
        ):
            for value in values:
                check_choice(flag, value, allowed)
        check_download(self.limit_hours, self.keys_wait_min, self.profile)

    @property
    def filters(self) -> bool:
        """Whether something chooses among the takes of the release."""
        chosen = (self.universities, self.scenarios, self.has, self.splits)
        return any(chosen) or self.limit_hours is not None

    @property
    def selects(self) -> bool:
        """Whether takes of the release are asked for, rather than those that lie there."""
        return bool(self.uids) or (self.filters and self.download)
