"""Detectors of others beside ours: how each wants its pictures, and what its answer means."""
