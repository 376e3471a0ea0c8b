"""Measurements on held-out rows: what a model got right, how surely, against what."""
