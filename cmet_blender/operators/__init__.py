"""The operators behind the buttons. Each calls functions of other modules; errors are shown in the panel and in Info.

Engine jobs: with a window an operator submits the job, returns, and polls it every third of a second (`modal`), so that
Blender can be used meanwhile. Without a window `execute` waits. A running job keeps names, not objects, because objects
may be deleted or undone before it ends.
"""

from .assets import CMET_OT_add_asset, CMET_OT_keep_asset, CMET_OT_show_assets
from .axes import CMET_OT_find_axes
from .emotions import (
    CMET_OT_add_emotion,
    CMET_OT_add_emotion_file,
    CMET_OT_bake,
    CMET_OT_follow_mode,
    CMET_OT_from_face,
    CMET_OT_from_voice,
    CMET_OT_new_emotion,
    CMET_OT_recompute,
    CMET_OT_record,
    CMET_OT_refresh_emotions,
)
from .engine import CMET_OT_engine_check, CMET_OT_engine_start, CMET_OT_engine_stop
from .export import CMET_OT_export, CMET_OT_export_take
from .layers import (
    CMET_OT_add_hand_layer,
    CMET_OT_connect_meshes,
    CMET_OT_edit_layer,
    CMET_OT_move_layer,
    CMET_OT_remove_layer,
    CMET_OT_solo_layer,
    CMET_OT_unbake,
)
from .live import CMET_OT_live, CMET_OT_live_end, CMET_OT_live_record
from .rig import (
    CMET_OT_accept_guess,
    CMET_OT_apply_track,
    CMET_OT_assign_shape,
    CMET_OT_load_mapping,
    CMET_OT_match,
    CMET_OT_save_mapping,
)
from .track import (
    CMET_OT_calibrate,
    CMET_OT_cancel,
    CMET_OT_clean_up,
    CMET_OT_find_people,
    CMET_OT_forget_people,
    CMET_OT_import_take,
    CMET_OT_load_footage,
    CMET_OT_start_at_timecode,
    CMET_OT_track,
    CMET_OT_view_footage,
)
from .video import CMET_OT_compare, CMET_OT_render_video, CMET_OT_use_preview_range, CMET_OT_verify

CLASSES = (
    CMET_OT_load_footage,
    CMET_OT_import_take,
    CMET_OT_view_footage,
    CMET_OT_start_at_timecode,
    CMET_OT_find_people,
    CMET_OT_forget_people,
    CMET_OT_track,
    CMET_OT_calibrate,
    CMET_OT_cancel,
    CMET_OT_clean_up,
    CMET_OT_live,
    CMET_OT_live_end,
    CMET_OT_live_record,
    CMET_OT_match,
    CMET_OT_accept_guess,
    CMET_OT_assign_shape,
    CMET_OT_find_axes,
    CMET_OT_save_mapping,
    CMET_OT_load_mapping,
    CMET_OT_apply_track,
    CMET_OT_refresh_emotions,
    CMET_OT_add_emotion,
    CMET_OT_add_emotion_file,
    CMET_OT_from_face,
    CMET_OT_from_voice,
    CMET_OT_new_emotion,
    CMET_OT_record,
    CMET_OT_bake,
    CMET_OT_follow_mode,
    CMET_OT_recompute,
    CMET_OT_unbake,
    CMET_OT_solo_layer,
    CMET_OT_remove_layer,
    CMET_OT_move_layer,
    CMET_OT_add_hand_layer,
    CMET_OT_edit_layer,
    CMET_OT_connect_meshes,
    CMET_OT_keep_asset,
    CMET_OT_add_asset,
    CMET_OT_show_assets,
    CMET_OT_render_video,
    CMET_OT_compare,
    CMET_OT_verify,
    CMET_OT_use_preview_range,
    CMET_OT_export,
    CMET_OT_export_take,
    CMET_OT_engine_check,
    CMET_OT_engine_start,
    CMET_OT_engine_stop,
)
