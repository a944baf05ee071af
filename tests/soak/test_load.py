"""Load: several clients, jobs of all kinds, bad inputs, cancels, and an engine that is killed again and again.

Short form: 4 clients, 24 jobs, 2 kills. Long form (`pytest tests/soak/test_load.py --long -s`): 8 clients, 200 jobs, 10 kills.
"""

import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from media_data import checksum
from running_engine import RunningEngine, one_sentence
from scipy.io import wavfile
from short_clips import damaged, small

from cmet_engine.client import Client
from cmet_engine.errors import CmetError
from cmet_engine.jobs.store import FINISHED
from cmet_engine.media import audio


@dataclass(frozen=True)
class Form:
    """How much is done: jobs in all, of them bad and cancelled ones; kills come while the first half of the jobs is done."""

    clients: int
    jobs: int
    bad: int
    cancels: int
    kills: int
    patience: float  # seconds in which all of it must be done


SHORT, LONG = Form(4, 24, 5, 3, 2, 120), Form(8, 200, 40, 20, 10, 1800)
MEMORY_CHANGE = 0.10
GOOD, BAD, CANCEL = "good", "bad", "cancel"


@dataclass
class Wish:
    """One job that a client will ask for, and what came of it."""

    number: int
    role: str
    kind: str
    body: dict[str, Any]
    refused: str | None = None
    id: str | None = None
    state: dict[str, Any] = field(default_factory=dict)


class Material:
    """What the jobs work on: clips, a track, voices, and files that are none of these."""

    def __init__(self, films: Path) -> None:
        self.films = films
        self.clips = [small(films / f"take{n}.mp4", start=25 * n, frames=20 + n, size=160 + 16 * n) for n in range(5)]
        wave = audio.load(self.clips[0])
        self.voices = []
        for n, pitch in enumerate((1.0, 1.2, 0.85)):
            spoken = np.interp(np.arange(0, len(wave) - 1, pitch), np.arange(len(wave)), wave)
            self.voices.append(films / f"voice{n}.wav")
            wavfile.write(self.voices[-1], audio.RATE, (spoken * 32767).astype(np.int16))
        wavfile.write(films / "silent.wav", audio.RATE, np.zeros(audio.RATE, np.int16))
        rng = random.Random(1)
        while (cut := damaged(self.clips[0].read_bytes(), rng))[0] != "truncated":
            pass
        (films / "cut.mp4").write_bytes(cut[1])
        (films / "noise.mp4").write_bytes(rng.randbytes(5000))
        (films / "noise.npz").write_bytes(rng.randbytes(5000))
        self.track = films / "take.npz"

    def good(self, number: int, rng: random.Random) -> tuple[str, dict[str, Any]]:
        clip = str(rng.choice(self.clips))
        return [
            ("track", {"clip": clip, "format": rng.choice(("npz", "csv", "json"))}),
            ("edit", {"clip": clip, "emotions": [rng.choice(("happy", "sad=0.5@0.2-"))], "strength": 1 + number % 40 / 100}),
            ("edit", {"clip": clip, "emotions": ["angry"], "renderer": "none", "speech": str(self.voices[1]), "neutral": str(self.voices[2])}),
            ("render", {"clip": str(self.clips[0]), "track": str(self.track)}),
            ("vector", {"paths": [str(self.voices[1])], "neutral": [str(self.voices[0])], "name": f"own{number}"}),
        ][number % 5]  # fmt: skip

    def bad(self, number: int) -> tuple[str, dict[str, Any]]:
        films, clip = self.films, str(self.clips[0])
        return [
            ("track", {"clip": str(films / "nothing.mp4")}),
            ("track", {"clip": str(films / "cut.mp4")}),
            ("edit", {"clip": str(films / "noise.mp4"), "emotions": ["happy"]}),
            ("edit", {"clip": clip, "emotions": ["grumpyish"]}),
            ("edit", {"clip": clip, "emotions": ["happy"], "strength": float("nan")}),
            ("edit", {"clip": clip, "emotions": ["happy"], "speech": str(films / "silent.wav")}),
            ("render", {"clip": clip, "track": str(films / "noise.npz")}),
            ("vector", {"paths": [str(films / "silent.wav")], "neutral": [str(self.voices[0])], "name": f"bad{number}"}),
            ("track", {"clip": clip, "face": 9}),
            ("render", {"clip": "/etc/passwd", "track": str(self.track)}),
        ][number % 10]  # fmt: skip

    def wishes(self, form: Form, first: int, count: int, bad: int, cancels: int, rng: random.Random) -> list[Wish]:
        roles = [BAD] * bad + [CANCEL] * cancels + [GOOD] * (count - bad - cancels)
        made = [
            Wish(first + n, role, *(self.bad(n) if role == BAD else self.good(first + n, rng)))
            for n, role in enumerate(roles)
        ]
        rng.shuffle(made)
        return made


