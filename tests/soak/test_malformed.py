"""Damaged media: clips with flipped bits, missing ends and moved blocks go through the reader and through track jobs.

Short form: 24 files made of the sample. Long form (`pytest tests/soak/test_malformed.py --long -s`): 500 files, made of
the real clips beside the project where they are there.
"""

import multiprocessing
import random
import resource
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from running_engine import RunningEngine, one_sentence
from short_clips import beginning, damaged, small

from cmet_engine.errors import CmetError
from cmet_engine.jobs.store import FINISHED

SECONDS = 30.0  # no file may keep anything busy for longer
READER_MEMORY = 3 << 30  # bytes of address space for the reader
ENGINE_MEMORY = 2 << 30  # bytes in use by the engine and its worker together


@pytest.fixture(scope="module")
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Damaged files; always the same ones, so that what fails once fails again."""
    folder = tmp_path_factory.mktemp("damaged")
    sources = [small(folder / "whole.mp4", frames=12, size=192)]
    long = request.config.getoption("--long")
    if long:
        shared = request.getfixturevalue("shared") / "data" / "clips"
        sources = [beginning(clip, folder / clip.name) for clip in sorted(shared.glob("*.mp4"))]
    rng = random.Random(7)
    made = []
    for number in range(500 if long else 24):
        source = sources[number % len(sources)]
        kind, data = damaged(source.read_bytes(), rng)
        made.append(folder / f"{number:03d} {kind} {source.stem}.mp4")
        made[-1].write_bytes(data)
    for source in sources:
        source.unlink()
    return made


def read_all(pipe: Connection) -> None:
    """In a process of its own with little memory: read every picture and all the sound of what is named."""
    resource.setrlimit(resource.RLIMIT_AS, (READER_MEMORY, READER_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from cmet_engine.media import audio
    from cmet_engine.media.reader import VideoReader

    pipe.send("ready")
    while path := pipe.recv():
        answer = []
        for work in (lambda path=path: sum(1 for _ in VideoReader(path)), lambda path=path: audio.load(path).size):
            try:
                work()
                answer.append("read")
            except CmetError as error:
                answer.append(f"refused: {error}")
            except Exception as error:
                answer.append(f"FAULT {type(error).__name__}: {error}")
        pipe.send((answer, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10))


def test_the_reader_takes_or_refuses_whatever_it_gets(files, capsys):
    context = multiprocessing.get_context("spawn")
    outcomes: Counter[str] = Counter()
    faults, slowest, most = [], 0.0, 0
    process = None
    for path in files:
        if process is None or not process.is_alive():
            pipe, other = context.Pipe()
            process = context.Process(target=read_all, args=(other,), daemon=True)
            process.start()
            other.close()
            assert pipe.poll(60) and pipe.recv() == "ready"
        started = time.monotonic()
        pipe.send(path)
        try:
            if not pipe.poll(SECONDS):
                faults.append(f"{path.name}: hangs")
                process.kill()
                process.join()
                continue
            answers, memory = pipe.recv()
        except (EOFError, ConnectionError):
            process.join()
            faults.append(f"{path.name}: the process died ({process.exitcode})")
            continue
        slowest, most = max(slowest, time.monotonic() - started), max(most, memory)
        faults += [f"{path.name}: {answer}" for answer in answers if answer.startswith("FAULT")]
        outcomes[" / ".join(answer.split(":")[0] for answer in answers)] += 1
    if process and process.is_alive():
        pipe.send(None)
        process.join()
    with capsys.disabled():
        print(f"\nreader (picture / sound): {dict(outcomes)}, slowest {slowest:.1f} s, most memory {most >> 20} MiB")
    assert not faults, "\n".join(faults)


def test_the_engine_survives_whatever_it_is_given(files, tmp_path, request, capsys):
    running = RunningEngine(tmp_path / "engine", environment={"CMET_CACHE_BYTES": "0", "OMP_NUM_THREADS": "1"})
    client = running.start()
    pid = client.health()["pid"]
    outcomes: Counter[str] = Counter()
    faults, slowest, most = [], 0.0, 0
    try:
        for path in files:
            path.replace(inside := running.films / path.name)
            identity = client.track(inside)["id"]
            started = time.monotonic()
            while (state := client.job(identity))["state"] not in FINISHED:
                time.sleep(0.02)
                most = max(most, sum(running.memory()))
                if time.monotonic() - started > SECONDS + 20 * (path == files[0]):  # the first one loads the libraries
                    faults.append(f"{path.name}: hangs in '{state['stage']}' at {state['done']}")
                    client.cancel(identity)
            slowest = max(slowest, (time.monotonic() - started) * (path != files[0]))
            outcomes[state["state"]] += 1
            if state["attempts"] != 1:
                faults.append(f"{path.name}: the worker died")
            if state["state"] == "failed":
                one_sentence(state["error"])
                if "internal fault" in state["error"]:
                    faults.append(f"{path.name}: {state['error']}")
        assert client.health()["pid"] == pid
    finally:
        running.stop()
    with capsys.disabled():
        print(
            f"track jobs: {dict(outcomes)}, slowest {slowest:.1f} s, most memory of engine and worker {most >> 20} MiB"
        )
    assert not faults, "\n".join(faults)
    assert most < ENGINE_MEMORY
