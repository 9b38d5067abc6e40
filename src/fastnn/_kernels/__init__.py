"""Compiled kernels, and the only door between them and Python."""
