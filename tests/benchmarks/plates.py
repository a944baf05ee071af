"""What an edit keeps of a plate: a table of plates of every kind, each edited and measured again.

    python tests/benchmarks/plates.py [--only NAME] [--output OUTPUT] [--markdown FILE]
    python tests/benchmarks/plates.py --big

Each plate is made from the sample (256 pixels, 16 frames), edited in draft quality, and read back. "outside" is what differs outside
the matte: samples of the decoded planes in lossless outputs, dB in others. Whatever is not as it was must have been said; the
sentence then stands below the table, and the cell says "no". Exit status 1: something was lost or changed without a word, or
bits outside the matte differ in a lossless output.

`--big` measures instead how long an edit of ten frames of 3840x2160 takes, and its memory, in 8 and in 10 bits, each in a process
of its own.
"""

import argparse
import logging
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from plate_cases import CASES, Case
from plate_clips import Movie, Sound, write
from plate_facts import UNSAID, Facts, frame_tags_held, headers, measure, outside_bits, outside_psnr

from cmet_engine.choices import InputSpace
from cmet_engine.errors import CmetError
from cmet_engine.jobs.execute import execute
from cmet_engine.media.info import Mastering
from cmet_engine.media.planes import CENTER, LEFT, TOP, TOP_LEFT
from cmet_engine.preparation import like_source
from cmet_engine.spec import EditSpec

COLUMNS = ("plate", "in", "out", "outside", "A/V ms", "frames", "rate", "fields", "tags file | frames", "SAR", "timecode", "tracks", "alpha", "HDR", "headers")  # fmt: skip
LEAST_PSNR = 36.0  # dB
LARGEST_MATTE = 0.6  # of the picture
STEP = Fraction(1, 1000)  # seconds; Matroska rounds to them
OUT_OF_SYNC = 4.0  # ms
LOSSLESS = ("ffv1", "png", "tiff", "dpx", "exr")
SAYS = {
    "range": "limited range", "matrix": "RGB", "alpha": "alpha", "bits": "bits a colour|8 bits|display picture",
    "chroma": "fewer colour samples", "HDR": "mastering", "sound": "sound", "subtitles": "subtitles", "chapters": "chapters",
    "names": "languages and titles", "attachments": "attachment", "timecode": "timecode|time code", "reel": "reel", "created": "recording",
    "SAR": "aspect|square pixels", "rate": "rate|evenly|times", "place": "chroma samples", "fields": "interlaced|fields", "data": "data track",
}  # fmt: skip
"""What a sentence speaks of that says that something is not kept."""


