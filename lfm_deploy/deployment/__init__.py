"""Filling a workdir, and what its artifacts are."""
