"""Where the panels stand, and whom they are about."""

from typing import Any

from .. import performers


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
