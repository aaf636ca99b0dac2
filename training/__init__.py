"""The demo's data and the training loop."""
