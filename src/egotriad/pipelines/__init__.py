"""Datasets, the builder, packing, and their command lines."""

__all__: list[str] = []
