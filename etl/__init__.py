"""Keeps Norce Commerce in step with export files: drop a file, only what changed is sent."""

__version__ = "0.1.0"
