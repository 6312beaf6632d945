"""What recognisers write when nobody says it: loops, stock phrases on silence, more text than fits the time."""

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from curation.stage import Stage, measure_each, reject
from curation.text.normalisation import UNSPACED, normalise
from curation.text.repetition import compression_ratio, looped_ngram, repeated_share

STOCK_PHRASES = (
    *("thanks for watching", "thank you for watching", "thank you so much for watching", "please subscribe"),
    *("don't forget to like and subscribe", "like and subscribe", "see you in the next video"),
    *("subscribe to my channel", "please subscribe to my channel", "subtitles by the amara.org community"),
    *("subtitles by", "captions by", "transcribed by", "transcription by castingwords"),
    *("untertitel der amara.org-community", "untertitel im auftrag des zdf für funk", "untertitelung des zdf"),
    *("copyright wdr", "vielen dank fürs zuschauen", "danke fürs zuschauen"),
    *("sous-titres réalisés par la communauté d'amara.org", "sous-titrage société radio-canada"),
    *("merci d'avoir regardé cette vidéo", "abonnez-vous à la chaîne"),
    *("subtítulos realizados por la comunidad de amara.org", "gracias por ver el video", "suscríbete al canal"),
    *("legendas pela comunidade amara.org", "obrigado por assistir", "inscreva-se no canal"),
    *("sottotitoli creati dalla comunità amara.org", "sottotitoli e revisione a cura di qtss", "grazie per la visione"),
    *("ondertiteld door de amara.org gemeenschap", "bedankt voor het kijken", "tack för att ni tittade"),
    *("napisy stworzone przez społeczność amara.org", "dziękuję za oglądanie"),
    *("продолжение следует", "спасибо за просмотр", "подписывайтесь на канал", "редактор субтитров"),
    *("izlediğiniz için teşekkürler", "abone olmayı unutmayın", "cảm ơn các bạn đã theo dõi"),
    *("请不吝点赞 订阅 转发 打赏支持明镜与点点栏目", "请不吝点赞 订阅", "字幕由amara.org社区提供", "中文字幕志愿者"),
    *("谢谢观看", "感谢观看", "感谢收看", "谢谢大家收看", "请订阅我的频道", "我们下期再见"),
    *("ご視聴ありがとうございました", "チャンネル登録お願いします", "チャンネル登録よろしくお願いします"),
    *("시청해주셔서 감사합니다", "구독과 좋아요 부탁드립니다", "اشتركوا في القناة", "देखने के लिए धन्यवाद", "ขอบคุณที่รับชม"),
)
"""Ends and credits of videos, which recognisers have learnt to write over silence and music."""
COURTESIES = (
    *("thank you", "thank you very much", "thanks", "bye", "bye bye", "you", "okay", "yeah", "so", "the", "oh"),
    *("vielen dank", "merci", "gracias", "obrigado", "grazie", "спасибо", "谢谢", "谢谢大家", "ありがとうございました"),
    *("감사합니다", "شكرا", "धन्यवाद", "ขอบคุณครับ"),
)
"""Phrases that people do say, and recognisers write over silence as well."""

_SYLLABOGRAM = re.compile("[\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7a3\U00020000-\U000323af]")
_LETTER = re.compile(r"[^\W_]")

MEASURES = {
    "loop": pa.string(),
    "loop_count": pa.int32(),
    "looped_words": pa.int32(),
    "looped_characters": pa.int32(),
    "repeated_share": pa.float64(),
    "compression_ratio": pa.float64(),
    "stock_phrase": pa.string(),
    "letters_per_s": pa.float64(),
}


