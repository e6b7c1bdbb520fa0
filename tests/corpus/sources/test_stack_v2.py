import datetime
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dulwich.objects import Blob
from heritage_exports import put_content
from source_listings import list_sources

from sc2jax.corpus import heritage
from sc2jax.corpus.heritage import Archive, open_archived
from sc2jax.corpus.sources import stack_v2_texts
from sc2jax.corpus.sources.contents import read_contents
from sc2jax.corpus.sources.folders import SourceFolder
from sc2jax.corpus.sources.left_out import LeftOut, SourceError
from sc2jax.corpus.sources.stack_v2 import published_files, row_groups
from sc2jax.corpus.sources.walk import FoundRepository, Origin
from sc2jax.errors import UserError

LIMIT = 1 << 20
WHEN = datetime.datetime(2023, 7, 26, 10, 0, 0, 123456)

COLUMNS = [
    *("directory_id", "blob_id", "content_id", "path", "length", "content", "src_encoding", "language", "is_vendor"),
    *(
        "is_generated",
        "blob_prefix",
        "repo_name",
        "repo_url",
        "snapshot_id",
        "revision_id",
        "branch_name",
        "visit_date",
    ),
    *("revision_date", "committer_date", "github_id", "star_events_count", "fork_events_count", "gha_license_id"),
    *("gha_fork", "gha_event_created_at", "gha_created_at", "gha_updated_at", "gha_pushed_at", "gha_size"),
    *("gha_stargazers_count", "gha_forks_count", "gha_open_issues_count", "gha_language", "gha_archived"),
    *("gha_disabled", "detected_licenses", "license_type"),
]
"""Those that bigcode-project/the-stack-v2 has in its tables of files (`3_file_dataset`)."""

Row = dict[str, Any]


def identifier(number: int) -> str:
    return f"{number * 7919 % 65536:04x}{number:036x}"


def about(name: str, number: int, **other: Any) -> Row:
    """What the rows of a repository have in common."""
    return {
        "repo_name": name,
        "repo_url": f"https://github.com/{name}",
        "directory_id": identifier(number),
        "revision_id": identifier(number + 1000),
        "snapshot_id": identifier(number + 2000),
        "branch_name": "refs/heads/main",
        "visit_date": WHEN,
        "revision_date": WHEN,
        "committer_date": None,
        "github_id": number,
        "star_events_count": 3,
        "fork_events_count": 0,
        "gha_license_id": "MIT",
    } | other


def row(repository: Row, path: str, content: bytes, store: Path | None = None, encoding: str = "UTF-8") -> Row:
    ids = (
        put_content(store, content) if store else {"sha1": "0" * 40, "sha1_git": Blob.from_string(content).id.decode()}
    )
    found = {"blob_id": ids["sha1"], "content_id": ids["sha1_git"], "path": path, "length": len(content)}
    return repository | found | {"content": content.decode(encoding), "src_encoding": encoding}


