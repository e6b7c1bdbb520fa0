"""What is converted, and how it is written."""

import dataclasses

from sc2jax.errors import UserError

EXPORT_DTYPES = ("as_imported", "float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class ConvertConfig:
    """Weights, config and tokenizer from Hugging Face's format into a working folder, or back; one folder is named."""

    from_huggingface: str = ""  # folder of config.json and *.safetensors to read; the working folder gets the model
    to_huggingface: str = ""  # folder to write; the model is that of the working folder
    # Type of the tensors written: as_imported gives back the types and files that were read, and float32 of a model
    # trained here.
    export_dtype: str = "as_imported"
    max_file_bytes: int = 5_000_000_000  # of a safetensors file, as transformers splits them; no tensor is split

    def __post_init__(self) -> None:
        """Refuses what cannot be.

        Raises:
            UserError: an unknown type, or a file that could hold nothing.
        """
        if self.export_dtype not in EXPORT_DTYPES:
            raise UserError(f"convert.export_dtype {self.export_dtype!r} is none of {', '.join(EXPORT_DTYPES)}")
        if self.max_file_bytes < 1:
            raise UserError(f"convert.max_file_bytes is {self.max_file_bytes}; it must be at least 1")
