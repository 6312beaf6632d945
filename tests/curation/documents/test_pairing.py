"""Pairing: the best there is by brute force, what stays alone and why, and texts parted to segments."""

from itertools import chain, product
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from curation.documents.pairing import (
    ALONE,
    GRID,
    Order,
    PairImages,
    free_segments,
    gains,
    on_grid,
    pair_freely,
    pair_in_order,
)
from curation.documents.segments import EmbedSegments, Segments, text_segments
from curation.engines.image_text_embedding import TinySiglip
from curation.errors import RecipeError
from curation.text.scripts import text_units

Matrix = NDArray[np.float64]
PAIRERS = {"free": pair_freely, "preserved": pair_in_order}


@st.composite
def matrices(draw: st.DrawFn) -> tuple[Matrix, NDArray[np.int64], float]:
    """Similarities with many ties, distances, and a limit that is often one of the similarities."""
    images, segments = draw(st.integers(0, 4)), draw(st.integers(0, 5))
    steps = st.integers(-3, 4) | st.integers(-8, 8)
    similarity = [[draw(steps) / 8 for _ in range(segments)] for _ in range(images)]
    distance = [[draw(st.integers(0, 3)) for _ in range(segments)] for _ in range(images)]
    shape = (images, segments)
    limit = draw(st.integers(-8, 8)) / 8
    return np.array(similarity, np.float64).reshape(shape), np.array(distance, np.int64).reshape(shape), limit


def matchings(images: int, segments: int, order: Order) -> list[tuple[int, ...]]:
    """Every way to give images segments, or none."""
    found = []
    for partner in product(range(ALONE, segments), repeat=images):
        taken = [j for j in partner if j != ALONE]
        if len(set(taken)) == len(taken) and (order == "free" or taken == sorted(taken)):
            found.append(partner)
    return found


def worth_of(
    partner: tuple[int, ...], similarity: Matrix, distance: NDArray[np.int64], limit: float
) -> tuple[float, int]:
    """Similarity above the limit, then images with a partner, then nearness: all exact in eighths."""
    pairs = [(i, j) for i, j in enumerate(partner) if j != ALONE]
    near = sum(int(distance.max(initial=0)) + 1 - int(distance[i, j]) for i, j in pairs)
    return sum(similarity[i, j] - limit for i, j in pairs), near


@settings(max_examples=300, deadline=None)
@given(matrices(), st.sampled_from(["free", "preserved"]))
def test_no_other_pairing_is_worth_more(drawn: tuple[Matrix, NDArray[np.int64], float], order: Order) -> None:
    similarity, distance, limit = drawn
    partner = tuple(PAIRERS[order](gains(similarity, limit, distance)).tolist())
    every = matchings(len(similarity), similarity.shape[1], order)
    assert partner in every
    assert worth_of(partner, *drawn) == max(worth_of(other, *drawn) for other in every)


@settings(max_examples=300, deadline=None)
@given(matrices(), st.sampled_from(["free", "preserved"]))
def test_pairs_reach_the_limit_and_who_is_alone_had_nothing_free_that_does(
    drawn: tuple[Matrix, NDArray[np.int64], float], order: Order
) -> None:
    similarity, distance, limit = drawn
    partner = PAIRERS[order](gains(similarity, limit, distance))
    for i, free in enumerate(free_segments(partner, similarity.shape[1], order)):
        if partner[i] == ALONE:
            assert (similarity[i, free] < limit).all()
        else:
            assert partner[i] in free and similarity[i, partner[i]] >= limit


def test_a_higher_limit_leaves_no_fewer_images_alone() -> None:
    rng = np.random.default_rng(0)
    similarity = on_grid(rng.uniform(-1, 1, (12, 15)))
    alone = [int((pair_freely(gains(similarity, limit)) == ALONE).sum()) for limit in np.linspace(-1, 1, 21)]
    assert alone == sorted(alone) and alone[0] == 0 and alone[-1] == 12


def test_a_weak_image_does_not_take_the_text_of_a_strong_one() -> None:
    similarity = np.array([[0.5, 0.1], [0.6, 0.0]])
    assert pair_freely(gains(similarity, 0.2)).tolist() == [ALONE, 0]
    assert pair_freely(gains(similarity, 0.05)).tolist() == [1, 0]
    assert pair_in_order(gains(similarity, 0.05)).tolist() == [ALONE, 0]


