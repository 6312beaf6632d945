"""Text embedding: texts in, unit vectors out; like texts lie close, whatever images they go with."""

import re
import unicodedata
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import pydantic
import xxhash
from numpy.typing import NDArray

from curation.engines.engine import Engine, loaded
from curation.errors import EngineMissing
from curation.hashing import digest, file_digest
from curation.meter import counted
from curation.paths import ModelFolder
from curation.text.scripts import text_units

if TYPE_CHECKING:
    from model2vec import StaticModel

Vectors = NDArray[np.float32]
"""[n, dimensions], each row of length 1."""


@dataclass(frozen=True)
class TextEmbedder(Engine):
    """What every engine of this capability does. A row's vector does not depend on the rows beside it."""

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> Vectors:
        """One vector per text, of length 1; of zeros where the engine knows nothing of the text.

        Raises:
            EngineMissing: the engine cannot be loaded.
        """


@dataclass(frozen=True)
class HashedNgrams(TextEmbedder):
    """Words, pairs of words and letters in a row, counted by hash with random signs (Weinberger et al. 2009).

    Cosines of such vectors are those of the counts, with an error of some 1/sqrt(dimensions). Words are those of
    `text.scripts.text_units`: letters where a script has no spaces. A long word has more n-grams than a short one, so
    it weighs more, which keeps "the" and "of" down without statistics of a corpus; the n-grams bring inflections and
    misspellings together (as fastText, Bojanowski et al. 2017).

    Sums are of whole numbers, and one correctly rounded division ends them: the same bits on every machine.
    """

    packages: ClassVar[tuple[str, ...]] = ("numpy", "xxhash")
    code_licence: ClassVar[str] = "Apache-2.0"
    limits: ClassVar[str] = (
        "compares letters, not meaning: synonyms, and a text with its translation, are as strangers; finds texts of "
        "one wording or one vocabulary"
    )

    engine: Literal["hashed-ngrams"] = "hashed-ngrams"
    dimensions: pydantic.PositiveInt = 256
    min_letters: pydantic.PositiveInt = 3
    max_letters: pydantic.PositiveInt = 4
    """Lengths of the n-grams within a word, with a mark at each end of the word counted as a letter."""
    seed: pydantic.NonNegativeInt = 0
    max_characters: pydantic.PositiveInt = 2000
    """A text is judged by its start."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            sums = self._sums(self._words(text))
            if not sums.any():  # every sign met its opposite
                sums = self._sums([""])
            row[:] = sums / np.sqrt(np.float64(np.dot(sums, sums)))
        return vectors

    def _words(self, text: str) -> list[str]:
        """What stands for words in a text; its signs where it has none, and one empty word where it has nothing."""
        text = unicodedata.normalize("NFKC", text[: self.max_characters])
        return text_units(text) or ["".join(text.split())]

    def _sums(self, words: list[str]) -> NDArray[np.int64]:
        slots = [_slots(word, self.min_letters, self.max_letters, self.dimensions, self.seed) for word in words]
        pairs = [_slot(f"{first} {second}", self.dimensions, self.seed) for first, second in pairwise(words)]
        counts = np.bincount(np.concatenate([*slots, np.array(pairs, np.int64)]), minlength=2 * self.dimensions)
        return counts[: self.dimensions] - counts[self.dimensions :]


def _slot(feature: str, dimensions: int, seed: int) -> int:
    """Which dimension a feature falls in, below `dimensions` with the sign +, above with −."""
    return xxhash.xxh3_64_intdigest(feature.encode("utf-8", "surrogatepass"), seed) % (2 * dimensions)


@lru_cache(maxsize=1 << 16)
def _slots(word: str, min_letters: int, max_letters: int, dimensions: int, seed: int) -> NDArray[np.int64]:
    """The slots of a word and of its n-grams; remembered, since most words of a corpus are a few."""
    marked = f"<{word}>"
    lengths = range(min_letters, min(max_letters, len(marked) - 1) + 1)
    ngrams = [marked[i : i + length] for length in lengths for i in range(len(marked) - length + 1)]
    return np.array([_slot(feature, dimensions, seed) for feature in (marked, *ngrams)], np.int64)


_LAYOUTS = (
    ("model.safetensors", "tokenizer.json", "config.json"),
    ("model.safetensors", "tokenizer.json", "config_sentence_transformers.json"),
    ("0_StaticEmbedding/model.safetensors", "0_StaticEmbedding/tokenizer.json", "config_sentence_transformers.json"),
)
"""The files of a static embedding, as model2vec and sentence-transformers save it."""


@dataclass(frozen=True)
class Model2Vec(TextEmbedder):
    """Static embeddings of tokens, averaged (model2vec): distilled of a sentence transformer, without its cost.

    Takes the folders that model2vec saves, and those of sentence-transformers whose model is a StaticEmbedding. Weights
    are safetensors and JSON; nothing of a folder is executed, and nothing is downloaded.
    """

    packages: ClassVar[tuple[str, ...]] = ("model2vec", "tokenizers", "safetensors", "numpy")
    extra: ClassVar[str] = "text-embedding"
    code_licence: ClassVar[str] = "MIT"
    limits: ClassVar[str] = "a mean of tokens: word order and negation do not show"

    engine: Literal["model2vec"] = "model2vec"
    model: ModelFolder = "minishlab/potion-multilingual-128M"
    """`owner/name` in the hub's local cache, or `local-dir:FOLDER`."""
    licence: str = "unknown"
    """SPDX identifier of the weights, as their publisher states it."""
    max_tokens: pydantic.PositiveInt = 512
    """What lies beyond is not read."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights_licence", self.licence)

    @property
    def label(self) -> str:
        """Engine and model."""
        return f"{self.engine}:{Path(self._named()).name}"

    def missing(self) -> str | None:
        """As for every engine; for weights the command that downloads them, which nothing here does."""
        if reason := super().missing():
            return reason
        folder = self._folder()
        if folder is None:
            return f"engine model2vec: the model {self.model} is not here; {self.how_to_get()}"
        if not any(all((folder / name).is_file() for name in names) for names in _LAYOUTS):
            return f"engine model2vec: {folder} has no {', '.join(_LAYOUTS[0])}; {self.how_to_get()}"
        return None

    def how_to_get(self) -> str:
        """The command that downloads the model, or where its name is a folder a usual one."""
        name = self._named()
        repository = name if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not self._is_folder() else Model2Vec.model
        return f"`hf download {repository} --local-dir DIR` brings it, then `model: local-dir:DIR`"

    def fingerprint(self) -> str:
        """Of the parameters and of the content of weights, tokenizer and config, wherever these lie."""
        folder = self._folder()
        content = file_digest(folder) if folder else self.model
        return digest([Engine.fingerprint(replace(self, model="")), content])

    def load(self) -> "StaticModel":
        """The model, in this process.

        Raises:
            EngineMissing: the folder holds another kind of model.
        """
        from model2vec import StaticModel

        folder = self._folder()
        if folder is None:
            raise EngineMissing(self.missing() or self.model)
        try:
            return StaticModel.from_pretrained(folder, normalize=False, max_length=self.max_tokens)
        except Exception as error:  # each reader of a part has errors of its own, some of them bare
            raise EngineMissing(
                f"engine model2vec: {folder} is no static embedding: {error}; {self.how_to_get()}"
            ) from error

    def embed(self, texts: Sequence[str]) -> Vectors:
        model: StaticModel = loaded(self)
        # One by one: the tokenizer shares several out to threads of its own.
        rows = list(counted(model.encode([text], use_multiprocessing=False) for text in texts))
        means = np.concatenate([np.zeros((0, model.dim)), *rows], dtype=np.float64)
        lengths = np.sqrt(np.square(means).sum(axis=1, keepdims=True))
        unit: Vectors = np.divide(means, lengths, out=np.zeros_like(means), where=lengths > 0).astype(np.float32)
        return unit

    def _is_folder(self) -> bool:
        return self.model.startswith("local-dir:")

    def _named(self) -> str:
        return self.model.removeprefix("local-dir:")

    def _folder(self) -> Path | None:
        """The model's folder, or its snapshot in the hub's cache; None where it is not here."""
        if self._is_folder():
            folder = Path(self._named())
            return folder if folder.is_dir() else None
        try:
            from huggingface_hub import snapshot_download
        except ImportError:
            return None
        try:
            return Path(snapshot_download(self._named(), local_files_only=True))
        except (OSError, ValueError):  # not in the cache; or no name that could be
            return None


AnyTextEmbedder = Annotated[HashedNgrams | Model2Vec, pydantic.Discriminator("engine")]
"""The type of a recipe's key that holds a text embedder."""
