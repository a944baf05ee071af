"""The tab "C-MET" in the sidebar of the 3D view, in the order of the work: Footage, Emotion, Rig, Video, Export."""

from .emotions import CMET_PT_emotion, CMET_PT_face, CMET_PT_regions, CMET_PT_voice
from .export import CMET_PT_export
from .layers import CMET_UL_layers
from .live import CMET_PT_live
from .rig import CMET_PT_rig, CMET_PT_rotations, CMET_PT_unused, CMET_UL_rows
from .track import CMET_PT_footage, CMET_UL_people
from .video import CMET_PT_range, CMET_PT_video

CLASSES = (
    CMET_UL_people,
    CMET_PT_footage,
    CMET_PT_live,
    CMET_UL_layers,
    CMET_PT_emotion,
    CMET_PT_regions,
    CMET_PT_face,
    CMET_PT_voice,
    CMET_UL_rows,
    CMET_PT_rig,
    CMET_PT_unused,
    CMET_PT_rotations,
    CMET_PT_video,
    CMET_PT_range,
    CMET_PT_export,
)
