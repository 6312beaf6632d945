"""The lexicon that ships with the package: everyday English and Chinese nouns, to begin with and to test by.

Written for this project, a few hundred entries a language. It covers what is seen in ordinary photographs and no more:
a corpus that is to be balanced in earnest requires a lexicon of 200,000 entries and more
(`curation.diversity.lexicon`).
"""

from pathlib import Path

import pyarrow as pa

from curation.diversity.lexicon import from_words, merge

LISTS = {language: Path(__file__).parent / "lexicons" / f"{language}.txt" for language in ("en", "zh")}


def starter_lexicon() -> pa.Table:
    """Its table (`schemas.concepts.LEXICON`)."""
    return merge(
        from_words(path.read_text(encoding="utf-8").splitlines(), language, source="starter", licence="Apache-2.0")
        for language, path in LISTS.items()
    )
