"""Choosing a renderer: one factory for all of them, which makes the renderer ready for a clip.

`warp` at `draft` moves the frame's own pixels. At `standard` a network blends in what other frames of the clip show better; at
`best` it does so in finer detail, and is fitted to the clip first. `liveportrait` and `performrecast` draw the face anew, driven by the
draft. `edtalk` encodes the clip and decodes it with edited codes: the connector's, or those read from the draft.
"""

from functools import partial
from typing import TYPE_CHECKING, Literal

from cmet_engine.choices import PORTRAITS
from cmet_engine.emotion.clip_emotions import ClipEmotions, basic_emotion_deltas
from cmet_engine.face.clip import face_key
from cmet_engine.face.occlusion import find_occlusion
from cmet_engine.face.tracker import FaceGeometry
from cmet_engine.media import audio
from cmet_engine.media.source import Source
from cmet_engine.models.registry import PACKAGES, is_here, path_of
from cmet_engine.progress import Progress
from cmet_engine.render.base import Renderer
from cmet_engine.render.refine.quality import advice, resolve_quality
from cmet_engine.render.warp import WarpRenderer
from cmet_engine.spec import EditSpec, RenderSpec
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.track import CoefficientTrack

if TYPE_CHECKING:  # brings torch
    from cmet_engine.render.edtalk.renderer import EdtalkRenderer


def check_weights(renderer: str, *, emotions: bool = False) -> None:
    """Refuse a renderer whose weights are not on this machine.

    Args:
        renderer: its name.
        emotions: it shall follow emotions, not curves.

    Raises:
        CmetError: they are missing or damaged; the message says how to get them.
    """
    for network in (*needed(renderer), *(["connector"] if emotions and renderer == "edtalk" else [])):
        path_of(network)


def needed(renderer: str) -> tuple[str, ...]:
    """The published networks that a renderer needs to follow curves."""
    if renderer in PORTRAITS:
        return tuple(network for _, network in PACKAGES[renderer].files)
    return ("edtalk_generator",) if renderer == "edtalk" else ()


def installed() -> list[str]:
    """The renderers whose weights are on this machine."""
    return [name for name in ("warp", *PORTRAITS, "edtalk") if all(is_here(network) for network in needed(name))]


def open_renderer(
    spec: EditSpec | RenderSpec,
    footage: Source,
    geometry: FaceGeometry,
    source: CoefficientTrack,
    edited: CoefficientTrack,
    *,
    timed: bool = True,
    progress: Progress | None = None,
) -> Renderer:
    """The renderer of curves that is asked for; `warp` at `auto` is `standard` on a CUDA GPU and `draft` without one.

    Args:
        spec: its renderer, face, quality, device and mode count.
        footage: its clip, or the part of it that is rendered.
        geometry: where the face is in every frame of the clip.
        source: the clip's own curves.
        edited: the wanted curves.
        timed: say how long the work will about take, which is measured, and another figure each time.
        progress: called as ("occlusion", frames done, in all) while what lies before the face is looked for, and as ("fit", steps
            done, in all) while a network is fitted to the clip.

    Raises:
        CmetError: the clip cannot be read, or the device is not on this machine.
    """
    face = face_key(footage, spec.face)
    occlusion = find_occlusion(footage, geometry, face=face, progress=progress)
    if spec.renderer in PORTRAITS or spec.renderer == "edtalk":
        return _driven(spec, footage, WarpRenderer(geometry, source, edited, occlusion=occlusion), timed, progress)
    if spec.quality == "draft":
        return WarpRenderer(geometry, source, edited, occlusion=occlusion)
    quality = resolve_quality(spec.quality, spec.device)
    if quality == "draft":
        return WarpRenderer(geometry, source, edited, [advice(len(geometry) if timed else None)], occlusion)
    from cmet_engine.render.refine.fitting import prepare
    from cmet_engine.render.refine.renderer import RefinedRenderer

    deltas = partial(basic_emotion_deltas, source)
    prepared = prepare(
        footage,
        geometry,
        deltas,
        quality,
        face=face,
        device=spec.device,
        timed=timed,
        progress=progress,
    )
    return RefinedRenderer(geometry, source, edited, prepared, occlusion)


def _driven(
    spec: EditSpec | RenderSpec, footage: Source, draft: WarpRenderer, timed: bool, progress: Progress | None
) -> Renderer:
    """A renderer that draws the face anew with the expression of a draft."""
    if spec.renderer == "edtalk":
        from cmet_engine.render.edtalk.enhancer import load_enhancer
        from cmet_engine.render.edtalk.renderer import EdtalkRenderer

        return EdtalkRenderer(
            footage, draft.geometry, EmotionTimeline([]), {}, draft=draft, device=spec.device, enhancer=load_enhancer(),
            progress=progress,
        )  # fmt: skip
    from cmet_engine.render.driven import DrivenRenderer
    from cmet_engine.render.liveportrait.generator import PortraitGenerator

    messages: list[str] = []
    replace = isinstance(spec, EditSpec) and spec.mode == "replace"
    name: Literal["liveportrait", "performrecast"] = "liveportrait"
    if spec.renderer == "performrecast":
        name = "performrecast"
    generator = PortraitGenerator(name=name, device=spec.device, warn=messages.append, replace=replace)
    return DrivenRenderer(footage, draft, generator, timed=timed, progress=progress, messages=messages)


def open_edtalk(
    spec: EditSpec,
    footage: Source,
    geometry: FaceGeometry,
    emotions: ClipEmotions,
    *,
    progress: Progress | None = None,
) -> "EdtalkRenderer":
    """The `edtalk` renderer of a clip; of the driving clip where a portrait shall speak.

    Args:
        spec: its lips, portrait and device count.
        footage: its clip, or the part of it that is rendered.
        geometry: where the face is in every frame of the clip.
        emotions: the timeline, and the vectors of its emotions.
        progress: called as ("encode", frames done, frames in all) while the clip is encoded.

    Raises:
        CmetError: no frame shows the face, weights are missing, or the voice cannot be used.
    """
    from cmet_engine.render.edtalk.enhancer import load_enhancer
    from cmet_engine.render.edtalk.renderer import EdtalkRenderer

    voice = audio.load(spec.lips) if spec.lips is not None and spec.portrait is None else None
    return EdtalkRenderer(
        footage, geometry, emotions.timeline, emotions.vectors, voice=voice, device=spec.device,
        enhancer=load_enhancer(), progress=progress,
    )  # fmt: skip
