"""Changed code never returns an old result, and unchanged code never computes one again."""

import ast
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import numpy as np
import pytest
from soak_cases import soak

from cmet_engine import cache, fingerprint
from cmet_engine.jobs import reuse
from cmet_engine.resume import Segments

PROJECT = Path(__file__).parents[2]
MODULES = sorted(path for path in (PROJECT / "cmet_engine").rglob("*.py") if path.parts[-2] not in ("cli", "docs"))

SOURCES = {
    "__init__": '__version__ = "1"\n\n\ndef __getattr__(name):\n    from cmet_engine import other\n',
    "stage": '"""A stage."""\n\nimport numpy as np\n\nfrom cmet_engine.part import half\n\n\ndef work(x):\n    from cmet_engine import (\n        late,  # heavy\n    )\n\n    return half(x) + late.more(np.zeros(1))\n',
    "part": "from cmet_engine.deep.inner import TWO\n\n\ndef half(x):\n    return x / TWO\n",
    "deep/__init__": "",
    "deep/inner": "TWO = 2\n",
    "late": 'def more(x):\n    """More."""\n    return x\n',
    "other": "from cmet_engine import __version__, stage\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package in the project's place; gives a function that changes one of its files."""

    def write(name: str, text: str) -> None:
        path = tmp_path / "cmet_engine" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for function in (fingerprint._code, fingerprint._module, fingerprint._path, fingerprint._version):
            function.cache_clear()

    def change(name: str, old: str, new: str) -> None:
        assert old in SOURCES[name]
        write(name, SOURCES[name].replace(old, new))

    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    for name, text in SOURCES.items():
        write(name, text)
    yield change
    write("__init__", "")


def stage() -> str:
    return fingerprint.code("cmet_engine.stage")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("stage", "half(x) +", "half(x) -"),
        ("part", "x / TWO", "TWO / x"),
        ("deep/inner", "2", "3"),
        ("late", "return x", "return -x"),  # imported inside a function
    ],
)
def test_a_change_of_a_module_that_a_stage_imports_changes_its_fingerprint(package, name, old, new):
    before = stage()
    package(name, old, new)
    assert stage() != before
    package(name, old, old)
    assert stage() == before


def test_a_change_of_a_module_that_a_stage_does_not_import_keeps_its_fingerprint(package):
    before, other = stage(), fingerprint.code("cmet_engine.other")
    package("other", "stage", "part")
    package("__init__", '"1"', '"2"')
    assert stage() == before
    assert fingerprint.code("cmet_engine.other") != other


def test_the_version_of_the_program_counts_where_it_is_used(package):
    before = fingerprint.code("cmet_engine.other")
    package("__init__", '"1"', '"2"')
    assert fingerprint.code("cmet_engine.other") != before


def test_comments_docstrings_and_blank_lines_do_not_count(package):
    before = stage()
    package("stage", '"""A stage."""', '"""What it does."""\n# why')
    assert stage() == before
    package("late", '"""More."""', '"""Says "x" and it\'s # not code."""\n\n')
    assert stage() == before


def test_a_template_beside_a_module_counts(package, tmp_path):
    before, part = stage(), fingerprint.code("cmet_engine.late")
    (tmp_path / "cmet_engine" / "deep" / "page.j2").write_text("<p>")
    package("deep/inner", "2", "2")
    assert stage() != before
    assert fingerprint.code("cmet_engine.late") == part


def test_the_version_of_an_outside_package_counts_where_it_is_used(package, monkeypatch):
    before, part = stage(), fingerprint.code("cmet_engine.part")
    monkeypatch.setattr(fingerprint.importlib.metadata, "version", lambda name: "0.0.0")
    package("__init__", "", "")
    assert stage() != before
    assert fingerprint.code("cmet_engine.part") == part


def test_a_module_that_is_not_there_is_an_error():
    with pytest.raises(LookupError, match=r"cmet_engine\.nowhere"):
        fingerprint.code("cmet_engine.nowhere")