class ImpatientClient(threading.Thread):
    """Asks for its jobs one after the other and watches them; an engine that died is waited for, and asked again."""

    def __init__(self, engine: RunningEngine, name: str, wishes: list[Wish], deadline: float) -> None:
        super().__init__()
        self.engine, self.client_name, self.wishes, self.deadline = engine, name, wishes, deadline
        self.fault: BaseException | None = None
        self.rng = random.Random(name)

    def run(self) -> None:
        try:
            for group in range(0, len(self.wishes), 3):  # up to three at a time
                for wish in self.wishes[group : group + 3]:
                    self.ask(wish)
                for wish in self.wishes[group : group + 3]:
                    self.see(wish)
        except BaseException as fault:
            self.fault = fault

    def talk(self, what: Any, lost: Any = None) -> Any:
        """Talk to the engine that lives now; `lost` finds out what became of a request whose answer did not come."""
        while True:
            assert time.monotonic() < self.deadline, "the time is over"
            try:
                return what(self.engine.client(self.client_name))
            except CmetError as error:
                if not any(
                    words in str(error)
                    for words in ("does not answer", "does not hold the address", "token is missing")
                ):
                    raise
                time.sleep(0.1)
                if lost is not None and (found := self.talk(lost)):
                    return found

    def ask(self, wish: Wish) -> None:
        known = {other.id for other in self.wishes}

        def newest(client: Client) -> Any:
            mine = [job for job in client.request("GET", "jobs", limit=1000) if job["client"] == self.client_name]
            return next((job for job in mine if job["id"] not in known), None)

        try:
            job = self.talk(
                lambda client: client.request("POST", wish.kind, wish.body, client=self.client_name), newest
            )
        except CmetError as error:
            wish.refused = str(error)
            return
        wish.id = job["id"]
        if wish.role == CANCEL:
            time.sleep(self.rng.choice((0.0, 0.0, 0.2, 0.5, 1.5)))

            def cancel(client: Client) -> None:
                started = time.monotonic()
                client.cancel(wish.id)
                wish.state["cancel_seconds"] = time.monotonic() - started

            self.talk(cancel)

    def see(self, wish: Wish) -> None:
        while wish.id and (state := self.talk(lambda client: client.job(wish.id)))["state"] not in FINISHED:
            assert time.monotonic() < self.deadline, f"{wish.kind} hangs: {state}"
            time.sleep(0.05)
        if wish.id:
            wish.state |= self.talk(lambda client: client.job(wish.id))


def run(engine: RunningEngine, form: Form, wishes: list[Wish], prefix: str) -> Iterator[float]:
    """Have the clients ask for all wishes; yields the share that is done, now and then."""
    deadline = time.monotonic() + form.patience
    clients = [
        ImpatientClient(engine, f"{prefix}{n}", wishes[n :: form.clients], deadline) for n in range(form.clients)
    ]
    for client in clients:
        client.start()
    while any(client.is_alive() for client in clients):
        yield sum(bool(wish.refused or wish.state.get("state")) for wish in wishes) / len(wishes)
        time.sleep(0.05)
    for client in clients:
        if client.fault:
            raise client.fault


