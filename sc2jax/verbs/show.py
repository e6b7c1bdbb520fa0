"""Shows one packed training row with its segments and special tokens.

Reads `tokenize/` and `tokenizer/`, and before there are tokens `corpus/`. The row is `show.row` of batch `show.step`;
with `show.source` that of one source of the mixture alone. It is printed, or with `show.html` written as a page.
"""

from sc2jax import storage
from sc2jax.config import Settings
from sc2jax.errors import UserError
from sc2jax.feed.show import PAGE_START, row_page, show_row
from sc2jax.runs.inputs import feed_inputs, refuse_mixed
from sc2jax.runs.model_of_start import with_model_of_start
from sc2jax.runs.run import open_run, say


def run(settings: Settings, workdir: str) -> None:
    """Prints a row, or writes it as a page."""
    shown, batch_size = settings.show, settings.training.batch_size
    if shown.row >= batch_size:
        raise UserError(f"show.row is {shown.row}; a batch has {batch_size} rows, from 0 on")
    storage.refuse_unknown_kind(shown.html)
    page_path = storage.absolute(shown.html) if shown.html else ""
    if page_path and storage.exists(page_path) and not storage.read_bytes(page_path).startswith(PAGE_START.encode()):
        raise UserError(f"{shown.html} exists and is no page of `show`; name another file, or delete it")
    this = with_model_of_start(open_run(settings, workdir))
    refuse_mixed(this, "show")
    inputs = feed_inputs(this)
    which = {"row": shown.row, "step": shown.step, "source": shown.source}
    if shown.html:
        page = row_page(inputs, batch_size, **which)
        storage.write_whole(page_path, page.encode())
        say("a row as a page", shown.html)
    else:
        print(show_row(inputs, batch_size, **which))  # noqa: T201 (filtered before it was coloured)
