"""Concept balance: the tail stays whole, the head shrinks to what is expected, and no sharding changes who is drawn."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, strategies as st

from curation.diversity.concept_report import concept_balance, tail_coverage
from curation.diversity.concepts import (
    ConceptBalance,
    ConceptCounts,
    KeepProbability,
    Limits,
    MatchConcepts,
    concept_counts,
    concept_draws,
    is_drawn,
    keep_probability,
    load_lexicon,
    tail_share,
    tail_threshold,
)
from curation.diversity.lexicon import from_words, write_lexicon
from curation.errors import RecipeError, ResourceMissing, StageError
from curation.runtime.nodes import Listing, Map, Pipeline, Reduce, Unit
from curation.runtime.ray_runner import RayRunner
from curation.runtime.run import Runner
from curation.stage import undecided
from curation.store.objects import Store
from schemas.concepts import CONCEPT_BALANCE, CONCEPT_COUNTS, KEEP_PROBABILITY, TAIL_COVERAGE
from tests.support.toy import decisions, run_toy

ENTRIES = [f"thing{number:02d}" for number in range(30)]
LEXICON = from_words(ENTRIES, "en", "test")
SETS = st.lists(st.sets(st.sampled_from(ENTRIES), max_size=5).map(sorted), min_size=1, max_size=60)
T = st.floats(0.5, 40)


def listed(sets: list[list[str]]) -> pa.Array:
    return pa.array(sets, pa.list_(pa.string()))


def pairs_of(sets: list[list[str]]) -> pa.Table:
    return pa.table({"row_id": [f"pair-{number:05d}" for number in range(len(sets))], "concepts": listed(sets)})


def balanced(pairs: pa.Table, counts: pa.Table, folder: Path, t: float, **fields: Any) -> pa.Table:
    """Through the stage, with counts from a file."""
    path = folder / "counts.parquet"
    pq.write_table(counts, path)
    return ConceptBalance(counts=str(path), limits=Limits({"en": t}), **fields)(pairs)


def kept_of(pairs: pa.Table, counts: pa.Table, t: float, seed: int = 0) -> set[str]:
    ids = pairs["row_id"].to_pylist()
    drawn = is_drawn(keep_probability(pairs["concepts"], counts, t), concept_draws(ids, seed))
    return {row_id for row_id, stays in zip(ids, drawn, strict=True) if stays}


def long_tailed(count: int = 4000, seed: int = 5) -> list[list[str]]:
    """Sets in which thing00 stands in most pairs and thing29 in hardly any."""
    chance = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(ENTRIES) + 1) ** 2
    weights /= weights.sum()
    return [sorted(set(chance.choice(ENTRIES, chance.integers(0, 4), p=weights))) for _ in range(count)]


@given(SETS, T)
def test_p_is_one_minus_the_product_over_its_entries(sets: list[list[str]], t: float) -> None:
    counts = concept_counts(listed(sets), LEXICON)
    number = Counter(entry for one in sets for entry in one)
    expected = [1 - np.prod([1 - min(1, t / number[entry]) for entry in one]) for one in sets]
    assert dict(zip(counts["entry"].to_pylist(), counts["count"].to_pylist(), strict=True)) == number
    np.testing.assert_allclose(keep_probability(listed(sets), counts, t), expected, rtol=0, atol=1e-12)


@given(SETS, T, st.integers(0, 3))
def test_doubling_t_keeps_every_pair_that_was_kept(sets: list[list[str]], t: float, seed: int) -> None:
    pairs = pairs_of(sets)
    counts = concept_counts(pairs["concepts"], LEXICON)
    assert kept_of(pairs, counts, t, seed) <= kept_of(pairs, counts, 2 * t, seed)
    assert kept_of(pairs, counts, t, seed) <= kept_of(pairs, counts, np.nextafter(t, 99), seed)


@given(SETS, T)
def test_entries_with_no_more_than_t_lose_none(sets: list[list[str]], t: float) -> None:
    pairs = pairs_of(sets)
    counts = concept_counts(pairs["concepts"], LEXICON)
    tail = {row["entry"] for row in counts.to_pylist() if row["count"] <= t}
    named = {row["row_id"] for row in pairs.to_pylist() if tail & set(row["concepts"])}
    assert named <= kept_of(pairs, counts, t)


@given(SETS, T, st.integers(1, 7), st.randoms())
def test_any_sharding_keeps_the_same_pairs(sets: list[list[str]], t: float, shards: int, chance: Any) -> None:
    pairs = pairs_of(sets)
    counts = concept_counts(pairs["concepts"], LEXICON)
    places = list(range(pairs.num_rows))
    chance.shuffle(places)
    parts = [pairs.take(pa.array(places[n::shards], pa.int64())) for n in range(shards)]
    kept = [kept_of(part, counts, t) for part in parts if part.num_rows]
    assert set().union(*kept) == kept_of(pairs, counts, t)
    chunked = pa.concat_tables(part for part in parts)
    assert kept_of(chunked, concept_counts(chunked["concepts"], LEXICON), t) == kept_of(pairs, counts, t)


@pytest.mark.parametrize("seed", range(5))
def test_realised_counts_lie_within_four_deviations_and_the_head_shrinks(seed: int) -> None:
    pairs = pairs_of(long_tailed())
    counts = concept_counts(pairs["concepts"], LEXICON)
    p = keep_probability(pairs["concepts"], counts, 100)
    kept = is_drawn(p, concept_draws(pairs["row_id"].to_pylist(), seed))
    report = concept_balance(pairs["concepts"], p, kept, counts, 100)
    assert report.schema.equals(CONCEPT_BALANCE)
    rows = report.to_pylist()
    assert len(rows) == len(ENTRIES)
    for row in rows:
        assert abs(row["kept"] - row["expected"]) <= 4 * row["deviation"] + 1e-9
        assert row["excess"] == max(0, row["kept"] - 100)
        if row["count"] <= 100:
            assert row["kept"] == row["count"] == pytest.approx(row["expected"])
    head = max(rows, key=lambda row: row["count"])
    assert head["count"] > 2000 > 2 * head["kept"] > 200


def test_the_tail_weighs_more_after_than_before() -> None:
    pairs = pairs_of(long_tailed())
    counts = concept_counts(pairs["concepts"], LEXICON)
    p = keep_probability(pairs["concepts"], counts, 100)
    kept = is_drawn(p, concept_draws(pairs["row_id"].to_pylist(), 0))
    coverage = tail_coverage(concept_balance(pairs["concepts"], p, kept, counts, 100))
    assert coverage.schema.equals(TAIL_COVERAGE)
    (english,) = coverage.to_pylist()
    assert english["tail_share_after"] > 1.5 * english["tail_share_before"]
    assert english["tail_entries_whole"] == english["tail_entries"]
    assert english["entries_after"] == english["entries"] == 30
    assert english["tail_share_before"] == tail_share(counts["count"].to_numpy(), 100)
    assert english["matches_before"] == sum(map(len, pairs["concepts"].to_pylist()))


def test_the_stage_writes_draw_and_probability_and_why(tmp_path: Path) -> None:
    pairs = pairs_of([*long_tailed(500), []])
    counts = concept_counts(pairs["concepts"], LEXICON)
    rows = balanced(pairs, counts, tmp_path, 10).to_pylist()
    assert len(rows) == 501
    for row in rows:
        decision = row["decision"]
        if not row["concepts"]:
            assert (decision["verdict"], decision["reason"], decision["threshold"]) == ("rejected", "no_concept", None)
        elif row["concept_draw"] < row["keep_probability"]:
            assert decision is None
        else:
            assert decision == {
                "verdict": "sampled_out",
                "reason": "concept_over_represented",
                "value": row["concept_draw"],
                "threshold": row["keep_probability"],
                "error": None,
            }
    every = undecided(balanced(pairs, counts, tmp_path, 10, keep_unmatched=True))
    assert {row["row_id"] for row in rows if not row["concepts"]} <= set(every["row_id"].to_pylist())
    other = undecided(balanced(pairs, counts, tmp_path, 10, seed=1))
    assert other["row_id"].to_pylist() != [row["row_id"] for row in rows if not row["decision"]]


def test_both_ways_to_bring_the_probability_keep_the_same(tmp_path: Path) -> None:
    path = str(tmp_path / "lexicon.parquet")
    write_lexicon(LEXICON, Path(path))
    pairs = pairs_of(long_tailed(300))
    limits = Limits({"en": 20})
    table = KeepProbability(path, limits, by_language=False)(pairs)
    assert table.schema.equals(KEEP_PROBABILITY)
    probable = pairs.append_column("keep_probability", table["keep_probability"])
    joined = ConceptBalance(limits=limits)(probable.append_column("balanced", table["balanced"]))
    counts = ConceptCounts(path)(pairs)
    assert counts.schema.equals(CONCEPT_COUNTS)
    from_file = balanced(pairs, counts, tmp_path, 20)
    assert undecided(joined)["row_id"].equals(undecided(from_file)["row_id"])
    assert joined["keep_probability"].equals(from_file["keep_probability"])


def test_a_pair_whose_probability_is_not_known_is_an_error() -> None:
    pairs = pairs_of([["thing01"]]).append_column("keep_probability", pa.array([None], pa.float64()))
    pairs = pairs.append_column("balanced", pa.array([None], pa.bool_()))
    with pytest.raises(StageError, match="made for other pairs"):
        ConceptBalance()(pairs)


def test_an_empty_block_goes_through(tmp_path: Path) -> None:
    empty = pairs_of([["thing01"]]).slice(1)
    counts = concept_counts(empty["concepts"], LEXICON)
    assert counts.num_rows == 0
    assert balanced(empty, counts, tmp_path, 5).num_rows == 0
    assert MatchConcepts()(pa.table({"caption": pa.array([], pa.string())})).num_rows == 0
    assert Limits().of(counts) == {"en": 20_000.0}


def test_an_entry_without_a_count_is_in_the_tail() -> None:
    counts = concept_counts(listed([["thing01"]] * 100), LEXICON)
    assert keep_probability(listed([["thing02"], ["thing01", "thing02"], ["thing01"], []]), counts, 10).tolist() == [
        1,
        1,
        pytest.approx(0.1),
        0,
    ]


@given(st.lists(st.integers(1, 500), min_size=1, max_size=40), st.floats(0, 1))
def test_the_tail_of_t_holds_the_share_asked_for_and_no_smaller_t_does(numbers: list[int], share: float) -> None:
    counts = np.array(numbers)
    t = tail_threshold(counts, share)
    assert tail_share(counts, t) >= share - 1e-9
    smaller = counts[counts < t]
    assert not len(smaller) or tail_share(counts, int(smaller.max())) < share
    assert tail_threshold(counts, tail_share(counts, t)) == t


def test_other_languages_get_the_t_of_the_same_tail_share() -> None:
    numbers = {"en": [5, 10, 100, 885], "zh": [1, 1, 8, 90], "th": [3]}
    rows = [
        {"entry": f"{language}{place}", "language": language, "count": count}
        for language, counts in numbers.items()
        for place, count in enumerate(counts)
    ]
    counts = pa.Table.from_pylist(sorted(rows, key=lambda row: row["entry"]), CONCEPT_COUNTS)
    assert Limits({"en": 50}).of(counts) == {"en": 50, "zh": 1, "th": 3}  # 1.5 % of the matches
    assert Limits({"en": 50, "th": 7}, tail_share=0.1).of(counts) == {"en": 50, "zh": 8, "th": 7}
    p = keep_probability(listed([["zh3"], ["en3"], ["en1", "en2"]]), counts, Limits({"en": 50}).of(counts))
    assert p.tolist() == [pytest.approx(1 / 90), pytest.approx(50 / 885), 1]
    # No caption names a German entry: there is no share to take, and German's t is that of all.
    assert Limits({"de": 50}, reference="de").of(counts) == {"de": 50, "en": 50, "zh": 50, "th": 50}
    with pytest.raises(RecipeError, match="no t for 'en', and none for the reference 'de'"):
        Limits({"th": 50}, reference="de").of(counts)
    for wrong in ({"given": {"en": 0}}, {"tail_share": 1.5}):
        with pytest.raises(RecipeError):
            Limits(**wrong)  # type: ignore[arg-type]


def test_concepts_of_another_lexicon_are_named() -> None:
    with pytest.raises(StageError, match="'unicorn'"):
        concept_counts(listed([["thing01", "unicorn"]]), LEXICON)


def test_a_fingerprint_follows_what_the_files_hold(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.parquet"
    write_lexicon(LEXICON, path)
    before = [stage(str(path)).fingerprint() for stage in (MatchConcepts, ConceptCounts, KeepProbability)]
    write_lexicon(from_words([*ENTRIES, "more"], "en", "test"), path)
    assert load_lexicon(str(path)).num_rows == 31
    after = [stage(str(path)).fingerprint() for stage in (MatchConcepts, ConceptCounts, KeepProbability)]
    assert not set(before) & set(after)
    matched = MatchConcepts(str(path))(pa.table({"caption": ["Thing01 and MORE", None]}))
    assert matched["concepts"].to_pylist() == [["more", "thing01"], []]
    with pytest.raises(ResourceMissing, match="nowhere"):
        MatchConcepts(str(tmp_path / "nowhere.parquet")).fingerprint()
    low, high = (ConceptBalance(limits=Limits({"en": t})).fingerprint() for t in (1, 2))
    assert low != high


def captions() -> pa.Table:
    chance = np.random.default_rng(3)
    words = ["cat"] * 60 + ["dog"] * 25 + ["zebra", "猫头鹰", "熊猫", "熊猫", "nothing"]
    texts = [f"A {chance.choice(words)}, 和{chance.choice(words)}!" for _ in range(150)]
    ids = [f"pair-{number:03d}" for number in range(len(texts))]
    columns = {"row_id": ids, "root": ids, "ordinal": list(range(len(ids))), "kind": ["pair"] * len(ids), "uri": ids}
    return pa.table({**columns, "caption": texts})


def balanced_run(store: Store, target: float, runner: Runner | None = None) -> dict[str, dict[str, Any]]:
    """The ledger of a whole run: match, count, draw."""
    limits = Limits({"en": 10.0}, tail_share=1.0)
    unit = Unit(target=target)
    nodes = (
        Listing("listing", captions()),
        Map("matched", "listing", (MatchConcepts(),), unit),
        Reduce("probability", "matched", KeepProbability(limits=limits, by_language=False)),
        Map("balanced", "matched", (ConceptBalance(limits=limits),), unit, joins=("probability",)),
    )
    version, _ = run_toy(Pipeline("pairs", nodes), store, runner)
    return decisions(store, version, "balanced")


def test_units_of_any_size_keep_the_same_pairs_through_a_run(tmp_path: Path) -> None:
    whole, *cut = (balanced_run(Store(str(tmp_path / str(target))), target) for target in (1000.0, 25.0, 4.0))
    assert cut == [whole, whole]
    counted = Counter((row["verdict"], row["reason"]) for row in whole.values())
    assert counted.total() == 150
    assert set(counted) <= {("kept", None), ("sampled_out", "concept_over_represented"), ("rejected", "no_concept")}
    assert counted["sampled_out", "concept_over_represented"] > 50


@pytest.mark.ray
def test_ray_keeps_the_same_pairs(tmp_path: Path) -> None:
    inline = balanced_run(Store(str(tmp_path / "inline")), 1000.0)
    assert balanced_run(Store(str(tmp_path / "ray")), 25.0, RayRunner(workers=2)) == inline
