"""Versions of what a trained or loaded model depends on."""

import platform

import torch
import transformers

import egotriad

__all__ = ["versions"]


def versions() -> dict[str, str]:
    """By name, for a model's record."""
    return {
        "egotriad": egotriad.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
