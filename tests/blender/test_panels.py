"""The panels as Blender draws them: what they show exists, and what is needed is said."""

from types import SimpleNamespace

import numpy as np
import pytest

LIST = {"bitflag_filter_item": 1, "filter_name": "", "use_filter_sort_alpha": False}


class Layout:
    """Stands for Blender's layout, which only a window has: keeps what is drawn, and refuses what does not exist."""

    def __init__(self, shown):
        self.shown = shown

    def part(self, **options):
        return Layout(self.shown)

    row = column = box = split = part

    def separator(self):
        pass

    def prop(self, data, name, **options):
        self.shown.append(options.get("text") or data.bl_rna.properties[name].name)

    def prop_search(self, data, name, where, collection, **options):
        assert collection in where.bl_rna.properties
        self.prop(data, name)

    def operator(self, name, text=None, **options):
        import bpy

        kind = getattr(bpy.ops.cmet, name.removeprefix("cmet.")).get_rna_type()
        self.shown.append(kind.name if text is None else text)
        return SimpleNamespace()

    def label(self, text="", **options):
        self.shown.append(text)

    def icon(self, data):
        return 0

    def template_icon(self, icon_value, scale=1.0):
        pass

    def template_icon_view(self, data, name, **options):
        assert name in data.bl_rna.properties

    def template_list(self, kind, identity, data, name, active_data, active, **options):
        import bpy

        from cmet_blender import panels

        assert active in active_data.bl_rna.properties
        (cls,) = (cls for cls in panels.CLASSES if cls.__name__ == kind)
        items = list(getattr(data, name))
        if "filter_items" in vars(cls):
            flags, order = cls.filter_items(SimpleNamespace(**LIST), None, data, name)
            items = [items[k] for k in np.argsort(order or range(len(items))) if not flags or flags[k]]
        for item in items:
            cls.draw_item(None, SimpleNamespace(scene=bpy.context.scene), self, data, item, 0, active_data, active)

    def progress(self, text="", **options):
        self.shown.append(text)


@pytest.fixture
def draw(bpy):
    """`draw()`: everything that the panels of the add-on show in the scene, by panel."""
    import cmet_blender
    from cmet_blender import panels

    cmet_blender.register()

    def shown():
        context = SimpleNamespace(scene=bpy.context.scene, region=SimpleNamespace(width=300))
        result = {}
        for cls in panels.CLASSES:
            if issubclass(cls, bpy.types.Panel):
                cls.draw(SimpleNamespace(layout=Layout(result.setdefault(cls.bl_label, []))), context)
        return result

    yield shown
    cmet_blender.unregister()


def test_an_empty_scene_says_what_each_step_needs(draw):
    shown = draw()
    assert "Load a clip to track it" in shown["Footage"]
    assert "Needs a rig and a clip or a take" in shown["Emotion"]
    assert "Needs a rig" in shown["Rig"] and "Needs a rig" in shown["Export"]
    assert "Needs a clip and a take and a rig" in " ".join(shown["Video"])


def test_a_scene_at_work_shows_the_table_the_strips_and_the_job(bpy, draw, head, track, random_tracks, tmp_path):
    from cmet_blender import emotion_strips, session

    settings = bpy.context.scene.cmet
    settings.clip, settings.track = str(tmp_path / "talk.mp4"), str(track.save(tmp_path / "talk.npz"))
    settings.rig = head
    emotion_strips.add(head, "happy", random_tracks(low=-0.1, high=0.1, turn=0))
    session.STATE.job = session.Job("Tracking", stage="tracking", done=3, total=10)
    try:
        shown = draw()
    finally:
        session.STATE.job = None
    assert {"Track Footage Again", "Take", "Tracking", "tracking the face, 3/10"} <= set(shown["Footage"])
    assert {"happy", "Bake", "Recompute", "Mode"} <= set(shown["Emotion"])
    assert "52 matched" in shown["Rig"]


def test_layers_are_listed_from_the_top_and_a_bake_is_said(bpy, draw, head, track, random_tracks, tmp_path):
    from cmet_blender import emotion_strips, keyframes

    settings = bpy.context.scene.cmet
    settings.clip, settings.rig = str(tmp_path / "talk.mp4"), head
    assert "Add Hand Layer" in draw()["Emotion"]
    keyframes.apply_track(head, track)
    for name in ("happy", "sad"):
        strip = emotion_strips.add(head, name, random_tracks(low=-0.1, high=0.1, turn=0))
    settings.active_layer = 2
    shown = draw()["Emotion"]
    assert shown.index("sad") < shown.index("happy") and "rest" not in shown
    assert {"Strength", "Fade In", "Fade Out", "Edit Keys"} <= set(shown)
    strip.frame_end_raw, strip.frame_start_raw = 54, 5
    assert "Recompute: 'sad' was moved or stretched" in " ".join(draw()["Emotion"])
    assert bpy.ops.cmet.bake() == {"FINISHED"}
    shown = draw()["Emotion"]
    assert {"happy", "Back to Layers"} <= set(shown) and "Baked: 'Head baked'" in " ".join(shown)
    assert not {"Bake", "Recompute"} & set(shown)


def test_quality_is_the_renderers_and_compression_is_called_rate_factor(draw):
    shown = draw()["Video"]
    assert "Quality" in shown and "Rate Factor" in shown


