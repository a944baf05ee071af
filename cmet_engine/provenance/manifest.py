"""What a manifest of ours says, and the same in words."""

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cmet_engine import __version__
from cmet_engine.models import assets
from cmet_engine.provenance import consent as consents
from cmet_engine.provenance.consent import Consent
from cmet_engine.timeline import EmotionTimeline

EDIT = "cmet.edit"
"""Label of our own assertion: how the edit was made."""

COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's digital source type for what was filmed and then changed by trained models."""

NO_WATERMARK, WATERMARK_OFF = "none", "none, as was asked (--no-watermark)"


@dataclass(frozen=True)
class Made:
    """What was done, for the manifest and the ledger.

    Attributes:
        kind: of the work: `edit`, `render`, `export`, …
        id: see `ledger.new_id`.
        sources: what it was made from, the clip first, with the SHA-256; of numbered pictures that of their checksums.
        edit: how it was edited, in one line.
        renderer, quality: see `spec.EditSpec`; empty where nothing was rendered.
        timeline: the emotions over time.
        consent: of the person shown; None where it was not asked for.
        watermark: the id that the pictures carry, or `none`, and why.
        settings: what else decided the result, by name.
    """

    kind: str
    id: str
    sources: dict[Path, str]
    edit: str
    renderer: str = ""
    quality: str = ""
    timeline: EmotionTimeline = field(default_factory=EmotionTimeline)
    consent: Consent | None = None
    watermark: str = NO_WATERMARK
    settings: dict[str, Any] = field(default_factory=dict)


def definition(work: Made, title: str) -> dict[str, Any]:
    """The manifest of a file as `c2pa.Builder` takes it, without ingredients.

    Args:
        work: what was done.
        title: name of the file.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    agent = {"name": "C-MET", "version": __version__}
    begun = {"action": "c2pa.opened", "parameters": {"ingredientIds": ["source"]}}
    if not work.sources:  # of an animation in an unsaved scene nobody can say more
        begun = {"action": "c2pa.created", "digitalSourceType": COMPOSITE}
    actions = [
        {"when": now, "softwareAgent": agent, **begun},
        {
            "action": "c2pa.edited", "when": now, "softwareAgent": agent, "digitalSourceType": COMPOSITE,
            "description": f"The facial expression was changed by a program: {work.edit}.",
        },
    ]  # fmt: skip
    sources = [{"name": path.name, "sha256": checksum} for path, checksum in work.sources.items()]
    said = {
        "id": work.id, "kind": work.kind, "edit": work.edit, "renderer": work.renderer, "quality": work.quality, "time": now,
        "timeline": [asdict(key) for key in work.timeline.keys], "settings": work.settings, "sources": sources,
        "models": assets.models(),
        "consent": work.consent.details if work.consent else None, "watermark": work.watermark,
    }  # fmt: skip
    return {
        "claim_generator_info": [agent],
        "title": title,
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}, {"label": EDIT, "data": said}],
    }


def words(work: Made) -> dict[str, str]:
    """What the manifest says, for the report; without times, so that the same work has the same report."""
    how = ", ".join(
        part
        for part in (work.renderer and f"renderer {work.renderer}", work.quality and f"quality {work.quality}")
        if part
    )
    return {
        "what was done": work.edit + (f" ({how})" if how else ""),
        "made from": ", ".join(path.name for path in work.sources),
        "digital source type": "composite with trained models (compositeWithTrainedAlgorithmicMedia)",
        "consent": work.consent.text if work.consent else "not asked for",
        "watermark": work.watermark,
        "id in the ledger": work.id,
    }


def edit_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """Our own assertion of a manifest; empty where another tool made it."""
    found = [one.get("data") for one in manifest.get("assertions", []) if one.get("label") == EDIT]
    return dict(found[0]) if found and isinstance(found[0], dict) else {}


def actions_of(manifest: dict[str, Any]) -> list[str]:
    """The actions of a manifest: `edited (by C-MET 0.1.0)`."""
    said = []
    for one in manifest.get("assertions", []):
        if not str(one.get("label")).startswith("c2pa.actions"):
            continue
        for action in one.get("data", {}).get("actions", []):
            agent = action.get("softwareAgent") or {}
            name = (
                " ".join(str(agent.get(part, "")) for part in ("name", "version")).strip()
                if isinstance(agent, dict)
                else str(agent)
            )
            said.append(str(action.get("action")).removeprefix("c2pa.") + (f" (by {name})" if name else ""))
    return said


def consent_of(edit: dict[str, Any]) -> str:
    """What our assertion says about consent, in one line."""
    return consents.described(edit.get("consent"))
