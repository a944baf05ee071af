"""The page in a real Chromium: from the open clip to a rendered edit, and what is left after page, engine and studio crash."""

import importlib.util
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
from running_studio import RunningStudio, chromium, until

from cmet_engine.media.reader import VideoReader

PROJECT = Path(__file__).parents[3]
SLOW = 300_000  # milliseconds; other work may run on the machine


@pytest.fixture(scope="module")
def page(studio: RunningStudio) -> Iterator[Any]:
    with chromium() as browser:
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        page.set_default_timeout(SLOW)
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("console", lambda said: page.faults.append(said.text) if said.type == "error" else None)
        page.goto(studio.address)
        assert page.url == f"http://127.0.0.1:{studio.port}/"
        yield page


def keys(studio: RunningStudio) -> list[dict[str, Any]]:
    return studio.project()["timeline"]["keys"]


def drag(page: Any, element: Any, right: float, down: float = 0) -> None:
    box = element.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + right / 2, y + down / 2)
    page.mouse.move(x + right, y + down)
    page.mouse.up()


def draw_again(page: Any) -> None:
    """Have everything on the page drawn anew."""
    page.evaluate("async () => { mounted_app.$forceUpdate(); await mounted_app.$nextTick() }")


def at(page: Any, share: float) -> None:
    """Put the playhead somewhere on the ruler."""
    box = page.locator(".tl-body").bounding_box()
    page.mouse.click(box["x"] + share * box["width"], box["y"] + 10)


def an_edit_is_made_on_the_timeline(studio, page):
    page.wait_for_function("document.querySelector('.main-frame .two')?.dataset.moment === '0'")
    page.locator(".person").wait_for()
    page.get_by_role("button", name=re.compile("^happy, seen")).click()
    page.locator(".tl-block").wait_for()
    at(page, 0.5)
    page.get_by_role("button", name=re.compile("^angry, seen")).click()
    page.locator(".tl-block.chosen", has_text="angry").wait_for()
    happy = page.locator(".tl-block", has_text="happy")
    happy.click()
    drag(page, happy.locator(".tl-end.tl-right"), -300)
    until(lambda: keys(studio)[0]["end"] < 0.8)
    drag(page, happy, 100)
    until(lambda: keys(studio)[0]["start"] > 0)
    drag(page, happy.locator(".tl-fade").first, 40)
    until(lambda: keys(studio)[0]["ease_in"] > 0.3)
    moved = keys(studio)[0]
    page.keyboard.press("Control+z")
    until(lambda: keys(studio)[0]["ease_in"] == 0.3)
    page.keyboard.press("Control+Shift+z")
    until(lambda: keys(studio)[0] == moved)


def the_picture_follows_the_hand_and_is_full_at_rest(studio, page):
    at(page, 0.25)
    page.wait_for_function("document.querySelector('.main-frame .two')?.dataset.moment === '6'")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.main-frame .two')?.dataset.moment === '7'")
    for view in ("Side by side", "Difference", "Matte", "Landmarks", "Before | after"):
        page.get_by_role("button", name=view, exact=True).click()
        page.wait_for_function(
            "[...document.querySelectorAll('#stage img')].filter((i) => i.offsetParent).every((i) => i.dataset.moment === '7' && i.naturalWidth === 192)"
        )


def strength_keys_regions_split_and_copy(studio, page):
    page.locator(".tl-block", has_text="happy").click()
    page.wait_for_function("document.querySelector('.right select').value === 'happy'")
    mouth = page.get_by_label("mouth", exact=True)
    mouth.evaluate("(slider) => { slider.value = 0.25 }")
    draw_again(page)
    assert mouth.input_value() == "0.25", "a slider that is dragged is left alone"
    mouth.fill("0.5")
    until(lambda: keys(studio)[0].get("regions") == {"mouth": 0.5})
    at_key = page.locator(".tl-block", has_text="happy").bounding_box()
    body = page.locator(".tl-body").bounding_box()
    at(page, (at_key["x"] + at_key["width"] / 2 - body["x"]) / body["width"])
    page.locator(".tl-block", has_text="happy").click()
    page.keyboard.press("k")
    until(lambda: len(keys(studio)[0].get("strength_keys", [])) == 1)
    drag(page, page.locator(".tl-key"), 0, -12)
    until(lambda: keys(studio)[0]["strength_keys"][0][1] > 1.5)
    page.locator(".tl-block", has_text="happy").focus()
    page.keyboard.press("s")
    until(lambda: len(keys(studio)) == 3)
    first, _, second = keys(studio)
    assert first["end"] == second["start"] and first["strength_keys"][-1][1] == second["strength_keys"][0][1]
    page.keyboard.press("Delete")
    until(lambda: len(keys(studio)) == 2)
    page.keyboard.press("Control+z")
    until(lambda: len(keys(studio)) == 3)


def a_dragged_point_corrects_a_curve(studio, page):
    page.locator("select[aria-label='Curve to correct']").select_option("mouthSmileLeft")
    before = page.evaluate("window.cmetLatency.length")
    box = page.locator(".tl-curves").bounding_box()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 20)
    page.mouse.up()
    until(lambda: len(studio.project()["corrections"]) == 1)
    name, _, rest = studio.project()["corrections"][0].partition("=")
    assert name == "mouthSmileLeft" and float(rest.partition("@")[0]) > 0.8
    page.locator(".tl-point").wait_for()
    page.wait_for_function(f"window.cmetLatency.length > {before}")


def a_page_that_is_loaded_again_shows_the_same(studio, page):
    before = studio.project()
    page.reload()
    page.locator(".tl-block").nth(2).wait_for()
    page.locator("select[aria-label='Curve to correct']").select_option("mouthSmileLeft")
    page.locator(".tl-point").wait_for()
    assert studio.project() == before
    assert page.locator(".tl-clock").inner_text() != "00:00:00:00", "the playhead is where it was"


