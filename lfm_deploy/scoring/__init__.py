"""Logits of engines over suites, through the cache."""
