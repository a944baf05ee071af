import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from soak_cases import soak

from cmet_engine.errors import CmetError

SAMPLE = (
    Path(__file__).resolve().parents[2] / "cmet_engine" / "assets" / "sample" / "talking_head.mp4"
)  # 150 frames at 25


@pytest.fixture
def footage(bpy):
    from cmet_blender import footage

    if not SAMPLE.is_file():
        pytest.skip("the sample clip is not part of this checkout")
    return footage


def strips(scene):
    return {s.name: (s.channel, s.frame_final_start, s.frame_final_duration) for s in scene.sequence_editor.strips}


def test_the_scene_takes_the_clips_rate_length_and_size(bpy, footage):
    scene = bpy.context.scene
    about = footage.load(scene, SAMPLE, start_frame=11)
    assert about["fps"] == Fraction(25) and about["frames"] == 150 and about["has_sound"] and not about["notes"]
    assert (scene.render.fps, scene.frame_start, scene.frame_end) == (25, 11, 160)
    assert (scene.render.resolution_x, scene.render.resolution_y) == about["size"]
    assert strips(scene) == {footage.SOURCE: (2, 11, 150), footage.SOUND: (1, 11, 150)}
    assert about["clip"].frame_start == 11


def shown(bpy, tmp_path, frame):
    """The sequencer's picture at a scene frame, as [H, W, 3] 0..255."""
    scene = bpy.context.scene
    scene.frame_set(frame)
    scene.render.filepath = str(tmp_path / "frame.png")
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(scene.render.filepath)
    pixels = np.array(image.pixels[:]).reshape(image.size[1], image.size[0], -1)[::-1, :, :3] * 255
    bpy.data.images.remove(image)
    return pixels


@pytest.mark.parametrize(("fps", "length"), [(24, 144), *soak((30, 180))])
def test_at_another_rate_the_sequencer_stays_in_time_and_the_user_is_told(bpy, footage, tmp_path, fps, length):
    av = pytest.importorskip("av", reason="needs PyAV to look into the clip")
    scene = bpy.context.scene
    scene.render.fps = fps
    about = footage.load(scene, SAMPLE, match_rate=False)
    assert scene.render.fps == fps and "out of step" in about["notes"][0]
    assert {duration for _, _, duration in strips(scene).values()} == {length}  # 6 s, picture and sound
    scene.render.resolution_x, scene.render.resolution_y = about["size"]
    scene.view_settings.view_transform, scene.sequencer_colorspace_settings.name = "Standard", "sRGB"
    with av.open(str(SAMPLE)) as container:
        frames = [f.to_ndarray(format="rgb24")[::4, ::4].astype(np.float32) for f in container.decode(video=0)]
    for frame in (1, length // 2, length):
        picture = shown(bpy, tmp_path, frame)[::4, ::4]
        nearest = int(np.argmin([np.abs(f - picture).mean() for f in frames]))
        assert abs(nearest - (frame - 1) / fps * 25) <= 1.01


def test_loading_again_takes_the_place_of_the_first(bpy, footage):
    for _ in range(2):
        footage.load(bpy.context.scene, SAMPLE)
    assert len(strips(bpy.context.scene)) == 2 and len(bpy.data.movieclips) == 1


def test_before_and_after(bpy, footage):
    scene = bpy.context.scene
    footage.load(scene, SAMPLE)
    with pytest.raises(CmetError, match="render one first"):
        footage.compare(scene)
    for _ in range(2):  # a newer result takes the place of the older
        strip = footage.show_edited(scene, SAMPLE)
    assert strips(scene)[footage.EDITED] == (3, 1, 150) and len(strips(scene)) == 3
    assert footage.compare(scene) == "before" and strip.mute
    assert footage.compare(scene) == "after" and not strip.mute


def test_what_is_no_video_is_said(bpy, footage, tmp_path):
    with pytest.raises(CmetError, match="does not exist"):
        footage.load(bpy.context.scene, tmp_path / "none.mp4")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video at all")
    with pytest.raises(CmetError, match=r"broken\.mp4"):
        footage.load(bpy.context.scene, broken)
    editor = bpy.context.scene.sequence_editor
    assert not (editor and len(editor.strips)) and not bpy.data.movieclips


def test_the_clip_is_seen_beside_or_behind_the_face_where_the_take_says_it_is(
    bpy, footage, registered, head, track, tmp_path
):
    from bpy_extras.object_utils import world_to_camera_view

    from cmet_blender import footage_view, performers

    scene = bpy.context.scene
    eyes, mouth = track.meta["face_place"] = [[0.4, 0.3], [0.42, 0.45]]
    own = bpy.data.objects.new("own", bpy.data.cameras.new("own"))
    scene.collection.objects.link(own)
    scene.camera = own
    assert bpy.ops.cmet.load_footage(filepath=str(SAMPLE)) == {"FINISHED"}
    scene.cmet.rig, scene.cmet.track = head, str(track.save(tmp_path / "take.npz"))
    bpy.context.view_layer.update()
    camera = bpy.data.objects[footage_view.CAMERA]
    face = footage_view.place_of(head, performers.shown_mapping(scene.cmet))
    seen = [world_to_camera_view(scene, camera, point) for point in (face.eyes, face.mouth)]
    assert abs((seen[0].x + seen[1].x) / 2 - (eyes[0] + mouth[0]) / 2) < 0.01
    assert abs((seen[0].y + seen[1].y) / 2 - (1 - (eyes[1] + mouth[1]) / 2)) < 0.01
    assert abs(abs(seen[0].y - seen[1].y) - (mouth[1] - eyes[1])) < 0.01
    (background,) = camera.data.background_images
    assert background.clip.filepath == str(SAMPLE) and tuple(background.offset) == (-1, 0)
    scene.cmet.footage_place = "BEHIND"
    assert tuple(background.offset) == (0, 0) and scene.camera == own and not own.data.background_images
    edited = shutil.copyfile(SAMPLE, tmp_path / "edited.mp4")
    footage.show_edited(scene, edited)
    for seen in (SAMPLE, edited):  # before and after
        assert bpy.ops.cmet.compare() == {"FINISHED"} and background.clip.filepath == str(seen)
    bpy.ops.cmet.compare()
    before = own.matrix_world.copy()
    scene.cmet.footage_place = "CAMERA"
    assert own.data.background_images[0].clip == background.clip and own.matrix_world == before
