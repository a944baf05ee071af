"""The optional parts of the installation: which packages each brings, and what needs them."""

import importlib
import importlib.util
from dataclasses import dataclass
from types import ModuleType

from cmet_engine.errors import MissingWeights


@dataclass(frozen=True)
class Extra:
    """An extra of the package: `pip install 'cmet[name]'`.

    Attributes:
        purpose: what needs it, as the beginning of a sentence.
        modules: what it brings, by the names they are imported under.
    """

    purpose: str
    modules: tuple[str, ...]


EXTRAS = {
    "blender": Extra("Putting tracks on characters without Blender's window", ("bpy",)),
    "record": Extra("Recording a voice", ("sounddevice",)),
    "otio": Extra("Shot data", ("opentimelineio",)),
    "ray": Extra("A batch on several machines", ("ray",)),
    "evaluation": Extra("An independent judge of expressions", ("ai_edge_litert",)),
    "studio": Extra("The page in the browser (cmet studio)", ("nicegui",)),
    "train": Extra("Training the face solver", ("flatbuffers",)),
    "docs": Extra("Building the documentation", ("mkdocs", "material", "mkdocstrings")),
}


def is_installed(name: str) -> bool:
    """Whether everything that an extra brings is installed."""
    return all(importlib.util.find_spec(module) is not None for module in EXTRAS[name].modules)


def advice(name: str) -> str:
    """What to do where an extra is missing."""
    return f"run: pip install 'cmet[{name}]'"


def load(name: str, module: str) -> ModuleType:
    """Import a module that an extra brings.

    Raises:
        MissingWeights: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        purpose = EXTRAS[name].purpose
        raise MissingWeights(
            f"{purpose} needs the package {module}, which is not installed; {advice(name)}."
        ) from error
