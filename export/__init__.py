"""From a checkpoint to ONNX: export, typed variants, and the proof that follows."""
