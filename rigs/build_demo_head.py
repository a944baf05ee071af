"""Build the demo head: `demo_head.blend` and `demo_head.glb`, with Blender's Python (`pip install bpy`).

    python rigs/build_demo_head.py [--out FOLDER]

All geometry comes from formulas and from `face_guide.npz` (see `measure_face_guide.py`); no mesh of anyone else is used.
The head looks along -Y, is 1:1 in metres, and has a small skeleton (spine, neck, head). Shape keys of the same ARKit name sit on
every mesh that moves with them.
"""

import argparse
import math
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bpy
import demo_head_geometry as geometry
import demo_head_hair as hair
import demo_head_mesh as mesh
import demo_head_parts as parts
import demo_head_shapes as sculpt
import numpy as np
from mathutils import Vector

from cmet_blender.shot import show_colors
from cmet_engine.arkit import NAMES

HERE = Path(__file__).resolve().parent
BASE_MM = geometry.BUST_END  # the bust's end stands on the floor
COLLAR_MM = -158.0
NECK_JOINT_MM, HEAD_JOINT_MM = (0.0, -170.0, -108.0), (0.0, -48.0, -92.0)


def to_blender(points: np.ndarray) -> np.ndarray:
    """Millimetres, y up, z forward -> metres, Z up, forward -Y, standing on the floor."""
    points = np.atleast_2d(points)
    return np.stack([points[:, 0], -points[:, 2], points[:, 1] - BASE_MM], axis=1) / 1000.0


def turn_to_blender(delta: np.ndarray) -> np.ndarray:
    """A displacement in millimetres in Blender's axes, metres."""
    return np.stack([delta[:, 0], -delta[:, 2], delta[:, 1]], axis=1) / 1000.0


def add_object(name: str, part: mesh.Part, origin: np.ndarray | None = None) -> bpy.types.Object:
    """A mesh object with smooth shading, colours and shape keys, its keys in canonical order."""
    points = to_blender(part.points)
    shift = to_blender(origin)[0] if origin is not None else np.zeros(3)
    points = points - shift
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(points.tolist(), [], part.triangles.tolist())
    mesh.polygons.foreach_set("use_smooth", np.ones(len(mesh.polygons), bool))
    colour = mesh.color_attributes.new("Color", "BYTE_COLOR", "POINT")
    colour.data.foreach_set("color", np.column_stack([part.colour, np.ones(len(points))]).astype(np.float32).ravel())
    thing = bpy.data.objects.new(name, mesh)
    thing.location = shift.tolist()
    bpy.context.scene.collection.objects.link(thing)
    if part.shapes:
        thing.shape_key_add(name="Basis")
        for shape in (n for n in NAMES if n in part.shapes):
            key = thing.shape_key_add(name=shape, from_mix=False)
            key.value = 0.0
            key.data.foreach_set("co", (points + turn_to_blender(part.shapes[shape])).astype(np.float32).ravel())
    mesh.update()
    return thing


class Nodes:
    """Short way to write a material's node tree."""

    def __init__(self, name: str) -> None:
        self.material = bpy.data.materials.new(name)
        self.material.use_nodes = True
        self.tree = self.material.node_tree
        self.shader = next(n for n in self.tree.nodes if n.type == "BSDF_PRINCIPLED")
        self.output = next(n for n in self.tree.nodes if n.type == "OUTPUT_MATERIAL")

    def add(self, kind: str, **values: object) -> bpy.types.Node:
        """A new node, its inputs or properties set by name."""
        node = self.tree.nodes.new(kind)
        for key, value in values.items():
            if key in node.inputs:
                node.inputs[key].default_value = value
            else:
                setattr(node, key, value)
        return node

    def link(self, source: bpy.types.NodeSocket, target: bpy.types.NodeSocket) -> None:
        """Connect two sockets."""
        self.tree.links.new(source, target)

    def set(self, **values: object) -> "Nodes":
        """Set inputs of the shader; underscores stand for spaces."""
        for key, value in values.items():
            self.shader.inputs[key.replace("_", " ")].default_value = value
        return self

    def vertex_colour(self) -> "Nodes":
        """Take the base colour from the mesh's own colours."""
        node = self.add("ShaderNodeVertexColor", layer_name="Color")
        self.link(node.outputs["Color"], self.shader.inputs["Base Color"])
        return self

    def bump(
        self, scale: float, strength: float, distance: float, stretch: tuple[float, float, float] = (1, 1, 1)
    ) -> "Nodes":
        """Fine relief from noise: its frequency, strength and depth in metres."""
        place = self.add("ShaderNodeTexCoord")
        mapping = self.add("ShaderNodeMapping", Scale=stretch)
        noise = self.add("ShaderNodeTexNoise", Scale=scale, Detail=4.0)
        bump = self.add("ShaderNodeBump", Strength=strength, Distance=distance)
        self.link(place.outputs["Object"], mapping.inputs["Vector"])
        self.link(mapping.outputs["Vector"], noise.inputs["Vector"])
        self.link(noise.outputs[0], bump.inputs["Height"])
        self.link(bump.outputs["Normal"], self.shader.inputs["Normal"])
        return self


