"""Damaged and odd files for every reader of the product, and what is right to do with each."""
