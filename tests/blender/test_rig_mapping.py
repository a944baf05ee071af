import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmet_blender import mapping
from cmet_engine import arkit
from cmet_engine.errors import CmetError, InvalidInput


def one_to_one(found):
    return {name: next(iter(row.channels)) for name, row in found.rows.items() if len(row.channels) == 1}


def test_arkit_names_match_themselves():
    found = mapping.match(arkit.NAMES)
    assert found.of_kind("exact") == list(arkit.NAMES)
    assert found.unused == () and found.missing == []


@pytest.mark.parametrize(
    "rename",
    [
        lambda n: "blendShape1." + n,
        lambda n: "CharacterA_" + n,
        lambda n: n[0].upper() + n[1:],
        lambda n: n.replace("Left", "_L").replace("Right", "_R"),
        lambda n: n.replace("Left", ".l").replace("Right", ".r"),
        lambda n: "rig:face|" + n.lower() if n.islower() else "rig:" + n,
        lambda n: "_".join(mapping.words(n)),
        lambda n: "ARKit_" + "_".join(mapping.words(n)).upper(),
        lambda n: "face." + n.upper(),
        lambda n: n.lower().replace("left", "_links").replace("right", "_rechts"),
        lambda n: (
            (f"{side}_" if (side := n[len(n.removesuffix("Left").removesuffix("Right")) :].lower()) else "")
            + n.removesuffix("Left").removesuffix("Right").lower()
        ),
    ],
)
def test_variants_of_arkit_names_all_match(rename):
    found = mapping.match([rename(n) for n in arkit.NAMES])
    assert one_to_one(found) == {n: rename(n) for n in arkit.NAMES}
    assert not found.guessed


@pytest.mark.parametrize("convention", [c for c in mapping.conventions() if c.shapes], ids=lambda c: c.name)
def test_every_convention_is_recognised_from_its_own_names(convention):
    names = [shape for alternatives in convention.shapes.values() for shape in alternatives[0]]
    found = mapping.match(reversed(names))
    for coefficient, alternatives in convention.shapes.items():
        assert found.rows[coefficient].channels == alternatives[0]
    assert not found.unused


def test_the_ict_head_splits_brow_and_cheek(shared):
    with np.load(shared / "data" / "rigs" / "ict_facekit_light.npz") as data:
        found = mapping.match([str(n) for n in data["shape_names"]])
    assert found.rows["browInnerUp"].channels == {"browInnerUp_L": 1.0, "browInnerUp_R": 1.0}
    assert found.missing == ["tongueOut"]
    assert set(found.unused) == {"PupilDilate_L", "PupilDilate_R", "cheekRaiser_L", "cheekRaiser_R"}


def test_one_shape_for_both_sides_takes_half_of_each():
    found = mapping.match([n for n in arkit.NAMES if "mouthSmile" not in n] + ["mouthSmile"])
    assert found.rows["mouthSmileLeft"].channels == found.rows["mouthSmileRight"].channels == {"mouthSmile": 0.5}


def test_guesses_carry_a_confidence_and_keep_to_the_side():
    found = mapping.match(["shut_eye_L", "shut_eye_R", "lip_pucker", "browsDownLeft", "vrc_lol"])
    assert found.shapes["eyeBlinkLeft"] == "shut_eye_L" and found.shapes["eyeBlinkRight"] == "shut_eye_R"
    assert found.shapes["mouthPucker"] == "lip_pucker"
    assert "browDownRight" in found.missing
    assert "vrc_lol" in found.unused
    assert all(mapping.USED_FROM <= found.rows[n].confidence < 1 for n in found.guessed)
    assert "please check" in found.report()


def test_unsure_guesses_are_offered_and_drive_nothing_until_accepted():
    found = mapping.match([*(n for n in arkit.NAMES if "mouthStretch" not in n), "mouthWideStretchL"])
    offer = found.offered["mouthStretchLeft"]
    assert offer.channels == {"mouthWideStretchL": 1.0} and offer.confidence < mapping.USED_FROM
    assert "mouthStretchLeft" in found.missing and "not used" in found.report()
    found.accept("mouthStretchLeft")
    assert found.shapes["mouthStretchLeft"] == "mouthWideStretchL" and not found.offered
    with pytest.raises(InvalidInput, match="No guess"):
        found.accept("jawOpen")


@pytest.mark.parametrize(
    "names", [[n.upper() for n in arkit.NAMES], [n.lower() for n in arkit.NAMES if n != "eyeBlinkRight"]]
)
def test_a_name_without_separators_never_goes_to_the_other_side(names):
    found = mapping.match(names)
    for coefficient, row in found.rows.items():
        assert all(shape.lower() == coefficient.lower() for shape in row.channels)


