"""Every example in the documentation runs: commands, Python and JSON, in a folder as the pages assume it."""

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import av
import pytest
from short_clips import small

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "cmet_engine" / "docs").glob("*.md"))
BLOCK = re.compile(r"^```(?P<language>\w+)(?P<note>[^\n]*)\n(?P<text>.*?)^```", re.M | re.S)
LINKS = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


COVERED = ("cmet batch", "--rig", "--handles", "--face ")
"""What other tests do from end to end, too: `make soak` runs these examples."""


def examples(language: str) -> list:
    """The blocks of a language as parameters: page and text; those marked `no-test: why` are left out."""
    return [
        pytest.param(
            block["text"],
            id=f"{page.stem}-{number}",
            marks=[pytest.mark.soak] if any(words in block["text"] for words in COVERED) else [],
        )
        for page in PAGES
        for number, block in enumerate(BLOCK.finditer(page.read_text("utf-8")))
        if block["language"] == language and "no-test:" not in block["note"]
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the examples name: a clip, recordings, a timeline, tracks, a character, a folder of clips."""
    sys.path.insert(0, str(ROOT / "tests" / "engine"))
    from voices import speak, write_wav

    path = tmp_path_factory.mktemp("examples")
    small(path / "take3.mp4", frames=75, size=192, step=5)
    write_wav(path / "furious.wav", speak(2.5, pitch=230, lively=0.4, seed=1))
    write_wav(path / "calm.wav", speak(2.5, pitch=120, lively=0.05, seed=2))
    (path / "timeline.json").write_text('{"format": "cmet-timeline/1", "keys": [{"emotion": "sad"}]}')
    (path / "clips").mkdir()
    small(path / "clips" / "one.mp4", frames=12, size=192)
    shutil.copy(ROOT / "rigs" / "demo_head.blend", path / "hero.blend")
    with av.open(str(path / "take3.mp4")) as clip:
        next(clip.decode(video=0)).to_image().save(path / "face.jpg")
    return path


@pytest.fixture
def here(folder, monkeypatch):
    """The examples' folder as the current one, with a user's folder of its own."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CMET_HOME", str(folder / "home"))
    return folder


def commands_of(text: str) -> list[list[str]]:
    return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


@pytest.fixture
def tracks(here):
    """The tracks that a page's earlier command would have made."""
    from cmet_engine.face.clip import track_clip

    if not (here / "edited.npz").exists():
        _, track = track_clip(here / "take3.mp4")
        for name in ("source.npz", "edited.npz", "take3.npz"):
            track.save(here / name, force=True)


@pytest.mark.slow
@pytest.mark.parametrize("text", examples("sh"))
def test_the_commands_run(text, here, tracks, capfd):
    from cmet_engine.cli import main

    for number, words in enumerate(commands_of(text)):
        assert words[0] == "cmet", f"an example that is no cmet command is marked no-test: {words}"
        arguments = [
            *words[1:],
            *(["--force"] if words[1] in ("edit", "track", "render", "export", "hear", "vector") else []),
        ]
        if words[1] in ("edit", "render") and "--quality" not in words:
            arguments += ["--quality", "draft"]
        if words[1] == "edit" and number > 0 and "--renderer" not in words:  # what a block edits first is rendered
            arguments += ["--renderer", "none"]
        if words[1] == "batch" and number == 0:
            (here / "jobs.csv").unlink(missing_ok=True)
        assert main(arguments) == 0, f"{' '.join(words)}: {capfd.readouterr().err[-400:]}"


@pytest.mark.slow
@pytest.mark.parametrize("text", examples("python"))
def test_the_python_runs(text, here):
    from running_engine import RunningEngine

    if "engine.json" not in text:
        exec(compile(text, "example", "exec"), {})
        return
    engine = RunningEngine(here / "engine")
    engine.start()
    try:
        shutil.copy(engine.token_file, here / "engine.json")
        exec(compile(text, "example", "exec"), {})
    finally:
        engine.stop()


@pytest.mark.parametrize("text", examples("json"))
def test_the_json_is_a_timeline(text, here):
    from cmet_engine.timeline import EmotionTimeline

    (here / "example.json").write_text(json.dumps(json.loads(text)))
    assert EmotionTimeline.load(here / "example.json").keys


@pytest.mark.parametrize(
    "page",
    [*PAGES, *ROOT.glob("*.md"), ROOT / "cmet_blender" / "README.md", ROOT / "rigs" / "README.md"],
    ids=lambda page: page.name,
)
def test_the_links_lead_somewhere(page):
    site = {"blender", "architecture", "contributing", "consent", "security", "changelog", "model_card", "licences"}
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
    for target in LINKS.findall(text):
        made = target.removesuffix(".md") in site and page.parent.name == "docs"
        assert made or (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_names_commands_that_exist(capsys):
    from cmet_engine.cli import main

    text = (ROOT / "README.md").read_text("utf-8")
    for name in {match[1] for match in re.finditer(r"^    cmet (\w+)", text, re.M)}:
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0, name
    for target in re.findall(r"^    make (\w+)", text, re.M):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.M), target
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
