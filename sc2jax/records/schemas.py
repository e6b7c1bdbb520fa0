"""Arrow schemas of what the corpus keeps on disk."""

import pyarrow as pa

SOURCE_FILE = pa.schema(
    [
        pa.field("repository", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("content", pa.large_string(), nullable=False),
        pa.field("swhid", pa.string(), nullable=False),
        pa.field("revision", pa.string(), nullable=False),
        pa.field("source_bytes", pa.int64(), nullable=False),
        pa.field("encoding", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("licenses", pa.list_(pa.string()), nullable=False),
        pa.field("license_type", pa.string(), nullable=False),
        pa.field("text_sha256", pa.string(), nullable=False),
    ]
)
"""A file of the curated corpus.

`path` is relative to its repository, with forward slashes. `swhid` is the Software Heritage identifier of the bytes as
they were found (`swh:1:cnt:` and their git blob sha1), `revision` that of the commit (`swh:1:rev:`) or "" where there
is none, `source_bytes` their number; `text_sha256` is the digest of `content` as it is now, in UTF-8. `licenses` are
SPDX identifiers, sorted; `license_type` is one of `permissive`, `no_license`, `non_permissive`.
"""

REJECTED_FILE = pa.schema(
    [
        pa.field("repository", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("swhid", pa.string(), nullable=False),
        pa.field("source_bytes", pa.int64(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)
"""A file that was left out: who it is, which stage dropped it, by which rule, and the figure or twin that decided."""
