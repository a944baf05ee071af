"""Training of the embedded speech encoder."""
