"""Subtitles beside a recording: SubRip, WebVTT, JSON with segments, plain text.

They are claims of strangers about what is said: read strictly (UTF-8, times that are possible), and stripped of markup.
"""

import html
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from curation.errors import MediaError

SIDECAR_EXTENSIONS = ("srt", "vtt", "json", "txt")
"""In order of preference: formats that are sure to have times come first."""

MAX_BYTES = 16 << 20
MAX_TIME_S = 3.6e6
WORD_GAP_S = 0.3

STAMP = r"(?:([0-9]{1,9}):)?([0-9]{1,2}):([0-9]{1,2})(?:[.,]([0-9]{1,3}))?"
TIMING = re.compile(rf"\s*{STAMP}\s*-->\s*{STAMP}(?:\s.*)?")
COMMENT = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|$)")
LANGUAGE = re.compile(r"[a-z]{2,3}(?:[-_][a-z0-9]{2,8})*", re.IGNORECASE)

# Every pattern stops at the character that could start it again, so that no text takes quadratic time.
RUBY_READING = re.compile(r"<rt>[^<>]*(?:</rt>)?", re.IGNORECASE)
LINE_BREAK_TAG = re.compile(r"<br\s*/?>", re.IGNORECASE)
TAG = re.compile(r"</?[a-z][^<>]*>|<[0-9:.]+>", re.IGNORECASE)
STYLE_OVERRIDE = re.compile(r"\{\\[^{}]*\}|\{/?[biu]\}", re.IGNORECASE)
ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{0,31});", re.IGNORECASE)
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff]")
UNSPACED = r"[\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uff9f\U00020000-\U0003ffff]"
UNSPACED_BREAK = re.compile(rf"(?<={UNSPACED})\n(?={UNSPACED})")

Sidecars = Mapping[str, Mapping[str, Mapping[str, str]]]
"""Subtitles of a folder: stem of the recording, extension, language ("" where the name has none), name of the file."""


@dataclass(frozen=True)
class Cue:
    """One subtitle: its text without markup, on one line, and when it is shown, in seconds (None where untimed)."""

    start_s: float | None
    end_s: float | None
    text: str


def read_subtitles(path: Path | str, *, max_bytes: int = MAX_BYTES, max_time_s: float = MAX_TIME_S) -> list[Cue]:
    """The cues of a .srt, .vtt, .json or .txt file, in order of their starts; cues without text are left out.

    A cue that ends before it starts, or overlaps others, is kept as it stands: what to make of it is not for a reader
    to decide. JSON may be `{"segments": [{"start", "end", "text"}]}` or that list alone (Whisper), `{"words":
    [{"start", "end", "word"}]}` (a cue up to each gap), or `{"text"}` (one cue without times). Plain text is one cue
    without times.

    Args:
        max_bytes: the largest file that is read.
        max_time_s: the latest time that is valid.

    Raises:
        MediaError: the file cannot be read, is too large, is not UTF-8 (with the byte) or malformed (with the line).
    """
    path = Path(path)
    parse = PARSERS.get(path.suffix.lower().removeprefix("."))
    if parse is None:
        raise MediaError(f"{path}: subtitles end in {', '.join('.' + known for known in SIDECAR_EXTENSIONS)}")
    text = _utf8(path, max_bytes)
    try:
        cues = list(parse(text))
        for cue in cues:
            _check(cue, max_time_s)
    except ValueError as error:
        raise MediaError(f"{path}: {error}") from None
    return sorted((cue for cue in cues if cue.text), key=lambda cue: (cue.start_s is not None, cue.start_s or 0.0))


def sidecars_by_stem(names: Iterable[str]) -> Sidecars:
    """The subtitles among the names of a folder, by the stems of the recordings that they may belong to.

    `talk.en.srt` may belong to `talk.wav`, and to `talk.en.wav`.
    """
    index: dict[str, dict[str, dict[str, str]]] = {}
    for name in sorted(names):
        base, _, extension = name.rpartition(".")
        if extension.lower() not in SIDECAR_EXTENSIONS:
            continue
        stem, dot, tag = base.rpartition(".")
        index.setdefault(base, {}).setdefault(extension.lower(), {})[""] = name
        if dot and LANGUAGE.fullmatch(tag):
            index.setdefault(stem, {}).setdefault(extension.lower(), {})[tag.lower()] = name
    return index


def find_sidecar(media: Path | str, sidecars: Sidecars, language: str | None = None) -> str | None:
    """The name of the subtitles that belong to a media file, among those of its folder, or None.

    `talk.wav` is met by `talk.srt`, else `talk.en.srt`, and so on through the extensions. Of several languages it takes
    `language`; without one it takes none, since a translation is no transcript.
    """
    mine = sidecars.get(PurePosixPath(media).stem, {})
    for extension in SIDECAR_EXTENSIONS:
        found = mine.get(extension, {})
        if "" in found:
            return found[""]
        fitting = [name for tag, name in found.items() if language in (None, re.split("[-_]", tag)[0])]
        if len(fitting) == 1:
            return fitting[0]
    return None


def _utf8(path: Path, max_bytes: int) -> str:
    if path.exists() and not path.is_file():
        raise MediaError(f"{path}: is not a file")
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise MediaError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > max_bytes:
        raise MediaError(f"{path}: is larger than {max_bytes} bytes, the most that is read as subtitles")
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise MediaError(f"{path}: byte {error.start} is not UTF-8; convert the file, for example with iconv") from None