def write(path: Path, rows: list[Row], columns: list[str] | None = None, rows_of_a_group: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = columns or COLUMNS
    table = pa.table({name: [found.get(name) for found in rows] for name in names})
    pq.write_table(table, path, row_group_size=rows_of_a_group)


def repositories_of(
    source: Path | str, left_out: LeftOut | None = None, store: object = "store"
) -> list[FoundRepository]:
    opened = open_archived(str(source), LeftOut() if left_out is None else left_out, Archive(str(store)))
    assert opened is not None
    with opened as found:
        return sorted(found, key=lambda repository: repository.name)


def contents(repository: FoundRepository) -> dict[str, bytes | str]:
    found = read_contents([file.location for file in repository.files], LIMIT)
    return {
        file.path: each.reason if isinstance(each, SourceError) else each
        for file, each in zip(repository.files, found, strict=True)
    }


FILES = {
    "a/one": {"a.py": b"1\n", "src/b.py": b"", "src/\u00e9.py": "\u00e9".encode()},
    "b/two": {"c.py": b"3\r\n", "d.py": b"1\n"},
}


def published(store: Path | None = None) -> list[Row]:
    """The files, in any order."""
    rows = [
        row(about(name, number), f"/{path}", content, store)
        for number, (name, files) in enumerate(FILES.items(), 1)
        for path, content in files.items()
    ]
    random.Random(0).shuffle(rows)
    return rows


def check(found: list[FoundRepository]) -> None:
    assert [repository.name for repository in found] == list(FILES)
    for number, repository in enumerate(found, 1):
        expected = FILES[repository.name]
        assert contents(repository) == expected
        assert {file.path: (file.size, file.swhid) for file in repository.files} == {
            path: (len(content), f"swh:1:cnt:{Blob.from_string(content).id.decode()}")
            for path, content in expected.items()
        }
        assert repository.revision == f"swh:1:rev:{identifier(number + 1000)}"
        assert repository.origin == Origin(
            url=f"https://github.com/{repository.name}",
            branch="refs/heads/main",
            directory=f"swh:1:dir:{identifier(number)}",
            revision_date="2023-07-26T10:00:00Z",
            snapshot=f"swh:1:snp:{identifier(number + 2000)}",
            visit_date="2023-07-26T10:00:00Z",
            stars=3,
            forks=0,
            gha_license="MIT",
            github_id=number,
        )


def test_texts_inside(tmp_path: Path) -> None:
    rows = published()
    write(tmp_path / "part-0.parquet", rows[:3])
    write(tmp_path / "part-1.parquet", rows[3:])
    (tmp_path / "README.md").write_text("a card")
    check(repositories_of(tmp_path))


def test_texts_in_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Hugging Face: a folder a language, `length_bytes`, and no text."""
    monkeypatch.setattr(heritage, "_BUCKET_ROWS", 1)
    names = [name for name in COLUMNS if name not in ("content", "length")]
    rows = [found | {"length_bytes": found["length"]} for found in published(tmp_path / "store")]
    write(tmp_path / "stack/data/Python/a.parquet", rows[:2], [*names, "length_bytes"])
    write(tmp_path / "stack/data/Ruby/a.parquet", rows[2:], [*names, "length_bytes"])
    check(repositories_of(tmp_path / "stack", store=tmp_path / "store"))
    (only,) = repositories_of(tmp_path / "stack/data/Python/a.parquet", store=tmp_path / "store")[:1]
    assert only.files


@pytest.mark.parametrize(
    ("content", "encoding"),
    [("gr\u00fc\u00dfe", "ISO-8859-1"), ("\u4f60", "GB18030"), ("\ufeffx", "UTF-8"), ("x", "UTF-8-SIG")],
)
def test_texts_go_back_to_the_bytes_that_they_were(content: str, encoding: str, tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [row(about("a/one", 1), "/a.py", content.encode(encoding), encoding=encoding)])
    (repository,) = repositories_of(tmp_path)
    assert contents(repository) == {"a.py": content.encode(encoding)}


def test_texts_that_do_not_go_back(tmp_path: Path) -> None:
    one = about("a/one", 1)
    rows = [
        row(one, "/good.py", b"good"),
        row(one, "/other.py", b"other") | {"content": "rehto"},
        row(one, "/longer.py", b"longer") | {"length": 5},
        row(one, "/codec.py", b"codec") | {"src_encoding": "no-such-codec"},
        row(one, "/cannot.py", b"cannot") | {"content": "\u4f60", "src_encoding": "ascii"},
        row(one, "/null.py", b"null") | {"content": None},
        row(one, "/none.py", b"none") | {"src_encoding": None},
    ]
    write(tmp_path / "a.parquet", rows, rows_of_a_group=3)
    (repository,) = repositories_of(tmp_path)
    damaged = dict.fromkeys(("other.py", "longer.py", "codec.py", "cannot.py"), "damaged_content")
    assert contents(repository) == damaged | {"good.py": b"good", "none.py": b"none", "null.py": "not_published"}
    (small,) = read_contents([repository.files[2].location], 3)
    assert isinstance(small, SourceError)
    assert small.reason == "unreadable_file"
    stack_v2_texts._texts.cache_clear()
    (tmp_path / "a.parquet").write_bytes(b"no table")
    assert set(contents(repository).values()) == {"damaged_content"}


def test_what_is_known_too_little_of_and_paths_that_lead_elsewhere(tmp_path: Path) -> None:
    one = about(
        "a/one", 1, snapshot_id=None, branch_name=None, github_id=None, star_events_count=None, gha_license_id=None
    )
    good = row(one, "/good.py", b"good", tmp_path / "store")
    rows = [
        good,
        good | {"path": "/no_blob.py", "blob_id": None},
        good | {"path": "/no_content.py", "content_id": None},
        good | {"path": "/no_length.py", "length": None},
        good | {"path": None},
        good | {"repo_name": None},
        *(good | {"path": path} for path in ("/../a.py", "/a//b.py", "/./a.py", "/x/.GIT/a.py", "", "//a.py")),
        good | {"path": "no_slash.py"},
        good | {"path": "/LICENSE", "blob_id": None},
    ]
    write(tmp_path / "a.parquet", rows, [name for name in COLUMNS if name != "content"], rows_of_a_group=5)
    left_out = LeftOut()
    (repository,) = repositories_of(tmp_path, left_out, tmp_path / "store")
    assert contents(repository) == {"good.py": b"good", "no_slash.py": b"good"}
    assert repository.missing == [("LICENSE", None)]
    assert {reason: share["count"] for reason, share in left_out.statistics.items()} == {
        "not_archived": 4,
        "unsafe_path": 6,
    }
    origin = repository.origin
    assert (origin.snapshot, origin.branch, origin.github_id, origin.stars, origin.gha_license) == (
        "",
        "",
        None,
        None,
        "",
    )


def test_repositories_of_one_name_stay_apart(tmp_path: Path) -> None:
    newer = WHEN + datetime.timedelta(days=1)
    rows = [
        row(about("a/one", 1), "/a.py", b"main"),
        row(about("a/one", 2, branch_name="refs/heads/master", revision_date=newer), "/a.py", b"master"),
        row(about("a/one", 3), "/a.py", b"other main"),
    ]
    write(tmp_path / "a.parquet", rows)
    found = {repository.name: contents(repository) for repository in repositories_of(tmp_path)}
    first, second = sorted([(identifier(1), b"main"), (identifier(3), b"other main")])
    assert found == {
        "a/one": {"a.py": b"master"},
        "a/one/refs/heads/main": {"a.py": first[1]},
        f"a/one/{second[0]}": {"a.py": second[1]},
    }


def test_only_tables_of_the_stack_v2_are_taken_for_it(tmp_path: Path, plant: Callable[..., str]) -> None:
    assert published_files(str(tmp_path / "nowhere")) == []
    assert published_files(plant("src", {"pkg/a.py": "1", "b.py": "2"})) == []
    write(tmp_path / "other/a.parquet", [{"text": "x"}], ["text"])
    assert published_files(str(tmp_path / "other")) == []
    assert published_files(str(tmp_path / "other/a.parquet")) == []
    (tmp_path / "other/a.parquet").write_bytes(b"no table")
    assert published_files(str(tmp_path / "other")) == []
    write(tmp_path / "src/pkg/deep/er/a.parquet", published())
    assert published_files(str(tmp_path / "src")) == []
    write(tmp_path / "stack/a.parquet", published())
    write(tmp_path / "stack/b.parquet", [{"path": "x", "repo_name": "y"}], ["path", "repo_name"])
    files = published_files(str(tmp_path / "stack"))
    assert [Path(file).name for file in files] == ["a.parquet", "b.parquet"]
    with pytest.raises(UserError, match=r"b\.parquet has no column blob_id, as The Stack v2 has; take it out"):
        row_groups(files)


def test_a_table_that_is_damaged_ends_the_work(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", published())
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + bytes(3000) + whole[3004:])
    with pytest.raises(UserError, match=r"a\.parquet cannot be read .*; fetch it anew"):
        repositories_of(tmp_path)


def test_a_url_that_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="memory://nothing is no export of Software Heritage, nor The Stack v2; name"):
        list_sources([SourceFolder("memory://nothing")], LIMIT)
