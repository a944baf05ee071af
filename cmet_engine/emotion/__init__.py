"""Emotion: speech encoders, vectors, the connector, and the edit of a track."""
