"""One signal into another: pure functions and small state machines over arrays."""

__all__: list[str] = []
