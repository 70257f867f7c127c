"""What the command lines of the model side share: where models run, and how progress is shown."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from cyclopts import App, Parameter

from egotriad.alignment.model_options import TargetOptions
from egotriad.models.loading import is_own
from egotriad.models.placement import Placement, Precision

__all__ = ["TEXT_ONLY_FOLDER", "Place", "PlaceFlags", "TargetOptionFlags", "model_app", "placement"]

TEXT_ONLY_FOLDER = "text-only"
"""Of the twin, in its draft's folder."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where models run.

    Attributes:
        device: cpu, cuda or cuda:N.
        precision: of the target: float32, bfloat16, float16 or 4bit; when not given bfloat16 for
            published targets, float32 for this package's own.
    """

    device: str = "cpu"
    precision: Precision | None = None


PlaceFlags = Annotated[Place, Parameter(name="*")]
TargetOptionFlags = Annotated[TargetOptions, Parameter(name="*", negative_iterable=())]


def model_app(name: str, command: Callable[..., int]) -> App:
    """A command of its own that computes with torch."""
    # Intra-op threads cost more than they bring for models of this size on shared cores.
    torch.set_num_threads(1)
    app = App(name=name, version_flags=[])
    app.default(command)
    return app


def placement(place: Place | None, folder: Path) -> Placement:
    """Device and precision of the model in a folder.

    Raises:
        CheckpointError: when there is none.
    """
    place = place or Place()
    usual: Precision = "float32" if is_own(folder) else "bfloat16"
    return Placement(device=place.device, precision=place.precision or usual)
