"""What is converted, and how it is written."""

import dataclasses

from sc2jax.settings import check_ranges, setting

EXPORT_DTYPES = ("as_imported", "float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class ConvertConfig:
    """Weights, config and tokenizer from Hugging Face's format into a working folder, or back; one folder is named."""

    from_huggingface: str = setting(
        "",
        "Folder with config.json and *.safetensors to read; the working folder gets the model. Or one that peft wrote, "
        "with adapters of the model in paths.start.",
    )
    to_huggingface: str = setting("", "Folder to write; the model is that of the working folder.")
    adapters_only: bool = setting(
        False, "Write the adapters alone in the format of peft, and not the model that they are merged into."
    )
    export_dtype: str = setting(
        "as_imported",
        "Type of the tensors written; as_imported gives back the types and files that were read, and float32 for a "
        "model trained here.",
        choices=EXPORT_DTYPES,
    )
    max_file_bytes: int = setting(
        5_000_000_000,
        "Size of a safetensors file at most, as transformers splits them; no tensor is split.",
        unit="bytes",
        at_least=1000,
        at_most=10**15,
    )

    def __post_init__(self) -> None:
        check_ranges("convert", self)
