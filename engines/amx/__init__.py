"""Kernels of our own for the matrix units of a CPU (AMX), compiled by Numba for the machine that they run on."""
