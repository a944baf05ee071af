"""What `cmet doctor` says of a machine on which something is wrong: what, and how to mend it."""

import importlib.metadata
import os
import shutil
import sys
from collections import namedtuple

import pytest

from cmet_engine import cli, extras
from cmet_engine.cli import doctor
from cmet_engine.errors import MissingWeights
from cmet_engine.models import assets


def findings() -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor.examine()}


def test_a_machine_in_order_has_nothing_broken():
    found = findings()
    assert not [finding for finding in found.values() if finding.ok is False]
    assert {"Python", "GPU", "codecs", "face tracker", "embedded models", "temporary folder", "user folder"} <= set(
        found
    )


def test_without_the_library_of_content_credentials_the_rest_works(monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    finding = findings()["Content Credentials"]
    assert finding.ok is None and "not installed" in finding.detail and "pip install c2pa-python" in finding.advice


def broken(name: str, word: str, advice: str) -> None:
    """Check that this is broken and said to be, and that nothing keeps the rest from being looked at."""
    found = findings()
    finding = found[name]
    assert finding.ok is False and word in finding.detail and advice in finding.advice
    assert "Python" in found and "user folder" in found


@pytest.mark.parametrize("name", ["numpy", "av", "mediapipe", "torch"])
def test_a_missing_package(monkeypatch, name):
    version = importlib.metadata.version

    def without(asked):
        if asked == name:
            raise importlib.metadata.PackageNotFoundError(asked)
        return version(asked)

    monkeypatch.setattr(importlib.metadata, "version", without)
    broken(name, "not installed", f"pip install {name}")


@pytest.mark.parametrize(("name", "wrong"), [("numpy", "2.1.0"), ("mediapipe", "0.10.30")])
def test_a_version_that_does_not_work(monkeypatch, name, wrong):
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda asked: wrong if asked == name else version(asked))
    broken(name, wrong, f"pip install '{name}==")


def test_a_package_that_does_not_load(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    broken("GPU", "torch does not load", "pip install")
    monkeypatch.setitem(sys.modules, "av.codec", None)
    broken("codecs", "cannot be examined", "pip install")


def test_a_gpu_that_torch_does_not_see(monkeypatch, tmp_path):
    import torch

    driver = tmp_path / "version"
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54\nGCC version: 12\n")
    monkeypatch.setattr(doctor, "DRIVER", driver)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    broken("GPU", "550.54", "build of torch for CUDA")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    broken("GPU", "cannot use it", "Update the driver to one for CUDA 12.8")


def test_an_extra_that_is_missing_says_what_needs_it(monkeypatch):
    monkeypatch.setattr(extras, "is_installed", lambda name: name != "record")
    found = findings()
    missing, there = found["cmet[record]"], found["cmet[ray]"]
    assert missing.ok is None and "sounddevice" in missing.detail
    assert missing.advice == "Recording a voice needs it; run: pip install 'cmet[record]'"
    assert there.ok and not there.advice


def test_work_that_needs_a_missing_extra_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingWeights, match=r"needs the package sounddevice.*pip install 'cmet\[record\]'"):
        extras.load("record", "sounddevice")


def test_codecs_that_are_missing(monkeypatch):
    import av.codec

    monkeypatch.setattr(av.codec, "codecs_available", {"aac", "png"})
    broken("codecs", "libx264, libx265, prores_ks", "pip install --force-reinstall av")


def test_a_model_that_was_damaged(monkeypatch, tmp_path):
    monkeypatch.setattr(assets, "CHECKSUMS", tmp_path / "checksums.json")
    broken("embedded models", "checksums.json", "pip install --force-reinstall --no-deps")


def test_a_full_disk(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 40, 1 << 40, 1 << 30))
    broken("temporary folder", "1.0 GiB free", "Free 1.0 GiB")


def test_a_folder_that_may_not_be_written(monkeypatch, tmp_path):
    monkeypatch.setenv("CMET_HOME", str(tmp_path / "home"))
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: tmp_path != path and access(path, mode))
    broken("user folder", "may not be written", f"chmod u+rwx '{tmp_path}'; or set CMET_HOME")


def test_what_is_broken_is_shown_and_the_status_tells(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "EXACTLY", {"numpy": "3."})
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert " BROKEN  numpy" in out and "pip install 'numpy==3.*'" in out
