"""Choosing the logit above which pictures are called fake, and writing it into everything that decides by it."""
