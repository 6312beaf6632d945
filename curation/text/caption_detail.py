"""How much a caption says: by this one of several images that look the same is kept with the caption that says more."""

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from curation.text.caption_checks import CaptionCheck
from curation.text.normalisation import UNSPACED


@dataclass(frozen=True)
class CaptionDetail(CaptionCheck):
    """Measure `caption_detail`: how many different words a caption has, as far as `enough`.

    Two letters of a script without spaces between words (Han, kana, Thai, Lao, Burmese, Khmer) count as a word. What
    comes again says nothing new, and beyond `enough` words a longer caption is no better than a shorter one. Words of
    digits alone do not count.
    """

    measures: ClassVar[dict[str, pa.DataType]] = {"detail": pa.int32()}

    enough: int = 50

    def __call__(self, rows: pa.Table) -> pa.Table:
        return self.measured(rows)

    def measure(self, text: str) -> dict[str, Any]:
        letters = set(UNSPACED.findall(text))
        words = set(_WORD.findall(UNSPACED.sub(" ", text).casefold()))
        return {"detail": min(self.enough, len(words) + len(letters) // 2)}


_WORD = re.compile(r"(?=[^\W_]*[^\W\d_])[^\W_]+(?:['\u2019-][^\W_]+)*")
