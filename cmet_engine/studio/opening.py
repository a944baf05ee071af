"""Open a clip: recent ones, those in the folders that may be used, or one that is dropped."""

from pathlib import Path
from typing import Any

from nicegui import events, ui

from cmet_engine.studio.page import Page
from cmet_engine.studio.widgets import entry, push, tag

MAX_CLIP = 64 << 20  # bytes, as the engine takes them


class Opening:
    """The dialog."""

    def __init__(self, page: Page) -> None:
        self.page = page
        with ui.dialog() as self._dialog, ui.card().classes("chooser"):
            tag("h2", "Open a clip")
            self._list = tag("div", style="width: 100%")
            tag("h2", "Or from elsewhere")
            entry("Path", "", self._open, "/films/take3.mp4, then Enter")
            ui.upload(label="Drop a clip of up to 64 MB here", auto_upload=True, max_file_size=MAX_CLIP, on_upload=self._dropped, on_rejected=self._rejected).props(
                "accept='video/*,.mp4,.mov' flat"
            )  # fmt: skip
            push("Close", self._dialog.close)

    async def show(self) -> None:
        """Open the dialog at the recent clips and the allowed folders."""
        self._dialog.open()
        await self._folder("")

    async def _folder(self, folder: str) -> None:
        """List a folder."""
        session = self.page.session
        found = await self.page.attempt(session.link.ask, lambda engine: engine.folder(folder))
        if found is None:
            return
        self._list.clear()
        with self._list:
            if not folder and (clips := session.recent()):
                tag("div", "Recent", "small")
                self._entries([(Path(clip).name, clip, self._open) for clip in clips])
            tag("div", found["path"] or "Folders", "small")
            self._entries(self._rows(found))

    def _rows(self, found: dict[str, Any]) -> list[tuple[str, str, Any]]:
        here = found["path"]
        above = [("‹ back", str(Path(here).parent) if here else "", self._back)] if here else []
        folders = [
            (f"▸ {Path(path).name or path}" if here else f"▸ {path}", path, self._folder) for path in found["folders"]
        ]
        clips = [(Path(path).name, path, self._open) for path in found["clips"]]
        return [*above, *folders, *clips]

    async def _back(self, folder: str) -> None:
        """The folder above; the list of the allowed folders where that may not be used."""
        session = self.page.session
        top = session.link.ask(lambda engine: engine.folder())["folders"]
        await self._folder(folder if any(Path(folder).is_relative_to(one) for one in top) else "")

    def _entries(self, rows: list[tuple[str, str, Any]]) -> None:
        with tag("div", classes="entries"):
            for title, path, action in rows:
                tag("button", title, "entry", type="button", title=path).on("click", lambda _, a=action, p=path: a(p))
            if not rows:
                tag("div", "There are no clips here.", "note")

    async def _open(self, path: str) -> None:
        """Open a clip."""
        if await self.page.attempt(self._opened, path.strip()):
            self.page.choose(None)
            self.page.time, self.page.movie, self.page.also = 0.0, {}, []
            self._dialog.close()
            self.page.refresh()

    def _opened(self, path: str) -> bool:
        self.page.session.open(path)
        return True

    def _rejected(self) -> None:
        ui.notify("The clip is larger than 64 MB; choose it in its folder, or give its path.", type="negative")

    async def _dropped(self, event: events.UploadEventArguments) -> None:
        """Hand a clip that was dropped to the engine, and open it there."""
        data, suffix = await event.file.read(), Path(event.file.name).suffix.lower()
        event.sender.run_method("reset")  # or it would refuse the same file again
        if sent := await self.page.attempt(self.page.session.sent, data, suffix):
            await self._open(sent)