def _subrip(text: str) -> Iterator[Cue]:
    """SubRip: a cue's text runs to the next line of times, less that one's counter; blank lines may stand in it."""
    cues = list(_timed_cues(_numbered_lines(text), counters=True))
    if not cues and text.strip():
        raise ValueError("no line has times (00:00:01,000 --> 00:00:02,000)")
    yield from cues


def _web_vtt(text: str) -> Iterator[Cue]:
    """WebVTT (W3C): a cue's text runs to a blank line; NOTE, STYLE and REGION blocks and identifiers are skipped."""
    for has_text, block in groupby(_numbered_lines(text), key=lambda numbered: bool(numbered[1].strip())):
        lines = list(block)
        if has_text and not COMMENT.match(lines[0][1]):
            yield from _timed_cues(lines, counters=False)


def _timed_cues(lines: list[tuple[int, str]], counters: bool) -> Iterator[Cue]:
    """One cue per line of times; `counters` says that the line before it may be its number."""
    timed = [i for i, (_, line) in enumerate(lines) if "-->" in line]
    for i, following in pairwise([*timed, len(lines)]):
        text = [line for _, line in lines[i + 1 : following]]
        if counters and following < len(lines) and text and text[-1].strip().isdecimal():
            text.pop()
        start_s, end_s = _times(*lines[i])
        yield Cue(start_s, end_s, _without_markup("\n".join(text)))


def _times(number: int, line: str) -> tuple[float, float]:
    times = TIMING.fullmatch(line)
    if times is None:
        raise ValueError(f"line {number}: these times cannot be read: {line.strip()[:80]!r}")
    values = times.groups()
    try:
        return _seconds(*values[:4]), _seconds(*values[4:])
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from None


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str | None) -> float:
    if int(minutes) > 59 or int(seconds) > 59:
        raise ValueError(f"{minutes}:{seconds} has more than 59 minutes or seconds")
    whole_s = int(hours or "0") * 3600 + int(minutes) * 60 + int(seconds)
    return (whole_s * 1000 + int((fraction or "0").ljust(3, "0"))) / 1000


def _json(text: str) -> Iterator[Cue]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: is not JSON: {error.msg}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if isinstance(value, dict) and value.get("segments"):
        value = value["segments"]
    if isinstance(value, list):
        for number, segment in enumerate(value):
            yield _segment(segment, "text", f"segment {number}")
    elif isinstance(value, dict) and value.get("words"):
        words = enumerate(_list(value["words"]))
        yield from _joined(_segment(word, "word", f"word {number}") for number, word in words)
    elif isinstance(value, dict) and isinstance(value.get("text"), str):
        yield Cue(None, None, _one_line(value["text"]))
    else:
        raise ValueError("has neither `segments`, nor `words`, nor `text`")


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("`words` is not a list")
    return value


def _segment(value: Any, text_key: str, where: str) -> Cue:
    text = value.get(text_key, value.get("text")) if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise ValueError(f"{where} has no `{text_key}`")
    times: list[float | None] = []
    for key in ("start", "end"):
        time = value.get(key)
        if time is not None and (isinstance(time, bool) or not isinstance(time, int | float)):
            raise ValueError(f"{where}: `{key}` is no number of seconds: {str(time)[:40]!r}")
        times.append(_float(time))
    return Cue(times[0], times[1], _one_line(text))


def _float(value: float | None) -> float | None:
    try:
        return None if value is None else float(value)
    except OverflowError:
        return math.inf


def _joined(words: Iterable[Cue]) -> Iterator[Cue]:
    """Words with times as cues that end where nobody speaks for `WORD_GAP_S`."""
    said: list[Cue] = []
    for word in words:
        if said and (word.start_s or 0.0) - (said[-1].end_s or 0.0) >= WORD_GAP_S:
            yield Cue(said[0].start_s, said[-1].end_s, " ".join(one.text for one in said))
            said = []
        said.append(word)
    if said:
        yield Cue(said[0].start_s, said[-1].end_s, " ".join(one.text for one in said))


def _plain(text: str) -> Iterator[Cue]:
    yield Cue(None, None, _one_line(text))


def _check(cue: Cue, max_time_s: float) -> None:
    cue.text.encode("utf-8")  # JSON can hold half a surrogate pair, which is no text
    for time in (cue.start_s, cue.end_s):
        if time is not None and not 0 <= time <= max_time_s:
            raise ValueError(f"the time {time} s of {cue.text[:40]!r} is not between 0 and {max_time_s:.0f} s")


def _numbered_lines(text: str) -> list[tuple[int, str]]:
    # Not str.splitlines: it also splits at characters that editors do not count as line ends.
    return list(enumerate(re.split(r"\r\n|\r|\n", text), 1))


def _without_markup(text: str) -> str:
    text = LINE_BREAK_TAG.sub("\n", RUBY_READING.sub("", text))
    text = STYLE_OVERRIDE.sub("", TAG.sub("", text)).replace("\\N", "\n").replace("\\h", " ")
    return _one_line(ENTITY.sub(lambda entity: html.unescape(entity[0]), text))


def _one_line(text: str) -> str:
    """Lines joined by a space, or by nothing between characters of Chinese and Japanese."""
    lines = "\n".join(line.strip() for line in CONTROL.sub("", text).splitlines())
    return " ".join(UNSPACED_BREAK.sub("", lines).split())


PARSERS = {"srt": _subrip, "vtt": _web_vtt, "json": _json, "txt": _plain}
