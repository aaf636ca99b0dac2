"""Choosing calibration pictures and collecting activation ranges; INT8 will live here."""
