"""The few kinds of elements that the panels are made of: plain HTML, so that keyboard and screen readers work as everywhere."""

from collections.abc import Callable, Mapping
from typing import Any

from nicegui.elements.mixins.text_element import TextElement

from cmet_engine.progress import label_of

VALUE = "(event) => emit(event.target.value)"
CHECKED = "(event) => emit(event.target.checked)"
SHOWN = "(event) => { event.target.nextElementSibling.textContent = Number(event.target.value).toFixed(2) }"


def tag(name: str, text: str = "", classes: str = "", **attributes: Any) -> TextElement:
    """An HTML element; `_` in the name of an attribute is `-`.

    The `value` of an input is what it begins with: it is set as the attribute (`^` tells Vue so), since the property is
    set again whenever anything on the page is drawn, and what is being typed or dragged would be lost.
    """
    element = TextElement(tag=name, text=text)
    element.classes(classes)
    for attribute, value in attributes.items():
        key = attribute.rstrip("_").replace("_", "-")
        element.props["^value" if name == "input" and key == "value" else key] = value
    return element


def push(text: str, on_click: Callable[..., Any], classes: str = "", **attributes: Any) -> TextElement:
    """A button."""
    return tag("button", text, f"push {classes}", type="button", **attributes).on("click", lambda _: on_click())


def slider(
    label: str, value: float, low: float, high: float, on_change: Callable[[float], Any], step: float = 0.05
) -> None:
    """A slider with its value behind it; `on_change` is called when it is let go."""
    with tag("label", classes="field"):
        tag("span", label)
        ranged = tag("input", type="range", min=low, max=high, step=step, value=value, aria_label=label)
        ranged.on("input", js_handler=SHOWN)
        ranged.on("change", lambda event: on_change(float(event.args)), js_handler=VALUE)
        tag("output", f"{value:.2f}")


def choice(label: str, value: str, options: Mapping[str, str], on_change: Callable[[str], Any]) -> None:
    """One of several values; `options` are their titles by value."""
    with tag("label", classes="field"):
        tag("span", label)
        with tag("select", aria_label=label).on("change", lambda event: on_change(event.args), js_handler=VALUE):
            for option, title in options.items():
                chosen: dict[str, Any] = {"selected": True} if option == value else {}
                tag("option", title, value=option, **chosen)


def check(label: str, value: bool, on_change: Callable[[bool], Any]) -> None:
    """Yes or no."""
    with tag("label", classes="field"):
        tag("span", label)
        checked: dict[str, Any] = {"checked": True} if value else {}
        tag("input", type="checkbox", aria_label=label, **checked).on(
            "change", lambda event: on_change(bool(event.args)), js_handler=CHECKED
        )


def entry(label: str, value: str, on_change: Callable[[str], Any], hint: str = "", kind: str = "text") -> None:
    """A line of text."""
    with tag("label", classes="field"):
        tag("span", label)
        tag("input", type=kind, value=value, placeholder=hint, aria_label=label).on(
            "change", lambda event: on_change(str(event.args)), js_handler=VALUE
        )


class Progress:
    """How far a job of the engine is; its elements stay while that changes."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        self._said = tag("div", classes="small")
        self._bar = tag("progress")
        self.show(job)

    def show(self, job: Mapping[str, Any]) -> None:
        """Show where the job stands now."""
        stage, total, eta = label_of(job.get("stage") or "waiting"), job.get("total"), job.get("eta_seconds")
        left = f", about {eta:.0f} s left" if eta else ""
        self._said.text = f"{stage} {job['done']} of {total}{left}" if total else f"{stage} …"
        props = {"aria-label": stage, **({"value": job["done"], "max": total} if total else {})}
        if self._bar.props != props:
            self._bar.props.clear()
            self._bar.props.update(props)
            self._bar.update()
