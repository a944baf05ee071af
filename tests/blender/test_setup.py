"""Set Up Engine: environments from a folder of small wheels, without a network; and what `make dist` builds."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import time
import zipfile
from pathlib import Path

import pytest

import cmet_engine
from cmet_blender import build_dist, build_extension, engine_check
from cmet_blender.engine import Engine
from cmet_blender.setup import environment, plan, pythons
from cmet_engine.errors import Busy, Cancelled, CmetError, InvalidInput, NotFound
from cmet_engine.files import exclusive

PYTHON = pythons.Python(Path(sys.executable), sys.version_info[:3])
OTHER = pythons.Python(Path("/opt/python3.13"), (3, 13, 0))
VERSION = cmet_engine.__version__
DOCTOR = """
import json, sys
assert sys.argv[1:] == ["doctor", "--json"]
print(json.dumps([{"name": "GPU", "ok": None, "detail": "none", "advice": ""},
                  {"name": "face tracker", "ok": False, "detail": "does not start", "advice": "Install libegl1."}]))
sys.exit(1)
"""

pytestmark = pytest.mark.skipif(sys.version_info[:2] != pythons.WANTED, reason="needs Python 3.11, as the engine does")


def small_wheel(folder, version=VERSION, name="cmet", requires=(), **modules):
    """A wheel with these modules, by path without suffix; `cmet` is an engine that answers `doctor` and nothing else."""
    folder.mkdir(exist_ok=True)
    if name == "cmet":
        modules = {"cmet_engine/__init__": f"__version__ = '{version}'", "cmet_engine/cli": DOCTOR} | modules
    info = f"{name}-{version}.dist-info"
    files = {f"{path}.py": text for path, text in modules.items()}
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    files[f"{info}/METADATA"] = "\n".join(lines) + "\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    digests = {
        n: base64.urlsafe_b64encode(hashlib.sha256(t.encode()).digest()).decode().rstrip("=") for n, t in files.items()
    }
    files[f"{info}/RECORD"] = (
        "".join(f"{n},sha256={d},{len(files[n])}\n" for n, d in digests.items()) + f"{info}/RECORD,,\n"
    )
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return path


@pytest.fixture(autouse=True)
def quick(tmp_path_factory, monkeypatch):
    """Environments get the pip of this one by a link, which takes a second; installing pip takes ten."""
    pip = Path(sysconfig.get_path("purelib")) / "pip"
    if not pip.is_dir():
        pytest.skip("needs pip in this environment")
    beside = tmp_path_factory.mktemp("pip")
    (beside / "pip").symlink_to(pip)
    script = (
        "import pathlib, sys, venv; venv.create(sys.argv[1]); "
        "site = next(pathlib.Path(sys.argv[1]).glob('[lL]ib*/**/site-packages')); "
        f"(site / 'pip.pth').write_text({str(beside)!r})"
    )
    monkeypatch.setattr(environment, "VENV", ("-c", script))
    return script


@pytest.fixture
def wheels(tmp_path):
    """A folder with the engine's wheel and that of a package which it needs."""
    folder = tmp_path / "wheels"
    small_wheel(folder, requires=("needed>=1",))
    small_wheel(folder, "1.5", "needed", needed="")
    return folder


def plan_from(wheels, folder, found=(PYTHON,)):
    return plan.make(folder, plan.Source("folder", str(wheels)), list(found))


def wait(work, seconds=120):
    end = time.monotonic() + seconds
    while not work.finished:
        assert time.monotonic() < end, work.stage
        time.sleep(0.05)
    return work


def test_an_engine_is_set_up_repaired_updated_and_removed(wheels, tmp_path):
    folder = tmp_path / "new" / "engine"
    work = environment.Setup(plan_from(wheels, folder))
    work.start()
    engine = wait(work).result
    assert work.error is None and engine == environment.installed(folder) and engine.whole
    assert engine.version == VERSION and work.warnings == ["face tracker: does not start. Install libegl1."]
    assert environment.installed_at(engine.python) == engine
    log = work.log.read_text()
    assert "Successfully installed cmet" in log and "needed-1.5" in log and "--no-index" in log
    script = "import cmet_engine, needed; print(cmet_engine.__version__)"
    assert subprocess.check_output([engine.python, "-c", script], text=True, timeout=60).strip() == VERSION

    # its Python is gone: it says so, and the same again mends it, beside a note of the user's
    engine.python.unlink()
    (folder / "notes.txt").write_text("mine")
    assert not environment.installed(folder).whole
    mended = environment.Setup(plan_from(wheels, folder)).run()
    assert mended.whole and mended.environment != engine.environment and not engine.environment.exists()

    # an update that fails leaves the engine that is there; the log says why
    small_wheel(wheels, requires=("missing_package",))
    with pytest.raises(CmetError, match=r"missing.package is not there.*The whole log is in .*setup\.log"):
        environment.Setup(plan_from(wheels, folder)).run()
    assert environment.installed(folder) == mended and mended.whole
    assert sorted(p.name for p in folder.iterdir()) == sorted(["notes.txt", *environment._OWN, mended.environment.name])

    assert "other files in that folder stay" in environment.remove(folder)
    assert [p.name for p in folder.iterdir()] == ["notes.txt"]


