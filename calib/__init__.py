"""Calibration: choosing pictures, and what the network's tensors do on them."""