def make_materials() -> dict[str, bpy.types.Material]:
    """All materials, by name."""
    skin = Nodes("skin").set(Roughness=0.5, Subsurface_Weight=0.22, Subsurface_Scale=0.004).vertex_colour()
    skin.set(Subsurface_Radius=(1.0, 0.35, 0.18)).bump(900.0, 0.10, 0.0006)
    skin.shader.inputs["Specular IOR Level"].default_value = 0.42
    cloth = Nodes("cloth").set(Base_Color=(0.035, 0.055, 0.085, 1), Roughness=0.9).bump(1800.0, 0.25, 0.0008)
    wet = Nodes("mouth").set(Roughness=0.28, Subsurface_Weight=0.1, Subsurface_Scale=0.003).vertex_colour()
    tooth = Nodes("teeth").set(Roughness=0.22, Subsurface_Weight=0.1, Subsurface_Scale=0.002).vertex_colour()
    eye = Nodes("eye").set(Roughness=0.25).vertex_colour()
    strand = Nodes("hair").set(Roughness=0.55).vertex_colour().bump(220.0, 0.5, 0.002, (1.0, 0.5, 0.3))
    brow = Nodes("brow").set(Roughness=0.6).vertex_colour()
    glass = Nodes("cornea").set(Base_Color=(1, 1, 1, 1), Roughness=0.02, Alpha=0.08)
    glass.material.diffuse_color = (1, 1, 1, 0.05)
    clear, gloss = glass.add("ShaderNodeBsdfTransparent"), glass.add("ShaderNodeBsdfGlossy", Roughness=0.03)
    fresnel, mix = glass.add("ShaderNodeFresnel", IOR=1.38), glass.add("ShaderNodeMixShader")
    glass.link(fresnel.outputs[0], mix.inputs[0])
    glass.link(clear.outputs[0], mix.inputs[1])
    glass.link(gloss.outputs[0], mix.inputs[2])
    glass.link(mix.outputs[0], glass.output.inputs["Surface"])
    found = (skin, cloth, wet, tooth, eye, strand, brow, glass)
    for nodes in found:
        nodes.material.use_backface_culling = False
    return {nodes.material.name: nodes.material for nodes in found}


def add_skeleton() -> bpy.types.Object:
    """Spine, neck and head bones."""
    armature = bpy.data.armatures.new("skeleton")
    rig = bpy.data.objects.new("demo_head", armature)
    bpy.context.scene.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    joints = [
        Vector(to_blender(np.array(p))[0]) for p in ((0, BASE_MM, -100), NECK_JOINT_MM, HEAD_JOINT_MM, (0, 134, -92))
    ]
    previous = None
    for name, start, end in zip(("spine", "neck", "head"), joints[:-1], joints[1:], strict=True):
        bone = armature.edit_bones.new(name)
        bone.head, bone.tail, bone.parent = start, end, previous
        bone.use_connect = previous is not None
        previous = bone
    bpy.ops.object.mode_set(mode="OBJECT")
    return rig


def bind_skin(head: bpy.types.Object, rig: bpy.types.Object, points: np.ndarray) -> None:
    """Smooth weights of the skin: head above the throat, neck, spine below."""
    y = points[:, 1] + 0.25 * np.maximum(0, points[:, 2] + 90) * (
        points[:, 1] < -20
    )  # under the chin the head reaches lower
    to_head = mesh.smoothstep(-95.0, -45.0, y + 0.0)
    to_neck = mesh.smoothstep(-185.0, -120.0, points[:, 1]) * (1 - to_head)
    for name, weight in (("head", to_head), ("neck", to_neck), ("spine", 1 - to_head - to_neck)):
        group = head.vertex_groups.new(name=name)
        for step in np.unique(np.round(weight[weight > 0], 3)):
            group.add(np.flatnonzero(np.round(weight, 3) == step).tolist(), float(step), "REPLACE")
    head.parent = rig
    head.modifiers.new("skeleton", "ARMATURE").object = rig