@dataclass(frozen=True)
class Hallucinations(Stage):
    """Reject utterances whose transcript shows a recogniser's known inventions, each kind under a reason of its own.

    The opinion in `column` is checked, the one that is trained on; an invention in the other shows as disagreement.
    The stage belongs before `CrossCheck`, which would reject most of these without saying why.

    - `looped_transcript`: an n-gram stands at least `min_loop_count` times back to back and so adds more than
      `max_looped_words` to the first (characters in unspaced scripts). "No no no" passes, a sentence thrice does not.
    - `stock_phrase`: the text is nothing but `stock_phrases`; or, where there is reason to doubt it (the other opinion
      is empty, or the `no_speech` of either is above its limit), it has one in it or is nothing but `courtesies`.
    - `no_speech`: the engine's probability of no speech is above `max_no_speech`, and its confidence below
      `min_confidence` (Whisper's own rule; Radford et al. 2022, section 4.5). Engines without these figures pass.
    - `impossible_pace`: more letters per second of speech than can be spoken. A character of Han, kana or Hangul, which
      stands for a syllable or so, counts as `letters_per_syllabogram`.
    - `compressible_transcript`: zlib shrinks the text too well; below `min_compression_letters` it cannot say.
    """

    column: Literal["transcript", "second_opinion"] = "transcript"
    max_looped_words: int = 7
    max_looped_characters: int = 12
    min_loop_count: int = 3
    max_loop_units: int = 40
    max_compression: float = 2.4
    min_compression_letters: int = 60
    stock_phrases: tuple[str, ...] = STOCK_PHRASES
    courtesies: tuple[str, ...] = COURTESIES
    max_no_speech: float = 0.6
    min_confidence: float = -1.0
    max_letters_per_s: float = 35.0
    letters_per_syllabogram: float = 2.5

    reads = ("transcript", "second_opinion", "language", "speech_s")
    writes = tuple(MEASURES)
    packages = ("opencc",)
    extra = "speech"

    def __call__(self, utterances: pa.Table) -> pa.Table:
        utterances = measure_each(utterances, MEASURES, self.measure)
        utterances = reject_above(utterances, "looped_words", self.max_looped_words, "looped_transcript")
        utterances = reject_above(utterances, "looped_characters", self.max_looped_characters, "looped_transcript")
        utterances = reject(utterances, pc.is_valid(utterances["stock_phrase"]), "stock_phrase")
        utterances = self.reject_silence(utterances)
        utterances = reject_above(utterances, "letters_per_s", self.max_letters_per_s, "impossible_pace")
        return reject_above(utterances, "compression_ratio", self.max_compression, "compressible_transcript")

    def measure(self, row: dict[str, Any]) -> dict[str, Any]:
        """The measures of one utterance; a transcript that is null is one without words."""
        opinions = {name: row[name] or {} for name in ("transcript", "second_opinion")}
        text, language = opinions[self.column].get("text") or "", row["language"]
        other_empty = not all(opinion.get("text") for opinion in opinions.values())
        doubtful = other_empty or any((o.get("no_speech") or 0.0) > self.max_no_speech for o in opinions.values())
        loop = looped_ngram(text, language, self.max_loop_units, self.min_loop_count)
        return {
            "loop": loop and loop.ngram,
            "loop_count": loop and loop.count,
            "looped_words": loop.repeated if loop and loop.unit == "word" else None,
            "looped_characters": loop.repeated if loop and loop.unit == "character" else None,
            "repeated_share": repeated_share(text, language),
            "compression_ratio": compression_ratio(text) if len(text) >= self.min_compression_letters else None,
            "stock_phrase": self.stock_phrase(text, language, doubtful),
            "letters_per_s": self.letters_per_s(text, language, row["speech_s"]),
        }

    def stock_phrase(self, text: str, language: str | None, doubtful: bool) -> str | None:
        """The phrase that gives the text away, normalised, or None."""
        text = normalise(text, language)
        phrases = self.stock_phrases + (self.courtesies if doubtful else ())
        if _only(phrases, language).fullmatch(text):
            return text
        return _first_within(text, _normalised(self.stock_phrases, language)) if doubtful else None

    def letters_per_s(self, text: str, language: str | None, speech_s: float | None) -> float | None:
        """Letters and digits per second of speech; None where the seconds are not known."""
        text = normalise(text, language)
        letters, syllabograms = len(_LETTER.findall(text)), len(_SYLLABOGRAM.findall(text))
        weighted = letters + (self.letters_per_syllabogram - 1) * syllabograms
        if speech_s is None or not weighted:
            return None
        return weighted / speech_s if speech_s > 0 else math.inf

    def reject_silence(self, utterances: pa.Table) -> pa.Table:
        """Whisper's rule: speech is improbable, and the engine unsure of what it wrote."""
        transcripts = utterances[self.column].combine_chunks()
        no_speech, confidence = (pc.struct_field(transcripts, name) for name in ("no_speech", "confidence"))
        silent = pc.and_(pc.greater(no_speech, self.max_no_speech), pc.less(confidence, self.min_confidence))
        return reject(utterances, silent, "no_speech", value=no_speech, limit=self.max_no_speech)


def reject_above(utterances: pa.Table, column: str, limit: float, reason: str) -> pa.Table:
    """Reject where a column is above its limit; null is not."""
    return reject(utterances, pc.greater(utterances[column], limit), reason, value=utterances[column], limit=limit)


@lru_cache(maxsize=256)
def _normalised(phrases: tuple[str, ...], language: str | None) -> tuple[str, ...]:
    return tuple(normalise(phrase, language) for phrase in phrases)


@lru_cache(maxsize=256)
def _only(phrases: tuple[str, ...], language: str | None) -> re.Pattern[str]:
    """Matches one or more of the phrases and nothing else but years after them ("copyright wdr 2021")."""
    longest_first = sorted(_normalised(phrases, language), key=len, reverse=True)
    # Possessive, so that "bye bye bye …" is not tried in all its divisions.
    return re.compile(rf"(?>(?:{'|'.join(map(_phrase, longest_first)) or '(?!)'})(?: ?\d{{4}})? ?)++")


def _phrase(phrase: str) -> str:
    """A pattern for whole words; in unspaced scripts for the characters, with spaces between them or without."""
    if UNSPACED.search(phrase):
        return " ?".join(map(re.escape, phrase.replace(" ", "")))
    return re.escape(phrase) + r"(?!\S)"


def _first_within(text: str, phrases: tuple[str, ...]) -> str | None:
    for phrase in phrases:
        border = "" if UNSPACED.search(phrase) else r"(?<!\S)"
        if re.search(border + _phrase(phrase), text):
            return phrase
    return None