def test_shapes_without_a_side_are_said_to_serve_both():
    assert "serve both: mouthSmile" in mapping.match(["mouthOpen", "mouthSmile"]).report()


def test_conventions_of_other_applications(shared):
    cases = json.loads((shared / "data" / "rigs" / "shape_name_conventions.json").read_text("utf-8"))
    for case, about in cases.items():
        found = mapping.match(about["names"])
        for coefficient, right in about["right"].items():
            assert set(found.rows[coefficient].channels) & set(right.split("|")), (case, coefficient)
        assert about["right"] or not found.matched, case


def test_names_that_mean_nothing_match_nothing():
    found = mapping.match(["Key 1", "bulge", "fat", "hat_off", "muscle_arm_L"])
    assert len(found.missing) == 52 and len(found.unused) == 5


def test_shapes_of_several_meshes_are_joined():
    found = mapping.match(
        {"Head": list(arkit.NAMES), "Brows": ["Brows_browInnerUp", "Brows_browDownLeft"], "Teeth": ["jawOpen"]}
    )
    assert found.rows["browInnerUp"].channels == {"browInnerUp": 1.0, "Brows_browInnerUp": 1.0}
    assert found.rows["jawOpen"].channels == {"jawOpen": 1.0}


def test_values_and_inverse_agree_for_splits_gains_and_offsets():
    found = mapping.match([n for n in arkit.NAMES if n != "browInnerUp"] + ["browInnerUp_L", "browInnerUp_R"])
    found.set("jawOpen", gain=1.5, offset=0.1)
    coefficients = np.random.default_rng(0).uniform(0, 1.2, (20, 52))
    values = found.values(coefficients)
    column = found.channels.index("jawOpen")
    assert np.allclose(values[:, column], 1.5 * coefficients[:, arkit.INDEX["jawOpen"]] + 0.1)
    assert np.abs(found.invert(values) - coefficients).max() < 1e-9


def test_limits_cut_and_a_reference_restores_what_they_cut():
    found = mapping.match(arkit.NAMES)
    found.set("jawOpen", minimum=0.0, maximum=0.5)
    coefficients = np.random.default_rng(0).uniform(0, 1, (20, 52))
    values = found.values(coefficients)
    assert values[:, found.channels.index("jawOpen")].max() == 0.5
    assert np.abs(found.invert(values, reference=coefficients) - coefficients).max() < 1e-9


def test_a_hand_made_change_changes_only_its_coefficient():
    kept = [n for i, n in enumerate(arkit.NAMES) if i % 3]
    found = mapping.match(kept)
    coefficients = np.random.default_rng(0).uniform(0, 1, (5, 52))
    values = found.values(coefficients)
    values[:, found.channels.index("browInnerUp")] += 0.5
    back = found.invert(values, reference=coefficients)
    change = back - coefficients
    assert np.allclose(change[:, arkit.INDEX["browInnerUp"]], 0.5)
    assert np.abs(np.delete(change, arkit.INDEX["browInnerUp"], 1)).max() < 1e-9


def test_missing_smile_is_spread_over_other_shapes(shared):
    with np.load(shared / "data" / "rigs" / "ict_facekit_light.npz") as data:
        names, deltas = [str(n) for n in data["shape_names"]], data["deltas"].astype(np.float64)[:, ::7]
    everything = dict(zip(names, deltas, strict=True))
    kept = {n: d for n, d in everything.items() if not n.startswith("mouthSmile")}
    wanted = {
        c: sum(everything[s] * w for s, w in r.channels.items())
        for c, r in mapping.match(names).rows.items()
        if r.channels
    }
    before = mapping.match(list(kept))
    after = mapping.spread_missing(before, kept, wanted)
    assert before.missing == ["mouthSmileLeft", "mouthSmileRight", "tongueOut"]
    assert after.spread == ["mouthSmileLeft", "mouthSmileRight"] and before.spread == []
    row = after.rows["mouthSmileLeft"]
    shown = sum(kept[s] * w for s, w in row.channels.items())
    left = 1 - ((wanted["mouthSmileLeft"] - shown) ** 2).sum() / (wanted["mouthSmileLeft"] ** 2).sum()
    assert left > 0.3 and abs(left - row.confidence) < 0.02
    assert "shown by others" in after.report()


