"""Speed of the EDTalk renderer, stage by stage, beside the published way of calling it, in one run.

    python tests/benchmarks/edtalk.py [--frames N] [--batch B] [--threads T] [--device cpu|cuda] [--busy]

Weights do not change the speed: published ones are used where they are, else numbers drawn at random. Prints milliseconds
and arithmetic per frame, what share of the machine's own convolution speed is reached, and how far the two ways' numbers
are apart.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))
import published_way

from cmet_engine import errors
from cmet_engine.emotion.connector import Connector, edit_codes
from cmet_engine.render.edtalk import Audio2Lip, Generator
from cmet_engine.render.edtalk.crop import Crops
from cmet_engine.render.edtalk.networks import NetworkRunner, Networks
from cmet_engine.render.edtalk.paste import match_colour, outline_mask, paste

clock = time.perf_counter  # with --busy the processor's own time, all threads together


def fastest(work: Callable[[], object], repeats: int, device: str) -> float:
    """Seconds of the fastest of some runs: what the machine can do when nothing else disturbs it."""
    work()
    best = float("inf")
    for _ in range(repeats):
        start = clock()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, clock() - start)
    return best


def gigaflops(work: Callable[[], object]) -> float:
    """Arithmetic of convolutions and matrix products, an addition and a multiplication counted as two."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


def convolution_speed(device: str, dtype: torch.dtype) -> float:
    """GFLOP/s of one large plain 3x3 convolution: what the networks' arithmetic can reach at best."""
    x = torch.randn(4, 128, 128, 128, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(128, 128, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    seconds = fastest(lambda: torch.conv2d(x, weight, padding=1), 5, device)
    return 2 * 4 * 128 * 128 * 9 * 128 * 128 / seconds / 1e9


def networks() -> Networks:
    try:
        return Networks.load(voice=True)
    except errors.CmetError:
        torch.manual_seed(0)
        generator = Generator()
        for name, parameter in generator.named_parameters():
            if "to_flows" in name:
                parameter.data.mul_(0.05)  # warps as gentle as those of a trained network
        return Networks(generator.eval(), Connector().eval(), Audio2Lip().eval())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--batch", type=int, default=None)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--busy", action="store_true", help="count processor time: for a machine that does other work too"
    )
    options = parser.parse_args()
    if options.busy:
        global clock
        clock = time.process_time
    torch.set_num_threads(options.threads)
    device, count, repeats = options.device, options.frames, options.repeats

    nets = networks()
    generator = nets.generator
    for parameter in generator.parameters():
        parameter.requires_grad_(False)
    draw = np.random.default_rng(0)
    small = draw.integers(0, 255, (count + 1, 16, 16, 3), dtype=np.uint8)
    import cv2

    crops = [cv2.resize(picture, (256, 256), interpolation=cv2.INTER_CUBIC) for picture in small]
    images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 127.5 - 1
    source_image, frames = images[:1], images[1:]

    rows: list[tuple[str, float, float]] = []  # stage, seconds a frame, GFLOP a frame
    with torch.inference_mode():

        def slow_render(index: int) -> torch.Tensor:
            one = slice(index, index + 1)
            return published_way.render(generator, source_image, lip[one], frames[one], expression[one], frames[one])

        expression, pose, lip = (value.contiguous() for value in generator.codes(frames))
        if device == "cpu":
            shown = min(2, count)
            slow_codes = fastest(lambda: published_way.codes(generator, frames[:1]), 1, device)
            slow = fastest(lambda: [slow_render(i) for i in range(shown)], 1, device) / shown
            rows.append(
                ("published way: codes", slow_codes, gigaflops(lambda: published_way.codes(generator, frames[:1])))
            )
            rows.append(("published way: render", slow, gigaflops(lambda: slow_render(0))))
            published = torch.cat([slow_render(i) for i in range(shown)])
            source = generator.source(source_image)
            ours = generator.render(source, lip[:shown], pose[:shown], expression[:shown])
            apart = ((ours - published).abs().mean() / published.std()).item()

        runner = NetworkRunner(nets, device, options.batch, print)
        rows.append(("source, once a shot", fastest(lambda: runner.encode_source(crops[0]), repeats, device), 0.0))
        arithmetic = gigaflops(lambda: generator.codes(frames[:1].to(device)))
        rows.append(("codes", fastest(lambda: runner.encode(crops[1:]), repeats, device) / count, arithmetic))
        codes = [value.cpu().numpy() for value in (lip, pose, expression)]
        speech = draw.standard_normal(1024).astype(np.float32)
        track = np.resize(codes[2], (100, 10))
        rows.append(
            ("connector", fastest(lambda: edit_codes(nets.connector, speech, track), repeats, device) / 100, 0.0)
        )
        kept = runner.encode_source(crops[0])
        arithmetic = gigaflops(lambda: generator.render(kept, *(torch.from_numpy(c[:1]).to(device) for c in codes)))
        rows.append(("draw", fastest(lambda: runner.decode(kept, *codes), repeats, device) / count, arithmetic))

    frame = draw.integers(0, 255, (1080, 1920, 3), dtype=np.uint8)
    square = Crops(np.array([[960.0, 500.0]]), np.array([500.0]))
    angles = np.linspace(0, 2 * np.pi, 478)
    points = np.stack([128 + 70 * np.cos(angles), 136 + 90 * np.sin(angles)], axis=1)
    where = np.ones((256, 256), bool)

    def back() -> None:
        paste(frame, match_colour(crops[0], crops[1], where), outline_mask(points), square, 0)

    rows.append(("crop from 1080p", fastest(lambda: square.cut(frame, 0), 5, "cpu"), 0.0))
    rows.append(("colour and paste, 1080p", fastest(back, 5, "cpu"), 0.0))

    peak = convolution_speed(device, runner.precision)
    print(
        f"{device}, {options.threads} threads, batches of {runner.batch}, {str(runner.precision).removeprefix('torch.')}"
    )
    if options.busy:
        print("processor time, not wall time: milliseconds of all threads together")
    print(f"one plain convolution reaches {peak:.0f} GFLOP/s here")
    print(f"{'stage':<26}{'ms/frame':>10}{'GFLOP/frame':>13}{'GFLOP/s':>9}{'of plain':>10}")
    for name, seconds, flops in rows:
        speed = f"{flops / seconds:9.0f}{flops / seconds / peak:10.0%}" if flops else ""
        print(f"{name:<26}{seconds * 1e3:10.1f}{f'{flops:13.1f}' if flops else '':>13}{speed}")
    took = {name: seconds for name, seconds, _ in rows}
    whole = sum(took[name] for name in ("codes", "connector", "draw", "crop from 1080p", "colour and paste, 1080p"))
    print(f"\nwhole edit: {whole * 1e3:.0f} ms a frame, {1 / whole:.2f} frames a second")
    if device == "cpu":
        before = took["published way: codes"] + took["published way: render"]
        after = took["codes"] + took["draw"]
        print(
            f"codes and drawing: published way {before * 1e3:.0f} ms, ours {after * 1e3:.0f} ms: {before / after:.1f} times"
        )
        print(f"the pictures are {apart:.1e} standard deviations apart on average")
    else:
        print(f"drawing alone: {1 / took['draw']:.0f} frames a second (the goal is 100 on a recent data-centre GPU)")


if __name__ == "__main__":
    main()