def fix_to_head(thing: bpy.types.Object, rig: bpy.types.Object) -> None:
    """Parent a rigid part to the head bone, where it stands."""
    bpy.context.view_layer.update()
    place = thing.matrix_world.copy()
    thing.parent, thing.parent_type, thing.parent_bone = rig, "BONE", "head"
    bpy.context.view_layer.update()
    thing.matrix_world = place


def build() -> bpy.types.Object:
    """Fill an empty scene with the demo head; returns the skin's object, "head"."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    skin = geometry.build_skin()
    sculptor = sculpt.Sculptor(skin)
    shapes = sculptor.shapes()
    material = make_materials()
    rig = add_skeleton()

    body = mesh.Part(skin.points, skin.triangles, parts.skin_colours(skin, sculptor), shapes)
    head = add_object("head", body)
    for name in ("skin", "cloth", "mouth"):
        head.data.materials.append(material[name])
    slot = np.zeros(len(skin.triangles), np.int32)
    slot[(skin.points[skin.triangles, 1] < COLLAR_MM).all(axis=1)] = 1
    inner = {v for ring in skin.mouth_rings for v in ring}
    slot[[any(v in inner for v in t) for t in skin.triangles.tolist()]] = 2
    head.data.polygons.foreach_set("material_index", slot)
    bind_skin(head, rig, skin.points)

    rigid = {
        "teeth_upper": (parts.teeth(skin, True), "teeth"),
        "teeth_lower": (parts.teeth(skin, False), "teeth"),
        "tongue": (parts.tongue(skin), "mouth"),
        "brows": (hair.brows(skin, shapes), "brow"),
        "lashes": (hair.lashes(skin, sculptor, shapes), "brow"),
        "hair": (hair.hair(skin), "hair"),
    }
    for side in ("Left", "Right"):
        rigid[f"eye_{side.lower()}"] = (parts.eyeball(skin, side), "eye")
        rigid[f"cornea_{side.lower()}"] = (parts.cornea(skin, side), "cornea")
    for name, (part, look) in rigid.items():
        side = "Left" if name.endswith("left") else "Right" if name.endswith("right") else None
        thing = add_object(name, part, skin.eyes[side] if side else None)
        thing.data.materials.append(material[look])
        if look == "cornea":  # its material's own see-through colour shows the iris without a render
            thing.data.color_attributes.remove(thing.data.color_attributes["Color"])
        fix_to_head(thing, rig)
    return head


def set_up_views() -> None:
    """Let the 3D views of the file show the face from the front, in its own colours without a render."""
    for screen in bpy.data.screens:
        for area in (area for area in screen.areas if area.type == "VIEW_3D"):
            space = area.spaces.active
            show_colors(space.shading)
            space.shading.show_object_outline = False  # around every strand of hair
            space.overlay.show_relationship_lines = False
            space.clip_start = 0.001
            view = space.region_3d
            view.view_perspective, view.view_distance = "PERSP", 0.9
            view.view_location, view.view_rotation = (0, 0, 0.24), (math.sqrt(0.5), math.sqrt(0.5), 0, 0)


def export_glb(path: Path) -> None:
    """The scene as glTF binary with its morph targets; the cornea as plain see-through material, which glTF can say."""
    glass = bpy.data.materials["cornea"].node_tree
    output = next(n for n in glass.nodes if n.type == "OUTPUT_MATERIAL")
    render_surface = output.inputs["Surface"].links[0].from_socket
    plain = next(n for n in glass.nodes if n.type == "BSDF_PRINCIPLED")
    glass.links.new(plain.outputs[0], output.inputs["Surface"])
    bpy.ops.export_scene.gltf(
        filepath=str(path), export_format="GLB", export_morph=True, export_morph_normal=False, export_try_sparse_sk=True,
        export_vertex_color="ACTIVE", export_animations=False, export_yup=True,
    )  # fmt: skip
    glass.links.new(render_surface, output.inputs["Surface"])


def main(arguments: list[str] | None = None) -> None:
    """Build and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE, help="folder for demo_head.blend and demo_head.glb")
    out = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)
    build()
    set_up_views()
    with tempfile.TemporaryDirectory(dir=out) as folder:
        blend, glb = Path(folder) / "demo_head.blend", Path(folder) / "demo_head.glb"
        bpy.context.preferences.filepaths.save_version = 0
        bpy.ops.wm.save_as_mainfile(filepath=str(blend), compress=True, check_existing=False)
        export_glb(glb)
        for made in (blend, glb):
            made.replace(out / made.name)
            print(f"{out / made.name}: {(out / made.name).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
