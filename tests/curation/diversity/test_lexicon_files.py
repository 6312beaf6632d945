"""Lexicons of files, as the command builds them and the pipeline reads them."""

import gzip
import json
from pathlib import Path

import pytest

from curation.diversity.lexicon import read_lexicon
from curation.diversity.lexicon_files import titles_file, vocabulary_file, words_file
from curation.errors import SourceError
from tests.support.small_corpus import curate


def entries(path: Path) -> dict[str, str]:
    table = read_lexicon(path)
    return dict(zip(table["entry"].to_pylist(), table["language"].to_pylist(), strict=True))


def test_the_command_merges_lists_of_every_kind(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("red panda\n# a remark\nTeapot\n")
    with gzip.open(tmp_path / "titles.gz", "wt", encoding="utf-8") as file:
        file.write("page_title\n大熊猫\n茶壶_(器物)\n1984\n")
    (tmp_path / "pipeline/vocab").mkdir(parents=True)
    (tmp_path / "pipeline/vocab/strings.json").write_text(json.dumps(["harbour", "Xxxxx", "a_b", "teapot"]))
    sources = ("--words", f"en={tmp_path}/words.txt", "--titles", f"zh={tmp_path}/titles.gz")
    out = tmp_path / "lexicon.parquet"
    done = curate("lexicon", str(out), *sources, "--vocabulary", f"en={tmp_path}/pipeline")
    assert done.code == 0, done.err
    assert entries(out) == {"red panda": "en", "teapot": "en", "harbour": "en", "大熊猫": "zh", "茶壶": "zh"}


def test_the_starter_is_added_where_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("quokka\n")
    out = tmp_path / "lexicon.parquet"
    assert curate("lexicon", str(out), "--words", f"en={tmp_path}/words.txt", "--starter").code == 0
    assert {"quokka", "dog"} <= entries(out).keys()


def test_lists_of_one_name_keep_apart(tmp_path: Path) -> None:
    for folder, word in (("a", "lamp"), ("b", "kettle")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "words.txt").write_text(word)
    sources = {words_file(tmp_path / folder / "words.txt", "en")["source"][0].as_py() for folder in "ab"}
    assert len(sources) == 2


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x1f\x8b broken"])
def test_a_list_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "titles.gz"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"titles\.gz"):
        titles_file(path, "en")
    with pytest.raises(SourceError, match=r"titles\.gz"):
        vocabulary_file(path, "en")
    assert curate("lexicon", str(tmp_path / "out.parquet"), "--titles", f"en={path}").code == 2
    assert curate("lexicon", str(tmp_path / "out.parquet")).code == 2
    assert curate("lexicon", str(tmp_path / "out.parquet"), "--words", "words.txt").code == 2
