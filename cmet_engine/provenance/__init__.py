"""Where a video comes from and what was done to it: marks in the picture."""
