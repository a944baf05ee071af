"""Characters in files that Blender's older importers refuse: read by its newer one, or refused with what to do."""

import json
import struct

import pytest

from cmet_engine.errors import InvalidInput


def as_text(element, depth=0):
    """An element of a binary FBX file as FBX text."""
    words = []
    for kind, value in zip(element.props_type, element.props, strict=True):
        if chr(kind) in "fdilbc":
            words.append(f"*{len(value)} {{\na: {','.join(map(str, value))}\n}}")
        elif chr(kind) in "SR":
            name, mark, group = value.partition(b"\0\1")
            text = (group + b"::" + name if mark else value) if chr(kind) == "S" else b""
            words.append(f'"{text.decode("utf-8", "replace")}"')
        else:
            words.append(str(value[0]) if isinstance(value, bytes) else str(value))
    body = "".join(as_text(child, depth + 1) for child in element.elems)
    body = " {\n" + body + "}" if body else ""
    return f"{element.id.decode()}: {', '.join(words)}{body}\n"


@pytest.fixture
def open_rig(bpy):
    from cmet_blender.commands.rigs import open_rig

    return open_rig


def test_fbx_text_is_read_by_the_newer_importer(bpy, head, open_rig, tmp_path):
    from cmet_blender import export

    export.fbx(head, tmp_path / "head.fbx", (1, 2))
    from io_scene_fbx import parse_fbx

    root, _ = parse_fbx.parse(str(tmp_path / "head.fbx"))
    text = "; FBX 7.4.0 project file\n" + "".join(as_text(e) for e in root.elems if e.id != b"FileId")
    (tmp_path / "text.fbx").write_text(text, "utf-8")
    obj, imported = open_rig(tmp_path / "text.fbx")
    assert imported and len(obj.data.shape_keys.key_blocks) == 53
    (tmp_path / "broken.fbx").write_bytes(b"Kaydara FBX Binary  \0\x1a\0" + b"\0" * 40)
    with pytest.raises(InvalidInput, match=r"broken\.fbx cannot be read: .*; write it anew as binary FBX"):
        open_rig(tmp_path / "broken.fbx")


def test_meshopt_is_refused_with_what_to_do(open_rig, tmp_path):
    text = json.dumps({"asset": {"version": "2.0"}, "extensionsRequired": ["EXT_meshopt_compression"]}).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIIII", b"glTF", 2, 20 + len(text), len(text), 0x4E4F534A)
    (tmp_path / "small.glb").write_bytes(head + text)
    (tmp_path / "small.gltf").write_bytes(text)
    for name in ("small.glb", "small.gltf"):
        with pytest.raises(InvalidInput, match=f"{name} is compressed with meshopt.*without -c"):
            open_rig(tmp_path / name)
