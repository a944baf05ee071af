"""Labelled speech, videos, pictures and tracks in the layouts that the trainings read."""
