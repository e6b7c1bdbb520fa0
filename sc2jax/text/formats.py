"""Document formats: how records become pieces, in training and in prompts, and where generation stops.

Text goes into a piece of its own and never into a literal, so that a file that spells a special token stays a file.
"""

from collections.abc import Mapping, Sequence

from sc2jax.text.fim import SENTINELS, infill_prompt
from sc2jax.text.special_tokens import Piece, Special

STOP_TOKENS: Mapping[str, frozenset[Special]] = {
    # A file ends where the next one begins or the repository ends; no other special token follows a file's text.
    "repository": frozenset({Special.END_OF_TEXT, Special.FILE_SEP, Special.REPO_NAME}) | SENTINELS,
}
"""For each format the special tokens at which a completion is at its end; a middle ends like the file it belongs to."""


def repository_document(repository: str, files: Sequence[tuple[str, str]], with_metadata: bool) -> list[Piece]:
    """A whole repository as one document, its files in the order given (StarCoder2 paper, section 5.1).

    With metadata: `<repo_name>NAME<file_sep>PATH1\\nCODE1<file_sep>PATH2\\nCODE2...<|endoftext|>`;
    without: `<file_sep>CODE1<file_sep>CODE2...<|endoftext|>`.
    """
    return [*_repository(repository, files, with_metadata), Special.END_OF_TEXT]


def repository_prompt(
    repository: str,
    files: Sequence[tuple[str, str]],
    path: str,
    prefix: str,
    *,
    suffix: str | None = None,
    with_metadata: bool = True,
    suffix_first: bool = False,
) -> list[Piece]:
    """A document cut off inside of its last file, for the model to continue.

    `files` stand before the file at `path`, whose text begins with `prefix`. With a `suffix` the file is arranged for
    infilling, and the continuation is its middle.
    """
    if suffix is None:
        return _repository(repository, [*files, (path, prefix)], with_metadata)
    before = _repository(repository, files, with_metadata)
    return [
        *before,
        Special.FILE_SEP,
        *infill_prompt(_file_text(path, prefix, with_metadata), suffix, suffix_first=suffix_first),
    ]


def _repository(repository: str, files: Sequence[tuple[str, str]], with_metadata: bool) -> list[Piece]:
    pieces: list[Piece] = [Special.REPO_NAME, repository] if with_metadata else []
    for path, text in files:
        pieces += [Special.FILE_SEP, _file_text(path, text, with_metadata)]
    return [piece for piece in pieces if piece != ""]


def _file_text(path: str, text: str, with_metadata: bool) -> str:
    return f"{path}\n{text}" if with_metadata else text