def test_of_equal_texts_the_nearer_one_is_taken() -> None:
    distance = np.array([[4, 0, 2], [2, 4, 0]])
    same = np.full((2, 3), 0.3)
    assert pair_freely(gains(same, 0.1, distance)).tolist() == [1, 2]
    assert pair_in_order(gains(same, 0.1, distance)).tolist() == [1, 2]


def test_a_similarity_at_the_limit_is_enough() -> None:
    assert pair_freely(gains(np.array([[0.15]]), 0.15)).tolist() == [ALONE]  # 0.15 lies below on the grid
    assert pair_freely(gains(np.ceil([[0.15 * GRID]]) / GRID, 0.15)).tolist() == [0]


PIECES = ["A dog runs. ", "Hm. ", "我们看见三只大鸟。", "Is it? ", "one\n", "...", " ", "a-b c d e f g h i j k l "]


@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_segments_leave_out_no_word(pieces: list[str]) -> None:
    text = "".join(pieces)
    segments = text_segments(text, min_units=3, max_units=6)
    assert text_units(" ".join(segments)) == text_units(text)
    assert all(1 <= len(text_units(segment)) <= 6 for segment in segments)


def test_segments_are_sentences() -> None:
    text = 'A red circle lies there. "Is it large?" No! 这是一个红色的圆。那是蓝色的方块吗？Yes it is 3.5 cm wide.'
    expected = ["A red circle lies there.", '"Is it large?"', "No! 这是一个红色的圆。", "那是蓝色的方块吗？"]
    assert text_segments(text) == [*expected, "Yes it is 3.5 cm wide."]


def test_a_long_sentence_is_cut_and_a_text_without_words_has_no_segment() -> None:
    assert text_segments("one two three four five", max_units=4) == ["one two", "three four five"]
    assert text_segments("红绿蓝黄黑", max_units=2, min_units=1) == ["红", "绿蓝", "黄黑"]
    assert text_segments(" … !? ") == [] and text_segments("") == []
    assert len(text_segments("It is so. " * 500, max_segments=7)) == 7


def test_a_megabyte_of_dots_is_parted_in_no_time() -> None:
    assert text_segments("." * 1_000_000 + "a b c") != []
    assert text_segments(("." * 1000 + ")" * 1000) * 300) == [] == text_segments(". " * 300_000)
    (segment,) = Segments(max_characters=9)(pa.table({"text": ["a" * 1_000_000]}))["segments"].to_pylist()[0]
    assert segment == "a" * 9


def test_limits_of_segments_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(RecipeError, match="min_units"):
        Segments(min_units=9, max_units=3)


# -- the stage ---------------------------------------------------------------------------------------------------------


def unit(*values: float) -> list[float]:
    vector = np.array(values)
    return [float(value) for value in vector / np.linalg.norm(vector)]


def nodes_of(document: str, *items: list[Any]) -> list[dict[str, Any]]:
    """Nodes in order: an image is its vector, a text the vectors of its segments."""
    rows = []
    for ordinal, item in enumerate(items):
        is_text = not item or isinstance(item[0], list)
        rows.append(
            {
                "row_id": f"{document}-{ordinal}", "root": document, "ordinal": ordinal, "kind": "node", "uri": "/doc",
                "node_kind": "text" if is_text else "image", "image_embedding": None if is_text else item,
                "segments": [f"segment {i}" for i in range(len(item))] if is_text else None,
                "segment_embeddings": list(chain.from_iterable(item)) if is_text else None,
            }
        )  # fmt: skip
    return rows


NODE_TYPES = pa.schema(
    [
        *((name, pa.string()) for name in ("row_id", "root", "kind", "uri", "node_kind")),
        ("ordinal", pa.int64()),
        ("image_embedding", pa.list_(pa.float32())),
        ("segments", pa.list_(pa.string())),
        ("segment_embeddings", pa.list_(pa.float32())),
    ]
)
RED, BLUE, GREEN = unit(1, 0, 0), unit(0, 1, 0), unit(0, 0, 1)