@dataclass
class Row:
    """A line of the table, the sentences that explain its "no", and what failed."""

    cells: list[str]
    said: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class Judge:
    """Compares a plate and its edit, property by property."""

    def __init__(self, before: Facts, after: Facts, messages: list[str]) -> None:
        self.before, self.after, self.messages = before, after, messages
        self.said: list[str] = []
        self.failed: list[str] = []

    def cell(self, name: str, kept: bool, text: str, lost: str = "") -> str:
        """A cell: `text` where it is kept, "no" where its loss was said, and a failure otherwise."""
        if kept:
            return text
        said = [m for m in self.messages if re.search(SAYS.get(name, "$^"), m)]
        self.said = list(dict.fromkeys([*self.said, *said]))
        if said:
            return f"no{f' ({lost})' if lost else ''}"
        self.failed.append(f"{name}: {text or 'something'} became {lost or 'nothing'}")
        return f"LOST {lost}"

    def time(self) -> list[str]:
        """A/V shift, frames, rate and order of fields."""
        before, after = self.before, self.after
        shifts = []
        for old, new in zip(before.shifts, after.shifts, strict=False):
            if old is None and new is None:  # no click in it
                shifts.append("–")
                continue
            if old is None or new is None or abs(new - old) > OUT_OF_SYNC:
                self.failed.append(f"A/V shift: {old} ms became {new}")
            shifts.append("lost" if new is None else f"{new:+.1f}")
        frames = f"{len(after.times)}"
        if len(after.times) != len(before.times):
            self.failed.append(f"frames: {len(before.times)} became {frames}")
        uneven = "uneven" if before.info.variable else f"{float(before.info.fps):.5g}"
        rounding = max(STEP, after.info.time_base if after.info.variable else 0)
        even = all(abs(a - b) <= rounding for a, b in zip(before.times, after.times, strict=False))
        same = even and (after.sequence or before.info.variable or before.info.fps == after.info.fps)
        if after.sequence:
            same = not before.info.variable and before.info.fps == after.info.fps
        order = before.info.field_order
        fields = self.cell("fields", order == after.info.field_order, order or "–", after.info.field_order)
        rate = self.cell("rate", same, uneven, f"{float(after.info.fps):.5g}")
        return [" ".join(shifts) or "–", frames, rate, fields]

    def tags(self) -> str:
        """Colour tags of the container and of the frames' headers, and the place of chroma."""
        before, after = self.before, self.after
        if after.sequence or before.sequence:
            return "–"
        colors = before.info.colors
        wanted = [colors.primaries, colors.transfer, colors.matrix, 2 if colors.full_range else 1]
        cells = []
        for name, tags, held in (
            ("file", after.container, 4), ("frames", after.frames, frame_tags_held(after.info.codec)),
        ):  # fmt: skip
            if name == "file" and after.info.path.suffix not in (".mp4", ".mov", ".mkv", ".webm", ".mxf"):
                cells.append("?")
                continue
            for number, (what, want, have) in enumerate(zip(tags._fields, wanted, tags, strict=True)):
                if number >= held or (after.about.rgb and what == "matrix") or (what == "range" and have == 0):
                    continue
                if what == "range" and want == 1 and after.about.rgb:
                    continue
                in_frames = number < frame_tags_held(after.info.codec) and after.frames[number] == want
                if have != want and not (have == UNSAID and in_frames):
                    self.cell(what, False, f"{want} in the {name}", f"{have}")
            cells.append(str(tags) if held else "–")
        place, written = colors.chroma_place, after.info.colors.chroma_place
        if (
            place in (LEFT, CENTER, TOP_LEFT, TOP)  # places at the bottom are written, but cannot be read
            and after.about == before.about
            and after.about.down == 2
            and after.info.codec in ("h264", "hevc", "ffv1")
        ):
            self.cell("place", place == written, f"chroma place {place}", str(written))
        return " | ".join(cells)

    def picture(self) -> list[str]:
        """Sample aspect ratio, alpha, HDR; checks depth and chroma too."""
        before, after = self.before, self.after
        old, new = before.info.pixel_aspect, after.info.pixel_aspect
        sar = self.cell("SAR", old == new, f"{old.numerator}:{old.denominator}", f"{new.numerator}:{new.denominator}")
        alpha = self.cell("alpha", after.about.alpha or not before.about.alpha, "yes" if before.about.alpha else "–")
        self.cell(
            "bits", after.about.bits >= before.about.bits, f"{before.about.bits} bits", f"{after.about.bits} bits"
        )
        if not (before.about.gray or before.about.rgb):
            coarse = after.about.across > before.about.across or after.about.down > before.about.down
            self.cell("chroma", not coarse, before.pixels, after.pixels)
        hdr = "–"
        if before.mastering != Mastering():
            hdr = self.cell("HDR", before.mastering == after.mastering, "mastering, light")
        return [sar, alpha, hdr]

    def identity(self) -> str:
        """Start timecode; checks reel and time of recording too."""
        before, after = self.before.info, self.after.info
        for name in ("reel", "created"):
            old, new = getattr(before, name), getattr(after, name)
            self.cell(name, not old or old == new, old, new)
        text = self.cell("timecode", before.timecode in ("", after.timecode), before.timecode or "–", after.timecode)
        return text + (f" {after.reel}" if before.reel and after.reel == before.reel else "")

    def tracks(self) -> str:
        """Sound, subtitles, chapters, attachments."""
        before, after = self.before, self.after
        if before.sequence:
            return "–"
        cells = [", ".join(map(str, after.sounds))]
        whole = len(before.sounds) == len(after.sounds)
        for old, new in zip(before.sounds, after.sounds, strict=False):
            if old[:2] != new[:2]:
                self.cell("sound", False, str(old), str(new))
            named = old[2:4] == new[2:4] and (len(before.sounds) == 1 or old.default == new.default)
            self.cell("names", named, str(old), str(new))
        if not whole:
            cells[0] = self.cell("sound", False, "sound")
        if before.subtitles:
            text = f"{len(before.subtitles)} subtitles"
            cells.append(self.cell("subtitles", before.subtitles == after.subtitles, text))
        if before.chapters:
            cells.append(self.cell("chapters", before.chapters == after.chapters, f"{len(before.chapters)} chapters"))
        if before.data:
            cells.append(self.cell("data", before.data == after.data, "data"))
        if before.attachments:
            cells.append(self.cell("attachments", before.attachments == after.attachments, "attachment"))
        return "; ".join(cells)


