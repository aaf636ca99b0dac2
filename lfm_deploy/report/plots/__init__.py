"""Plots for pages and files, one kind a module; only these import matplotlib."""
