"""Accuracy and average precision of decisions, and how sure each figure is."""
