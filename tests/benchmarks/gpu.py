"""What a GPU does, checked against the CPU and timed: a table for the model card, in less than five minutes.

    python tests/benchmarks/gpu.py [--device cuda] [--frames 64]

Weights do not change the speed, so stand-in weights are drawn where published ones would have to be downloaded. The second column
compares a few frames with those of the CPU in single precision. Without a GPU the same script runs on the CPU, with few frames.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from portrait_networks import published_size

from cmet_engine.emotion.connector import Connector, edit_codes
from cmet_engine.render.batches import BatchRunner
from cmet_engine.render.edtalk import Generator
from cmet_engine.render.edtalk.networks import NetworkRunner, Networks
from cmet_engine.render.liveportrait.generator import PortraitGenerator
from cmet_engine.render.refine.network import compose, load_refiner

COMPARED = 2  # frames
SAMPLE = Path(__file__).parents[2] / "cmet_engine" / "assets" / "sample" / "talking_head.mp4"


@dataclass
class Work:
    """Something that a device does.

    Attributes:
        run: from how many frames to uint8 or float32 [N, …].
        unit: of the result, by which differences are counted.
        runner: what holds networks and captured graphs; None where nothing is captured.
    """

    run: Callable[[int], np.ndarray]
    unit: str
    runner: BatchRunner | None = None


def crops(count: int, side: int) -> list[np.ndarray]:
    """Pictures with large cells, uint8 [side, side, 3]."""
    cells = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), np.uint8)
    return list(cells.repeat(side // 16, 1).repeat(side // 16, 2))


def liveportrait(device: str) -> Work:
    generator = PortraitGenerator(published_size(), device=device)

    def run(count: int) -> np.ndarray:
        sources = crops(count, 512)
        drafts = [np.roll(source, 3, 1) for source in sources]
        return generator.draw(sources, generator.read(sources, drafts))

    return Work(run, "of 255", generator)


def edtalk(device: str) -> Work:
    torch.manual_seed(0)
    generator = Generator()
    for name, parameter in generator.named_parameters():
        if "to_flows" in name:
            parameter.data.mul_(0.05)  # warps as gentle as those of a trained network
    runner = NetworkRunner(Networks(generator.eval(), None), device, None, print)
    source = runner.encode_source(crops(1, 256)[0])

    def run(count: int) -> np.ndarray:
        codes = runner.encode(crops(count, 256))
        return runner.decode(source, codes.lip, codes.pose, codes.expression)

    return Work(run, "of 255", runner)


def refiner(device: str) -> Work:
    network = load_refiner().to(device)

    def run(count: int) -> np.ndarray:
        random = torch.Generator().manual_seed(0)
        drawn = []
        with torch.inference_mode():
            for _ in range(count):  # one at a time, as the renderer asks for them
                pictures, geometry, prior = (torch.rand(1, n, 320, 320, generator=random) for n in (9, 12, 3))
                inputs = (pictures.to(device), geometry.to(device), prior.to(device))
                blended = compose(inputs[0], *network(*inputs), torch.ones(1, 1, 320, 320, device=device))
                drawn.append((255 * blended[0]).cpu().numpy())
        return np.stack(drawn)

    return Work(run, "of 255")


def connector(device: str) -> Work:
    torch.manual_seed(0)
    network = Connector().eval().to(device)

    def run(count: int) -> np.ndarray:
        random = torch.Generator().manual_seed(0)
        codes, speech = torch.randn(count, 10, generator=random), torch.randn(1024, generator=random)
        with torch.inference_mode():
            return edit_codes(network, speech.to(device), codes.to(device)).cpu().numpy()

    return Work(run, "of a code")


def check(name: str, make: Callable[[str], Work], device: str, frames: int) -> None:
    """Print a line of the table."""
    with torch.random.fork_rng():
        work, here = make(device), make("cpu")
    few = work.run(COMPARED).astype(np.float64)  # what is derived or captured once is not timed
    off = np.abs(few - here.run(COMPARED)).max()
    if device != "cpu":
        work.run(frames)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    begin = time.perf_counter()
    work.run(frames)
    rate = frames / (time.perf_counter() - begin)
    memory = f"{torch.cuda.max_memory_allocated() / 2**20:.0f} MiB" if device != "cpu" else "–"
    captured = "–" if work.runner is None else "yes" if work.runner._captured else "no"
    print(f"| {name} | {off:.3g} {work.unit} | {rate:.1f} | {memory} | {captured} |", flush=True)


def little_memory(device: str) -> str:
    """What happens when the memory holds no whole batch."""
    if device == "cpu":
        return "Little memory: needs a GPU."
    work = liveportrait(device)
    said: list[str] = []
    assert work.runner is not None
    work.runner.warn = said.append
    free = work.run(8)
    work.runner.forget()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 2**29) / total)
    try:
        off = np.abs(work.run(8).astype(int) - free).max()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    return f"With 512 MiB beside the weights: batches of {work.runner.batch}, off by {off} of 255; said: {' '.join(said) or 'nothing'}"


def whole_edit(device: str, quality: str) -> str:
    """The whole command on the sample."""
    if find_spec("mediapipe") is None:
        return f"`cmet edit --quality {quality}`: needs mediapipe."
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "cmet_engine.cli",
            "edit",
            str(SAMPLE),
            "--emotion",
            "happy",
            "--quality",
            quality,
        ]
        begin = time.perf_counter()
        done = subprocess.run(
            [*command, "--device", device, "--output", f"{folder}/out"], capture_output=True, text=True, timeout=900
        )
        seconds = time.perf_counter() - begin
    return f"`cmet edit --quality {quality} --device {device}`: {seconds:.1f} s, exit status {done.returncode}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--frames", type=int, help="to time; 64 on a GPU, 2 on a CPU")
    options = parser.parse_args()
    device = options.device
    frames = options.frames or (2 if device == "cpu" else 64)
    begin = time.perf_counter()
    what = torch.cuda.get_device_name() if device != "cpu" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{what}, torch {torch.__version__}\n")
    print("| network | largest difference from the CPU | frames per second | peak memory | captured as a graph |")
    print("|---|---|---|---|---|")
    for name, make, times in (
        ("LivePortrait, 512 pixels", liveportrait, 1),
        ("EDTalk, 256 pixels", edtalk, 2),
        ("refiner of `standard`, 320 pixels", refiner, 4),
        ("published connector", connector, 8),
    ):
        check(name, make, device, frames * times)
    print()
    print(little_memory(device))
    for quality in ("draft", "standard"):
        print(whole_edit(device, quality), flush=True)
    print(f"\nAll in {time.perf_counter() - begin:.0f} s.")


if __name__ == "__main__":
    main()
