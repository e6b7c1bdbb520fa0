import hashlib

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from sc2jax.evaluation.heldout import CodeFile, choose_files, rank, read_files
from sc2jax.records.dataset import write_part
from sc2jax.records.edits import edits_sha256
from sc2jax.records.manifest import Manifest
from sc2jax.records.schemas import SOURCE_FILE

TEXTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=12)


def code_files(texts: list[str]) -> list[CodeFile]:
    return [CodeFile("repo", f"{index}.py", "Python", text) for index, text in enumerate(texts)]


@given(TEXTS, st.integers(0, 5), st.integers(0, 60), st.integers(0, 15), st.integers(0, 3), st.randoms())
def test_choice_is_the_start_of_a_seeded_order(
    texts: list[str], max_files: int, max_bytes: int, max_file_bytes: int, seed: int, random
) -> None:
    files = code_files(texts)
    limits = {"max_files": max_files, "max_bytes": max_bytes, "max_file_bytes": max_file_bytes, "seed": seed}
    chosen = choose_files(files, **limits)

    # The plain way: sort everything, then take until a bound is met.
    expected, room = [], max_bytes or 10**9
    for file in sorted(files, key=lambda file: rank(seed, file.repository, file.path)):
        whole = file.text.encode()[: max_file_bytes or None].decode(errors="ignore")
        text = whole.encode()[:room].decode(errors="ignore")
        if whole and room > 0 and (not max_files or len(expected) < max_files):
            room -= len(whole.encode())
            expected.append((file.path, text))
    assert [(file.path, file.text) for file in chosen] == [pair for pair in expected if pair[1]]

    random.shuffle(files)
    assert choose_files(files, **limits) == chosen


def test_another_seed_is_another_order() -> None:
    files = code_files(["text"] * 20)
    orders = {
        tuple(file.path for file in choose_files(files, max_files=0, max_bytes=0, seed=seed)) for seed in range(3)
    }
    assert len(orders) == 3


def test_parts_of_a_name_cannot_run_together() -> None:
    assert rank(0, "a", "bc") != rank(0, "ab", "c")
    assert rank(0, "a1:b") != rank(0, "a", "b")


def test_files_come_from_the_split_that_was_asked_for(tmp_path) -> None:
    outputs = [
        write_part(str(tmp_path), split, 0, [source_files([(split, "a.py", "é"), (split, "b.py", "")])], SOURCE_FILE)
        for split in ("train", "heldout")
    ]
    manifest = Manifest("corpus", {}, {}, tuple(outputs), {})
    files = list(read_files(str(tmp_path), manifest, "heldout"))
    assert files == [CodeFile("heldout", "a.py", "Python", "é"), CodeFile("heldout", "b.py", "Python", "")]
    assert [file.bytes for file in files] == [2, 0]


def source_files(rows: list[tuple[str, str, str]]) -> pa.Table:
    records = [
        {
            "repository": repository,
            "path": path,
            "content": text,
            "swhid": "swh:1:cnt:" + hashlib.sha1(text.encode()).hexdigest(),
            "revision": "",
            "source_bytes": len(text.encode()),
            "encoding": "UTF-8",
            "language": "Python",
            "licenses": ["MIT"],
            "license_type": "permissive",
            "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "edits": [],
            "edits_sha256": edits_sha256([]),
        }
        for repository, path, text in rows
    ]
    return pa.Table.from_pylist(records, SOURCE_FILE)


def test_nothing_to_choose_from() -> None:
    assert choose_files([], max_files=0, max_bytes=0, seed=0) == []
    assert choose_files(code_files(["", "😀"]), max_files=0, max_bytes=3, seed=0) == []
