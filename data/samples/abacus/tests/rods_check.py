"""Checks that numbers survive the way to the rods and back."""

from abacus.carry import add
from abacus.rods import to_number, to_rods


def check(limit: int) -> None:
    """Adds all pairs below a limit."""
    for left in range(limit):
        for right in range(limit):
            assert to_number(add(to_rods(left), to_rods(right))) == left + right


if __name__ == "__main__":
    check(120)
