"""What a run will read of each source, known before its first step."""

from sc2jax.errors import UserError
from sc2jax.feed.rows import Rows, exhausted
from sc2jax.feed.schedule import ENDLESS


def outlook(rows: Rows, steps: int, batch_size: int) -> list[str]:
    """A line a source: how many of the run's rows are its, how many epochs that makes, and where it ends, if it does.

    Raises:
        UserError: the sources may not be read as often as the run has steps, or one of them gets no row in all of them.
    """
    total = steps * batch_size
    if total > rows.schedule.rows:
        most = rows.schedule.rows // batch_size
        raise UserError(
            f"training.steps {steps:,} of {batch_size:,} rows are {total:,} rows; "
            f"{exhausted(rows.sources, rows.schedule.rows)}; {most:,} steps are possible"
        )
    counts = rows.schedule.counts(total)
    none = [source.share.name for source, count in zip(rows.sources, counts, strict=True) if not count]
    if none:
        raise UserError(
            f"the shares of {', '.join(none)} in the mixture come to no whole row of the run's {total:,}; train for "
            "more steps, or leave them out of the mixture (--config.feed.mixture=FILE.json)"
        )
    lines = []
    for source, count, end in zip(rows.sources, counts, rows.schedule.ends(), strict=True):
        windows = ", ".join(f"{windows:,}" for windows in source.windows)
        line = f"{source.share.name}: {count:,} rows in {steps:,} steps, {source.epochs(count):.2f} epochs of {windows}"
        if end < ENDLESS and end <= total:
            line += f"; it ends in step {-(-end // batch_size):,}, read {source.share.max_epochs} times"
        lines.append(line)
    return lines
