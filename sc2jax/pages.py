"""What every page of ours has in common: its style, and how figures and others' texts are written in it.

Whatever a template writes passes the filter of pages, so that a hostile file is only text to the reader's browser. The
pages' own policy forbids them to load anything in any case.
"""

from pathlib import Path

import jinja2
import markupsafe

from sc2jax.display import PAGE_POLICY, page_text


def page_environment(folder: Path) -> jinja2.Environment:
    """The environment of the templates in a folder, which may include `page.css` and know `policy`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=filtered,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "count": count,
        "size": size,
        "percent": percent,
        "words": words,
        "sentence": sentence,
        "figure": figure,
    }
    environment.globals["policy"] = markupsafe.Markup(PAGE_POLICY)
    return environment


def filtered(value: object) -> object:
    """What an expression of the template yields, as the page gets it; markup is the template's own."""
    if not isinstance(value, str) or isinstance(value, markupsafe.Markup):
        return value
    return markupsafe.Markup(page_text(value.replace("\r\n", "\n")))


def count(value: float) -> str:
    """A whole number with its thousands marked."""
    return f"{value:,.0f}"


def size(value: float) -> str:
    """A number of bytes in decimal units."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if value >= scale:
            return f"{value / scale:.1f}\N{NO-BREAK SPACE}{unit}"
    return f"{value:.0f} bytes"


def percent(share: float, digits: int = 1) -> str:
    """A share of one in percent."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def figure(value: float, digits: int = 3) -> str:
    """A number with so many digits after the point."""
    return f"{value:.{digits}f}"


def words(name: str) -> str:
    """A stage, reason or key as it reads in a sentence."""
    return name.replace("_", " ")


def sentence(text: str) -> str:
    """A clause as a sentence."""
    return f"{text[:1].upper()}{text[1:]}."
