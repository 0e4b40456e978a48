"""The agent: one process at an office that looks, remembers and tells."""

__version__ = "0.1.0"