def test_a_cancelled_set_up_leaves_nothing(wheels, tmp_path):
    small_wheel(wheels, f"{VERSION}.1", **{"cmet_engine/cli": "import time; time.sleep(600)"})
    folder = tmp_path / "new" / "engine"
    work = environment.Setup(plan_from(wheels, folder))
    work.start()
    end = time.monotonic() + 120
    while work.stage != "trying the engine":  # everything is there by now
        assert time.monotonic() < end and not work.finished, work.error
        time.sleep(0.05)
    work.cancel()
    assert isinstance(wait(work).error, Cancelled) and not (tmp_path / "new").exists()


def test_what_a_killed_set_up_left_goes_and_two_at_once_are_refused(wheels, tmp_path):
    folder = tmp_path / "engine"
    half = folder / "env-abcd1234"
    half.mkdir(parents=True)
    environment._write_marker(folder, "", "")
    with exclusive(folder / environment.LOCK), pytest.raises(Busy, match="Another Blender"):
        environment.Setup(plan_from(wheels, folder)).run()
    assert half.exists()
    work = environment.Setup(plan_from(wheels, folder))
    work.cancel()
    with pytest.raises(Cancelled):
        work.run()
    assert list(folder.iterdir()) == []  # the folder itself was there before


def test_folders_of_others_are_neither_filled_nor_removed(wheels, tmp_path):
    folder = tmp_path / "film"
    folder.mkdir()
    (folder / "scene.blend").write_text("mine")
    with pytest.raises(InvalidInput, match="holds other things"):
        environment.Setup(plan_from(wheels, folder)).run()
    with pytest.raises(InvalidInput, match="was not made by Set Up Engine; nothing was removed"):
        environment.remove(folder)
    # a marker that points elsewhere is none
    (folder / environment.MARKER).write_text(json.dumps({"environment": "../film", "version": "1"}))
    assert environment.installed(folder) is None
    environment.remove(folder)
    assert [p.name for p in folder.iterdir()] == ["scene.blend"]
    with pytest.raises(InvalidInput, match="is a file"):
        environment.check_folder(folder / "scene.blend")


def test_the_plan_says_what_is_fetched_from_where_and_how_large(wheels, tmp_path, monkeypatch):
    local = plan_from(wheels, tmp_path / "engine")
    text = " ".join(local.sentences())
    assert f"fetches nothing: everything comes from {wheels} (1 MB)" in text and str(PYTHON.path) in text
    monkeypatch.setattr(sys, "platform", "linux")
    wheel = plan.Source("wheel", str(small_wheel(wheels)))
    first, fetches, takes, _ = plan.make(tmp_path / "engine", wheel, [PYTHON]).sentences()
    assert wheel.place in first and VERSION in first
    assert "MB from pip's index (pypi.org, unless pip is set otherwise) and download.pytorch.org" in fetches
    assert f"GB in {tmp_path / 'engine'}" in takes
    cuda = plan.make(tmp_path / "engine", plan.Source("wheel", wheel.place, True), [PYTHON])
    assert "about 3.5 GB" in cuda.sentences()[1] and cuda.hosts[1:] == ()
    index = plan.make(tmp_path / "engine", plan.Source("index", "https://pypi.studio.example/simple"), [OTHER])
    assert index.hosts == ("pypi.studio.example", "github.com") and "uv brings one" in index.sentences()[3]
    assert index.pip == ((f"cmet=={plan.fitting_version()}", "--index-url", "https://pypi.studio.example/simple"),)


@pytest.mark.parametrize(
    ("kind", "place", "words"),
    [
        ("wheel", "", "No wheel of the engine came with this extension"),
        ("wheel", "gone.whl", "gone.whl does not exist"),
        ("wheel", "wheels/needed-1.5-py3-none-any.whl", "no wheel of the engine"),
        ("wheel", "wheels/cmet-99.0-py3-none-any.whl", "does not go with the add-on"),
        ("folder", "gone", "gone does not exist"),
        ("folder", "empty", "holds no wheel of the engine"),
        ("index", "", "it is not on pypi.org"),
        ("index", "pypi", "no address of an index"),
    ],
)
def test_a_source_that_has_no_engine_is_refused(wheels, tmp_path, monkeypatch, kind, place, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    small_wheel(wheels, "99.0")
    with pytest.raises((NotFound, InvalidInput), match=words):
        plan.make(tmp_path / "engine", plan.Source(kind, place), [PYTHON])


def test_without_python_3_11_and_network_it_says_what_to_install(wheels, tmp_path):
    with pytest.raises(NotFound, match=r"Python 3\.11 is not on this machine; install it from python\.org"):
        plan_from(wheels, tmp_path / "engine", [OTHER])
    index = plan.Source("index", "https://pypi.studio.example/simple")
    with pytest.raises(NotFound, match="install it"):
        plan.make(tmp_path / "engine", index, [])


def test_pythons_of_this_machine_are_found():
    found = pythons.find()
    assert found and found[-1].fits and all(one.version >= pythons.OLDEST for one in found)
    assert pythons.examine([sys.executable, "-S"]) and pythons.examine(["/nowhere/python"]) is None


def test_the_check_says_how_to_get_the_engine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # not beside the sources
    monkeypatch.delenv("PYTHONPATH", raising=False)
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True, timeout=120)
    findings = engine_check.check(Engine(environment.python_of(bare), folder=tmp_path / "engine"))
    (missing,) = [finding.text for finding in findings if "C-MET is not installed" in finding.text]
    assert "press Set Up Engine" in missing and "install cmet" not in missing


