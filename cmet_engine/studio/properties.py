"""The chosen emotion: strength, fades, gains of regions."""

from dataclasses import asdict, replace
from functools import partial
from typing import Any

from cmet_engine.errors import CmetError
from cmet_engine.studio.page import Page, Panel
from cmet_engine.studio.project import called
from cmet_engine.studio.widgets import check, choice, entry, push, slider, tag
from cmet_engine.timeline import EASINGS, MOST_GAIN, REGIONS, EmotionKey

LONGEST_FADE = 3.0  # seconds that the sliders offer


class Properties(Panel):
    """What can be said about one block."""

    def __init__(self, page: Page, whole: Panel) -> None:
        self.page, self._whole = page, whole

    def state(self) -> object:
        """See `page.Panel`."""
        project, index = self.page.session.project, self.page.selected
        names = [entry["name"] for entry in self.page.session.emotions]
        mode, people = (project.settings["mode"], len(project.people)) if project else (None, 0)
        return index, repr(self._key()), mode, people, repr(names)

    def _key(self) -> EmotionKey | None:
        project, index = self.page.session.project, self.page.selected
        return None if project is None or index is None or index >= len(project.keys) else project.keys[index]

    def build(self) -> None:
        """See `page.Panel`."""
        key, project = self._key(), self.page.session.project
        if project is None:
            tag("p", "Open a clip to begin.", "note")
            return
        if key is None:
            tag("p", "Choose a block on the timeline, or an emotion on the left to add one.", "note")
        else:
            self._of(key)
        tag("h2", "The whole edit")
        modes = {"add": "Add to the actor's own expression", "replace": "Replace what the actor holds"}
        choice(
            "Mode",
            project.settings["mode"],
            modes,
            lambda value: self.page.attempt(self.page.session.set, "mode", value),
        )

    def _of(self, key: EmotionKey) -> None:
        names = [entry["name"] for entry in self.page.session.emotions]
        names = names if key.emotion in names else [key.emotion, *names]
        choice("Emotion", key.emotion, {name: name for name in names}, lambda value: self._set(emotion=value))
        slider("Strength", key.strength, -1.5, 2.0, lambda value: self._set(strength=value))
        end = self.page.session.clip["duration"] if key.end is None else key.end
        entry("From", f"{key.start:.3f}", lambda text: self._time("start", text), "seconds")
        entry("To", f"{end:.3f}", lambda text: self._time("end", text), "seconds")
        slider("Fade in", min(key.ease_in, LONGEST_FADE), 0, LONGEST_FADE, lambda value: self._set(ease_in=value))
        slider("Fade out", min(key.ease_out, LONGEST_FADE), 0, LONGEST_FADE, lambda value: self._set(ease_out=value))
        choice("Easing", key.easing, {name: name for name in EASINGS}, lambda value: self._set(easing=value))
        people = self.page.session.opened().people
        if len(people) > 1:
            named = {called(row): row["name"] or f"Person {row['id']}" for row in people}
            own = key.person or self.page.session.opened().person or ""
            choice("Person", own, named, lambda value: self._set(person=value))
        tag("h2", "Regions")
        for region in REGIONS:
            slider(region, key.regions.get(region, 1.0), 0, MOST_GAIN, partial(self._gain, region))
        tag("h2", "Strength over time")
        count = len(key.strength_keys)
        said = (
            f"{count} strength {'key' if count == 1 else 'keys'} in the block; drag them."
            if count
            else "K or a double click in the block adds a key."
        )
        tag("p", said, "note")
        with tag("div", classes="row-of"):
            if count:
                push("Remove the keys", lambda: self._set(strength_keys=()))
            push("Over the whole clip", lambda: self._set(start=0.0, end=None))
        whole = key.start == 0 and key.end is None
        check("To the end", whole or key.end is None, lambda value: self._set(end=None if value else end))

    def _time(self, name: str, text: str) -> Any:
        try:
            return self._set(**{name: float(text.replace(",", "."))})
        except ValueError:
            return self.page.attempt(_refuse, f"'{text}' is not a number of seconds, such as 2.5.")

    def _gain(self, region: str, value: float) -> Any:
        key = self._key()
        gains = {**(key.regions if key else {}), region: value}
        return self._set(regions={name: gain for name, gain in gains.items() if gain != 1})

    async def _set(self, **values: Any) -> None:
        """Change the chosen block."""
        key, project, index = self._key(), self.page.session.project, self.page.selected
        if key is None or project is None or index is None:
            return
        keys = project.plain_keys()
        try:
            keys[index] = asdict(replace(key, **values))
        except CmetError as error:
            await self.page.attempt(_refuse, str(error))
            return
        await self.page.change(keys)
        if values.keys() <= {"strength", "ease_in", "ease_out", "regions"}:
            self.page.settled(self._whole)


def _refuse(sentence: str) -> None:
    raise CmetError(sentence)
