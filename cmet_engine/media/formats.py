"""File name suffixes by what they hold, in one place."""

VIDEO = frozenset(".mp4 .mov .mkv .webm .avi .m4v .flv".split())
"""Movies that a folder is searched for."""

SOUND = frozenset(".wav .flac .mp3 .m4a .aac .ogg .oga .opus .aif .aiff .wma".split()) | VIDEO
"""Recordings that a folder is searched for: sound, or a movie's sound track."""

STILL = frozenset(".png .exr .jpg .jpeg .tif .tiff .bmp .webp .dpx".split())
"""Pictures that a numbered sequence may be made of."""

MOVIE_OUT = (".mp4", ".m4v", ".mkv", ".mov")
"""Movies that can be written."""

SEQUENCE_OUT = (".png", ".exr")
"""Numbered pictures that can be written."""

TRACK = (".npz", ".csv", ".json")
"""Coefficient tracks: native, Live Link Face, Audio2Face."""

SCENE = (".fbx", ".glb", ".usdc", ".abc", ".blend")
"""What a track on a rig can be exported to."""

UPLOAD = (".wav", ".flac", ".mp3", ".m4a", ".ogg", *TRACK, ".mp4", ".mov", ".png", ".jpg", ".ocio")
"""What a client may upload to the engine: speech, tracks and timelines, clips, pictures, colour configurations."""
