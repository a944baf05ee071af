"""Weights: embedded and published, how they are read, and where networks run."""
