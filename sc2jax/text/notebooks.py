"""Jupyter and Kaggle notebooks as documents, whole scripts or cell by cell (StarCoder2 paper, section 5)."""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sc2jax.text.config import FormatConfig
from sc2jax.text.special_tokens import Piece, Special

CELL_TOKENS = (Special.JUPYTER_TEXT, Special.JUPYTER_CODE, Special.JUPYTER_OUTPUT)
"""The tokens that end a cell of a structured notebook."""

_LONGEST_OUTPUT = 1000
_OUTPUT_CUT = "[...]"
# The paper shows four rows of a data set; the reference pipeline takes the first five.
_EXAMPLE_ROWS = {"paper": 4, "reference": 5}

Cell = Mapping[str, Any]


def jupyter_script(record: Mapping[str, Any]) -> list[Piece]:
    """A notebook as the script that jupytext makes of it: `<jupyter_script>CODE`."""
    return [Special.JUPYTER_SCRIPT, record["script"]]


def jupyter_structured(record: Mapping[str, Any]) -> list[Piece]:
    """A notebook as triples: `<jupyter_start><jupyter_text>TEXT<jupyter_code>CODE<jupyter_output>OUTPUT...`.

    As in the reference pipeline (bigcode-dataset, jupyter-structured), except that Markdown is left as it is (paper,
    section 5). An output is cut after 1000 characters; `<empty_output>` stands for a missing one.
    """
    pieces: list[Piece] = [Special.JUPYTER_START]
    for text, code, output in _triples(record["cells"]):
        pieces += [Special.JUPYTER_TEXT, text, Special.JUPYTER_CODE, code, Special.JUPYTER_OUTPUT, _output(output)]
    return pieces


def kaggle_script(record: Mapping[str, Any], config: FormatConfig) -> list[Piece]:
    """A Kaggle notebook as a script, after what is known about its data.

    `<jupyter_start>`, the data as `_data` writes them, `<jupyter_script>CODE`.
    """
    return [Special.JUPYTER_START, *_data(record, config), Special.JUPYTER_SCRIPT, record["script"]]


def kaggle_structured(record: Mapping[str, Any], config: FormatConfig) -> list[Piece]:
    """A Kaggle notebook as pairs of text and code, after what is known about its data; its cells have no outputs."""
    pieces: list[Piece] = [Special.JUPYTER_START, *_data(record, config)]
    for text, code, _ in _triples(record["cells"]):
        pieces += [Special.JUPYTER_TEXT, text, Special.JUPYTER_CODE, code]
    return pieces


def _data(record: Mapping[str, Any], config: FormatConfig) -> list[Piece]:
    """The data set of a Kaggle notebook and each table that it reads, as if inspected in a notebook.

    `<jupyter_text>TITLE\\nDESCRIPTION\\nKaggle dataset identifier: OWNER/SLUG`, and for each table `<jupyter_code>`,
    code that opens it, `<jupyter_output>`, its columns, `<jupyter_text>Examples:\\nROWS`. What is unknown is left out.
    """
    pieces: list[Piece] = []
    if (dataset := record["dataset"]) is not None:
        pieces += [
            Special.JUPYTER_TEXT,
            f"{dataset['title']}\n{dataset['description']}\nKaggle dataset identifier: {dataset['id']}",
        ]
    for table in record["tables"]:
        path = json.dumps(table["path"], ensure_ascii=False)
        rows = table["examples"][: _EXAMPLE_ROWS[config.variant]]
        pieces += [
            Special.JUPYTER_CODE,
            f"import pandas as pd\n\ndf = pd.read_csv({path})\ndf.info()",
            Special.JUPYTER_OUTPUT,
            table["info"],
            Special.JUPYTER_TEXT,
            "\n".join(["Examples:", *rows]),
        ]
    return pieces


def _triples(cells: Sequence[Cell]) -> list[tuple[str, str, str | None]]:
    """Triples of text, code and output, with runs of cells of the same kind joined.

    Left out are empty cells, code before the first text, and text after the last code. A run's output is that of its
    last cell.
    """
    filled = [cell for cell in cells if cell["text"].strip()]
    runs = [(kind, list(run)) for kind, run in itertools.groupby(filled, key=lambda cell: cell["kind"])]
    if runs and runs[0][0] == "code":
        runs = runs[1:]
    return [
        (_joined(texts), _joined(codes), codes[-1]["output"])
        for (_, texts), (_, codes) in zip(runs[::2], runs[1::2], strict=False)
    ]


def _joined(run: Sequence[Cell]) -> str:
    return "\n".join(cell["text"] for cell in run)


def _output(output: str | None) -> Piece:
    if not output:
        return Special.EMPTY_OUTPUT
    return output if len(output) <= _LONGEST_OUTPUT else output[:_LONGEST_OUTPUT] + _OUTPUT_CUT
