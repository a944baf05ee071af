"""Faces in pictures: tracking, landmarks, and the two models between landmarks and coefficients."""
