"""Language identification: a text in, the languages that it may be written in out."""

import unicodedata
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from curation.engines.engine import Engine, loaded


@dataclass(frozen=True)
class Identified:
    """What language a text is in, as far as can be told from it."""

    probabilities: dict[str, float]
    """By ISO 639-1 code, the most probable first; empty for a text that is no language (digits, markup, nothing)."""

    @property
    def language(self) -> str | None:
        """The most probable language."""
        return next(iter(self.probabilities), None)

    @property
    def confidence(self) -> float:
        """Its probability, 0 to 1; 0 where there is no language."""
        return next(iter(self.probabilities.values()), 0.0)


@dataclass(frozen=True)
class LanguageIdentifier(Engine):
    """Says which language each text is in."""

    @abstractmethod
    def identify(self, texts: Sequence[str]) -> list[Identified]:
        """One entry per text, in their order; each depends on its own text alone."""

    @abstractmethod
    def knows(self, language: str) -> bool:
        """Whether it can find this language of ISO 639-1; a text in any other is taken for one that it knows."""


_VARIETIES = {
    **dict.fromkeys(("wuu", "yue"), "zh"),
    **dict.fromkeys(("ary", "arz"), "ar"),
    **{"uzs": "uz", "sdh": "ku", "grc": "el", "hbo": "he", "fuv": "ff", "kik": "ki"},
}
"""Varieties that the model tells apart, and the language of ISO 639-1 that their captions are taken for."""

_NO_LANGUAGE = "zxx"
_NEGLIGIBLE = 20
"""A variety this many times below `min_probability` would not bring its language over it."""


@dataclass(frozen=True)
class LangId(LanguageIdentifier):
    """py3langid 0.4: naive Bayes over byte n-grams (Lui and Baldwin 2012), its model of 139 languages in the wheel.

    Chosen over lingua (a wheel of 96 MB, 1.3 GB of memory, far slower) and over fastText's lid.176.ftz (several times
    faster, yet wrong, and sure of it, on short Chinese and Japanese; its weights are CC-BY-SA): BSD, numpy alone,
    4.6 MB, and unsure rather than wrong where a text is short.

    Probabilities of varieties are added to their language's; those without a code of ISO 639-1 are left out, and the
    rest made to sum to 1. They are rounded to four digits, below which the order of the sums in BLAS may show.
    """

    packages: ClassVar[tuple[str, ...]] = ("py3langid", "numpy")
    extra: ClassVar[str] = "vision"
    code_licence: ClassVar[str] = "BSD-3-Clause"
    weights_licence: ClassVar[str] = "BSD-3-Clause"
    limits: ClassVar[str] = "unsure of texts of a few words, of names, and between close relatives (no/da, hr/sr)"

    engine: Literal["py3langid"] = "py3langid"
    candidates: tuple[str, ...] = ()
    """Languages that a text may be in, by ISO 639-1; empty for all that the model knows."""
    max_characters: int = 2000
    """A text is judged by its start."""
    min_probability: float = 0.01
    """Languages less probable are not listed."""

    @property
    def languages(self) -> tuple[str, ...] | None:
        return self.candidates or None

    def load(self) -> Any:
        from py3langid.langid import (  # type: ignore[import-untyped]
            MODEL_FILE,
            LanguageIdentifier as Model,
        )

        model = Model.from_model_file(MODEL_FILE, norm_probs=True)
        known = {label: _VARIETIES.get(label, label) for label in model.labels}
        wanted = set(self.candidates)
        if unknown := wanted - set(known.values()):
            raise ValueError(f"py3langid knows no language {', '.join(sorted(unknown))}")
        languages = {
            label: language
            for label, language in known.items()
            if label == _NO_LANGUAGE or (language in wanted if wanted else len(language) == 2)
        }
        model.set_languages(list(languages))
        return model, languages

    def knows(self, language: str) -> bool:
        return language in loaded(self)[1].values()

    def identify(self, texts: Sequence[str]) -> list[Identified]:
        model, languages = loaded(self)
        return [self._identified(model, languages, text) for text in texts]

    def _identified(self, model: Any, languages: dict[str, str], text: str) -> Identified:
        text = unicodedata.normalize("NFKC", text[: self.max_characters])
        if not any(map(str.isalpha, text)):
            return Identified({})
        # As `model.rank`, without a sorted list of 139 languages for each text, of which a few count.
        scores = model._decide(text).astype(np.float64)
        likely = np.flatnonzero(scores >= self.min_probability / _NEGLIGIBLE)
        found: dict[str, float] = {}
        nothing = 0.0
        for i in likely[np.argsort(-scores[likely], kind="stable")].tolist():
            label, probability = model.nb_classes[i], float(scores[i])
            if label == _NO_LANGUAGE:
                nothing = probability
            else:
                found[languages[label]] = found.get(languages[label], 0.0) + probability
        if not found or nothing > max(found.values()):
            return Identified({})
        listed: dict[str, float] = {}
        for language, probability in found.items():
            share = probability / (1 - nothing)
            # Rounding is slow, and moves nothing by more than this.
            if share > self.min_probability - 1e-4 and (rounded := round(share, 4)) >= self.min_probability:
                listed[language] = rounded
        return Identified({name: listed[name] for name in sorted(listed, key=lambda name: (-listed[name], name))})


AnyLanguageIdentifier = LangId
"""The type of a recipe's key that holds a language identifier."""
