"""Draws the blocks and pieces of the score matrix that the kernels visit, from the plan that they follow.

python perf/draw_visited_blocks.py docs/visited_blocks.svg
"""

import sys
from pathlib import Path

from sc2jax.kernels.window_plan import plan_window

LENGTH, WINDOW, PIXELS = 8192, 4096, 64
COLOURS = {"full": "#4c78a8", "piece": "#9ecae9", "triangle": "#f58518"}


def rectangle(x: float, y: float, width: float, height: float, colour: str) -> str:
    """A rectangle, in units of one position."""
    scale = PIXELS / 1024
    numbers = " ".join(
        f'{name}="{value * scale:.1f}"' for name, value in (("x", x), ("y", y), ("width", width), ("height", height))
    )
    return f'<rect {numbers} fill="{colour}" stroke="white" stroke-width="0.7"/>'


def main() -> None:
    """Writes the drawing."""
    plan = plan_window(LENGTH, LENGTH, WINDOW)
    size, block, edge = LENGTH * PIXELS // 1024, plan.block, plan.edge
    shapes = []
    for i in range(plan.key_blocks):
        for distance in range(min(i, plan.reach) + 1):
            x, y = (i - distance) * block, i * block
            if 1 <= distance <= plan.full:
                shapes.append(rectangle(x, y, block, block, COLOURS["full"]))
                continue
            for strip, first, last in plan.pieces(distance, by_query=True):
                for key in range(first, last, edge):
                    whole = plan.all_visible(distance * block + strip, edge, key, edge)
                    colour = COLOURS["piece" if whole else "triangle"]
                    shapes.append(rectangle(x + key, y + strip, edge, edge, colour))
    scale = PIXELS / 1024
    window_end = (LENGTH - WINDOW) * scale
    lines = (
        f'<path d="M0 0 L{size} {size} M0 {WINDOW * scale:.0f} L{window_end:.0f} {size}" stroke="#222" fill="none"/>'
    )
    grid = "".join(
        f'<path d="M{at} 0 V{size} M0 {at} H{size}" stroke="#ddd" fill="none"/>' for at in range(0, size + 1, PIXELS)
    )
    legend = "".join(
        f'<rect x="{size + 20}" y="{20 + 26 * n}" width="16" height="16" fill="{COLOURS[name]}"/>'
        f'<text x="{size + 44}" y="{33 + 26 * n}">{text}</text>'
        for n, (name, text) in enumerate(
            (
                ("full", "block, all visible: no mask"),
                ("piece", "piece of an edge block, all visible"),
                ("triangle", "piece with a mask"),
            )
        )
    )
    notes = "".join(
        f'<text x="{size + 20}" y="{130 + 22 * n}">{text}</text>'
        for n, text in enumerate(
            (
                f"{LENGTH} queries (down) by {LENGTH} keys (across),",
                f"window {WINDOW}, blocks of {block}, pieces of {edge}.",
                "Between the black lines a key is visible.",
                "What is white is never computed.",
            )
        )
    )
    Path(sys.argv[1]).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-6 -6 {size + 340} {size + 12}" font-family="sans-serif" '
        f'font-size="14"><rect x="-6" y="-6" width="{size + 340}" height="{size + 12}" fill="white"/>'
        f"{grid}{''.join(shapes)}{lines}{legend}{notes}</svg>\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
