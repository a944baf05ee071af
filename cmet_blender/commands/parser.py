"""The options of the command line, and their help."""

import argparse
from fractions import Fraction
from pathlib import Path


def build_parser(prog: str = "python -m cmet_blender") -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(prog=prog, description="Tracks on rigs, without a window.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    general, rig, span, output, keys, preset = _general(), _rig(), _span(), _output(), _keys(), _preset()
    signing = _signing()
    commands.add_parser(
        "export",
        parents=[keys, rig, span, output, preset, signing, general],
        help="a track on a rig, written as a file",
    )
    commands.add_parser(
        "apply", parents=[keys, rig, output, signing, general], help="a track on a rig, kept as a .blend"
    )
    commands.add_parser(
        "bake", parents=[rig, span, output, preset, signing, general], help="fold emotions into one action and write it"
    )
    commands.add_parser("read", parents=[rig, span, output, general], help="what the rig does, as a track")
    match = commands.add_parser("match", parents=[rig, general], help="which shape takes which coefficient")
    match.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write the mapping, to correct and give to --mapping"
    )
    match.add_argument("--force", action="store_true", help="replace an earlier file")
    render = commands.add_parser("render", parents=[rig, span, output, general], help="a clip with the rig's curves")
    _add_render_options(render)
    stills = commands.add_parser("stills", parents=[rig, general], help="pictures of the rig in a track's frames")
    stills.add_argument("track", type=Path, metavar="TRACK", help="as for export; every frame of it is rendered")
    stills.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="for 0000.png and so on")
    stills.add_argument("--size", type=int, default=256, metavar="PIXELS", help="width and height (default 256)")
    stills.add_argument("--samples", type=int, default=8, metavar="N", help="light paths a pixel (default 8)")
    shot = commands.add_parser("shot", parents=[output, general], help="a shot of the studio, kept as a .blend")
    shot.add_argument("shot", type=Path, metavar="SHOT", help="the shot's file (.json)")
    return parser


def _general() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.add_argument("-v", "--verbose", action="store_true", help="show where an internal fault happened")
    return parser


def _rig() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--rig", type=Path, metavar="RIG", help="character: .blend .glb .gltf .fbx .usd* (default: the open scene)"
    )
    parser.add_argument("--object", metavar="NAME", help="object of the rig (default: the one with most of the shapes)")
    parser.add_argument("--mapping", type=Path, metavar="FILE", help="saved mapping (default: match by names)")
    parser.add_argument(
        "--no-spread",
        action="store_true",
        help="leave coefficients without a shape out instead of showing them by others",
    )
    return parser


def _span() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--frames", nargs=2, type=int, metavar=("FIRST", "LAST"), help="scene frames (default: what is animated)"
    )
    return parser


def _output() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--force", action="store_true", help="replace an earlier file")
    return parser


def _keys() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "track", type=Path, metavar="TRACK", help=".npz, or a recording of an application: .csv .tsv .txt .json"
    )
    parser.add_argument(
        "--fps",
        type=Fraction,
        metavar="F",
        help="scene rate, such as 24 or 24000/1001 (default: the scene's; the track's for imported rigs)",
    )
    parser.add_argument("--start", type=int, default=1, metavar="N", help="scene frame of the first frame (default 1)")
    parser.add_argument(
        "--simplify", type=float, default=0.0, metavar="E", help="leave out keys, error at most E (default 0: keep all)"
    )
    parser.add_argument(
        "--steady",
        default="",
        metavar="S",
        help="take jitter off: from 0 to 1, or by region: brows=1,mouth=0.3,head=0.5",
    )
    parser.add_argument("--mirror", action="store_true", help="exchange the sides of the face")
    return parser


def _preset() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--preset", choices=("unreal", "unity", "maya"), help="FBX as that program expects it")
    return parser


def _signing() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    _add_consent(parser)
    parser.add_argument("--unsigned", action="store_true", help="ask no engine to sign the file")
    return parser


def _add_consent(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--consent",
        metavar="TEXT|FILE",
        help="consent of the person whose performance it is, or a consent file (.json)",
    )


def _add_render_options(parser: argparse.ArgumentParser) -> None:
    _add_consent(parser)
    parser.add_argument("clip", type=Path, metavar="CLIP", help="the footage")
    parser.add_argument(
        "--source",
        type=Path,
        metavar="TRACK",
        help="the track the rig was driven from: what the rig cannot show is kept from it",
    )
    parser.add_argument(
        "--face",
        default=0,
        metavar="WHO",
        help="whose face: a rank, 0 the largest (default 0), #NUMBER, #NAME or a picture",
    )
    parser.add_argument(
        "--renderer",
        choices=("warp", "liveportrait", "performrecast", "edtalk"),
        default="warp",
        help="what draws the face",
    )
    parser.add_argument(
        "--quality", choices=("auto", "draft", "standard", "best"), default="auto", help="of the renderer warp"
    )
    parser.add_argument(
        "--device", default="auto", metavar="D", help="auto, cpu, cuda or mps for the networks (default auto)"
    )
    parser.add_argument(
        "--rate-factor",
        type=int,
        metavar="N",
        help="constant rate factor of H.264 and HEVC, 0 to 51: a lower one keeps more",
    )
    parser.add_argument(
        "--codec",
        metavar="NAME",
        help="of the video: h264, hevc, prores_hq, dnxhr_hqx, ffv1, … (default: by the suffix)",
    )
    parser.add_argument("--engine", default="", metavar="PYTHON", help="Python program of the engine (default: found)")