def an_engine_that_dies_is_started_again(studio, page):
    old = studio.engine_pid
    os.kill(old, signal.SIGKILL)
    at(page, 0.75)
    page.wait_for_function("document.querySelector('.main-frame .two')?.dataset.moment === '18'")
    assert studio.engine_pid != old


def the_edit_is_rendered_and_its_report_and_credentials_shown(studio, page):
    page.get_by_role("tab", name="Render").click()
    page.get_by_label("Quality").select_option("draft")
    until(lambda: studio.project()["settings"]["quality"] == "draft")
    page.get_by_role("button", name="Render", exact=True).click()
    page.locator(".job span.good").first.wait_for()
    page.get_by_role("button", name="Play", exact=True).click()
    page.wait_for_function("document.querySelector('video.movie')?.duration > 0.9")
    page.locator(".job .note.good").wait_for()
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Report").click()
    opened.value.wait_for_load_state()
    assert "C-MET" in opened.value.content()
    opened.value.close()
    assert "About" in page.locator(".right").inner_text()
    page.get_by_label("Shot data").check()
    page.get_by_role("button", name="Compare renderers").click()
    page.locator(".job", has_text="Compared: warp").locator("span.good").wait_for()
    assert page.faults == []


def the_work_is_handed_over(studio, page):
    page.get_by_role("tab", name="Hand over").click()

    def downloaded(button):
        with page.expect_download() as download:
            button.click()
        return Path(download.value.path()).read_bytes()

    assert b"MouthSmileLeft" in downloaded(page.get_by_role("button", name="Live Link Face (.csv)"))
    assert b"OTIO_SCHEMA" in downloaded(page.get_by_role("link", name=re.compile("otio$")).first)
    if importlib.util.find_spec("bpy"):
        shutil.copy(PROJECT / "rigs" / "demo_head.blend", studio.films)
        page.get_by_label("Character").fill(str(studio.films / "demo_head.blend"))
        assert downloaded(page.get_by_role("button", name="FBX")).startswith(b"Kaydara FBX Binary")
        page.get_by_role("button", name="Open in Blender").click()
        strips = len(keys(studio)) + 1
        page.get_by_text(f"The shot is open in Blender: {strips} strips on 'head'.").first.wait_for()
    assert page.faults == []


def refusals_are_said_in_the_engines_sentence(studio, page):
    page.get_by_role("button", name="Open …").click()
    page.get_by_label("Path", exact=True).fill("/etc/hostname")
    draw_again(page)  # as whatever the engine says in between would
    page.get_by_label("Path", exact=True).press("Enter")
    page.get_by_text("is outside the folders that this engine may use").wait_for()
    page.get_by_role("button", name="Close").last.click()
    page.locator(".chooser").wait_for(state="hidden")


def everything_is_reached_by_keyboard_and_has_a_name(studio, page):
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, input, select, a, [role=button], img")].filter((e) => e.offsetParent
        && !(e.getAttribute("aria-label") || e.title || e.textContent.trim() || e.hasAttribute("alt") || e.labels?.length || e.type === "file"))
        .map((e) => e.outerHTML.slice(0, 120))"""
    )
    assert nameless == []
    page.get_by_role("button", name="Open …").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def the_work_is_found_again_after_a_crash_of_the_studio(studio, page):
    before = studio.project()
    studio.kill()
    page.goto(studio.start(studio.films / "take.mp4"))
    page.locator(".tl-block").nth(2).wait_for()
    page.get_by_role("tab", name="Render").click()
    page.locator(".job span.good").first.wait_for()
    after = studio.project()
    assert (after["timeline"], after["corrections"], after["renders"]) == (
        before["timeline"], before["corrections"], before["renders"],
    )  # fmt: skip


def a_face_is_put_on(studio, page):
    picture = studio.films / "face.png"
    frame = next(iter(VideoReader(studio.films / "take.mp4"))).image
    cv2.imwrite(str(picture), frame[..., ::-1])
    count = len(keys(studio))
    for more in (1, 2):  # the same file again is no mistake
        page.locator(".face-upload input[type=file]").set_input_files(picture)
        until(lambda more=more: len(keys(studio)) == count + more)
    page.locator(".tl-block.chosen", has_text="like").wait_for()
    page.get_by_text("face.png hardly shows an expression").wait_for()
    assert studio.project()["reference"] and page.faults == []


def a_machine_without_a_microphone_says_so(studio, page):
    page.get_by_role("button", name="Record 5 s").click()
    page.get_by_text(re.compile("microphone|PortAudio|sounddevice|silent|emotions now")).last.wait_for()


def a_silent_clip_is_said_to_be_silent(studio, page):
    page.get_by_role("button", name="As the clip sounds").click()
    page.get_by_text("has no sound").first.wait_for()


@pytest.mark.longest
def test_a_walk_through_the_page(studio, page):
    for step in (
        an_edit_is_made_on_the_timeline,
        the_picture_follows_the_hand_and_is_full_at_rest,
        strength_keys_regions_split_and_copy,
        a_dragged_point_corrects_a_curve,
        a_page_that_is_loaded_again_shows_the_same,
        an_engine_that_dies_is_started_again,
        a_face_is_put_on,
        a_machine_without_a_microphone_says_so,
        a_silent_clip_is_said_to_be_silent,
        the_edit_is_rendered_and_its_report_and_credentials_shown,
        the_work_is_handed_over,
        refusals_are_said_in_the_engines_sentence,
        everything_is_reached_by_keyboard_and_has_a_name,
        the_work_is_found_again_after_a_crash_of_the_studio,
    ):
        step(studio, page)
