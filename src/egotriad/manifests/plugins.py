"""Plug-ins by file name: `pipelines/dataset_<name>.py`, `models/encoder_<name>.py`, ...

The file name is the name on the command line; adding a plug-in is adding a file. Listing scans file
names and imports nothing; loading imports that one module, and a broken plug-in raises its own
error. Third parties use entry points of the groups `egotriad.datasets`, `.encoders`, `.drafts`,
`.targets`.
"""

import difflib
import importlib
import pkgutil
from dataclasses import dataclass
from importlib.metadata import entry_points

from egotriad.manifests.errors import UnknownPlugin

__all__ = ["DATASETS", "DRAFTS", "ENCODERS", "TARGETS", "PluginKind"]


@dataclass(frozen=True, slots=True)
class PluginKind:
    """One kind of plug-in: where its files lie, and the name each defines."""

    noun: str
    package: str
    group: str

    @property
    def attribute(self) -> str:
        """Name every module of this kind defines, e.g. DATASET."""
        return self.noun.upper()

    def names(self) -> list[str]:
        """All known names, sorted, without importing any of them."""
        prefix = f"{self.noun}_"
        package = importlib.import_module(self.package)
        found = {
            module.name.removeprefix(prefix)
            for module in pkgutil.iter_modules(package.__path__)
            if module.name.startswith(prefix)
        }
        found |= {entry.name for entry in entry_points(group=self.group)}
        return sorted(found)

    def load(self, name: str) -> object:
        """The plug-in of that name.

        Raises:
            UnknownPlugin: with the nearest names, when there is none.
        """
        for entry in entry_points(group=self.group):
            if entry.name == name:
                return entry.load()
        names = self.names()
        if name not in names:
            near = difflib.get_close_matches(name, names, n=3)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise UnknownPlugin(
                f"no {self.noun} is called {name!r}; {hint}known: {', '.join(names)}"
            )
        module = importlib.import_module(f"{self.package}.{self.noun}_{name}")
        return getattr(module, self.attribute)


DATASETS = PluginKind("dataset", "egotriad.pipelines", "egotriad.datasets")
ENCODERS = PluginKind("encoder", "egotriad.models", "egotriad.encoders")
DRAFTS = PluginKind("draft", "egotriad.models", "egotriad.drafts")
TARGETS = PluginKind("target", "egotriad.models", "egotriad.targets")
