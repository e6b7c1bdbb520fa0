"""Adding on an abacus, with carries from rod to rod."""

from itertools import zip_longest


def add(left: list[int], right: list[int]) -> list[int]:
    """Adds two rows of rods and hands every tenth bead to the next rod."""
    result = []
    carried = 0
    for first, second in zip_longest(left, right, fillvalue=0):
        carried, beads = divmod(first + second + carried, 10)
        result.append(beads)
    if carried:
        result.append(carried)
    return result


def add_all(rows: list[list[int]]) -> list[int]:
    """Adds any number of rows, from the first to the last."""
    total = [0]
    for row in rows:
        total = add(total, row)
    return total


def carries(left: list[int], right: list[int]) -> int:
    """Counts how often a tenth bead moves on while two rows are added."""
    count = 0
    carried = 0
    for first, second in zip_longest(left, right, fillvalue=0):
        carried = (first + second + carried) // 10
        count += carried
    return count
