"""What exists: the datum, its errors, schemas, shard files, provenance and splits."""

from egotriad.manifests.clip import Alignment, Clip, Imu, Narration, Origin, Quality
from egotriad.manifests.errors import EgotriadError
from egotriad.manifests.events import Events, Span
from egotriad.manifests.recording import ImuTrack, Recording, SensorStream, Unreadable

__all__ = [
    "Alignment",
    "Clip",
    "EgotriadError",
    "Events",
    "Imu",
    "ImuTrack",
    "Narration",
    "Origin",
    "Quality",
    "Recording",
    "SensorStream",
    "Span",
    "Unreadable",
]
