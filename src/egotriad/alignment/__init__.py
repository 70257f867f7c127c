"""Loaders, training, distillation, speculative decoding and acceptance."""

__all__: list[str] = []
