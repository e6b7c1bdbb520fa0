"""Notebooks against their formats, each expected string written out by hand."""


def test_a_jupyter_script(records, rendered) -> None:
    assert rendered("jupyter_script", records("jupyter_script")[0]) == (
        "<jupyter_script># # Tides\n\n# +\nheights = [1, 3, 2]\nmax(heights)\n<|endoftext|>"
    )


def test_a_structured_notebook(records, rendered) -> None:
    # Code before the first text and text after the last code are left out, like cells have come together.
    assert rendered("jupyter_structured", records("jupyter_structured")[0]) == (
        "<jupyter_start>"
        "<jupyter_text># Tides\nHow high they *rise*:\n\n- slowly"
        "<jupyter_code>heights = [1, 3, 2]\nmax(heights)"
        "<jupyter_output>3"
        "<jupyter_text>Nothing is printed here."
        "<jupyter_code>heights.sort()"
        "<jupyter_output><empty_output>"
        "<jupyter_text>A thousand and more:"
        "<jupyter_code>print('ab' * 600)"
        f"<jupyter_output>{'ab' * 500}[...]"
        "<|endoftext|>"
    )


def test_an_output_of_a_thousand_characters_is_whole(rendered) -> None:
    cells = [
        {"kind": "markdown", "text": "t", "output": None},
        {"kind": "code", "text": "c", "output": "x" * 1000},
    ]
    assert rendered("jupyter_structured", {"cells": cells}).endswith(f"<jupyter_output>{'x' * 1000}<|endoftext|>")


DATA = (
    "<jupyter_text>Tides\nHeights of the tide by the hour.\nKaggle dataset identifier: heron/tides"
    '<jupyter_code>import pandas as pd\n\ndf = pd.read_csv("../input/tides/heights.csv")\ndf.info()'
    "<jupyter_output><class 'DataFrame'>\n 0   hour    5 non-null  int64\n 1   height  5 non-null  int64"
    "<jupyter_text>Examples:\n0,1\n6,3\n12,1\n18,4{fifth}"
    '<jupyter_code>import pandas as pd\n\ndf = pd.read_csv("../input/tides/ports \\"old\\".csv")\ndf.info()'
    "<jupyter_output><class 'DataFrame'>\n 0   port  1 non-null  object"
    "<jupyter_text>Examples:\nNørrehavn"
)
SCRIPT = (
    '<jupyter_script># Look at the tides\nimport pandas as pd\n\ntides = pd.read_csv("../input/tides/heights.csv")\n'
    "# The highest:\ntides.height.max()\n<|endoftext|>"
)


def test_a_kaggle_script_after_its_data(records, rendered) -> None:
    record = records("kaggle")[0]
    assert rendered("kaggle", record) == f"<jupyter_start>{DATA.format(fifth='')}{SCRIPT}"
    # The reference pipeline shows a fifth row.
    data = DATA.format(fifth="\n24,1")
    assert rendered("kaggle", record, variant="reference") == f"<jupyter_start>{data}{SCRIPT}"


def test_a_kaggle_notebook_without_data(records, rendered) -> None:
    record = records("kaggle")[1]
    assert rendered("kaggle", record) == '<jupyter_start><jupyter_script>print("no data")\n<|endoftext|>'
    assert rendered("kaggle_structured", record) == (
        '<jupyter_start><jupyter_text>No data.<jupyter_code>print("no data")<|endoftext|>'
    )


def test_a_structured_kaggle_notebook_has_no_outputs_of_its_own(records, rendered) -> None:
    assert rendered("kaggle_structured", records("kaggle")[0]) == (
        f"<jupyter_start>{DATA.format(fifth='')}"
        "<jupyter_text># Look at the tides"
        '<jupyter_code>import pandas as pd\ntides = pd.read_csv("../input/tides/heights.csv")'
        "<jupyter_text>The highest:"
        "<jupyter_code>tides.height.max()"
        "<|endoftext|>"
    )