def outside(clip: Path, video: Path, matte: Path, case: Case, judge: Judge) -> str:
    """What differs outside the matte."""
    before, after = judge.before, judge.after
    space = InputSpace(case.fields.get("colorspace"))
    lossless = after.info.codec in LOSSLESS and (before.about, before.pixels) == (after.about, after.pixels)
    if lossless:
        read = bool(before.info.rotation) or before.info.field_order != after.info.field_order
        differing, largest, share = outside_bits(clip, video, matte, space, read=read)
        if differing:
            judge.failed.append(f"{differing} samples differ outside the matte, by up to {largest:g}")
        if not 0 < share < LARGEST_MATTE:
            judge.failed.append(f"the matte covers {share:.0%} of the picture")
        return f"{differing} samples" + (f", by {largest:g}" if differing else "")
    decibel = outside_psnr(clip, video, matte, space)
    if decibel < LEAST_PSNR:
        judge.failed.append(f"{decibel:.1f} dB outside the matte")
    return f"{decibel:.1f} dB"


def edit(case: Case, output: str, clip: Path, before: Facts, folder: Path) -> Row:
    """Edit a plate and compare."""
    fields = {"clip": clip, "emotions": ["happy"], "quality": "draft", "matte": "matte.mkv", **case.fields}
    if output == "like":
        fields["like_source"] = True
    else:
        fields |= dict(zip(("format", "codec"), output.split("/"), strict=False))
    spec = like_source(EditSpec.read(fields))
    result = execute(spec, folder / "result")
    video = folder / "result" / spec.video_name
    video = video.parent if "%" in video.name else video
    matte = result.files["matte.mkv"]
    after = measure(video, InputSpace(case.fields.get("colorspace")) if not video.is_dir() else InputSpace())
    judge = Judge(before, after, result.messages)
    times = judge.time()
    sar, alpha, hdr = judge.picture()
    cells = [
        case.name, before.title, after.title, outside(clip, video, matte, case, judge), *times, judge.tags(), sar,
        judge.identity(), judge.tracks(), alpha, hdr, "–",
    ]  # fmt: skip
    if before.sequence and after.info.codec == before.info.codec and (said := headers(clip)) is not None:
        cells[-1] = judge.cell("headers", said == headers(video), "same")
    return Row(cells, judge.said, judge.failed)


def rows_of(case: Case, wanted: str | None) -> list[Row]:
    """The rows of a plate; what goes wrong is a row too."""
    space = InputSpace(case.fields.get("colorspace"))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        clip = case.make(Path(name))
        before = measure(clip, space)
        claims = [
            f"the plate's {k} is {have}, not {want}"
            for k, want in case.claims.items()
            if (have := getattr(before.info, k)) != want
        ]
        for number, output in enumerate(case.outputs):
            if wanted and output != wanted:
                continue
            folder = Path(name) / str(number)
            folder.mkdir()
            try:
                row = edit(case, output, clip, before, folder)
            except Exception as error:  # the other plates are measured all the same
                if not isinstance(error, CmetError):
                    traceback.print_exc()
                row = Row([case.name, before.title, output, "failed"], failed=[str(error) or repr(error)])
            row.failed += claims
            rows.append(row)
    return rows


