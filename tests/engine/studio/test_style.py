"""The colours of the page can be told apart: WCAG 2.2, 1.4.3 for text and 1.4.11 for what is drawn, light and dark."""

import re
from pathlib import Path

import pytest

from cmet_engine import studio

STYLE = Path(studio.__file__).with_name("studio.css").read_text("utf-8")
TEXT = {
    "ink": "ground panel raised soft stage", "ink-2": "ground panel raised soft stage", "accent-ink": "accent", "block-ink": "block",
    "bad": "panel", "good": "panel",
}  # fmt: skip
DRAWN = {"ink-3": "panel", "accent": "panel soft block", "wave": "panel speech", "cut": "panel speech", "blink": "panel speech"}  # fmt: skip


def luminance(colour: str) -> float:
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [":root", ".body--dark"])
def test_colours_can_be_told_apart(theme):
    found = re.search(re.escape(theme) + r" \{(.*?)\}", STYLE, re.S)
    assert found
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", found[1]))
    for pairs, least in ((TEXT, 4.5), (DRAWN, 3.0)):
        for name, grounds in pairs.items():
            for ground in grounds.split():
                dark, light = sorted((luminance(colours[name]), luminance(colours[ground])))
                assert (light + 0.05) / (dark + 0.05) >= least, f"{name} on {ground}"
