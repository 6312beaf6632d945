"""A lexicon decides on captions in languages that it covers, and on no others."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from curation.diversity.concepts import (
    ConceptBalance,
    KeepProbability,
    Limits,
    MatchConcepts,
)
from curation.diversity.coverage import ConceptCoverage, ConceptLanguage, Coverage
from curation.diversity.lexicon import from_words, merge, write_lexicon
from curation.errors import RecipeError
from curation.store.objects import Store
from curation.store.versions import read_version
from curation.text.caption_checks import CaptionLanguage, FlaggedWords
from schemas.concepts import CONCEPT_COVERAGE
from tests.support.small_corpus import audit, curate
from tests.support.small_pairs import Pair, image_bytes, write_folder

FOREIGN = {
    "es": (
        "Una mujer pasea con su perro por la orilla del río al atardecer",
        "Vista aérea del puente romano sobre el Guadalquivir en Córdoba",
        "Dos niños juegan en la arena mientras su abuela lee el periódico",
        "El presidente saluda a los vecinos durante su visita a la ciudad",
    ),
    "de": (
        "Ein alter Mann füttert die Vögel im Stadtpark von Leipzig",
        "Blick vom Kirchturm über die verschneiten Dächer der Altstadt",
        "Zwei Kinder spielen mit einem roten Ball auf der Wiese",
        "Die Feuerwehr löscht den Brand in einer Lagerhalle bei Köln",
    ),
    "fr": (
        "Une vieille femme vend des légumes au marché du village",
        "Le château se reflète dans les eaux calmes du lac en automne",
        "Des enfants courent sur la plage devant les cabines colorées",
        "Un cycliste grimpe le col sous les applaudissements du public",
    ),
    "pl": (
        "Starszy mężczyzna siedzi na ławce w parku i czyta gazetę",
        "Widok z lotu ptaka na zabytkowy rynek w Krakowie zimą",
        "Dwoje dzieci buduje zamek z piasku na plaży nad Bałtykiem",
        "Strażacy gaszą pożar w opuszczonym budynku przy dworcu",
    ),
    "ru": (
        "Пожилая женщина продаёт овощи на рынке маленького города",
        "Вид с высоты птичьего полёта на старую крепость зимой",
        "Двое детей строят замок из песка на берегу моря",
        "Пожарные тушат огонь в заброшенном здании у вокзала",
    ),
}
"""Captions as they stand on pages, in languages of which the starter lexicon has nothing."""
ENGLISH = ("An old dog sleeps beside the fire", "Three cats on a wall", "A red bridge over the river", "Two horses run")
OFF = ("embedder=null", "clusters=null", "semantic=null", "resampling=null", "perceptual=null", "text.repetition=null")


def run(source: Path, store: Path, *sets: str, what: str = "run") -> tuple[int, str]:
    settings = [word for setting in (f"source.path={source}", *OFF, *sets) for word in ("--set", setting)]
    runner = ("--runner", "inline") if what == "run" else ()
    done = curate(what, "captions", *settings, "--store", str(store), *runner)
    return done.code, done.out + done.err


def folder_of(path: Path, texts: list[str]) -> Path:
    return write_folder(path, [Pair(f"{n:05d}", image_bytes(n), text) for n, text in enumerate(texts)])


def rows_of(texts: list[str], languages: list[str | None], confidence: float = 1.0) -> pa.Table:
    count = len(texts)
    return pa.table(
        {
            "row_id": [f"pair-{n:05d}" for n in range(count)],
            "caption": pa.array(texts, pa.string()),
            "language": pa.nulls(count, pa.string()),
            "caption_language": pa.array(languages, pa.string()),
            "caption_language_confidence": pa.array([confidence] * count, pa.float64()),
        }
    )


def decided(rows: pa.Table, lexicon: str = "starter", coverage: Coverage | None = None, t: float = 1e9) -> pa.Table:
    """Through the stages, as the pipeline has them."""
    rows = MatchConcepts(lexicon)(ConceptLanguage()(rows))
    table = ConceptCoverage(lexicon, coverage or Coverage())(rows)
    assert table.schema.equals(CONCEPT_COVERAGE)
    covered = dict(zip(table["concept_language"].to_pylist(), table["covered"].to_pylist(), strict=True))
    rows = rows.append_column("covered", pa.array([covered[code] for code in rows["concept_language"].to_pylist()]))
    found = KeepProbability(lexicon, Limits({"en": t}))(rows)
    for name in ("keep_probability", "balanced"):
        rows = rows.append_column(name, found[name])
    return ConceptBalance(limits=Limits({"en": t}))(rows)


def test_captions_in_five_languages_lose_nothing_to_a_lexicon_that_does_not_cover_them(tmp_path: Path) -> None:
    texts = [text for some in FOREIGN.values() for text in some]
    source = folder_of(tmp_path / "in", [*texts, *ENGLISH])
    code, said = run(source, tmp_path / "store")
    assert code == 0, said
    ledger = audit(tmp_path / "store", "select distinct reason from ledger where reason is not null")
    assert ledger == []
    version = read_version(Store(tmp_path / "store"), "captions")
    assert sum(shard.samples for shard in version.shards) == len(texts) + len(ENGLISH)
    rows = audit(tmp_path / "store", "from concept_coverage where concept_language <> 'und' and not covered")
    assert {row["concept_language"] for row in rows} >= {"es", "de", "fr", "pl", "ru"}
    assert all(row["entries"] == 0 for row in rows if row["concept_language"] in FOREIGN)
    card = (tmp_path / "store/captions/1/README.md").read_text()
    assert "not applied: kept as they are" in card and "lexicon starter: starter" in card and "Apache-2.0" in card


def test_a_plan_says_which_languages_are_balanced_and_under_which_licences(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", list(ENGLISH))
    code, said = run(source, tmp_path / "store", what="plan")
    flat = " ".join(said.split())
    assert code == 0, said
    assert "balances en" in flat and "probability 1" in flat and "Apache-2.0" in flat


def test_a_language_that_the_lexicon_has_but_does_not_cover_stops_the_run_before_anything_expensive(
    tmp_path: Path,
) -> None:
    texts = [f"The parliamentary committee adjourned its deliberations on amendment number {n}" for n in range(120)]
    source = folder_of(tmp_path / "in", texts)
    code, said = run(source, tmp_path / "store", "source.language=en")
    flat = " ".join(said.split())
    assert code == 2, said
    assert "starter names something in 0.0% of 120 captions in 'en'" in flat
    assert "curate lexicon lexicon.parquet --package wordfreq=en" in flat
    assert "Traceback" not in said
    assert not list((tmp_path / "store").glob("parts/*/*/blob*"))
    for way_out in ("concepts.coverage.languages=[zh]", "concepts.keep_unmatched=true"):
        assert way_out in flat
        code, said = run(source, tmp_path / "store", "source.language=en", way_out)
        assert code == 0, said
        assert audit(tmp_path / "store", "select count(*) as n from ledger where verdict <> 'kept'") == [{"n": 0}]


def test_a_few_captions_that_are_taken_for_a_covered_language_stop_nothing_and_are_kept() -> None:
    texts = [*["A dog on the beach"] * 2000, *["Zupełnie nic z tego"] * 15]
    rows = decided(rows_of(texts, [*["en"] * 2000, *["zh"] * 15]))
    assert rows["decision"].null_count == rows.num_rows
    assert rows["concept_draw"].null_count == 15


def test_captions_of_unknown_language_are_never_rejected_for_naming_nothing() -> None:
    texts = [*["A dog on the beach"] * 300, *["Sin título alguno"] * 20]
    rows = decided(rows_of(texts, ["en"] * 320, confidence=0.5))
    assert set(rows["concept_language"].to_pylist()) == {"und"}
    assert rows["decision"].null_count == rows.num_rows
    assert rows["balanced"].to_pylist() == [*[True] * 300, *[False] * 20]
    assert decided(rows_of(texts, [None] * 320, 1.0), t=3)["decision"].null_count < 100


def test_a_caption_in_a_covered_language_that_names_nothing_is_rejected() -> None:
    rows = decided(rows_of([*["A dog on the beach"] * 300, "Whence thither"], ["en"] * 301))
    assert [d["reason"] for d in rows["decision"].to_pylist() if d] == ["no_concept"]


def test_captions_that_are_not_balanced_are_not_counted() -> None:
    texts = [*["a dog"] * 10, *["die Hand hat"] * 500]
    rows = rows_of(texts, [*["en"] * 10, *["de"] * 500])
    rows = MatchConcepts("starter")(ConceptLanguage()(rows))
    rows = rows.append_column("covered", pa.array([*[True] * 10, *[False] * 500]))
    found = KeepProbability("starter", Limits({"en": 10}))(rows)
    assert found["keep_probability"].to_pylist() == [1.0] * 510


def test_what_the_source_says_goes_before_what_was_measured_and_tags_are_cut_to_languages() -> None:
    rows = rows_of(["a", "b", "c"], ["de", "de", "de"])
    rows = rows.set_column(2, "language", pa.array(["en-US", None, "zh-Hant"]))
    assert ConceptLanguage()(rows)["concept_language"].to_pylist() == ["en", "de", "zh"]


def test_a_rewritten_caption_is_in_the_language_that_was_measured_of_it() -> None:
    rows = rows_of(["ein Hund", "ein Hund"], ["de", "de"]).set_column(2, "language", pa.array(["de", "de"]))
    for name, values in (
        ("recaption", pa.array(["a dog", None])),
        ("recaption_language", pa.array(["en", None])),
        ("recaption_language_confidence", pa.array([0.95, 0.0])),
    ):
        rows = rows.append_column(name, values)
    assert ConceptLanguage(("recaption", "caption"))(rows)["concept_language"].to_pylist() == ["en", "de"]


def test_a_language_that_is_asked_for_must_be_in_the_lexicon(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", list(ENGLISH))
    for what in ("plan", "run"):
        code, said = run(source, tmp_path / "store", "concepts.coverage.languages=[en, de]", what=what)
        assert code == 2, said
        assert "0 entries of 'de'" in " ".join(said.split()) and "--package wordfreq=de" in " ".join(said.split())


@given(st.lists(st.sampled_from(["en", "zh", "de", None]), min_size=1, max_size=40), st.floats(0, 1))
def test_only_covered_languages_ever_lose_a_row(languages: list[str | None], confidence: float) -> None:
    texts = ["A dog on the beach" if n % 3 else "Nothing of this" for n in range(len(languages))]
    rows = decided(rows_of(texts, languages, confidence), coverage=Coverage(min_coverage=0.0), t=1)
    for row in rows.to_pylist():
        if row["decision"] is not None:
            assert row["covered"] and row["balanced"]
        if row["concept_language"] == "de":
            assert row["decision"] is None and row["keep_probability"] == 1


def test_a_lexicon_with_too_few_entries_of_a_language_does_not_cover_it(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.parquet"
    write_lexicon(
        merge([from_words([f"thing{n}" for n in range(20)], "en", "x"), from_words(["hund"], "de", "x")]), path
    )
    rows = decided(rows_of(["thing3 here", "ein hund", "eine katze"], ["en", "de", "de"]), str(path))
    assert rows["decision"].null_count == 3
    assert rows["balanced"].to_pylist() == [True, False, False]
    with pytest.raises(RecipeError, match="1 entries of 'de'"):
        Coverage(languages=("de",)).languages_of(merge([from_words(["hund"], "de", "x")]))


def test_a_text_in_a_language_that_the_identifier_does_not_know_is_what_its_source_says(tmp_path: Path) -> None:
    check = CaptionLanguage(source_language="language", languages=("en", "nov"))
    texts = ["A dog sleeps on the old red sofa", "Me have vidat li granda kavale sur li monte; it es tre old e blanki"]
    rows = check(pa.table({"caption": texts * 2, "language": [None, "nov", "en", "tlh"]}))
    assert rows["caption_language"].to_pylist() == ["en", "nov", "en", "tlh"]
    assert [d and d["reason"] for d in rows["decision"].to_pylist()] == [None, None, None, "wrong_language"]
    source = folder_of(tmp_path / "in", list(ENGLISH))
    code, said = run(source, tmp_path / "store", "text.language.languages=[nov, vo2]", what="plan")
    assert code == 2 and "text.language.languages: py3langid cannot find nov, vo2" in " ".join(said.split())


def test_a_list_of_flagged_words_judges_texts_in_its_own_language_alone() -> None:
    rows = rows_of(["a fine gift for you", "ein tödliches gift", "gift"], ["en", "de", "de"])
    rows = rows.drop_columns(["caption_language_confidence"]).append_column(
        "caption_language_confidence", pa.array([1.0, 1.0, 0.3])
    )
    check = FlaggedWords(words=("gift",), languages=("de",), measured_column="caption")
    assert [decision is not None for decision in check(rows)["decision"].to_pylist()] == [False, True, True]
    assert FlaggedWords(words=("gift",))(rows)["decision"].null_count == 0
