"""The process in which espeak-ng speaks: `python -m curation.engines.espeak_server`, requests in, speech out.

espeak-ng keeps state from one utterance to the next, so that the same text gives other samples. This process loads
the library and never speaks itself: each request is spoken by a child forked from it, which starts from the same
state every time. It imports the standard library and `espeakng_loader` alone, so it stays single-threaded (a fork
is then safe), starts quickly, and keeps the GPL library out of every other process.

Protocol, over stdin and stdout: a request is 4 bytes of little-endian length and that much JSON (`text`, `voice`,
`rate_wpm`, `pitch`, `pitch_range`, `volume`, `word_gap`, `limit_s`). An answer is a JSON header in the same frame,
`{"rate_hz", "words": [[first character, length, ms], …], "bytes"}` followed by that many bytes of int16 samples, or
`{"error"}`.
"""

import ctypes
import json
import os
import select
import signal
import struct
import sys
from typing import IO, Any

SYNCHRONOUS = 2
UTF8 = 1
EVENT_END_OF_LIST = 0
EVENT_WORD = 1
RATE, VOLUME, PITCH, PITCH_RANGE, WORD_GAP = 1, 2, 3, 4, 7
PARENT_CHECK_S = 2.0


class _Voice(ctypes.Structure):
    """`espeak_VOICE` of speak_lib.h, as far as it is read here. `languages` starts with a byte of priority."""

    _fields_ = [("name", ctypes.c_char_p), ("languages", ctypes.c_char_p), ("identifier", ctypes.c_char_p)]


class _Name(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """`espeak_EVENT` of speak_lib.h: text_position counts characters from 1, audio_position milliseconds."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Name),
    ]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def read_frame(stream: IO[bytes]) -> bytes | None:
    """The next frame, or None at the end of the stream."""
    head = _read_exactly(stream, 4)
    return None if head is None else _read_exactly(stream, *struct.unpack("<I", head))


def _read_exactly(stream: IO[bytes], count: int) -> bytes | None:
    """`count` bytes, or None where the stream ends before; a pipe gives what it has at each read."""
    parts = []
    while count:
        part = stream.read(count)
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def frame(body: bytes) -> bytes:
    """Bytes with their length before them."""
    return struct.pack("<I", len(body)) + body


def serve() -> None:
    """Answer requests until stdin ends or the parent is gone."""
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the library prints must not land among the answers
    parent = os.getppid()
    library = _load()
    rate_hz = library.espeak_Initialize(SYNCHRONOUS, 0, _data_path(), 0)
    if rate_hz <= 0:
        raise SystemExit("espeak-ng could not be initialised from its own data folder")
    while _wait_for_request(parent):
        body = read_frame(requests)
        if body is None:
            return
        answers.write(_speak_in_a_child(library, rate_hz, json.loads(body)))
        answers.flush()


def _wait_for_request(parent: int) -> bool:
    """Wait for input. False when the parent died, even where a process forked from it keeps the pipe open."""
    while not select.select([0], [], [], PARENT_CHECK_S)[0]:
        if os.getppid() != parent:
            return False
    return True


def _speak_in_a_child(library: Any, rate_hz: int, request: dict[str, Any]) -> bytes:
    """Fork, speak there, and return the child's answer, or an error that says how the child ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.setitimer(signal.ITIMER_REAL, request["limit_s"])  # its default action ends the child
        try:
            with os.fdopen(writing, "wb") as out:
                out.write(_answer(library, rate_hz, request))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as spoken:
        answer = spoken.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return answer
    cause = f"took longer than {request['limit_s']} s" if code == -signal.SIGALRM else f"ended with code {code}"
    return frame(json.dumps({"error": f"espeak-ng {cause}"}).encode())


def _answer(library: Any, rate_hz: int, request: dict[str, Any]) -> bytes:
    chunks: list[bytes] = []
    words: list[tuple[int, int, int]] = []

    def receive(samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        position = 0
        while events[position].type != EVENT_END_OF_LIST:
            event = events[position]
            if event.type == EVENT_WORD:
                words.append((event.text_position - 1, event.length, event.audio_position))
            position += 1
        return 0

    library.espeak_ng_SetRandSeed(1)  # or the clock's second at start would colour the voices that flutter
    callback = _CALLBACK(receive)
    library.espeak_SetSynthCallback(callback)
    if not _set_voice(library, request["voice"]):
        return frame(json.dumps({"error": f"espeak-ng has no voice {request['voice']!r}"}).encode())
    settings = {RATE: "rate_wpm", PITCH: "pitch", PITCH_RANGE: "pitch_range", VOLUME: "volume", WORD_GAP: "word_gap"}
    for parameter, key in settings.items():
        library.espeak_SetParameter(parameter, int(request[key]), 0)
    text = request["text"].encode("utf-8") + b"\0"
    if library.espeak_Synth(text, len(text), 0, 0, 0, UTF8, None, None) != 0:
        return frame(json.dumps({"error": "espeak-ng refused to speak the text"}).encode())
    pcm = b"".join(chunks)
    return frame(json.dumps({"rate_hz": rate_hz, "words": words, "bytes": len(pcm)}).encode()) + pcm


def _set_voice(library: Any, voice: str) -> bool:
    """Choose a voice by its name, or by its language where no voice is called so (`en-gb` is the voice `gmw/en`)."""
    if library.espeak_SetVoiceByName(voice.encode()) == 0:
        return True
    language, _, variant = voice.partition("+")
    voices = library.espeak_ListVoices(None)
    position = 0
    while voices[position]:
        known = voices[position].contents
        if known.languages[1:].decode() == language:
            name = known.identifier.decode() + (f"+{variant}" if variant else "")
            return int(library.espeak_SetVoiceByName(name.encode())) == 0
        position += 1
    return False


def _load() -> Any:
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
    library.espeak_SetSynthCallback.argtypes = [_CALLBACK]
    library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
    library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    library.espeak_ListVoices.argtypes = [ctypes.c_void_p]
    library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
    library.espeak_SetParameter.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int]
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    return library


def _data_path() -> bytes:
    import espeakng_loader

    return os.fsencode(espeakng_loader.get_data_path())


if __name__ == "__main__":
    try:
        serve()
    except (BrokenPipeError, KeyboardInterrupt):
        sys.exit(1)
