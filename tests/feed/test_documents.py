from hypothesis import given
from hypothesis import strategies as st

from sc2jax.feed.documents import split_parts
from sc2jax.text.formats import repository_document
from sc2jax.text.special_tokens import Piece, Special


@given(files=st.lists(st.tuples(st.text(max_size=5), st.text(max_size=9)), max_size=4), metadata=st.booleans())
def test_parts_are_the_document(files: list[tuple[str, str]], metadata: bool) -> None:
    document: list[Piece] = repository_document("r", files, metadata)
    parts = split_parts(document, 6)
    assert [piece for part in parts for piece in part] == document
    assert all(parts)
    for part in parts[:-1]:
        assert sum(1 if isinstance(piece, Special) else len(piece) for piece in part) >= 6