def test_the_index_is_what_blender_makes_of_the_same_folder(tmp_path):
    pytest.importorskip("bpy", reason="needs Blender as a module (the package bpy), which is not installed")
    wheel = small_wheel(tmp_path / "wheels")
    archive = build_extension.build(tmp_path / "dist", engine=wheel)
    with zipfile.ZipFile(archive) as bundle:
        assert bundle.read(f"engine/{wheel.name}") == wheel.read_bytes()
    ours = json.loads(build_dist.write_index(archive).read_text("utf-8"))
    tool = [sys.executable, str(build_extension.validator())]
    done = subprocess.run(
        [*tool, "server-generate", "--repo-dir", str(archive.parent)], capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert ours == json.loads((archive.parent / build_dist.INDEX).read_text("utf-8"))
    with pytest.raises(SystemExit, match="is not the wheel of cmet"):
        build_extension.build(tmp_path / "dist", engine=small_wheel(tmp_path / "wheels", "99.0"))


def test_the_button_of_the_installed_extension(wheels, quick, tmp_path):
    pytest.importorskip("bpy", reason="needs Blender as a module (the package bpy), which is not installed")
    archive = build_extension.build(tmp_path / "dist", engine=small_wheel(tmp_path / "bundled"))
    answer = session(archive, tmp_path, wheels, quick)
    assert answer["button"] and not answer["online"]
    # the wheel inside needs packages from the network
    assert "online access is off" in answer["refused"] and any("online access is off" in t for t in answer["texts"])
    assert answer["set_up"] == ["FINISHED"]
    assert Path(answer["python"]).is_relative_to(tmp_path / "engine")
    assert any(f"The engine {VERSION} is set up" in text for text in answer["texts_after"])
    assert f"C-MET {VERSION}" in answer["texts_after"] and any("Install libegl1" in t for t in answer["texts_after"])
    assert {"Repair Engine…", "Remove Engine…"} <= set(answer["buttons_after"])
    assert answer["removed"] == ["FINISHED"] and answer["python_after"] == "" and not (tmp_path / "engine").exists()
    assert "nothing was removed" in answer["removed_again"]


def test_the_listed_build_fetches_nothing_and_explains(tmp_path):
    pytest.importorskip("bpy", reason="needs Blender as a module (the package bpy), which is not installed")
    page = "https://example.org/cmet"
    archive = build_extension.build(tmp_path, listed=page)
    with zipfile.ZipFile(archive) as bundle:
        names = bundle.namelist()
        manifest = bundle.read("blender_manifest.toml").decode()
    assert not [name for name in names if name.startswith(("setup/", "engine/"))] and "fetch it" not in manifest
    tool = [sys.executable, str(build_extension.validator()), "validate", str(archive)]
    done = subprocess.run(tool, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = session(archive, tmp_path)
    assert answer["texts"][0].startswith("Tracking, emotions and videos need the engine") and answer["link"] == page
    assert not answer["button"]


def session(archive, folder, *more):
    """What a Blender of its own answers that installed a zip; see `setup_session.py`."""
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
        "BLENDER_USER_RESOURCES": str(folder / "profile")
    }
    (folder / "profile").mkdir()
    script = Path(__file__).with_name("setup_session.py")
    command = [sys.executable, str(script), str(archive), *map(str, more)]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.soak
def test_the_real_engine_with_everything_that_it_needs(tmp_path, monkeypatch, project):
    monkeypatch.setattr(environment, "VENV", ("-m", "venv"))
    monkeypatch.setenv("PIP_CONSTRAINT", str(project / ".ci" / "constraints.txt"))
    wheel = build_dist.engine_wheel(tmp_path / "wheels")
    # torch from pip's index, as it is set up on this machine, and not from that of torch alone
    work = environment.Setup(plan.make(tmp_path / "engine", plan.Source("wheel", str(wheel), True), [PYTHON]))
    work.work()
    if work.error is not None and "does not answer" in str(work.error):
        pytest.skip("needs pip's index, which does not answer")
    assert work.error is None, work.error
    service = Engine(work.result.python, folder=tmp_path / "run")
    service.start()
    service.wait()
    assert service.health()["version"] == VERSION
    service.stop()
