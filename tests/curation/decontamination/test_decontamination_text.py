"""Texts that repeat an evaluation set are found whatever stands around them; a phrase in common is not enough."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from curation.decontamination.evaluation_sets import EvaluationSet
from curation.decontamination.ngram_overlap import NgramIndex, NgramSize, units
from curation.decontamination.recipe import Decontamination
from curation.decontamination.stages import TextOverlap
from curation.errors import RecipeError

WORDS = [f"{a}{b}{c}" for a in "bdfgklmn" for b in "aeiou" for c in ("ra", "sto", "lin", "ve", "nck", "t", "mo")]
CAPTION = "A man rides a wave on top of a surfboard."
PASSAGE = (
    "The aqueduct was built in three stages, and each of them took the masons of the valley longer than the one "
    "before, since the stone had to be brought from a quarry on the far side of the river."
)
CHINESE = "北京故宫是明清两代的皇家宫殿，旧称紫禁城，位于北京中轴线的中心，占地面积约七十二万平方米。"
SHORT_CHINESE = "一只黑白相间的猫坐在窗台上看着外面"


def noise(count: int, seed: int = 0) -> str:
    chance = random.Random(seed)
    return " ".join(chance.choice(WORDS) for _ in range(count))


def written(folder: Path, name: str, texts: list[Any]) -> EvaluationSet:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps({"caption": text}) + "\n" for text in texts))
    return EvaluationSet(name, str(path), text="caption")


def rows(*texts: str | None) -> pa.Table:
    return pa.table({"row_id": [str(i) for i in range(len(texts))], "text": pa.array(texts, pa.string())})


def reasons(table: pa.Table) -> list[str | None]:
    if "decision" not in table.column_names:
        return [None] * table.num_rows
    return [decision and decision["reason"] for decision in table["decision"].to_pylist()]


@pytest.fixture
def stage(tmp_path: Path) -> TextOverlap:
    return TextOverlap((written(tmp_path, "probe", [CAPTION, PASSAGE, CHINESE, SHORT_CHINESE, "a dog", ""]),))


@pytest.mark.parametrize(
    "text",
    [
        CAPTION,
        "a MAN rides\u00a0a wave — on top of a “surfboard”!",
        f"{noise(300)} {CAPTION} {noise(300, 1)}",
        f"{noise(2000)} {PASSAGE} {noise(2000, 1)}",
        PASSAGE[40:150],
        CHINESE,
        f"{noise(50)}{CHINESE}{noise(50, 1)}",
        f"据介绍，{CHINESE[3:40]}，游客很多。",
        SHORT_CHINESE,
        f"照片里{SHORT_CHINESE}的街道，非常安静，天气也很好，还有几个人在散步。",
    ],
)
def test_a_text_that_repeats_an_item_is_rejected_with_the_name_of_its_set(stage: TextOverlap, text: str) -> None:
    found = stage(rows(text))
    assert reasons(found) == ["in_probe"]
    decision = found["decision"].to_pylist()[0]
    assert decision["value"] == found["text_overlap"][0].as_py() >= decision["threshold"] == stage.min_share
    assert found["text_overlap_with"][0].as_py().startswith("probe: probe.jsonl:")


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "?!",
        "a dog",
        "A man rides a wave.",
        f"{CAPTION} ".replace("wave", "horse"),
        " ".join(PASSAGE.split()[:14]) + " " + noise(40),
        noise(1000),
        "一只猫坐在窗台上",
    ],
)
def test_a_text_that_shares_a_phrase_or_nothing_is_kept(stage: TextOverlap, text: str | None) -> None:
    assert reasons(stage(rows(text))) == [None]


def test_the_share_is_of_the_shorter_ones_ngrams(stage: TextOverlap) -> None:
    words = PASSAGE.split()
    half = " ".join(words[: 13 + 9]) + " " + noise(500)
    found = stage(rows(half))
    assert found["text_overlap"][0].as_py() == pytest.approx(10 / (len(units(PASSAGE)) - 12))
    assert found["text_overlap_with"][0].as_py() == "probe: probe.jsonl:2"


def test_the_first_set_of_the_recipe_names_what_several_hold(tmp_path: Path) -> None:
    one, two = written(tmp_path, "one", [noise(30), PASSAGE[:170]]), written(tmp_path, "two", [PASSAGE])
    assert reasons(TextOverlap((one, two))(rows(PASSAGE))) == ["in_one"]
    assert reasons(TextOverlap((two, one))(rows(PASSAGE))) == ["in_two"]
    # A set that has too little of the text does not name it.
    little = written(tmp_path, "little", [" ".join(PASSAGE.split()[:15]) + " " + noise(60)])
    assert reasons(TextOverlap((little, two))(rows(PASSAGE))) == ["in_two"]


def test_an_item_may_be_a_list_of_texts(tmp_path: Path) -> None:
    many = written(tmp_path, "many", [[noise(9, 5), CAPTION], None, []])
    assert reasons(TextOverlap((many,))(rows(CAPTION, noise(9, 5), noise(9, 6)))) == ["in_many", "in_many", None]


def test_ten_thousand_unrelated_captions_and_documents_hit_nothing() -> None:
    index = NgramIndex([noise(5 + i % 40, i) for i in range(2000)], np.zeros(2000, np.int64), NgramSize())
    found = index.overlap([noise(6 + i % 30, 10_000 + i) for i in range(10_000)], 0.5)
    assert not found.share.any()


def test_every_leaked_item_among_noise_is_found_and_named() -> None:
    items = [noise(8 + i % 40, i) for i in range(1000)]
    index = NgramIndex(items, np.zeros(1000, np.int64), NgramSize())
    found = index.overlap(
        [f"{noise(i % 50, 7000 + i)} {item.upper()}; {noise(20, i)}" for i, item in enumerate(items)], 0.5
    )
    assert (found.item == np.arange(1000)).all()
    assert (found.share == 1).all()


@given(st.lists(st.text(alphabet="ab cd北京がก é1.", max_size=60), max_size=12), st.integers(0, 12))
def test_what_is_found_for_a_text_does_not_depend_on_its_neighbours(texts: list[str], cut: int) -> None:
    size = NgramSize(words=3, characters=4, min_whole_words=1, min_contained_words=2)
    index = NgramIndex(["a b c", "北京がก", "cd a é1 b ab", "a"], np.array([0, 1, 1, 2]), size)
    together = index.overlap(texts, 0.5)
    parts = [index.overlap(part, 0.5) for part in (texts[:cut], texts[cut:])]
    assert together.share.tolist() == [share for part in parts for share in part.share.tolist()]
    assert together.item.tolist() == [item for part in parts for item in part.item.tolist()]


@given(
    st.lists(st.text(alphabet="abc de 北京紫", max_size=40), min_size=1, max_size=6),
    st.text("abc de 北京紫", max_size=60),
)
def test_the_index_agrees_with_a_plain_search(items: list[str], text: str) -> None:
    """N-grams as sets of tuples, where all units are of one weight."""
    size = NgramSize(words=3, characters=3, min_whole_words=1, min_contained_words=2)

    def ngrams(words: list[str]) -> set[tuple[str, ...]]:
        return {tuple(words[i : i + 3]) for i in range(len(words) - 2)}

    def share(item: list[str], row: list[str]) -> float:
        if len(item) >= 3:
            return len(ngrams(item) & ngrams(row)) / max(1, min(len(ngrams(item)), len(ngrams(row))))
        inside = any(row[i : i + len(item)] == item for i in range(len(row) - len(item) + 1))
        return float(bool(item) and (row == item or (len(item) == 2 and inside)))

    found = NgramIndex(items, np.zeros(len(items), np.int64), size).overlap([text], 0.5)
    assert found.share[0] == max(share(units(item), units(text)) for item in items)


def test_a_limit_that_rejects_everything_is_refused() -> None:
    with pytest.raises(RecipeError, match="min_share"):
        TextOverlap(min_share=0.0)


def test_a_recipe_without_sets_of_texts_has_no_stage_for_them() -> None:
    assert Decontamination().text("caption") == ()
