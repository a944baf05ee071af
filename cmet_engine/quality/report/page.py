"""Write a report: the page from its template, and the JSON document."""

import base64
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from cmet_engine.files import whole_file
from cmet_engine.media.picture import shrunk_size, small_jpeg
from cmet_engine.quality.report.charts import clock, curves_svg, timeline_svg
from cmet_engine.quality.report.data import EditReport, FramePair, document, strengths
from cmet_engine.quality.report.figures import figures

PICTURE_SIDE = 720  # pixels of the longer side of a picture in the report
CLOSE_UP_SIDE = 400  # pixels of the longer side of a close-up of the face
JPEG_QUALITY = 90
CLOSE_UP = 1.7  # side of a close-up over the longer side of the face: the whole head, with a little around it

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class _Moment:
    """One pair of pictures as the template shows it: data addresses of the pictures, pixels of the small ones."""

    time: str
    caption: str
    before: str
    after: str
    width: int
    height: int
    whole_before: str = ""
    whole_after: str = ""


def write_report(path_html: str | Path, path_json: str | Path, data: EditReport, *, force: bool = True) -> None:
    """Write both files of a report; each appears whole or not at all.

    Args:
        path_html, path_json: the two files; for the fields of the latter see `document`.
        data: what to say.
        force: replace earlier files.

    Raises:
        CmetError: a file cannot be written.
    """
    with whole_file(path_html, force=force) as temporary:
        temporary.write_text(page(data), "utf-8")
    with whole_file(path_json, force=force) as temporary:
        temporary.write_text(json.dumps(document(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def page(data: EditReport) -> str:
    """The report as one HTML document that needs no other file; text from outside is escaped."""
    import jinja2  # no other work waits for it

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    height, width = data.pairs[0].source.shape[:2] if data.pairs else (1, 1)
    return environment.get_template("report.html.j2").render(
        style=_file("report.css"),
        script=_file("report.js"),
        data=data,
        rate=f"{float(data.fps):.3f}".rstrip("0").rstrip("."),
        duration=clock(data.duration),
        width=width,
        height=height,
        moments=_moments(data),
        timeline=timeline_svg(data),
        people=[(name, figures(one), curves_svg(one)) for name, one in _people(data).items()],
        tables=_tables(data),
    )


def _file(name: str) -> Markup:
    """A file beside this one, put into the page as it is."""
    return Markup((_HERE / name).read_text("utf-8"))


def _tables(data: EditReport) -> dict[str, dict[str, Any]]:
    tables = {"Content Credentials": data.provenance, "Settings": data.settings, "Versions": data.versions}
    return {name: table for name, table in tables.items() if table}


def _people(data: EditReport) -> dict[str, EditReport]:
    """The report of each person by what they are called; the only one has no name."""
    return data.people or {"": data}


def _moments(data: EditReport) -> list[_Moment]:
    """The pictures of everyone, each captioned with whom it is of where there are several."""
    return [
        replace(moment, caption=f"{name}: {moment.caption}") if name else moment
        for name, one in _people(data).items()
        for moment in (_moment(one, pair) for pair in one.pairs)
    ]


def _moment(data: EditReport, pair: FramePair) -> _Moment:
    emotions = ", ".join(f"{name} {value:.0%}" for name, value in strengths(data, pair.time).items())
    caption = f"{clock(pair.time)}, frame {pair.index}" + (f" · {emotions}" if emotions else "")
    if pair.face is None:
        width, height = shrunk_size(pair.source.shape, PICTURE_SIDE)
        return _Moment(clock(pair.time), caption, _inline(pair.source), _inline(pair.edited), width, height)
    rows, columns = _close_up(pair.face, pair.source.shape)
    near_before, near_after = pair.source[rows, columns], pair.edited[rows, columns]
    width, height = shrunk_size(near_before.shape, CLOSE_UP_SIDE)
    return _Moment(
        clock(pair.time),
        caption,
        _inline(near_before, CLOSE_UP_SIDE),
        _inline(near_after, CLOSE_UP_SIDE),
        width,
        height,
        _inline(pair.source),
        _inline(pair.edited),
    )


def _close_up(face: tuple[float, float, float, float], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns around a face, as a square where the picture allows."""
    height, width = shape[:2]
    left, top, right, bottom = face
    side = CLOSE_UP * max(right - left, bottom - top)

    def span(middle: float, size: int) -> slice:
        length = min(max(round(side), 1), size)
        start = min(max(round(middle - length / 2), 0), size - length)
        return slice(start, start + length)

    return span((top + bottom) / 2, height), span((left + right) / 2, width)


def _inline(image: np.ndarray, side: int = PICTURE_SIDE) -> str:
    """A picture, uint8 RGB [H, W, 3], as an address that holds it."""
    return "data:image/jpeg;base64," + base64.b64encode(small_jpeg(image, side, JPEG_QUALITY)).decode()
