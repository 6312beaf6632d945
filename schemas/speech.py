"""Rows of the speech pipeline: recordings, utterances, samples; and what engines say about them."""

import pyarrow as pa

from schemas.fields import field
from schemas.rows import ROW
from schemas.spans import SPAN

TRANSCRIPT = pa.struct(
    [
        field("recogniser", pa.string(), "the engine that heard or read it"),
        field("text", pa.string(), "what was said, as the recogniser wrote it"),
        field("language", pa.string(), "ISO 639-1 code, as given or detected"),
        field("confidence", pa.float64(), "mean log probability per token; null where the engine has none"),
        field("no_speech", pa.float64(), "probability that nobody speaks; null where the engine has none"),
        field("compression", pa.float64(), "bytes of the text over bytes of it compressed"),
    ]
)

WORD = pa.struct(
    [
        field("text", pa.string(), "the word as it stands in the transcript, with its punctuation"),
        field("start", pa.int64(), "first tick, counted from the start of the source", unit="ticks"),
        field("end", pa.int64(), "tick after the last", unit="ticks"),
        field("score", pa.float64(), "mean log likelihood per frame; engines differ in scale"),
        field("untimed", pa.string(), "why it has no times; null where it has"),
    ]
)

CUE = pa.struct(
    [
        field("start_s", pa.float64(), "start of the subtitle", unit="s"),
        field("end_s", pa.float64(), "end of the subtitle", unit="s"),
        field("text", pa.string(), "its text, without markup"),
    ]
)

PAUSE = pa.struct(
    [
        field("after", pa.int32(), "index of the word that it follows"),
        field("start", pa.int64(), "first quiet tick", unit="ticks"),
        field("end", pa.int64(), "tick after the last quiet one", unit="ticks"),
    ]
)

LISTING = pa.schema(
    [
        *ROW,
        field("name", pa.string(), "path below the source, or as the manifest gives it"),
        field("size_bytes", pa.int64(), "size of the file; null if it is not there", unit="bytes"),
        field("modified_ns", pa.int64(), "when the file was changed last", unit="ns"),
        field("sidecar", pa.string(), "the file with its subtitles"),
        field("sidecar_size_bytes", pa.int64(), "its size", unit="bytes"),
        field("sidecar_modified_ns", pa.int64(), "when it was changed last", unit="ns"),
        field("language", pa.string(), "ISO 639-1 code, as the source says"),
        field("licence", pa.string(), "licence of the recording, as the source says"),
        field("consent", pa.string(), "consent of the speakers, as the source says"),
        field("channel", pa.int16(), "the channel to hear; null is the mean of all"),
        field("error", pa.string(), "why the manifest's row cannot be used"),
    ]
)

RECORDING = pa.schema(
    [
        *ROW,
        field("parents", pa.list_(pa.string()), "the listed files with this content"),
        field("occurrences", pa.list_(pa.string()), "names of the files with this content"),
        field("name", pa.string(), "the first of these names"),
        field("media_hash", pa.string(), "xxh3-128 of the file"),
        field("sidecar", pa.string(), "the file with subtitles"),
        field("sidecar_hash", pa.string(), "xxh3-128 of it"),
        field("size_bytes", pa.int64(), "size of the file", unit="bytes"),
        field("container", pa.string(), "format of the file"),
        field("codec", pa.string(), "codec of its first audio stream"),
        field("rate_hz", pa.int32(), "sampling rate of that stream", unit="Hz"),
        field("channels", pa.int32(), "channels of that stream"),
        field("header_duration_s", pa.float64(), "duration that the headers claim", unit="s"),
        field("work_s", pa.float64(), "how much audio it seems to be, for planning alone", unit="s"),
        field("language", pa.string(), "ISO 639-1 code, as the source says of the first file"),
        field("other_languages", pa.list_(pa.string()), "what the source says of other files with this content"),
        field("licence", pa.string(), "licences of these files, all that differ"),
        field("consent", pa.string(), "consents of their speakers, all that differ"),
        field("channel", pa.int16(), "the channel to hear; null is the mean of all"),
    ]
)

UTTERANCE = pa.schema(
    [
        *ROW,
        field("parents", pa.list_(pa.string()), "the recording"),
        field("name", pa.string(), "the recording's file"),
        field("span", SPAN, "where it is said, with some room before and after"),
        field("speech_start", pa.int64(), "first tick of speech", unit="ticks"),
        field("speech_end", pa.int64(), "tick after the last of speech", unit="ticks"),
        field("number", pa.int32(), "its place among the recording's utterances; null for text without speech"),
        field("speech_s", pa.float64(), "speech in it, without its inner pauses", unit="s"),
        field("subtitle", pa.string(), "text of the subtitles for this stretch"),
        field("language", pa.string(), "ISO 639-1 code, as the source says"),
        field("licence", pa.string(), "licence of the recording"),
        field("consent", pa.string(), "consent of the speakers"),
    ]
)

FRAGMENT = pa.struct(
    [
        field("text", pa.string(), "its text, with punctuation"),
        field("start", pa.int64(), "first tick, from the start of the source", unit="ticks"),
        field("end", pa.int64(), "tick after the last", unit="ticks"),
        field("first_word", pa.int32(), "index of its first word"),
        field("last_word", pa.int32(), "index of its last word"),
        field("show", pa.string(), "what the trainer is shown: audio, text or both"),
    ]
)

SAMPLE = pa.schema(
    [
        *ROW,
        field("parents", pa.list_(pa.string()), "the utterances"),
        field("name", pa.string(), "the recording's file"),
        field("task", pa.string(), "interleaved or asr"),
        field("span", SPAN, "where it is said"),
        field("duration_s", pa.float64(), "length, pauses included", unit="s"),
        field("speech_s", pa.float64(), "speech in it", unit="s"),
        field("text", pa.string(), "everything that is said"),
        field("words", pa.list_(WORD), "its words with their times"),
        field("pauses", pa.list_(PAUSE), "quiet stretches between words"),
        field("language", pa.string(), "ISO 639-1 code"),
        field("licence", pa.string(), "licence of the recording"),
        field("consent", pa.string(), "consent of the speakers"),
    ]
)
