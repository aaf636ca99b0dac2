"""Kernels of our own for NVIDIA GPUs, in Triton's language: one a file, each opening with its algebra.

They need the package ``triton``, so nothing outside the fused engine imports them. Under ``TRITON_INTERPRET=1``, set
before they are imported, they run on tensors in host memory: slow, and for tests.
"""
