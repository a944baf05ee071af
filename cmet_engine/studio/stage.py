"""The picture: before and after, views of the edit, and finished results played. Its pictures are loaded by `timeline.js`."""

from nicegui import ui

from cmet_engine.studio.page import Page, Panel
from cmet_engine.studio.session import FINISHED
from cmet_engine.studio.widgets import Progress, tag

VIEWS = {
    "compare": ("Before | after", "A line between them that can be moved"),
    "side": ("Side by side", "The clip as it is, and edited"),
    "edited": ("After", "The edited picture alone"),
    "difference": ("Difference", "Four times what was changed"),
    "landmarks": ("Landmarks", "The landmarks of the edited face"),
    "matte": ("Matte", "Red where the picture was changed"),
}
"""Titles and explanations."""
TOGETHER = (
    "({target}) => target.closest('.movies').querySelectorAll('video').forEach((other) => { if (other === target) return; "
    "if (Math.abs(other.currentTime - target.currentTime) > 0.05) other.currentTime = target.currentTime; "
    "if (other.paused !== target.paused) target.paused ? other.pause() : other.play(); })"
)
UNPLAYABLE = "This browser cannot play the result (HEVC, for one); save it, or look at “Try 2 s”, which is H.264."
LINE = "(event) => document.getElementById('stage').style.setProperty('--line', event.target.value + '%')"


class Stage(Panel):
    """What lies over the pictures, and what they show."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._progress: Progress | None = None
        self._playing: dict[str, str] = {}

    def make(self) -> None:
        """The elements that stay."""
        self._stage = tag("div", id="stage")
        with self._stage:
            with tag("div", classes="frame side-frame"):
                tag("img", classes="source", data_view="source", alt="The clip as it is")
                tag("span", "Before", "tag before")
            with tag("div", classes="frame main-frame"):
                tag("img", classes="source", data_view="source", alt="The clip as it is")
                self._after = tag("img", classes="two", data_view="edited", alt="The edited picture")
                tag("span", "Before", "tag before")
                self._caption = tag("span", "After", "tag after")
                tag(
                    "input", classes="slider", type="range", min=0, max=100, step=0.5, value=50, aria_label="Line between before and after",
                ).on("input", js_handler=LINE)  # fmt: skip
                tag("i", classes="rule", aria_hidden="true")
                self._movies = tag("div", classes="movies")
            self._cover = tag("div")
        self._sound = tag("video", id="sound", style="display: none", preload="auto", aria_hidden="true")

    def state(self) -> object:
        """See `page.Panel`."""
        session = self.page.session
        job = session.tracking or {}
        return self.page.view, repr(self.page.movie), session.clip.get("path"), job.get("state"), session.edit_revision  # fmt: skip

    def build(self) -> None:
        """See `page.Panel`."""
        page, session = self.page, self.page.session
        self._stage.classes(replace="movie" if page.movie else page.view)
        self._after.props["data-view"] = page.view if page.view in ("difference", "landmarks", "matte") else "edited"
        self._after.update()
        self._caption.text = "After" if page.view in ("compare", "side", "edited") else VIEWS[page.view][0]
        if self._playing != page.movie:
            self._playing = page.movie
            self._movies.clear()
            with self._movies:
                for number, (title, address) in enumerate(page.movie.items()):
                    self._movie(title, address, number)
        sound = "/media/clip?of=" + str(abs(hash(session.clip["path"]))) if session.clip.get("has_audio") else ""
        if self._sound.props.get("src", "") != sound:
            self._sound.props["src"] = sound
            self._sound.update()
        self._cover.clear()
        self._progress = None
        with self._cover:
            self._over()

    def update(self) -> None:
        """See `page.Panel`."""
        if self._progress and self.page.session.tracking:
            self._progress.show(self.page.session.tracking)

    def _movie(self, title: str, address: str, number: int) -> None:
        """A result that plays; of several, which keep together, the first is heard."""
        with tag("figure"):
            label = f"The result {title}".strip()
            video = tag("video", classes="movie", src=address, controls=True, autoplay=True, aria_label=label)
            video.on("error", lambda: ui.notify(UNPLAYABLE, type="warning", multi_line=True))
            if number:
                video.props["muted"] = True
            for event in ("play", "pause", "seeked"):
                video.on(event, js_handler=TOGETHER)
            if title:
                tag("span", title, "tag before")

    def _over(self) -> None:
        session = self.page.session
        if session.project is None:
            with tag("div", classes="welcome"):
                tag("p", "Open a clip of somebody talking, choose an emotion, see it at once, render.")
                ui.element("div")
        elif session.tracking and session.tracking["state"] not in FINISHED:
            with tag("div", classes="cover", role="status"):
                tag("div", "Following the face; the clip can be edited as soon as this is done.")
                self._progress = Progress(session.tracking)
        elif session.tracking and session.tracking["state"] != "done":
            tag("div", session.tracking.get("error") or "The tracking was cancelled.", "cover bad", role="alert")

    def play(self, movies: dict[str, str]) -> None:
        """Play results in the place of the pictures, side by side: addresses by title."""
        self.page.movie = movies
        self.page.refresh()
