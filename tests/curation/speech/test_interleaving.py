"""Interleaving: fragments that tile a sample, cut where it is quiet, and a plan of what is shown."""

import random
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from curation.errors import RecipeError
from curation.hashing import digest
from curation.speech.interleaving import AUDIO, BOTH, TEXT, Fragments, Masking, word_places
from curation.speech.samples import MakeSamples
from curation.text.spacing import join_words
from schemas.spans import span

RATE = 16_000


def sample(
    words: list[str],
    pauses_s: list[float | None],
    *,
    language: str = "en",
    row_id: str = "s",
    task: str = "interleaved",
) -> dict[str, Any]:
    """A sample whose words take half a second each, with these pauses between; None for one that was not measured."""
    now, timed, quiet = 5 * RATE, [], []
    for i, text in enumerate(words):
        timed.append({"text": text, "start": now, "end": now + RATE // 2, "score": -1.0, "untimed": None})
        now += RATE // 2
        if i + 1 < len(words):
            pause = pauses_s[i]
            if pause is not None:
                quiet.append({"after": i, "start": now, "end": now + round(pause * RATE)})
            now += round((pause or 0.0) * RATE)
    whole = span("source", 5 * RATE - 800, now + 800, RATE)
    text = join_words(words, language)
    row = {"row_id": row_id, "task": task, "text": text, "words": timed, "pauses": quiet}
    return row | {"language": language, "span": whole}


def texts(sample: dict[str, Any], **fields: Any) -> list[str]:
    return [fragment["text"] for fragment in Fragments(**fields).fragments(sample)]


def test_fragments_end_at_punctuation_where_it_is_quiet() -> None:
    words = ["So,", "he", "left.", "Mr.", "Hall", "had", "3.5", "pounds"]
    found = sample(words, [0.2] * 7)
    assert texts(found) == ["So,", "he left.", "Mr. Hall had 3.5 pounds"]
    assert texts(found, level="sentence") == ["So, he left.", "Mr. Hall had 3.5 pounds"]


@pytest.mark.parametrize(("pause", "count"), [(0.0, 1), (0.059, 1), (0.06, 2), (0.5, 2), (None, 1)])
def test_fragments_with_less_than_sixty_milliseconds_between_are_one(pause: float | None, count: int) -> None:
    assert len(texts(sample(["Well,", "no"], [pause]))) == count


def test_where_the_aligner_sees_no_gap_a_closure_is_no_pause() -> None:
    stop = sample(["but,", "go"], [0.1])
    stop["words"][1]["start"] = stop["words"][0]["end"]  # the words touch; quiet for 100 ms within them
    assert len(texts(stop)) == 1
    assert len(texts(stop, min_unaligned_pause_s=0.1)) == 2


def test_a_mark_that_is_not_cut_at_stays_within_its_fragment() -> None:
    assert texts(sample(["One,", "two,", "three,", "four"], [0.3, 0.01, 0.3])) == ["One,", "two, three,", "four"]


def test_chinese_is_cut_at_its_own_marks() -> None:
    assert texts(sample(["你好，", "再见。", "走吧"], [0.2, 0.2], language="zh")) == ["你好，", "再见。", "走吧"]


def test_cuts_lie_in_the_quiet_at_the_share_that_is_asked_for() -> None:
    (pause,) = (found := sample(["One,", "two"], [0.4]))["pauses"]
    for share in (0.0, 0.5, 0.75, 1.0):
        first, second = Fragments(cut_at=share).fragments(found)
        assert first["end"] == second["start"] == pause["start"] + share * (pause["end"] - pause["start"])


def test_recognition_samples_have_no_fragments() -> None:
    rows = [sample(["One,", "two"], [0.4]), sample(["One,", "two"], [0.4], task="asr")]
    fragments = Fragments()(pa.Table.from_pylist(rows))["fragments"].to_pylist()
    assert len(fragments[0]) == 2 and fragments[1] is None
    plans = Masking()(pa.table({"row_id": ["a", "b"], "fragments": fragments}))["fragments"].to_pylist()
    assert len(plans[0]) == 2 and plans[1] is None


WORDS = st.lists(
    st.tuples(
        st.sampled_from(["yes", "3.5", "U.S.", "Dr.", "“no”", "it’s", "a", "—", "…", "naïve", "x" * 30]),
        st.sampled_from(["", "", ",", ".", "?", "!”", ";", ":", "..."]),
        st.one_of(st.none(), st.floats(0, 1)),
    ),
    min_size=1,
    max_size=30,
)


@settings(deadline=None, max_examples=200)
@given(WORDS, st.sampled_from(["clause", "sentence"]), st.sampled_from([0.0, 0.06, 0.5]))
def test_fragments_tile_the_sample_and_are_its_text(
    parts: list[tuple[str, str, float | None]], level: Any, least_s: float
) -> None:
    found = sample([word + mark for word, mark, _ in parts], [pause for *_, pause in parts])
    fragments = Fragments(min_pause_s=least_s, level=level).fragments(found)
    assert fragments[0]["start"] == found["span"]["start"] and fragments[-1]["end"] == found["span"]["end"]
    assert all(f["start"] < f["end"] for f in fragments)
    quiet = {pause["after"]: pause for pause in found["pauses"]}
    for left, right in pairwise(fragments):
        assert left["end"] == right["start"] and left["last_word"] + 1 == right["first_word"]
        pause = quiet[left["last_word"]]
        assert pause["start"] <= left["end"] <= pause["end"]
        assert pause["end"] - pause["start"] >= round(least_s * RATE)
    assert fragments[0]["first_word"] == 0 and fragments[-1]["last_word"] == len(parts) - 1
    assert " ".join(fragment["text"] for fragment in fragments) == found["text"]


@given(st.lists(st.text("ab,. ", min_size=1, max_size=4).filter(str.strip), min_size=1, max_size=10))
def test_words_stand_in_the_text_in_their_order(words: list[str]) -> None:
    text = " ".join(words)
    places = word_places(text, words)
    assert [text[start:end] for start, end in places] == words
    assert all(a[1] <= b[0] for a, b in pairwise(places))


def test_a_word_that_the_text_lacks_is_named() -> None:
    with pytest.raises(ValueError, match="'three'"):
        word_places("one two", ["one", "three"])


def plan(masking: Masking, samples: int, fragments: int) -> list[str]:
    ids = [digest(["sample", i]) for i in range(samples)]
    return [masking.show(row_id, i) for row_id in ids for i in range(fragments)]


@pytest.mark.parametrize(("text_only", "audio_only"), [(0.25, 0.25), (0.05, 0.6), (0.0, 1.0), (0.0, 0.0), (0.5, 0.5)])
def test_rates_of_masking_are_those_of_the_recipe(text_only: float, audio_only: float) -> None:
    shown = plan(Masking(text_only, audio_only), samples=500, fragments=20)
    for what, rate in ((TEXT, text_only), (AUDIO, audio_only), (BOTH, 1 - text_only - audio_only)):
        deviation = (10_000 * rate * (1 - rate)) ** 0.5
        assert abs(shown.count(what) - 10_000 * rate) <= 4 * deviation + 1e-6


def test_neighbouring_fragments_are_drawn_independently() -> None:
    shown = plan(Masking(), samples=2, fragments=5000)
    same = sum(a == b for a, b in pairwise(shown))
    expected = 0.25**2 + 0.25**2 + 0.5**2
    assert abs(same - expected * 9_999) <= 4 * (9_999 * expected * (1 - expected)) ** 0.5
    assert shown[:5000] != shown[5000:]


def masked(rows: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    table = Masking(**fields)(Fragments()(pa.Table.from_pylist(rows)))
    return dict(zip(table["row_id"].to_pylist(), table["fragments"].to_pylist(), strict=True))


def rows_of(count: int) -> list[dict[str, Any]]:
    return [sample(["One,", "two,", "three,", "four"], [0.3] * 3, row_id=digest(i)) for i in range(count)]


def test_the_plan_is_the_same_under_any_sharding() -> None:
    rows = rows_of(40)
    together = masked(rows)
    random.Random(3).shuffle(rows)
    apart: dict[str, Any] = {}
    for start in range(0, 40, 7):
        apart |= masked(rows[start : start + 7])
    assert apart == together


def test_another_seed_draws_another_plan() -> None:
    assert masked(rows_of(40)) == masked(rows_of(40), seed=0) != masked(rows_of(40), seed=1)


def test_masking_changes_nothing_but_what_is_shown_so_it_can_be_undone() -> None:
    rows = rows_of(20)
    bare = {row["row_id"]: Fragments().fragments(row) for row in rows}
    once = masked(rows)
    assert {row_id: [f | {"show": None} for f in plan] for row_id, plan in once.items()} == bare
    table = pa.Table.from_pylist([{"row_id": row_id, "fragments": plan} for row_id, plan in once.items()])
    other = Masking(text_only=0.0, audio_only=0.0)(table)["fragments"].to_pylist()
    assert {fragment["show"] for plan in other for fragment in plan} == {BOTH}
    assert [[f | {"show": None} for f in plan] for plan in other] == list(bare.values())


@pytest.mark.parametrize("rates", [(0.6, 0.5), (-0.1, 0.5), (0.5, -0.1)])
def test_rates_that_are_none_are_refused(rates: tuple[float, float]) -> None:
    with pytest.raises(RecipeError, match="text_only"):
        Masking(*rates)


def test_the_columns_that_are_read_are_those_of_samples() -> None:
    written = {*MakeSamples().writes, "row_id"}
    assert set(Fragments().reads) <= written