def aligned(rows: list[list[str]]) -> str:
    """Rows of cells as text in columns."""
    widths = [max(len(row[k]) if k < len(row) else 0 for row in rows) for k in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows
    )


def markdown(rows: list[Row]) -> str:
    """The table as Markdown, the sentences numbered below it."""
    numbers: dict[str, int] = {}
    lines = ["| " + " | ".join(c.replace("|", "·") for c in COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in rows:
        notes = " ".join(f"[{numbers.setdefault(said, len(numbers) + 1)}]" for said in row.said)
        cells = [cell.replace(" | ", " · ") for cell in row.cells] + [""] * (len(COLUMNS) - len(row.cells))
        cells[2] += f" {notes}" if notes else ""
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"{number}. {said}" for said, number in numbers.items()), ""])


def big(bits: int, folder: Path) -> None:
    """Edit ten frames of 3840x2160 in this process, and print seconds, the pictures among them, and memory."""
    clip = folder / "clip.mp4"
    started, began = time.perf_counter(), time.process_time()
    spec = EditSpec.read({"clip": clip, "emotions": ["happy"], "quality": "draft", "codec": "h264"})
    execute(spec, folder / f"result{bits}")
    seconds, processor = time.perf_counter() - started, time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{bits:2} bits: {seconds:6.1f} s by the clock, {processor:6.1f} s of processor, {peak:6.0f} MB at the most")


def measure_big() -> None:
    """Make the large clips, and edit each in a process of its own."""
    for bits, pixels in ((8, "yuv420p"), (10, "yuv420p10le")):
        with tempfile.TemporaryDirectory() as name:
            options = {"preset": "ultrafast", "crf": "18"}
            write(
                Path(name) / "clip.mp4",
                Movie(pixels=pixels, size=(3840, 2160), frames=10, options=options, sounds=(Sound(),)),
            )
            subprocess.run([sys.executable, __file__, "--one-big", str(bits), name], check=True)


def main() -> int:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="plates whose name holds this; may be given again"
    )
    parser.add_argument("--output", metavar="OUTPUT", help="only this output: 'like', or a format, as 'mkv/ffv1'")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    parser.add_argument("--big", action="store_true", help="measure 3840x2160 in 8 and in 10 bits instead")
    parser.add_argument("--one-big", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_big:
        big(int(options.one_big[0]), Path(options.one_big[1]))
        return 0
    logging.getLogger("cmet_engine").setLevel(logging.ERROR)  # the sentences stand below the table
    with tempfile.TemporaryDirectory() as home:
        os.environ["CMET_HOME"] = home  # plates are new each time; the user's cache shall not fill with them
        if options.big:
            measure_big()
            return 0
        rows: list[Row] = []
        for case in CASES:
            if any(name.lower() in case.name.lower() for name in options.only or [""]):
                started = time.perf_counter()
                rows += (made := rows_of(case, options.output))
                print(
                    f"{case.name}: {time.perf_counter() - started:.1f} s",
                    *(f for r in made for f in r.failed),
                    sep="\n    ",
                    file=sys.stderr,
                    flush=True,
                )
    print(aligned([list(COLUMNS), *(row.cells for row in rows)]))
    for said in dict.fromkeys(said for row in rows for said in row.said):
        print(f"said: {said}")
    for row in rows:
        for failure in row.failed:
            print(f"FAILED {row.cells[0]}, {row.cells[2]}: {failure}")
    if options.markdown:
        options.markdown.write_text(markdown(rows), "utf-8")
    return 1 if any(row.failed for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
