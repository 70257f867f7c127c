"""A simulated world in numbers: how many wearers and recordings, who is held out, what happens."""

from dataclasses import asdict, dataclass
from fractions import Fraction

import numpy as np

from egotriad.manifests.errors import UsageError
from egotriad.manifests.files import short_hash
from egotriad.pipelines.world_motion import Choreography, choreograph
from egotriad.pipelines.world_room import Room, make_room
from egotriad.pipelines.world_script import Wearer, generator, make_wearer, narrate, write_scripts
from egotriad.pipelines.world_sensors import ClockFaults

__all__ = ["Scene", "Shoot", "Spoken", "WorldOptions", "direct", "plan_world"]

WORLD_VERSION = "1"
"""Changes whenever the same options give other recordings."""

NARRATION_JITTER_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldOptions:
    """Options of the simulated world.

    Attributes:
        wearers: number of people.
        recordings_per_wearer: recordings of each.
        clips_per_recording: narrated activities in each recording, about 4 s apart.
        seed: another number, another world.
        held_out_share: share of the wearers whose recordings are the test split; at least one
            where there are two or more.
        size_wh: width and height of the video in pixels, both even.
        frame_rate_hz: of the video.
        clock_offset_s: added to every IMU time stamp.
        clock_drift_ppm: the IMU's time stamps run too fast by so many parts per million.
        clock_gaps: gaps of 0.2-0.8 s in each recording's IMU.
        clock_back_steps: how often each recording's IMU time stamps jump back by 0.1-0.5 s.
        render_workers: processes that render; all cores when not given.
    """

    wearers: int = 36
    recordings_per_wearer: int = 2
    clips_per_recording: int = 12
    seed: int = 0
    held_out_share: float = 0.28
    size_wh: tuple[int, int] = (128, 96)
    frame_rate_hz: float = 60.0
    clock_offset_s: float = 0.0
    clock_drift_ppm: float = 0.0
    clock_gaps: int = 0
    clock_back_steps: int = 0
    render_workers: int | None = None

    def __post_init__(self) -> None:
        counts = (self.wearers, self.recordings_per_wearer, self.clips_per_recording)
        if min(counts) < 1 or max(counts) > 9999:
            raise UsageError(f"simulated world: got counts {counts}, need 1 to 9999 of each")
        if self.seed < 0:
            raise UsageError(f"--seed: got {self.seed}, need 0 or more")
        if not 0 <= self.held_out_share < 1:
            raise UsageError(f"--held-out-share: got {self.held_out_share}, need 0 <= share < 1")
        if any(side < 16 or side > 4096 or side % 2 for side in self.size_wh):
            raise UsageError(f"--size-wh: got {self.size_wh}, need even numbers from 16 to 4096")
        if not 10 <= self.frame_rate_hz <= 1000:
            raise UsageError(f"--frame-rate-hz: got {self.frame_rate_hz}, need 10 to 1000")
        if self.render_workers is not None and self.render_workers < 1:
            raise UsageError(f"--render-workers: got {self.render_workers}, need 1 or more")
        self.faults  # noqa: B018  (a bad value is an error before any work is done)

    @property
    def faults(self) -> ClockFaults:
        """What is wrong with the IMU's clock."""
        return ClockFaults(
            offset_s=self.clock_offset_s,
            drift_ppm=self.clock_drift_ppm,
            gaps=self.clock_gaps,
            back_steps=self.clock_back_steps,
        )

    @property
    def exact_frame_rate(self) -> Fraction:
        """Frame rate as a ratio: 59.94 is 60000/1001."""
        return Fraction(self.frame_rate_hz).limit_denominator(1001)

    @property
    def hash(self) -> str:
        """16 hex digits naming the world; the number of processes is no part of it."""
        values = {k: v for k, v in asdict(self).items() if k != "render_workers"}
        return short_hash({"options": values, "version": WORLD_VERSION})


@dataclass(frozen=True, slots=True, kw_only=True)
class Shoot:
    """One recording to be made.

    Attributes:
        uid: name of the recording, unique over seeds.
        wearer: index of the wearer; recording: index among the wearer's recordings.
        split: train or test.
    """

    uid: str
    wearer: int
    recording: int
    split: str


def plan_world(options: WorldOptions) -> list[Shoot]:
    """All recordings of a world, in order."""
    order = generator(options.seed, "split").permutation(options.wearers)
    count = round(options.wearers * options.held_out_share)
    if options.held_out_share > 0 and options.wearers > 1:
        count = min(max(count, 1), options.wearers - 1)
    held_out = set(order[:count].tolist())
    return [
        Shoot(
            uid=f"s{options.seed}-w{wearer:02d}-r{recording}",
            wearer=wearer,
            recording=recording,
            split="test" if wearer in held_out else "train",
        )
        for wearer in range(options.wearers)
        for recording in range(options.recordings_per_wearer)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """A narration: when, what, and its id (`<activity>:<running number>`)."""

    time_s: float
    text: str
    annotation_uid: str


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Scene:
    """Everything that decides a recording; `frames` is the video's length in frames."""

    room: Room
    wearer: Wearer
    choreography: Choreography
    spoken: tuple[Spoken, ...]
    frames: int


def direct(options: WorldOptions, shoot: Shoot) -> Scene:
    """Works a recording out: the same for the same options, whoever calls it and when.

    A narration's time lies within 0.3 s of the middle of its movement.
    """
    seed, numbers = options.seed, (shoot.wearer, shoot.recording)
    room = make_room(generator(seed, "room", *numbers))
    wearer = make_wearer(generator(seed, "wearer", shoot.wearer))
    scripts = write_scripts(
        generator(seed, "script", shoot.wearer),
        recordings=options.recordings_per_wearer,
        beats=options.clips_per_recording,
    )
    choreography = choreograph(
        scripts[shoot.recording], wearer, room.size_m[:2], generator(seed, "motion", *numbers)
    )
    rng = generator(seed, "narration", *numbers)
    first = (shoot.wearer * options.recordings_per_wearer + shoot.recording) * (
        options.clips_per_recording
    )
    spoken = []
    for number, segment in enumerate(choreography.segments, start=first):
        middle = (segment.motion_start_s + segment.motion_end_s) / 2
        jitter = rng.uniform(-NARRATION_JITTER_S, NARRATION_JITTER_S)
        spoken.append(
            Spoken(
                time_s=round(middle + jitter, 6),
                text=narrate(rng, wearer, segment.beat),
                annotation_uid=f"{segment.beat.activity}:{number:04d}",
            )
        )
    return Scene(
        room=room,
        wearer=wearer,
        choreography=choreography,
        spoken=tuple(spoken),
        frames=int(np.ceil(choreography.duration_s * options.exact_frame_rate)),
    )
