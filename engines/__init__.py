"""One file per runtime, the TensorRT builder, and device memory."""
