"""Encoders, projectors, drafts, targets and their checkpoints."""

__all__: list[str] = []
