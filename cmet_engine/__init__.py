"""The C-MET engine: emotion edits of talking faces, from footage to coefficient tracks and edited video.

This package imports nothing heavy by itself: `arkit`, `track`, `timeline`, `files`, `errors` and `client`
need only numpy and the standard library, and Blender imports them.
"""

__version__ = "0.1.0"
