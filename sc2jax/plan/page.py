"""The page of a plan: one HTML file that needs no network, no script and no other file."""

from pathlib import Path

from sc2jax.pages import page_environment
from sc2jax.plan import drawing, tables
from sc2jax.plan.planning import Plan

_TEMPLATE = "plan.html.jinja"


def render_page(plan: Plan, version: str) -> str:
    """The whole page as text, to be written as UTF-8; `version` is that of the code."""
    environment = page_environment(Path(__file__).parent)
    environment.filters["duration"] = tables.duration
    return environment.get_template(_TEMPLATE).render(
        name=plan.slice.name,
        headline=tables.headline(plan),
        layout=tables.layout(plan),
        answer=list(tables.answer(plan)),
        tables=list(tables.tables(plan)),
        layers=drawing.layer_drawings(plan.timeline),
        looks=drawing.LOOKS,
        fits=plan.fits,
        width=drawing.WIDTH,
        lane_height=drawing.LANE_HEIGHT,
        lane_distance=drawing.LANE_DISTANCE,
        version=version,
    )
