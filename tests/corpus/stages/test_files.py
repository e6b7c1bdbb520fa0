import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc2jax.corpus.config import FilterConfig, SourceConfig
from sc2jax.corpus.decoding import decode
from sc2jax.corpus.sources.listing import git_blob_id
from sc2jax.corpus.stages.files import DECIDED, LISTED, decide_files
from sc2jax.errors import UserError


def listed(root: str, paths: list[str], kind: str = "no_license", swhid: str = "") -> pa.Table:
    rows = []
    for path in paths:
        location = f"{root}/{path}"
        content = Path(location).read_bytes()
        row = ("r", path, os.fsencode(location), "", len(content), swhid or git_blob_id(content), [], kind)
        rows.append(dict(zip(LISTED.names, row, strict=True)))
    return pa.Table.from_pylist(rows, LISTED)


@given(st.text())
def test_utf8_is_taken_as_it_is(text: str) -> None:
    assert decode(text.encode()) == (text, "UTF-8")


def test_other_encodings_are_recognised_or_refused() -> None:
    russian = "Съешь ещё этих мягких французских булок, да выпей чаю. " * 8
    assert decode(russian.encode("cp1251")) == (russian, "WINDOWS-1251")
    text, encoding = decode("Größe über alles: Äpfel, Öl, Übung, süß, heiß".encode("latin-1")) or ("", "")
    assert "Größe" in text
    assert encoding != "UTF-8"
    assert decode(b"abc \xff\xfe\x81") is None or decode(b"abc \xff\xfe\x81") != ("", "UTF-8")


def test_a_kept_file_has_all_that_is_known_of_it(plant: Callable[..., str]) -> None:
    content = "\ufeffdef twice(number):\r\n\treturn number + number\r\n"
    table = decide_files(listed(plant("s", {"a.py": content}), ["a.py"], "permissive"), SourceConfig(), FilterConfig())
    assert table.schema == DECIDED
    assert table.to_pylist() == [
        {
            "repository": "r",
            "path": "a.py",
            "content": content,
            "swhid": git_blob_id(content.encode()),
            "revision": "",
            "source_bytes": len(content.encode()),
            "encoding": "UTF-8",
            "language": "Python",
            "licenses": [],
            "license_type": "permissive",
            "text_sha256": hashlib.sha256(content.encode()).hexdigest(),
            "edits": [],
            "edits_sha256": hashlib.sha256(b"[]").hexdigest(),
            "stage": "",
            "reason": "",
            "detail": "",
        }
    ]


def test_rejects_lose_their_content_and_keep_their_reason(plant: Callable[..., str]) -> None:
    tree = {"big.py": "x = 1\n" * 40, "good.py": "answer = compute()\n", "nul.py": "a\0", "odd.py": "1" * 50}
    table = decide_files(listed(plant("s", tree), list(tree)), SourceConfig(max_file_bytes=200), FilterConfig())
    assert [(row["path"], row["stage"], row["reason"]) for row in table.to_pylist()] == [
        ("big.py", "decoding", "too_large"),
        ("good.py", "", ""),
        ("nul.py", "decoding", "nul_byte"),
        ("odd.py", "filters", "low_alphabetic"),
    ]
    assert [bool(text) for text in table["content"].to_pylist()] == [False, True, False, False]


def test_a_file_of_the_limit_is_too_large(plant: Callable[..., str]) -> None:
    rows = listed(plant("s", {"a.py": "x = compute()\n"}), ["a.py"])
    assert decide_files(rows, SourceConfig(max_file_bytes=14), FilterConfig())["reason"].to_pylist() == ["too_large"]
    assert decide_files(rows, SourceConfig(max_file_bytes=15), FilterConfig())["reason"].to_pylist() == [""]


def test_license_types_to_keep(plant: Callable[..., str]) -> None:
    rows = listed(plant("s", {"a.py": "answer = compute()\n"}), ["a.py"], "non_permissive")
    assert decide_files(rows, SourceConfig(), FilterConfig())["reason"].to_pylist() == ["non_permissive_license"]
    everything = FilterConfig(keep_license_types=("permissive", "no_license", "non_permissive"))
    assert decide_files(rows, SourceConfig(), everything)["reason"].to_pylist() == [""]


def test_a_file_that_changed_since_it_was_listed(plant: Callable[..., str]) -> None:
    root = plant("s", {"a.py": "x", "b.py": "answer = compute()\n", "gone.py": "y"})
    rows = pa.concat_tables(
        [listed(root, ["a.py"], swhid=git_blob_id(b"y")), listed(root, ["b.py"]), listed(root, ["gone.py"])]
    )
    Path(root, "gone.py").unlink()
    with pytest.raises(UserError, match=r"a.py is a file that was another one .*; run the same command again"):
        decide_files(rows, SourceConfig(damaged="stop"), FilterConfig())
    decided = decide_files(rows, SourceConfig(), FilterConfig()).to_pylist()
    assert [(row["path"], row["stage"], row["reason"], row["detail"]) for row in decided] == [
        ("a.py", "decoding", "changed", ""),
        ("b.py", "", "", ""),
        ("gone.py", "decoding", "changed", "No such file or directory"),
    ]
