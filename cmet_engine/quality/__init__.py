"""What a result is worth: metrics, the check of a rendered clip, the report."""
