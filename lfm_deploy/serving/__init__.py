"""Verdicts over HTTP, and a model repository for Triton Inference Server."""
