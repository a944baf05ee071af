"""What the add-on does by itself while the animator works."""

from types import SimpleNamespace

import numpy as np
import pytest

from cmet_engine.emotions import LIBRARY, NEUTRAL


@pytest.fixture
def registered(bpy):
    import cmet_blender

    cmet_blender.register()
    yield bpy
    cmet_blender.unregister()


def test_a_rig_without_strips_and_a_scene_without_a_rig_cost_nothing(registered, head):
    bpy = registered
    bpy.context.scene.cmet.rig = head
    head.data.shape_keys.update_tag()
    bpy.context.view_layer.update()
    bpy.data.objects.remove(head)
    assert bpy.context.scene.cmet.rig is None
    bpy.context.view_layer.update()


def test_the_table_is_filled_when_a_rig_is_chosen_and_emptied_for_what_is_none(registered, head):
    bpy = registered
    settings = bpy.context.scene.cmet
    settings.rig = head
    assert len(settings.rows) == 52 and settings.mapping_name == "ARKit / Live Link Face"
    cube = bpy.data.objects.new("cube", bpy.data.meshes.new("cube"))
    bpy.context.scene.collection.objects.link(cube)
    settings.rig = cube
    assert not settings.rows and "no shape keys" in settings.message


def test_each_scene_remembers_its_own(registered, head):
    bpy = registered
    other = bpy.data.scenes.new("other")
    bpy.context.scene.cmet.rig = head
    bpy.context.scene.cmet.strength = 0.5
    assert other.cmet.rig is None and other.cmet.strength == 1.0


def test_the_gallery_keeps_the_choice_when_the_library_grows(registered):
    from cmet_blender import session

    settings = registered.context.scene.cmet
    assert settings.emotion == "happy"
    settings.emotion = "sad"
    session.STATE.emotions = [{"name": n, "reliability": 0.9} for n in ("angry", "wistful", "sad")]
    assert settings.emotion == "sad"
    session.STATE.emotions = []


def test_everything_in_the_panels_is_explained(registered):
    from cmet_blender import operators, performers, properties

    for cls in (properties.CmetScene, performers.Performer, *performers.CLASSES):
        for name, made in cls.__annotations__.items():
            if made.keywords.get("name"):  # what is shown has a label
                assert made.keywords.get("description"), f"{cls.__name__}.{name} has no tooltip"
    for cls in operators.CLASSES:
        assert cls.__doc__ and not cls.__doc__.endswith("."), cls.__name__


class Service:
    """An engine whose answers a test sets: the tests see who gets them."""

    def __init__(self):
        self.state, self.cancelled = None, []

    def ready(self):
        return True

    def health(self):
        return {"version": "0.1.0", "device": "cpu", "mismatch": ""}

    def submit(self, request):
        return "7"

    def watch(self, identity):
        if isinstance(self.state, Exception):
            raise self.state
        return self.state

    def cancel(self, identity):
        self.cancelled.append(identity)


@pytest.fixture
def watched(registered):
    """A job that the scene `first` started and that is being looked at, and its service."""
    from cmet_blender import operators, session

    class Probe(operators.base.EngineOperator):
        def report(self, kind, text):
            pass

        def request(self, context):
            return "Probing", {"kind": "track"}

        def receive(self, context, state):
            return f"received in {context.scene.name}"

    probe = Probe()
    probe._requests, probe._states = [probe.request(None)], []
    probe._service, probe._scene = Service(), "first"
    registered.context.scene.name = "first"
    session.STATE.job = session.Job("Probing")
    probe.look = lambda: probe.modal(registered.context, SimpleNamespace(type="TIMER"))
    yield probe
    session.STATE = session.State()


RUNNING = {"state": "running", "stage": "tracking", "done": 3, "total": 10, "eta_seconds": 4.0}


def look_at_another_scene(bpy):
    other = bpy.data.scenes.new("other")
    bpy.context.window.scene = other
    return other


def test_a_job_reports_to_the_scene_that_asked(registered, watched):
    from cmet_blender import session

    first = registered.context.scene
    assert watched.look() == {"PASS_THROUGH"}
    watched._service.state = RUNNING
    assert watched.look() == {"PASS_THROUGH"}
    assert session.STATE.job.text() == "Probing: tracking the face, 3/10, about 4 s left"
    other = look_at_another_scene(registered)
    watched._service.state = {**RUNNING, "state": "done"}
    assert watched.look() == {"FINISHED"}
    assert first.cmet.done == "received in first" and not other.cmet.done and session.STATE.job is None
    assert session.STATE.health["version"] == "0.1.0"


def test_several_jobs_follow_one_another_and_are_received_together(registered, watched):
    from cmet_blender import session

    watched._requests = [("Tracking Anna", {"kind": "track"}), ("Tracking Bert", {"kind": "track"})]
    watched.receive_all = lambda context, states: ", ".join(state["id"] for state in states)
    watched.look()
    watched._service.state = {**RUNNING, "state": "done", "id": "a"}
    assert watched.look() == {"PASS_THROUGH"} and session.STATE.job.title == "Tracking Bert"
    watched.look()
    watched._service.state = {**RUNNING, "state": "done", "id": "b"}
    assert watched.look() == {"FINISHED"} and registered.context.scene.cmet.done == "a, b"


def test_a_failure_is_said_in_the_scene_that_asked(registered, watched):
    from cmet_engine.errors import CmetError

    first = registered.context.scene
    watched.look()
    other = look_at_another_scene(registered)
    watched._service.state = CmetError("The engine died three times.")
    assert watched.look() == {"CANCELLED"}
    assert first.cmet.message == "The engine died three times." and not other.cmet.message


def test_a_job_whose_scene_is_deleted_is_cancelled(registered, watched):
    from cmet_blender import session

    watched.look()
    first = registered.context.scene
    look_at_another_scene(registered)
    registered.data.scenes.remove(first)
    assert watched.look() == {"CANCELLED"}
    assert watched._service.cancelled == ["7"] and session.STATE.job is None


def test_cancelling_stops_the_engines_job_and_changes_nothing(registered, watched):
    from cmet_blender import session

    watched.look()
    session.STATE.job.cancelled = True
    watched._service.state = {**RUNNING, "state": "cancelled"}
    assert watched.look() == {"CANCELLED"}
    assert watched._service.cancelled == ["7"]
    assert "cancelled; nothing was changed" in registered.context.scene.cmet.done


def test_every_emotion_has_a_picture_of_its_own(bpy):
    from cmet_blender import icons

    names = (NEUTRAL, *LIBRARY)
    pictures = {}
    for name in names:
        image = bpy.data.images.load(str(icons.picture(name)))
        assert tuple(image.size) == (128, 128) and image.channels >= 3
        pictures[name] = np.array(image.pixels).reshape(128, 128, -1)[..., :3]
    face = (slice(16, 112), slice(24, 104))
    for i, a in enumerate(names):
        for b in names[:i]:
            assert np.abs(pictures[a][face] - pictures[b][face]).mean() > 0.002, f"{a} looks like {b}"
    assert icons.picture("wistful").name == "own.jpg"
    assert sum(p.stat().st_size for p in icons.FOLDER.iterdir()) < 150_000


def test_the_pictures_show_the_emotions_that_the_engine_has(bpy):
    library = pytest.importorskip("cmet_engine.emotion.library", reason="needs the engine's packages")
    from cmet_blender import icons

    for name in library.load_library():
        if name in LIBRARY:
            assert icons.picture(name).stem == name
