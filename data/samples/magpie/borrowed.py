"""Rods of an abacus: digits, least significant first."""


def to_rods(number: int) -> list[int]:
    """Spreads a number over rods of at most nine beads."""
    if number < 0:
        raise ValueError(f"an abacus shows no negative number: {number}")
    rods = []
    while number:
        number, beads = divmod(number, 10)
        rods.append(beads)
    return rods or [0]


def to_number(rods: list[int]) -> int:
    """Reads the number that the rods show."""
    total = 0
    for beads in reversed(rods):
        total = total * 10 + beads
    return total


def widest(rows: list[list[int]]) -> int:
    """The number of rods that the longest row needs, at least one."""
    return max((len(rods) for rods in rows), default=1)
