"""The language of a text is found offline, each text by itself."""

import subprocess
import sys
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from curation.engines.engine import loaded
from curation.engines.language_identification import Identified, LangId, LanguageIdentifier
from curation.errors import ResourceMissing

SENTENCES = {
    "en": "An old fisherman mends his net in the harbour while his dog sleeps",
    "de": "Ein alter Fischer flickt sein Netz im Hafen, während sein Hund schläft",
    "fr": "Un vieux pêcheur répare son filet dans le port pendant que son chien dort",
    "es": "Un viejo pescador remienda su red en el puerto mientras duerme su perro",
    "it": "Un vecchio pescatore ripara la sua rete nel porto mentre il suo cane dorme",
    "pt": "Um velho pescador conserta sua rede no porto enquanto seu cachorro dorme",
    "nl": "Een oude visser herstelt zijn net in de haven terwijl zijn hond slaapt",
    "pl": "Stary rybak naprawia sieć w porcie, podczas gdy jego pies śpi",
    "ru": "Старый рыбак чинит сеть в гавани, пока его собака спит",
    "tr": "Yaşlı bir balıkçı limanda ağını onarırken köpeği uyuyor",
    "vi": "Một ngư dân già vá lưới ở bến cảng trong khi con chó của ông ngủ",
    "ar": "صياد عجوز يصلح شبكته في الميناء بينما ينام كلبه",
    "he": "דייג זקן מתקן את הרשת שלו בנמל בזמן שהכלב שלו ישן",
    "hi": "एक बूढ़ा मछुआरा बंदरगाह पर अपना जाल ठीक कर रहा है और उसका कुत्ता सो रहा है",
    "th": "ชาวประมงชรากำลังซ่อมอวนที่ท่าเรือขณะที่สุนัขของเขานอนหลับ",
    "ko": "늙은 어부가 항구에서 그물을 고치는 동안 그의 개는 잠을 잔다",
    "ja": "年老いた漁師が港で網を直している間、犬は眠っている",
    "zh": "一位老渔夫在港口修补渔网，他的狗在旁边睡觉",
}


def test_sentences_of_eighteen_languages_are_told_and_surely() -> None:
    found = LangId().identify(list(SENTENCES.values()))
    assert [one.language for one in found] == list(SENTENCES)
    assert min(one.confidence for one in found) > 0.8


def test_there_is_one_entry_per_text_whatever_its_neighbours() -> None:
    texts = [*SENTENCES.values(), "", "12", "ok", SENTENCES["en"]]
    engine = LangId()
    together = engine.identify(texts)
    assert len(together) == len(texts)
    assert engine.identify(texts[::-1]) == together[::-1]
    assert [engine.identify([text])[0] for text in texts] == together
    assert engine.identify([]) == []


def test_another_process_finds_the_same() -> None:
    code = (
        "from curation.engines.language_identification import LangId\n"
        f"print([one.probabilities for one in LangId().identify({list(SENTENCES.values())!r})])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == str([one.probabilities for one in LangId().identify(list(SENTENCES.values()))])


@pytest.mark.parametrize("text", ["", "   ", "12345", "☃ !!! %%", "2019-03-12", "\u0301\u0302"])
def test_what_has_no_letters_is_no_language(text: str) -> None:
    (found,) = LangId().identify([text])
    assert found == Identified({})
    assert (found.language, found.confidence) == (None, 0.0)


def test_a_word_or_two_leave_it_unsure() -> None:
    assert all(one.confidence < 0.5 for one in LangId().identify(["ok", "taxi", "Bora Bora", "Adele"]))


def test_varieties_are_counted_for_their_language() -> None:
    (found,) = LangId().identify(["两个孩子在公园里下棋"])
    assert found.language == "zh"
    assert all(len(language) == 2 for language in found.probabilities)


def test_candidates_are_the_only_answers() -> None:
    engine = LangId(candidates=("en", "zh"))
    assert engine.languages == ("en", "zh")
    (german,) = engine.identify([SENTENCES["de"]])
    assert set(german.probabilities) <= {"en", "zh"}
    assert engine.fingerprint() != LangId().fingerprint()
    with pytest.raises(ResourceMissing, match="xx"):
        LangId(candidates=("xx",)).identify(["text"])


def test_other_candidates_elsewhere_change_nothing() -> None:
    before = LangId().identify([SENTENCES["de"]])
    LangId(candidates=("en",)).identify([SENTENCES["de"]])
    assert LangId().identify([SENTENCES["de"]]) == before


def test_a_long_text_is_judged_by_its_start() -> None:
    engine = replace(LangId(), max_characters=500)
    start = (SENTENCES["en"] + ". ") * 10
    assert engine.identify([start + SENTENCES["de"] * 20_000]) == engine.identify([start[:500]])


def test_it_is_an_engine_that_says_what_it_needs() -> None:
    engine = LangId()
    assert isinstance(engine, LanguageIdentifier)
    assert engine.missing() is None
    assert engine.repeatable
    assert engine.code_licence == engine.weights_licence == "BSD-3-Clause"


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_probabilities_are_in_order_and_sum_to_one_at_most(text: str) -> None:
    (found,) = LangId().identify([text])
    values = list(found.probabilities.values())
    assert values == sorted(values, reverse=True)
    assert all(0.01 <= value <= 1 for value in values)
    assert sum(values) <= 1.01


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1) | st.sampled_from(list(SENTENCES.values())))
def test_probabilities_are_those_by_which_the_model_ranks(text: str) -> None:
    model, languages = loaded(LangId())
    (found,) = LangId().identify([text])
    text = unicodedata.normalize("NFKC", text)
    ranked = model.rank(text) if any(map(str.isalpha, text)) else []
    nothing = dict(ranked).get("zxx", 0.0)
    totals = dict.fromkeys(languages.values(), 0.0)
    for label, probability in ranked:
        totals[languages[label]] += probability / (1 - nothing)
    for language, probability in found.probabilities.items():
        assert probability == pytest.approx(totals[language], abs=1e-3)
    if found.probabilities:
        assert all(totals[name] < 0.012 for name in set(totals) - {"zxx", *found.probabilities})
