"""Verdicts on pictures."""