def test_the_people_of_a_clip_are_shown_with_what_they_lack(bpy, draw, head, track, make_mesh, tmp_path):
    settings = bpy.context.scene.cmet
    settings.clip = str(tmp_path / "talk.mp4")
    for number, name in enumerate(("Anna", "Bert"), 1):
        person = settings.people.add()
        person.number, person.name, person.last, person.share = number, name, 2.0, 0.9
    shown = draw()
    assert {"Track 2 People", "0.0-2.0 s", "#1, seen in 90%"} <= set(shown["Footage"])
    assert "Needs someone with a rig and a track" in shown["Video"] and "Anna" in shown["Rig"]
    settings.people[1].rig, settings.people[1].track = head, str(track.save(tmp_path / "talk.npz"))
    settings.active_person = 1
    shown = draw()
    assert "Track 1 Person" in shown["Footage"] and "Edits Bert" in shown["Video"]
    assert {"Bert", "52 matched"} <= set(shown["Rig"]) and "Bert" in shown["Emotion"]


def test_formats_have_their_codecs_and_keep_the_numbers_that_files_store(bpy, draw):
    settings = bpy.context.scene.cmet
    numbers = {item.identifier: item.value for item in settings.bl_rna.properties["video_format"].enum_items}
    assert [numbers[name] for name in ("mp4", "mov", "mkv", "mxf", "webm")] == [0, 1, 2, 3, 4]
    assert next(iter(numbers)) == "source" and settings.video_format == "mp4"
    assert "Codec" in draw()["Video"]
    settings.video_format, settings.codec = "mov", "prores_4444"
    with pytest.raises(TypeError):
        settings.codec = "ffv1"
    settings.video_format = "mkv"
    assert settings.codec == "auto"
    settings.codec, settings.video_format = "ffv1", "exr"
    assert settings.codec == "auto" and "Codec" not in draw()["Video"]


def test_a_dropped_take_goes_onto_the_rig_and_its_start_may_be_done_again(bpy, draw, head, track, tmp_path):
    settings, path = bpy.context.scene.cmet, str(track.save(tmp_path / "take.csv"))
    assert bpy.ops.cmet.import_take(filepath=path, start_frame=11) == {"FINISHED"}
    assert settings.rig == head and settings.track == path and settings.start_frame == 11
    action = head.data.shape_keys.animation_data.action
    assert tuple(action.frame_range) == (11.0, 60.0) and action.name == "take"
    assert bpy.context.scene.frame_end == 60  # it ended at 50
    settings.start_frame, track.meta["start_seconds"] = 1, 3600.5
    settings.track = str(track.save(tmp_path / "timed.npz"))
    assert bpy.ops.cmet.start_at_timecode() == {"FINISHED"} and settings.start_frame == 86412
    head.active_shape_key_index = 5
    name = head.active_shape_key.name
    assert bpy.ops.cmet.assign_shape(coefficient="jawOpen") == {"FINISHED"}
    assert settings.rows["jawOpen"].channels == name and settings.rows["jawOpen"].kind == "manual"


def test_the_menus_offer_what_exists_and_take_their_entries_back(bpy, draw, head, track, random_tracks):
    from cmet_blender import emotion_strips, menus, shortcuts

    emotion_strips.add(head, "happy", random_tracks(low=-0.1, high=0.1, turn=0))
    bpy.context.scene.cmet.rig = head
    tracks = head.data.shape_keys.animation_data.nla_tracks
    tracks.active = tracks["C-MET: happy"]
    shown = []
    menus.CMET_MT_strip.draw(SimpleNamespace(layout=Layout(shown)), bpy.context)
    assert {"Edit Keys", "Solo Layer", "Remove Layer", "Bake"} <= set(shown)
    for name, entry in menus._MENUS.items():
        assert entry in getattr(bpy.types, name)._dyn_ui_initialize()
    for name, _ in shortcuts.SHORTCUTS:
        assert getattr(bpy.ops.cmet, name.removeprefix("cmet.")).get_rna_type()
    for kind in (menus.CMET_FH_take, menus.CMET_FH_clip):
        assert getattr(bpy.ops.cmet, kind.bl_import_operator.removeprefix("cmet.")).get_rna_type()
    assert menus.CMET_FH_take.poll_drop(SimpleNamespace(area=SimpleNamespace(type="VIEW_3D")))
    menus.unregister()
    assert all(entry not in getattr(bpy.types, n)._dyn_ui_initialize() for n, entry in menus._MENUS.items())
    menus.register()


def test_a_job_and_its_end_are_shown_where_they_were_started(bpy, draw, head):
    from cmet_blender import session

    session.STATE.job = session.Job("Rendering", stage="rendering", panel="video")
    try:
        shown = draw()
    finally:
        session.STATE.job = None
    assert "Rendering" in shown["Video"] and "Rendering" not in shown["Footage"]
    with pytest.raises(RuntimeError):
        bpy.ops.cmet.bake()
    shown = draw()
    assert "No rig is chosen" in " ".join(shown["Emotion"]) or "Nothing on" in " ".join(shown["Emotion"])
    assert "No rig" not in " ".join(shown["Footage"])


def test_a_layer_that_was_added_may_be_done_again_with_another_strength(bpy, draw, head, track, tmp_path):
    settings = bpy.context.scene.cmet
    settings.rig, settings.strength, settings.track = head, 0.5, str(track.save(tmp_path / "take.npz"))
    edited = track.save(tmp_path / "edited.npz")
    track.coefficients[:] = 0
    settings.track = str(track.save(tmp_path / "calm.npz"))
    strips = [bpy.ops.cmet.add_emotion_file(filepath=str(edited), **own) for own in ({}, {"strength": 0.25, "fade": 0})]
    assert strips == [{"FINISHED"}] * 2
    tracks = head.data.shape_keys.animation_data.nla_tracks
    found = [tracks["C-MET: " + name].strips[0] for name in ("edited", "edited 2")]
    assert [strip.fcurves.find("influence").evaluate(25) for strip in found] == [0.5, 0.25]
