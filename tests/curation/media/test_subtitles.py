"""Subtitles: what is read, what is refused, and which file belongs to which recording."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from curation.errors import MediaError
from curation.media.subtitles import Cue, find_sidecar, read_subtitles, sidecars_by_stem


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


SUBRIP = """\ufeff1\r
00:00:01,000 --> 00:00:02,500\r
<i>Hello,</i>\r
{\\an8}world &amp; all\r
\r
2\r
00:01:00,250 --> 00:01:02,000  X1:100 X2:200 Y1:1 Y2:2\r
<font color="#ff0000">Second</font>\\Nline\r
"""


def test_subrip_is_read_with_times_and_without_markup(tmp_path: Path) -> None:
    assert read_subtitles(written(tmp_path, "a.SRT", SUBRIP)) == [
        Cue(1.0, 2.5, "Hello, world & all"),
        Cue(60.25, 62.0, "Second line"),
    ]


def test_subrip_survives_missing_and_extra_blank_lines(tmp_path: Path) -> None:
    text = "1\n00:00:01,000 --> 00:00:02,000\none\n\nmore of one\n2\n00:00:03,000 --> 00:00:04,000\ntwo\n\n\n\n"
    assert [cue.text for cue in read_subtitles(written(tmp_path, "a.srt", text))] == ["one more of one", "two"]


def test_a_number_that_is_spoken_is_not_taken_for_a_counter(tmp_path: Path) -> None:
    text = "00:00:01,000 --> 00:00:02,000\n1984\n\n00:00:03,000 --> 00:00:04,000\n42"
    assert [cue.text for cue in read_subtitles(written(tmp_path, "a.srt", text))] == ["1984", "42"]


WEB_VTT = """WEBVTT - a title
Kind: captions

STYLE
::cue(.yellow) { color: yellow }

NOTE a remark --> not a time
that goes on

intro
00:01.000 --> 00:03.000 align:start position:0%
<v Roger Bingham>We are <c.yellow>in</c> <00:00:02.000>New York

