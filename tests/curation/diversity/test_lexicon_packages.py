"""Lexicons from packages, and the other ways in which their words are written."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.diversity import inflection, lexicon_packages
from curation.diversity.concept_matching import ConceptMatcher
from curation.diversity.inflection import english_plurals, french_plurals, spanish_plurals
from curation.diversity.lexicon import (
    from_words,
    lexicon_languages,
    lexicon_sources,
    lexicon_version,
    merge,
    read_lexicon,
    with_forms,
    write_lexicon,
)
from curation.diversity.lexicon_packages import function_words, jieba_dictionary, package_lexicons, wordfreq_words
from curation.diversity.starter_lexicon import starter_lexicon
from curation.engines import engine
from curation.errors import EngineMissing, RecipeError
from schemas.concepts import LEXICON
from tests.support.small_corpus import curate


def named(lexicon: pa.Table, text: str) -> set[str]:
    return set(ConceptMatcher(lexicon).match_all([text])[0].as_py())


@pytest.mark.parametrize(
    ("entry", "plural"),
    [
        ("dog", "dogs"),
        ("church", "churches"),
        ("box", "boxes"),
        ("berry", "berries"),
        ("donkey", "donkeys"),
        ("fireman", "firemen"),
        ("human", "humans"),
        ("woman", "women"),
        ("knife", "knives"),
        ("tomato", "tomatoes"),
        ("hot dog", "hot dogs"),
        ("bookshelf", "bookshelves"),
        ("roof", "roofs"),
        ("lens", "lenses"),
    ],
)
def test_an_english_plural_names_its_entry(entry: str, plural: str) -> None:
    assert plural in english_plurals(entry)
    assert named(from_words([entry], "en", "test"), f"Two {plural.title()}, seen at night") == {entry}


def test_plurals_of_spanish_and_french() -> None:
    plurals = [spanish_plurals(word) for word in ("perro", "mujer", "luz", "camión", "crisis", "café")]
    assert plurals == [("perros",), ("mujeres",), ("luces",), ("camiones",), (), ("cafés",)]
    plurals = [french_plurals(word) for word in ("chien", "bateau", "cheval", "souris")]
    assert plurals == [("chiens",), ("bateaux",), ("chevaux",), ()]


def test_a_form_that_is_an_entry_itself_names_that_entry_alone() -> None:
    lexicon = from_words(["glass", "glasses"], "en", "test")
    assert named(lexicon, "a pair of glasses") == {"glasses"}
    assert named(lexicon, "a glass") == {"glass"}


def test_words_of_an_unspaced_script_have_no_forms() -> None:
    lexicon = starter_lexicon()
    chinese = lexicon.filter(pa.compute.equal(lexicon["language"], "zh"))
    assert not any(chinese["forms"].to_pylist())
    assert {"dog", "horse"} <= named(lexicon, "Dogs and horses")


def test_forms_licences_and_sources_are_stored_and_forms_change_the_version(tmp_path: Path) -> None:
    words = from_words(["haus"], "de", "list", licence="CC0-1.0")
    forms = with_forms(words, {"de": {"haus": ["Häuser", "Hauses", "haus"]}}, "by hand")
    assert forms["forms"].to_pylist() == [["hauses", "häuser"]]
    write_lexicon(forms, tmp_path / "lexicon.parquet")
    again = read_lexicon(tmp_path / "lexicon.parquet")
    assert again.equals(forms) and again.schema.equals(LEXICON)
    assert lexicon_sources(again) == [("list, by hand", "CC0-1.0", 1)]
    assert lexicon_version(again) != lexicon_version(words)
    assert named(again, "Alte HÄUSER, alte Ha\u0308user") == {"haus"}
    assert named(again, "Hausboot") == set()  # a compound is another word


def test_forms_of_one_entry_are_joined_whatever_the_order_of_lists() -> None:
    one, other = (with_forms(from_words(["x"], "de", "l"), {"de": {"x": [form]}}, "s") for form in ("xe", "xen"))
    assert merge([one, other])["forms"].to_pylist() == merge([other, one])["forms"].to_pylist() == [["xe", "xen"]]


def test_a_table_without_forms_gets_those_of_the_rules(tmp_path: Path) -> None:
    pq.write_table(pa.table({"entry": ["Teapot"], "language": ["en"]}), tmp_path / "foreign.parquet")
    assert named(read_lexicon(tmp_path / "foreign.parquet"), "three teapots") == {"teapot"}


@pytest.mark.slow
def test_jiebas_dictionary_gives_300000_entries_without_function_words_and_single_characters() -> None:
    pytest.importorskip("jieba")
    lexicon = jieba_dictionary()
    entries = set(lexicon["entry"].to_pylist())
    assert len(entries) >= 300_000
    assert {"熊猫", "自行车", "天安门", "毛泽东"} <= entries  # names stay
    assert not entries & {"我们", "因为", "一个", "的", "十分"}
    assert min(map(len, entries)) >= 2
    assert lexicon_sources(lexicon)[0][1] == "MIT"
    assert named(lexicon, "两只大熊猫在吃竹子") >= {"大熊猫", "熊猫", "竹子"}


@pytest.mark.slow
def test_wordfreqs_list_gives_200000_english_entries_whose_forms_are_folded() -> None:
    pytest.importorskip("wordfreq")
    lexicon = wordfreq_words("en")
    forms = dict(zip(lexicon["entry"].to_pylist(), lexicon["forms"].to_pylist(), strict=True))
    assert len(forms) >= 200_000
    assert {"dog", "teapot", "paris"} <= forms.keys()
    assert "dogs" in forms["dog"] and "children" in forms["child"]
    assert not forms.keys() & {"the", "of", "with", "she", "dogs", "2", "a"}
    assert not any(any(map(str.isdigit, entry)) for entry in forms)
    assert lexicon_sources(lexicon)[0][1] == "CC-BY-SA-4.0"
    assert named(lexicon, "The dogs, and the children") == {"dog", "child"}


def test_inflected_forms_come_from_tables_where_they_are_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("simplemma")
    (tmp_path / "words.txt").write_text("Haus\nSegelboot\n")
    out = tmp_path / "lexicon.parquet"
    words = ("--words", f"de={tmp_path}/words.txt", "--licence", "CC0-1.0")
    assert curate("lexicon", str(out), *words).code == 0
    assert named(read_lexicon(out), "Häuser und Segelboote") == set()
    done = curate("lexicon", str(out), *words, "--inflect")
    assert done.code == 0, done.err
    assert named(read_lexicon(out), "Häuser und Segelboote") == {"haus", "segelboot"}
    assert "CC0-1.0" in done.out and "simplemma" in done.out


def test_small_lists_of_wordfreq_are_built_by_the_command(tmp_path: Path) -> None:
    pytest.importorskip("wordfreq")
    out = tmp_path / "lexicon.parquet"
    done = curate("lexicon", str(out), "--package", "wordfreq=vi,da")
    assert done.code == 0, done.err
    counts = lexicon_languages(read_lexicon(out))
    assert counts["da"] > 10_000 and counts["vi"] > 1_000
    assert "CC-BY-SA-4.0" in done.out


@pytest.mark.parametrize("request_", ["wordfreq", "wordfreq=", "nltk=en", "jieba=en", "wordfreq=xx"])
def test_a_package_that_is_none_is_said(request_: str, tmp_path: Path) -> None:
    pytest.importorskip("wordfreq")
    pytest.importorskip("jieba")
    done = curate("lexicon", str(tmp_path / "out.parquet"), "--package", request_)
    assert done.code == 2 and "--package" in done.err
    with pytest.raises(RecipeError):
        package_lexicons(request_)


@pytest.mark.parametrize("request_", ["jieba", "wordfreq=en"])
def test_a_package_that_is_missing_is_said_with_the_command_that_installs_it(request_: str, tmp_path: Path) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    engine._version_or_none.cache_clear()
    try:
        with patch.object(engine, "installed_version", absent):
            done = curate("lexicon", str(tmp_path / "out.parquet"), "--package", request_)
            with pytest.raises(EngineMissing, match=r"pip install 'omni-curation\[lexicons\]'"):
                package_lexicons(request_)
    finally:
        engine._version_or_none.cache_clear()
    assert done.code == 3 and "omni-curation[lexicons]" in done.err
    assert "Traceback" not in done.err


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = curate("lexicon", str(tmp_path / "nowhere" / "out.parquet"), "--starter")
    assert done.code == 2 and "make it first" in " ".join(done.err.split())


def test_function_words_are_lists_of_words_without_content() -> None:
    for language in ("en", "de", "es", "fr", "zh"):
        assert len(function_words(language)) > 100
    assert not function_words("en") & {"man", "woman", "home", "hat", "dog", "two"}
    assert not function_words("xx")


def test_nothing_of_the_extra_is_imported_before_it_is_used() -> None:
    for module in (lexicon_packages, inflection):
        assert not {"jieba", "wordfreq", "simplemma"} & set(vars(module))
