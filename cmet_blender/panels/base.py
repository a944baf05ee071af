"""Where the panels stand, and whom they are about."""

from typing import Any

from .. import performers, session
from ..wrapping import wrapped


class Panel:
    """In the tab C-MET of the sidebar."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "C-MET"


def fields(layout: Any) -> Any:
    """A layout with the names of fields beside them."""
    layout.use_property_split = True
    layout.use_property_decorate = False
    return layout


def whose(layout: Any, settings: Any) -> Any:
    """The `Performer` whom a panel is about, said at its top where there are several."""
    one = performers.current(settings)
    if performers.called(one):
        layout.label(text=performers.called(one), icon="USER")
    return one


def news(layout: Any, context: Any, panel: str) -> None:
    """In the panel where it was started: the job that is under way; and what was done or went wrong last."""
    job, settings, width = session.STATE.job, context.scene.cmet, context.region.width
    if job is not None and job.panel == panel:
        box = layout.box()
        box.progress(factor=job.factor, type="BAR", text=job.title)
        wrapped(box, job.course(), width)
        box.operator("cmet.cancel", icon="CANCEL")
    if settings.told == panel and (settings.message or settings.done):
        wrapped(layout.box(), settings.message or settings.done, width, "ERROR" if settings.message else "CHECKMARK")