101:00:00.000 --> 101:00:01.500
<v.loud Ann>much&nbsp;later</v>
REGION
is spoken here
"""


def test_web_vtt_skips_notes_styles_settings_and_voices(tmp_path: Path) -> None:
    assert read_subtitles(written(tmp_path, "a.vtt", WEB_VTT)) == [
        Cue(1.0, 3.0, "We are in New York"),
        Cue(363600.0, 363601.5, "much later REGION is spoken here"),
    ]


def test_signs_that_are_no_markup_stay(tmp_path: Path) -> None:
    text = "00:01.000 --> 00:02.000\n3 < 4 and 5 > 4, I <3 Q&A, AT&T {sic} &lt;b&gt;"
    assert read_subtitles(written(tmp_path, "a.vtt", text))[0].text == "3 < 4 and 5 > 4, I <3 Q&A, AT&T {sic} <b>"


def test_lines_of_chinese_and_japanese_are_joined_without_a_space(tmp_path: Path) -> None:
    text = "00:01.000 --> 00:02.000\n今日は\n<ruby>天気<rt>てんき</rt></ruby>が\n\n00:03 --> 00:04\n안녕\n하세요 好\nok"
    cues = read_subtitles(written(tmp_path, "a.vtt", text))
    assert [cue.text for cue in cues] == ["今日は天気が", "안녕 하세요 好 ok"]


def test_cues_come_sorted_and_odd_spans_are_kept_for_others_to_judge(tmp_path: Path) -> None:
    text = "00:05.000 --> 00:04.000\nlate\n\n00:01.000 --> 00:09.000\nearly\n\n00:02.000 --> 00:03.000\n<i></i>\n"
    assert read_subtitles(written(tmp_path, "a.vtt", text)) == [Cue(1.0, 9.0, "early"), Cue(5.0, 4.0, "late")]


@pytest.mark.parametrize(
    ("value", "cues"),
    [
        ({"text": "a b", "segments": [{"start": 1, "end": 2.5, "text": " a\nb "}]}, [Cue(1.0, 2.5, "a b")]),
        (
            [{"start": 3.0, "end": 4.0, "text": "b"}, {"start": 1.0, "end": 2.0, "text": "a"}],
            [Cue(1, 2, "a"), Cue(3, 4, "b")],
        ),
        ([{"text": "no times"}], [Cue(None, None, "no times")]),
        ({"text": " all of it ", "segments": []}, [Cue(None, None, "all of it")]),
        ({"words": [{"word": "a", "start": 0.5, "end": 1}, {"word": "b", "start": 1, "end": 2}]}, [Cue(0.5, 2, "a b")]),
    ],
)
def test_json_is_read_in_its_usual_forms(tmp_path: Path, value: object, cues: list[Cue]) -> None:
    assert read_subtitles(written(tmp_path, "a.json", json.dumps(value))) == cues


def test_plain_text_is_one_cue_without_times(tmp_path: Path) -> None:
    assert read_subtitles(written(tmp_path, "a.txt", "one\n two\n\nthree <i>\x00")) == [
        Cue(None, None, "one two three <i>")
    ]


@pytest.mark.parametrize("name", ["a.srt", "a.vtt", "a.txt"])
def test_an_empty_file_has_no_cues(tmp_path: Path, name: str) -> None:
    assert read_subtitles(written(tmp_path, name, "\n \n")) == []


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("a.srt", b"1\n00:00:01,000 --> 00:00:02,000\ncaf\xe9\n", "byte 35 is not UTF-8"),
        ("a.txt", "utf-16".encode("utf-16"), "byte 0 is not UTF-8"),
        ("a.srt", "1\n00:00:01,000 --> soon\nx\n", "line 2: these times cannot be read"),
        ("a.srt", "1\n-00:00:01,000 --> 00:00:02,000\nx\n", "line 2: these times cannot be read"),
        ("a.srt", "1\n00:61:00,000 --> 00:62:00,000\nx\n", "line 2: 61:00 has more than 59"),
        ("a.vtt", "WEBVTT\n\n9999:00:00.000 --> 9999:00:01.000\nx\n", "is not between 0 and 3600000 s"),
        ("a.srt", "only words\nno times\n", "no line has times"),
        ("a.json", "{", "line 1: is not JSON"),
        ("a.json", "[" * 100_000, "is nested too deeply"),
        ("a.json", "17", "has neither `segments`"),
        ("a.json", '{"words": 3}', "`words` is not a list"),
        ("a.json", '[{"start": 0, "end": 1}]', "segment 0 has no `text`"),
        ("a.json", '[{"start": "0", "end": 1, "text": "x"}]', "segment 0: `start` is no number"),
        ("a.json", '[{"start": -1, "end": 1, "text": "x"}]', "the time -1.0 s of 'x' is not between"),
        ("a.json", '[{"start": NaN, "end": 1, "text": "x"}]', "the time nan s of 'x' is not between"),
        ("a.json", '[{"start": 0, "end": 1' + "0" * 400 + ', "text": "x"}]', "the time inf s of 'x' is not between"),
        ("a.json", '[{"text": "\\ud800"}]', "surrogates not allowed"),
        ("a.doc", "x", "subtitles end in .srt, .vtt, .json, .txt"),
    ],
)
def test_what_is_invalid_is_refused_with_its_place(tmp_path: Path, name: str, content: str | bytes, named: str) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(MediaError) as error:
        read_subtitles(path)
    assert str(error.value).startswith(f"{path}: ") and named in str(error.value)


def test_a_file_that_is_missing_too_large_or_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder.srt").mkdir()
    with pytest.raises(MediaError, match=r"gone\.srt: cannot be read"):
        read_subtitles(tmp_path / "gone.srt")
    with pytest.raises(MediaError, match="is larger than 10 bytes"):
        read_subtitles(written(tmp_path, "big.txt", "x" * 11), max_bytes=10)
    with pytest.raises(MediaError, match="is not a file"):
        read_subtitles(tmp_path / "folder.srt")


@pytest.mark.parametrize("bait", ["<rt>", "{\\", "<a", "<1", "&a", "<br ", "\n", "00:", "今\n"])
def test_no_text_takes_quadratic_time(tmp_path: Path, bait: str) -> None:
    text = "WEBVTT\n\n00:01.000 --> 00:02.000\n" + bait * 200_000
    path = written(tmp_path, "a.vtt", text)
    before = time.process_time()
    read_subtitles(path)
    assert time.process_time() - before < 10


@given(st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 10**8), st.text("abc é中", min_size=1)), max_size=8))
def test_what_is_written_as_subrip_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, cues: list[tuple[int, int, str]]
) -> None:
    def stamp(ms: int) -> str:
        return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02},{ms % 1000:03}"

    text = "\n".join(f"{i}\n{stamp(a)} --> {stamp(b)}\n{t}\n" for i, (a, b, t) in enumerate(cues, 1))
    read = read_subtitles(written(tmp_path_factory.mktemp("srt"), "a.srt", text))
    expected = [Cue(a / 1000, b / 1000, " ".join(t.split())) for a, b, t in cues if t.strip()]
    assert read == sorted(expected, key=lambda cue: cue.start_s or 0.0)


def met(media: str, names: list[str], language: str | None = None) -> str | None:
    return find_sidecar(media, sidecars_by_stem(names), language)


def test_a_sidecar_has_the_stem_of_its_recording() -> None:
    assert met("talks/a.b.wav", ["a.srt", "a.b.txt", "a.b.json", "a.b.wav", "a.b.c.d.srt"]) == "a.b.json"
    assert met("talk.wav", ["talk.txt", "talk.VTT", "talk.en.srt"]) == "talk.en.srt"
    assert met("talk.wav", ["talk.en.srt", "talk.srt"]) == "talk.srt"
    assert met("talk.wav", ["talker.srt", "talk", "talk.notes-of-mine.srt", "atalk.srt", "talk.wav"]) is None


def test_of_subtitles_in_several_languages_none_is_guessed() -> None:
    names = ["talk.de.srt", "talk.en-GB.srt", "talk.txt"]
    assert met("talk.wav", names) == "talk.txt"
    assert met("talk.wav", names, "en") == "talk.en-GB.srt"
    assert met("talk.wav", names[:2]) is None