def check(engine: RunningEngine, wishes: list[Wish]) -> Counter[str]:
    """Every job in a right state, every result whole, none twice, none lost."""
    outcomes: Counter[str] = Counter()
    same: dict[str, dict[str, str]] = {}
    for wish in wishes:
        outcome = wish.state.get("state") or "refused"
        outcomes[f"{wish.role} {outcome}"] += 1
        allowed = {GOOD: {"done"}, BAD: {"refused", "failed"}, CANCEL: {"cancelled", "done"}}[wish.role]
        assert outcome in allowed, (wish.kind, wish.body, outcome, wish.state.get("error"))
        if wish.role == BAD:
            one_sentence(wish.refused or wish.state["error"])
        if not wish.id:
            continue
        folder = engine.root / "jobs" / wish.id
        recorded = json.loads((folder / "state.json").read_text())
        assert recorded["state"] == outcome
        results = folder / "results"
        there = (
            {str(path.relative_to(results)) for path in results.rglob("*") if path.is_file()}
            if results.exists()
            else set()
        )
        assert there == set(recorded["checksums"]), (wish.kind, outcome, there)
        sums = {name: hashlib.sha256((results / name).read_bytes()).hexdigest() for name in there}
        assert sums == recorded["checksums"]
        if outcome == "done":
            assert there or wish.kind == "vector"
            # a report tells the speed, and every signature is another
            sums = {name: checksum(results / name) for name in sums if not name.startswith("report")}
            assert same.setdefault(json.dumps([wish.kind, wish.body]), sums) == sums, "the same wish, another result"
    ids = [wish.id for wish in wishes if wish.id]
    assert len(ids) == len(set(ids))
    return outcomes


def test_the_engine_under_load(tmp_path, request, capsys):
    form = LONG if request.config.getoption("--long") else SHORT
    rng = random.Random(11)
    engine = RunningEngine(tmp_path, slots=2, environment={"OMP_NUM_THREADS": "1"})
    material = Material(engine.films)
    try:
        client = engine.start()
        job = client.track(material.clips[0])
        while (state := client.job(job["id"]))["state"] not in FINISHED:
            time.sleep(0.05)
        material.track.write_bytes(Path(state["files"]["track.npz"]).read_bytes())
        half = form.jobs // 2
        warming = 8 if form is SHORT else 40  # until every worker has done every kind of job
        started = time.monotonic()

        rough = material.wishes(form, 0, half, form.bad // 2, form.cancels // 2, rng)
        kills = sorted(rng.uniform(0.02, 0.9) for _ in range(form.kills))
        for share in run(engine, form, rough, "rough"):
            if kills and share >= kills[0]:
                kills.pop(0)
                engine.kill()
                time.sleep(rng.uniform(0, 0.5))
                engine.start()
        assert not kills

        engine.kill()
        engine.start()
        warm = material.wishes(form, form.jobs, warming, 0, 0, rng)
        list(run(engine, form, warm, "warm"))
        time.sleep(1)
        before = engine.memory()
        calm = material.wishes(
            form, half, form.jobs - half, form.bad - form.bad // 2, form.cancels - form.cancels // 2, rng
        )
        list(run(engine, form, calm, "calm"))
        seconds = time.monotonic() - started
        again = material.wishes(form, form.jobs + len(warm), warming, 0, 0, rng)
        list(run(engine, form, again, "again"))
        time.sleep(1)
        after = engine.memory()

        everything = rough + warm + calm + again
        outcomes = check(engine, everything)
        listed = engine.client().request("GET", "jobs", limit=1000)
        assert sorted(job["id"] for job in listed) == sorted([wish.id for wish in everything if wish.id] + [job["id"]])
        slowest = max(wish.state.get("cancel_seconds", 0) for wish in everything)
    finally:
        engine.stop()
    engine.start()  # removes what the last killed one was writing
    engine.stop()
    left = [str(path) for path in tmp_path.rglob(".*") if "home" not in path.parts]
    change = [f"{a >> 20} to {b >> 20} MiB ({b / a - 1:+.1%})" for a, b in zip(before, after, strict=True)]
    changes = f"memory of the engine {change[0]}, of the largest worker {change[1]}"
    with capsys.disabled():
        print(
            f"\nload: {form.clients} clients, {form.jobs} jobs, {form.kills + 1} kills in {seconds:.0f} s; {dict(outcomes)}; "
            f"slowest cancel {slowest:.2f} s; {changes}; left over: {left or 'nothing'}"
        )
    assert not left
    assert form is SHORT or all(abs(b / a - 1) < MEMORY_CHANGE for a, b in zip(before, after, strict=True)), changes
