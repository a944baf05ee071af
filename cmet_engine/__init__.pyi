from cmet_engine.errors import CmetError as CmetError
from cmet_engine.face.clip import track_clip as track_clip
from cmet_engine.jobs.execute import execute as execute
from cmet_engine.pipeline import edit_clip as edit_clip
from cmet_engine.pipeline import render_clip as render_clip
from cmet_engine.spec import EditSpec as EditSpec
from cmet_engine.spec import ExportSpec as ExportSpec
from cmet_engine.spec import RenderSpec as RenderSpec
from cmet_engine.spec import TrackSpec as TrackSpec
from cmet_engine.spec import VectorSpec as VectorSpec
from cmet_engine.timeline import EmotionKey as EmotionKey
from cmet_engine.timeline import EmotionTimeline as EmotionTimeline
from cmet_engine.track import CoefficientTrack as CoefficientTrack

__version__: str
