"""The templates: autoescaped, and an unknown name is an error."""

from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined

from dashboards.page import words


def render(template: str, **values: Any) -> str:
    """Return `template` of this folder filled with `values`, everything in them escaped."""
    return _environment().get_template(template).render(**values)


def stylesheet() -> str:
    """Return the page's one style sheet."""
    return files("dashboards.page").joinpath("plumbline.css").read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    folder = files("dashboards.page")
    texts = {
        entry.name: entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".html")
    }
    made = Environment(
        loader=DictLoader(texts),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("visible", "cut", "number", "signed", "percent", "plural", "clock", "moment", "span"):
        made.filters[name] = getattr(words, name)
    made.globals["wilson"] = words.wilson
    return made
