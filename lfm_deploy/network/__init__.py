"""The detectors in PyTorch, and the checkpoints that they are read from."""
