"""One paper a file; every method is a frozen dataclass with `needs` and `choose` (see base.py)."""
