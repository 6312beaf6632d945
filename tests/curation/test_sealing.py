"""JSON that carries its checksum: every flipped bit is found, and wrong types are one error."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, strategies as st

from curation.errors import StoreError
from curation.sealing import seal, typed, unseal

TEXT = st.text(st.characters(codec=None), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT, lambda some: st.lists(some) | st.dictionaries(TEXT, some)
)


@dataclass(frozen=True)
class Inner:
    count: int


@dataclass(frozen=True)
class Outer:
    name: str
    inner: list[Inner]
    more: dict[str, dict[str, int]] = field(default_factory=dict)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_what_was_sealed_is_read_again(value: dict[str, object]) -> None:
    assert unseal(seal(value), "x.json") == value
    assert seal(value) == seal(dict(reversed(value.items())))


def test_every_flipped_bit_is_named() -> None:
    data = seal({"number": 10, "nodes": [{"name": "scan"}], "text": "ä"})
    for place in range(len(data)):
        for bit in range(8):
            wrong = data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
            with pytest.raises(StoreError, match=r"x\.json is damaged"):
                unseal(wrong, "x.json")


@pytest.mark.parametrize("cut", [0, 1, 9, 10, 42, 45, 46, 60])
def test_what_is_cut_short_is_named_with_what_to_do(cut: int) -> None:
    with pytest.raises(StoreError, match=r"x\.json is damaged.*; delete it$"):
        unseal(seal({"number": 10, "and": "some more"})[:cut], "x.json", "delete it")


def test_json_without_a_checksum_is_not_believed() -> None:
    with pytest.raises(StoreError, match="wrote no checksums"):
        unseal(b'{"name": "x", "inner": []}', "x.json")


def test_json_nested_too_deeply_is_named() -> None:
    import curation.sealing as sealing
    from curation.hashing import bytes_digest

    body = b'"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    data = sealing.HEAD + bytes_digest(body).encode() + sealing.NECK + body
    with pytest.raises(StoreError, match=r"x\.json is damaged"):
        unseal(data, "x.json")


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([], "the whole"),
        ({"name": "x"}, "inner"),
        ({"name": 3, "inner": []}, "name"),
        ({"name": "x", "inner": {}}, "inner"),
        ({"name": "x", "inner": [3]}, r"inner\.0"),
        ({"name": "x", "inner": [{"count": "many"}]}, r"inner\.0\.count"),
        ({"name": "x", "inner": [{"count": 1, "also": 2}]}, r"inner\.0\.also"),
        ({"name": "x", "inner": [], "more": {"a": 3}}, r"more\.a"),
        ({"name": "x", "inner": [], "stranger": 1}, "stranger"),
    ],
)
def test_wrong_types_are_one_error_with_their_place(value: object, place: str) -> None:
    with pytest.raises(StoreError, match=rf"^x\.json is damaged: {place}: "):
        typed(Outer, value, "x.json")


def test_right_types_are_the_dataclass() -> None:
    assert typed(Outer, {"name": "x", "inner": [{"count": 1}]}, "x.json") == Outer("x", [Inner(1)])
