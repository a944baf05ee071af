"""Training of the `warp` renderer's motion model."""
