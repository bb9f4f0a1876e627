"""The command line: `zoo VERB`. `main` is the entry point."""

from .app import main

__all__ = ["main"]
