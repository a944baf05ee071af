"""The EDTalk renderer: 256-pixel faces decoded from latent codes, pasted back into the frame.

`renderer.EdtalkRenderer` edits a clip, `portrait.render_portrait` makes a picture speak.
"""

from cmet_engine.render.edtalk.audio2lip import Audio2Lip
from cmet_engine.render.edtalk.generator import Generator, Source

__all__ = ["Audio2Lip", "Generator", "Source"]
