"""Finds the files shipped with the package: `data/` and `configs/`.

They lie beside `sc2jax/` in a clone and inside it in an installed wheel, so that `--config=quickstart` works anywhere.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def asset_path(*parts: str) -> Path:
    """The path of a shipped file or folder, for example `asset_path("data", "languages.tsv")`.

    Raises:
        FileNotFoundError: the file is not part of this installation.
    """
    for root in (_PACKAGE, _PACKAGE.parent):
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise FileNotFoundError(f"{'/'.join(parts)} is not part of this installation of sc2jax ({_PACKAGE})")