def paired(rows: list[dict[str, Any]], **fields: Any) -> dict[str, dict[str, Any]]:
    table = PairImages(**{"min_similarity": 0.2} | fields)(pa.Table.from_pylist(rows, NODE_TYPES))
    return {row["row_id"]: row for row in table.to_pylist()}


def test_an_image_is_paired_with_the_segment_that_tells_of_it() -> None:
    found = paired(nodes_of("d", RED, [GREEN, BLUE], BLUE, [unit(3, 1, 0), unit(0, 3, 1)]))
    partners = [[row[f"paired_{what}"] for what in ("with", "ordinal", "segment")] for row in found.values()]
    assert partners == [["d-3", 3, 0], [None] * 3, ["d-1", 1, 1], [None] * 3]
    assert found["d-2"]["pair_similarity"] == 1 and found["d-0"]["pair_similarity"] == pytest.approx(0.9487, abs=1e-4)
    assert found["d-2"]["second_similarity"] == pytest.approx(0.9487, abs=1e-4)
    assert all(row["decision"] is None for row in found.values())
    vectors = [row["text_embedding"] and np.round(row["text_embedding"], 4).tolist() for row in found.values()]
    assert vectors == [np.round(unit(3, 1, 0), 4).tolist(), None, BLUE, None]


def test_an_image_that_stays_alone_is_rejected_with_the_best_that_was_free() -> None:
    found = paired(nodes_of("d", RED, RED, [RED, unit(0.1, 1, 0)]))
    (alone,) = [row for row in found.values() if row["decision"]]
    assert alone["row_id"] == "d-0" and alone["decision"]["reason"] == "unpaired_image"  # the other one is nearer
    assert alone["decision"]["value"] == pytest.approx(0.0995, abs=1e-4) and alone["decision"]["threshold"] == 0.2
    assert alone["second_similarity"] == 1, "the text that the other image has"


def test_of_equal_texts_beside_an_image_the_one_after_it_is_taken() -> None:
    assert paired(nodes_of("d", [RED], RED, [RED]))["d-1"]["paired_with"] == "d-2"
    assert paired(nodes_of("d", [RED], RED, [BLUE], [RED]))["d-1"]["paired_with"] == "d-0"


def test_images_of_a_document_without_texts_stay_alone_without_a_value() -> None:
    (row,) = paired(nodes_of("d", RED)).values()
    assert row["decision"]["reason"] == "unpaired_image" and row["decision"]["value"] is None


def test_a_preserved_order_forbids_pairs_that_cross() -> None:
    rows = nodes_of("d", RED, BLUE, [BLUE], [unit(2, 1, 0)])
    free, preserved = paired(rows), paired(rows, order="preserved")
    assert [free[f"d-{i}"]["paired_with"] for i in (0, 1)] == ["d-3", "d-2"]
    assert [preserved[f"d-{i}"]["paired_with"] for i in (0, 1)] == [None, "d-2"]
    assert preserved["d-0"]["decision"]["value"] is None, "nothing stands before the other image's text"


def test_documents_do_not_share_texts_and_the_order_of_rows_does_not_matter() -> None:
    rows = nodes_of("d", RED, [BLUE]) + nodes_of("e", BLUE, [RED]) + nodes_of("f", [GREEN])
    found = paired(rows)
    assert {name for name, row in found.items() if row["decision"]} == {"d-0", "e-0"}
    rows = nodes_of("d", RED, BLUE, [BLUE], [unit(2, 1, 0)]) + nodes_of("e", BLUE, [BLUE, RED])
    assert paired(rows) == paired(rows[::-1])


def test_texts_alone_and_no_rows_at_all_pass_by() -> None:
    assert all(row["decision"] is None for row in paired(nodes_of("d", [RED], [])).values())
    assert paired([]) == {}


def test_segments_are_embedded_one_by_one_however_they_are_grouped() -> None:
    texts = ["A red circle. A blue square on white.", "A red circle.", None, "..."]
    table = EmbedSegments(TinySiglip())(Segments()(pa.table({"text": pa.array(texts, pa.string())})))
    assert table["segments"].to_pylist() == [["A red circle.", "A blue square on white."], ["A red circle."], [], []]
    vectors = table["segment_embeddings"].to_pylist()
    assert vectors[0][: len(vectors[1])] == vectors[1] and len(vectors[0]) == 2 * len(vectors[1])
    assert vectors[2] == vectors[3] == []
