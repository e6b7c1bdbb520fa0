"""The tokenizer of a run: what its stage wrote, or a file that the config names."""

from sc2jax import storage
from sc2jax.errors import UserError
from sc2jax.records.manifest import Output
from sc2jax.runs.run import Run, is_tokenizer
from sc2jax.storage import join
from sc2jax.text.tokenizer import Tokenizer, load_tokenizer


def tokenizer_path(run: Run) -> str:
    """The tokenizer's file: what the stage wrote, or the file that the config names.

    Raises:
        UserError: the stage is missing or damaged.
    """
    named = run.settings.paths.tokenizer
    if is_tokenizer(named):
        return storage.absolute(named)
    folder = run.folder("tokenizer")
    return join(folder, _tokenizer_output(run).path)


def tokenizer_digest(run: Run) -> str:
    """The sha256 of the tokenizer's file.

    Raises:
        UserError: there is none, or it is not the one that its stage wrote.
    """
    path = tokenizer_path(run)
    try:
        digest = storage.sha256_of_file(path)
    except FileNotFoundError as error:
        raise UserError(f"there is no tokenizer {path}; make it again, or name another with paths.tokenizer") from error
    if not is_tokenizer(run.settings.paths.tokenizer) and digest != _tokenizer_output(run).sha256:
        folder = run.folder("tokenizer")
        raise UserError(f"{path} is not what its stage wrote; delete {folder} and make it again")
    return digest


def open_tokenizer(run: Run) -> Tokenizer:
    """The run's tokenizer.

    Raises:
        UserError: there is none, or it is damaged.
    """
    tokenizer_digest(run)
    return load_tokenizer(tokenizer_path(run))


def _tokenizer_output(run: Run) -> Output:
    outputs = run.manifest("tokenizer").outputs
    found = [output for output in outputs if output.result and is_tokenizer(output.path)]
    if not found:
        folder = run.folder("tokenizer")
        raise UserError(f"{folder}/manifest.json names no tokenizer; delete the folder and make it again")
    return found[0]
