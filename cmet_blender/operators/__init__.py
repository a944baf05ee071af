"""The buttons. Each calls functions of the other modules; what goes wrong is said in the panel and in Info.

Engine jobs: with a window an operator submits, returns, and looks every third of a second (`modal`), so Blender stays
usable; without one `execute` waits. Between, only names are kept: objects may be deleted and undone meanwhile.
"""

from .emotions import (
    CMET_OT_add_emotion,
    CMET_OT_add_emotion_file,
    CMET_OT_bake,
    CMET_OT_new_emotion,
    CMET_OT_recompute,
    CMET_OT_record,
    CMET_OT_refresh_emotions,
)
from .engine import CMET_OT_engine_check, CMET_OT_engine_start, CMET_OT_engine_stop
from .export import CMET_OT_export
from .rig import CMET_OT_apply_track, CMET_OT_load_mapping, CMET_OT_match, CMET_OT_save_mapping
from .track import CMET_OT_cancel, CMET_OT_load_footage, CMET_OT_track
from .video import CMET_OT_compare, CMET_OT_render_video

CLASSES = (
    CMET_OT_load_footage,
    CMET_OT_track,
    CMET_OT_cancel,
    CMET_OT_match,
    CMET_OT_save_mapping,
    CMET_OT_load_mapping,
    CMET_OT_apply_track,
    CMET_OT_refresh_emotions,
    CMET_OT_add_emotion,
    CMET_OT_add_emotion_file,
    CMET_OT_new_emotion,
    CMET_OT_record,
    CMET_OT_bake,
    CMET_OT_recompute,
    CMET_OT_render_video,
    CMET_OT_compare,
    CMET_OT_export,
    CMET_OT_engine_check,
    CMET_OT_engine_start,
    CMET_OT_engine_stop,
)
