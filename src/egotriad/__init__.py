"""Paired IMU / event-camera / narration shards, IMU drafts, and honest acceptance numbers."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("egotriad")