def test_a_saved_mapping_comes_back_the_same(tmp_path):
    found = mapping.match(["jaw_drop", *arkit.NAMES[:10], "extra"])
    found.set("mouthClose", {"extra": 0.7}, gain=2.0, minimum=-0.5)
    found.rotations["head"] = mapping.Rotation("Head", strength=0.5)
    path = found.save(tmp_path / "mine.json")
    again = mapping.RigMapping.load(path)
    assert again == found and again.to_json() == found.to_json()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "other"}, "not a rig mapping"),
        ({"rows": {"mouthGrin": {}}}, "mouthGrin"),
        ({"rows": {"jawOpen": {"channels": {"x": "much"}}}}, "jaw|kind"),
        ({"rows": {"jawOpen": {"channels": {"x": float("nan")}}}}, "jawOpen"),
        ({"rotations": {"head": {"yaw": "up"}}}, "head"),
        ({"rows": [1]}, "kind"),
    ],
)
def test_damaged_mapping_files_are_named(tmp_path, change, words):
    path = tmp_path / "broken.json"
    path.write_text(json.dumps({"format": mapping.FORMAT, "rows": {}, **change}))
    with pytest.raises(CmetError, match=f"(?s)broken.json.*({words})"):
        mapping.RigMapping.load(path)


@given(st.lists(st.text(min_size=1, max_size=20), max_size=12))
def test_any_names_give_a_whole_mapping(names):
    found = mapping.match(names)
    assert list(found.rows) == list(arkit.NAMES)
    assert {c for row in found.rows.values() for c in row.channels} <= set(names)
    used = {c for row in found.rows.values() for c in row.channels}
    assert set(found.unused) == {n for n in names if n != "Basis"} - used


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z_.][A-Za-z0-9_. ]{0,10}[A-Za-z0-9_]", fullmatch=True),
        st.floats(-5, 5).map(lambda v: float(f"{v:g}")),
        max_size=4,
    )
)
def test_weights_as_text_come_back(weights):
    assert mapping.parse_weights(mapping.format_weights(weights)) == weights


def test_weights_that_are_no_numbers_are_named():
    with pytest.raises(CmetError, match="cheekPuff=much"):
        mapping.parse_weights("jawOpen; cheekPuff=much")


def test_two_characters_under_one_empty_are_kept_apart(bpy, make_mesh):
    from cmet_blender import rig

    crowd = bpy.data.objects.new("crowd", None)
    for name in ("Anna", "Bert"):
        skeleton = bpy.data.objects.new(f"{name}_rig", bpy.data.armatures.new(name))
        bpy.context.scene.collection.objects.link(skeleton)
        skeleton.parent = crowd
        for part in ("Head", "Teeth"):
            make_mesh(name + part, ["jawOpen"]).parent = skeleton
    assert [mesh.name for mesh in rig.meshes(bpy.data.objects["AnnaHead"])] == ["AnnaHead", "AnnaTeeth"]
    assert {one.name for one in rig.members(bpy.data.objects["BertTeeth"])} == {"BertHead", "BertTeeth", "Bert_rig"}


def test_two_characters_without_armatures_are_kept_apart_by_where_they_stand(bpy, make_mesh):
    from cmet_blender import emotion_tracks, followers, rig

    crowd = bpy.data.objects.new("crowd", None)
    bpy.context.scene.collection.objects.link(crowd)
    for name, place in (("Anna", 0.0), ("Bert", 4.0)):
        for part, shapes, aside in (
            ("Head", arkit.NAMES, 0.0),
            ("Eye", arkit.NAMES, 0.4),
            ("Brows", ["browDownLeft"], 0),
        ):
            mesh = make_mesh(name + part, shapes)
            mesh.parent, mesh.location.x = crowd, place + aside
            mesh.scale = (1, 1, 1) if part == "Head" else (0.2, 0.2, 0.2)
    bpy.context.view_layer.update()
    for name in ("Anna", "Bert"):
        head = bpy.data.objects[f"{name}Head"]
        for part in ("Head", "Eye", "Brows"):
            found = {one.name for one in rig.meshes(bpy.data.objects[name + part])}
            assert found == {f"{name}Head", f"{name}Eye", f"{name}Brows"}
        followers.connect(head, set(arkit.NAMES))
        assert emotion_tracks.owners(head) == [head.data.shape_keys]
        assert followers.leader(bpy.data.objects[f"{name}Brows"]) == head
    assert {one.name for one in rig.members(bpy.data.objects["AnnaEye"])} == {
        "AnnaHead",
        "AnnaEye",
        "AnnaBrows",
        "crowd",
    }