@pytest.mark.parametrize("first", [0, *soak(1, 2, 3)])
def test_no_code_of_this_project_is_taken_for_a_comment_and_no_import_is_missed(first):
    for path in MODULES[first::4]:
        text = path.read_text("utf-8")
        significant, tree = fingerprint.significant(text), ast.parse(text)
        assert fingerprint.imports(significant) == imports_by_ast(tree), path
        assert compiled(ast.parse(significant.replace("\0", "\n"))) == compiled(tree), path


def test_every_stage_names_modules_that_are_there():
    named = {
        argument.value
        for path in MODULES
        if "fingerprint.code(" in path.read_text("utf-8")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "fingerprint.code"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }
    assert named
    for module in {*named, reuse.WORK}:
        assert len(fingerprint.code(module)) == 64


def compiled(tree: ast.Module) -> CodeType:
    """What a program does: its code without docstrings and line numbers."""
    for node in statements(tree):
        body = getattr(node, "body", None)
        if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            body[0].value.value = ""
    return without_lines(compile(tree, "", "exec", dont_inherit=True))


def without_lines(code: CodeType) -> CodeType:
    inner = tuple(without_lines(value) if isinstance(value, CodeType) else value for value in code.co_consts)
    return code.replace(co_linetable=b"", co_firstlineno=1, co_consts=inner)


def statements(tree: ast.Module) -> Iterator[ast.AST]:
    """The module and every statement in it, at any depth."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting.extend(getattr(node, block, ()))


def imports_by_ast(tree: ast.Module) -> set[str]:
    found = set()
    for node in statements(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports here are absolute"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                path = PROJECT.joinpath(*name.split("."))
                is_module = path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()
                found.add(name if is_module else node.module)
    outside = {name.partition(".")[0] for name in found}
    return {name for name in found if name.partition(".")[0] == fingerprint.PACKAGE} | (
        outside & fingerprint.OUTSIDE.keys()
    )


def test_values_are_told_apart(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"one")
    parts = [file, np.zeros(3), np.zeros(3, np.float32), np.zeros((3, 1)), iter([np.ones(2), "x"]), 1, "1", None]
    marks = [fingerprint.data(part) for part in parts]
    assert len(set(marks)) == len(marks)
    file.write_bytes(b"two")
    assert fingerprint.data(file) != marks[0]
    assert fingerprint.data(iter([np.ones(2), "x"])) == marks[4]


def test_a_cache_key_tells_kind_content_code_and_settings_apart(tmp_path):
    clip, same = tmp_path / "clip", tmp_path / "copy"
    clip.write_bytes(b"clip")
    same.write_bytes(b"clip")
    key = cache.key("geometry", clip, "code", 0)
    assert cache.key("geometry", same, "code", 0) == key
    same.write_bytes(b"another")
    others = [
        cache.key("geometry", clip, "other code", 0),
        cache.key("geometry", clip, "code", 1),
        cache.key("features", clip, "code", 0),
        cache.key("geometry", same, "code", 0),
    ]
    assert len({key, *others}) == 5


def test_a_job_is_done_again_when_clip_settings_or_code_changed(tmp_path, monkeypatch):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"clip")
    request = {"kind": "track", "parameters": {"clip": str(clip), "face": 0, "format": "npz"}}
    marks = [reuse.identity(request), reuse.identity(request)]
    assert marks[0] == marks[1]
    marks.append(reuse.identity({**request, "parameters": {**request["parameters"], "face": 1}}))
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "code", lambda *modules: "changed")
        marks.append(reuse.identity(request))
    clip.write_bytes(b"exported again")
    marks.append(reuse.identity(request))
    assert len(set(marks)) == 4


def test_finished_segments_go_when_what_made_them_changed(tmp_path):
    segments = Segments(tmp_path)

    def kept(code: str, *made_from: object) -> bool:
        folder = segments.stage("render", code, *made_from)
        found = (folder / "segment").exists()
        (folder / "segment").touch()
        return found

    assert [kept("code", 1), kept("code", 1), kept("code", 2), kept("other", 2), kept("other", 2)] == [
        False, True, False, False, True,
    ]  # fmt: skip
