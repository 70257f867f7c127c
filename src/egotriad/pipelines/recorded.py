"""The configuration of builds whose events were there already, in files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from egotriad.pipelines.plan import BuildConfig

__all__ = ["RecordedConfig", "config_kind"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedConfig(BuildConfig):
    """A build whose events come from files; what says how to compute them is not used.

    Attributes:
        simulators: `sim_id` of those that made the events, as far as they were simulated.
    """

    simulators: tuple[str, ...] = ()

    @property
    def event_source(self) -> dict[str, Any]:
        """Everything that is known to decide the events, fit for JSON."""
        return {"simulator": None, "files": "dsec", "made_by": list(self.simulators)}


def config_kind(values: Mapping[str, Any]) -> type[BuildConfig]:
    """The class of a configuration that was recorded as JSON values."""
    return RecordedConfig if "simulators" in values else BuildConfig
