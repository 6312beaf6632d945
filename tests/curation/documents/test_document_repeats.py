"""Images that many documents show go, and the second of one document; of documents with the same texts one stays."""

import random

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings, strategies as st

from curation.diversity.duplicates import ExactDuplicates
from curation.documents.repeats import (
    CommonImages,
    ImageSpread,
    OncePerDocument,
    TextsDigest,
    seen_before,
    spread,
)
from curation.media.document_records import image, text, unreadable
from schemas.documents import NODE_ITEM
from schemas.ledger import REJECTED

Shown = tuple[str, str | None, int | None]
"""A document, the image that a node of it shows, and how that looks."""


def nodes(shown: list[Shown], colour: int = 128) -> pa.Table:
    roots, images, looks = zip(*shown, strict=True)
    return pa.table(
        {
            "row_id": [f"n{i}" for i in range(len(shown))],
            "root": list(roots),
            "ordinal": pa.array(range(len(shown)), pa.int64()),
            "image_hash": pa.array(images, pa.string()),
            "perceptual_hash": pa.array(looks, pa.uint64()),
            "colour_signature": pa.array([None if look is None else plain(colour) for look in looks], pa.binary(48)),
        }
    )


def plain(colour: int) -> bytes:
    """The signature of one colour all over."""
    return bytes([90] * 16 + [colour] * 16 + [128] * 16)


def spread_of(shown: list[Shown], distance: int = 4) -> dict[str, int]:
    table = ImageSpread(distance)(nodes(shown))
    return dict(zip(table["image_hash"].to_pylist(), table["image_documents"].to_pylist(), strict=True))


def test_an_image_counts_each_document_once_and_texts_not_at_all() -> None:
    shown: list[Shown] = [("d1", "a", 0), ("d1", "a", 0), ("d2", "a", 0), ("d3", "b", 2**40 - 1), ("d3", None, None)]
    assert spread_of(shown) == {"a": 2}
    assert spread_of([("d1", None, None)]) == {}


def test_a_logo_that_was_stored_again_is_one_logo() -> None:
    shown: list[Shown] = [(f"d{i}", f"file-{i}", 0b1111 << 60 | 1 << i) for i in range(5)]
    assert set(spread_of(shown).values()) == {5}
    assert spread_of(shown, distance=0) == {}


def test_one_sign_in_two_colours_is_two_images() -> None:
    tables = [nodes([(f"{colour}-{i}", f"{colour}-{i}", 7) for i in range(3)], colour) for colour in (100, 105, 200)]
    found = ImageSpread()(pa.concat_tables(tables))
    counts = dict(zip(found["image_hash"].to_pylist(), found["image_documents"].to_pylist(), strict=True))
    assert counts == {f"{c}-{i}": 6 if c < 200 else 3 for c in (100, 105, 200) for i in range(3)}
    grey = ImageSpread(max_colour_distance=None)(pa.concat_tables(tables))
    assert set(grey["image_documents"].to_pylist()) == {9}


def test_steps_of_a_chain_are_not_one_image() -> None:
    """Each is near to its neighbours alone, so none is in more than three documents."""
    shown: list[Shown] = [(f"d{i}", f"file-{i}", (1 << 4 * i) - 1) for i in range(12)]
    assert sorted(spread_of(shown).values()) == [2, 2] + [3] * 10


def test_images_without_a_hash_are_equal_by_content_alone() -> None:
    shown: list[Shown] = [("d1", "a", None), ("d2", "a", None), ("d3", "b", None), ("d4", "c", 0)]
    assert spread_of(shown) == {"a": 2}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7), st.integers(0, 40)), min_size=1), st.integers(0, 3))
def test_the_spread_is_what_a_loop_counts_in_any_order(some: list[tuple[int, int, int]], distance: int) -> None:
    look_of = {image: look for _, image, look in some}
    shown: list[Shown] = [(f"d{d}", f"p{p}", look_of[p]) for d, p, _ in some]
    slow = {
        f"p{p}": len({d for d, q, _ in some if (look ^ look_of[q]).bit_count() <= distance})
        for p, look in look_of.items()
    }
    assert spread_of(shown, distance) == {name: count for name, count in slow.items() if count > 1}
    random.Random(0).shuffle(shown)
    assert spread_of(shown, distance) == {name: count for name, count in slow.items() if count > 1}


def test_ten_thousand_copies_of_a_logo_are_counted_in_no_time() -> None:
    """Copies are counted by how they look: pairs of copies would be fifty million."""
    count = 10_000
    found = spread(np.arange(count) % 3, np.arange(count), np.array([[0, 1]]))
    assert found.tolist() == [6667, 6667, 3333]
    assert len(spread_of([(f"d{i}", f"file-{i}", 7) for i in range(count)])) == count


def test_images_of_more_documents_than_the_limit_go() -> None:
    images = pa.table({"row_id": ["a", "b", "c"], "image_documents": pa.array([10, 11, None], pa.int64())})
    assert CommonImages()(images)["decision"].to_pylist() == [
        None,
        {"verdict": REJECTED, "reason": "common_image", "value": 11.0, "threshold": 10.0, "error": None},
        None,
    ]


@pytest.mark.parametrize(("distance", "wanted"), [(0, [False, True, False, True]), (2, [False, True, True, True])])
def test_of_images_of_one_document_the_first_stays(distance: int, wanted: list[bool]) -> None:
    looks = [("a", 0b0000), ("a", 0b0000), ("b", 0b0011), ("c", 0b0000)]
    assert seen_before([(*one, plain(9)) for one in looks], distance, 16.0) == wanted
    assert seen_before([(name, None, None) for name in "aba"], distance, 16.0) == [False, False, True]


def test_flags_of_one_hash_are_repeats_only_where_their_colours_are_near() -> None:
    flags = [("a", 5, plain(100)), ("b", 5, plain(200)), ("c", 5, plain(110))]
    assert seen_before(flags, 0, 16.0) == [False, False, True]
    assert seen_before(flags, 0, None) == [False, True, True]


def test_the_first_is_so_by_its_place_and_within_its_document() -> None:
    table = nodes([("d1", "a", 0), ("d2", "a", 0), ("d1", "a", 0), ("d2", "b", 9)])
    turned = OncePerDocument()(table.take([3, 2, 1, 0]))
    gone = turned.filter(pc.is_valid(turned["decision"]))
    assert gone["row_id"].to_pylist() == ["n2"]


def documents(*lists: list[dict[str, object]]) -> pa.Table:
    ids = [f"d{i}" for i in range(len(lists))]
    table = pa.table({"row_id": ids, "nodes": pa.array(lists, pa.list_(NODE_ITEM))})
    return table.append_column("image_count", pa.array([len(nodes) for nodes in lists], pa.int64()))


def test_texts_are_the_same_in_any_order_case_and_width() -> None:
    first = [text("One  thing"), text("Ｔｗｏ")]
    same = [image(), text("two"), text("ONE\nthing "), text("two")]
    other = [text("One thing"), text("three")]
    digests = TextsDigest()(documents(first, same, other, [image()], [unreadable("no text"), text(" ")]))
    found = digests["texts_digest"].to_pylist()
    assert found[0] == found[1] != found[2] and found[3:] == [None, None]
    duplicates = ExactDuplicates(("texts_digest",), quality="image_count")(digests).to_pylist()
    assert duplicates == [{"row_id": "d0", "exact_duplicate_of": "d1"}], "that with more nodes stays"
