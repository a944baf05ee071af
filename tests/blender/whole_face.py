"""A face of several meshes at work, for tests of its layers: what is to be seen of it, on every mesh."""

import numpy as np

from cmet_engine import arkit

FRAMES = (3, 12, 26, 41)


class Face:
    """A rig with a performance and two emotions, and what is to be seen of it."""

    def __init__(self, bpy, obj, make_track):
        from cmet_blender import followers, mapping

        self.bpy, self.obj, self.scene = bpy, obj, bpy.context.scene
        self.leader, self.mapping = followers.leader(obj), mapping.match(obj)
        self.scene.cmet.rig = obj
        self.performance, self.happy, self.sad = (
            make_track(seed=seed, low=low, high=high, turn=0)
            for seed, low, high in ((0, 0.3, 0.6), (1, -0.2, 0.3), (2, -0.1, 0.2))
        )

    def perform(self):
        """Write the performance, happy rising over ten frames, and sad at half strength."""
        from cmet_blender import emotion_strips, keyframes

        self.scene.frame_start, self.scene.frame_end = 1, 50
        keyframes.apply_track(self.obj, self.performance, self.mapping)
        strip = emotion_strips.add(self.obj, "happy", self.happy, mapping=self.mapping)
        emotion_strips.set_influence(strip, [(1, 0.0), (11, 1.0), (50, 1.0)])
        emotion_strips.carry(self.keys)
        emotion_strips.add(self.obj, "sad", self.sad, strength=0.5, mapping=self.mapping)
        return self

    @property
    def keys(self):
        return self.leader.data.shape_keys

    @property
    def animation(self):
        return self.keys.animation_data

    def track(self, name):
        return self.animation.nla_tracks["C-MET: " + name]

    def strip_of(self, name):
        return next(s for t in self.animation.nla_tracks for s in t.strips if s.name == name)

    def nla(self, operator, *names, **options):
        """Call an operator of the NLA editor on strips of the leading mesh, as its keys do."""
        bpy = self.bpy
        for track in self.animation.nla_tracks:
            track.select = any(strip.name in names for strip in track.strips)
            for strip in track.strips:
                strip.select = strip.name in names
        window = bpy.context.window_manager.windows[0]
        area = window.screen.areas[0]
        area.type = "NLA_EDITOR"
        area.spaces.active.dopesheet.show_only_selected = False
        region = next(r for r in area.regions if r.type == "WINDOW")
        with bpy.context.temp_override(window=window, area=area, region=region):
            assert getattr(bpy.ops.nla, operator)(**options) == {"FINISHED"}
        bpy.context.view_layer.update()

    def shown(self, frames=FRAMES):
        """Values [frames, 52] of the leading mesh, which every other mesh shows too."""
        from cmet_blender import rig

        bpy, values = self.bpy, np.zeros((len(frames), arkit.COUNT))
        bpy.context.view_layer.update()
        for row, frame in enumerate(frames):
            self.scene.frame_set(frame)
            graph = bpy.context.evaluated_depsgraph_get()
            keys = self.keys.evaluated_get(graph)
            for name, column in arkit.INDEX.items():
                values[row, column] = keys.key_blocks[name].value if name in keys.key_blocks else keys.get(name, 0.0)
            for mesh in rig.meshes(self.obj):
                for block in mesh.data.shape_keys.evaluated_get(graph).key_blocks:
                    if block.name in arkit.INDEX:
                        expected = values[row, arkit.INDEX[block.name]]
                        assert abs(block.value - expected) < 1e-5, f"{mesh.name}, {block.name}, frame {frame}"
        return values

    def expects(self, happy, sad, performance=1.0, frames=FRAMES):
        """Check the sum: `happy` and `sad` give strength and the frame of the delta for a frame of the scene."""
        wanted = np.zeros((len(frames), arkit.COUNT))
        for row, frame in enumerate(frames):
            wanted[row] = performance * self.performance.coefficients[frame - 1]
            for delta, of in ((self.happy, happy), (self.sad, sad)):
                for strength, place in of(frame):
                    wanted[row] += strength * _at(delta, place)
        assert np.abs(self.shown(frames) - wanted).max() < 1e-4


def _at(track, place):
    """Coefficients at a frame of a track, counted from 1, between frames too."""
    return np.array([np.interp(place, np.arange(1, 51), column) for column in track.coefficients.T])


def rise(frame):
    """Happy as it was added."""
    return [(min(1.0, (frame - 1) / 10), frame)]


def half(frame):
    """Sad as it was added."""
    return [(0.5, frame)]


def nothing(frame):
    return []
