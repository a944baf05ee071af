"""A small photographer's studio around the demo head: camera, soft lights, a quiet backdrop; and helpers to pose the head."""

from pathlib import Path

import bpy
import cv2
import numpy as np
from mathutils import Vector

EYE_LEVEL = 0.262  # metres above the bust's end, a little below the eyes: the middle of the picture


def look_at(thing: bpy.types.Object, target: Vector) -> None:
    """Turn a camera or a light to a point."""
    thing.rotation_euler = (target - thing.location).to_track_quat("-Z", "Y").to_euler()


def area_light(
    name: str, place: tuple[float, float, float], size: float, watts: float, colour: tuple[float, float, float]
) -> bpy.types.Object:
    """A square soft light that looks at the face."""
    lamp = bpy.data.lights.new(name, "AREA")
    lamp.energy, lamp.size, lamp.color = watts, size, colour
    thing = bpy.data.objects.new(name, lamp)
    thing.location = place
    bpy.context.scene.collection.objects.link(thing)
    look_at(thing, Vector((0, 0, EYE_LEVEL)))
    return thing


def backdrop() -> bpy.types.Object:
    """A mottled wall behind the head: texture that would show if it swam."""
    bpy.ops.mesh.primitive_plane_add(size=6.0, location=(0, 1.1, 0.3), rotation=(np.pi / 2, 0, 0))
    wall = bpy.context.object
    wall.name = "backdrop"
    material = bpy.data.materials.new("backdrop")
    material.use_nodes = True
    tree = material.node_tree
    shader = next(n for n in tree.nodes if n.type == "BSDF_PRINCIPLED")
    shader.inputs["Roughness"].default_value = 1.0
    place, noise, ramp = (
        tree.nodes.new(kind) for kind in ("ShaderNodeTexCoord", "ShaderNodeTexNoise", "ShaderNodeValToRGB")
    )
    noise.inputs["Scale"].default_value, noise.inputs["Detail"].default_value = 5.0, 5.0
    ramp.color_ramp.elements[0].position, ramp.color_ramp.elements[1].position = 0.30, 0.72
    ramp.color_ramp.elements[0].color = (0.10, 0.125, 0.15, 1)
    ramp.color_ramp.elements[1].color = (0.27, 0.30, 0.31, 1)
    tree.links.new(place.outputs["Object"], noise.inputs["Vector"])
    tree.links.new(noise.outputs[0], ramp.inputs[0])
    tree.links.new(ramp.outputs[0], shader.inputs["Base Color"])
    wall.data.materials.append(material)
    return wall


def furnish(size: int = 512, samples: int = 24) -> bpy.types.Object:
    """Lights, backdrop, camera and render settings in the current scene; returns the camera."""
    scene = bpy.context.scene
    world = bpy.data.worlds.new("studio")
    scene.world = world
    world.use_nodes = True
    ground = next(n for n in world.node_tree.nodes if n.type == "BACKGROUND")
    ground.inputs["Color"].default_value = (0.55, 0.62, 0.72, 1)
    ground.inputs["Strength"].default_value = 0.28
    area_light("key", (-0.75, -1.05, 0.85), 0.7, 17.0, (1.0, 0.93, 0.85))
    area_light("fill", (1.1, -0.9, 0.3), 1.0, 4.5, (0.82, 0.9, 1.0))
    area_light("front", (0.1, -1.3, 0.22), 0.35, 2.2, (1.0, 0.97, 0.93))  # into eyes and mouth
    area_light("rim", (0.7, 0.75, 0.75), 0.5, 12.0, (1.0, 0.95, 0.9))
    area_light("wall", (-0.8, 0.5, 0.1), 0.5, 4.0, (1.0, 0.85, 0.7))
    look_at(bpy.data.objects["wall"], Vector((0.0, 1.1, 0.3)))
    backdrop()
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.lens, camera.data.sensor_width = 114.0, 36.0
    camera.location = (0.0, -1.08, EYE_LEVEL + 0.015)
    look_at(camera, Vector((0, 0, EYE_LEVEL)))
    scene.collection.objects.link(camera)
    scene.camera = camera
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.use_adaptive_sampling = samples, True, False
    scene.cycles.max_bounces, scene.cycles.caustics_reflective, scene.cycles.caustics_refractive = 4, False, False
    scene.cycles.transparent_max_bounces = 6
    scene.cycles.denoising_prefilter, scene.cycles.denoising_quality = (
        "NONE",
        "BALANCED",
    )  # a third of the time, looks the same
    scene.render.use_persistent_data = True
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.render.resolution_percentage = 100
    scene.view_settings.view_transform = "AgX"
    scene.view_settings.look = "AgX - Medium High Contrast"
    scene.view_settings.exposure = 0.35
    return camera


def pose(coefficients: dict[str, float], yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> None:
    """Set every shape key of every mesh (those not named to 0) and turn the head, degrees.

    Positive yaw turns to the person's left, positive pitch up, positive roll to the person's left shoulder.
    """
    for thing in bpy.data.objects:
        if thing.type == "MESH" and thing.data.shape_keys:
            for key in thing.data.shape_keys.key_blocks[1:]:
                key.value = coefficients.get(key.name, 0.0)
    rig = bpy.data.objects["demo_head"]
    for name, share in (("neck", 0.35), ("head", 0.65)):
        bone = rig.pose.bones[name]
        bone.rotation_mode = "YXZ"
        # a bone that points up has its own y along the world's z: turns are given in its axes
        bone.rotation_euler = np.radians([-pitch * share, yaw * share, roll * share]).tolist()
    bpy.context.view_layer.update()


def render(path: Path) -> np.ndarray:
    """Render the current pose into a PNG; returns the picture, float32 [H, W, 4] display values, alpha last."""
    scene = bpy.context.scene
    scene.render.image_settings.file_format, scene.render.image_settings.color_mode = "PNG", "RGBA"
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.float32) / 255.0
    return cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA)


class Stage:
    """Renders the posed head over the backdrop, which is rendered once: half of the work saved on every frame.

    Args:
        folder: where pictures lie while they are made.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "shot.png"
        scene, wall = bpy.context.scene, bpy.data.objects["backdrop"]
        seen = [thing for thing in scene.objects if thing.type == "MESH" and thing is not wall]
        samples, scene.cycles.samples = scene.cycles.samples, 32
        for thing in seen:
            thing.hide_render = True
        self.wall = render(self.path)[..., :3]
        for thing in seen:
            thing.hide_render = False
        wall.hide_render, scene.render.film_transparent, scene.cycles.samples = True, True, samples

    def shoot(self) -> np.ndarray:
        """The current pose, uint8 [H, W, 3] RGB."""
        picture = render(self.path)
        alpha = picture[..., 3:]
        return np.round(255 * (picture[..., :3] * alpha + self.wall * (1 - alpha))).clip(0, 255).astype(np.uint8)
