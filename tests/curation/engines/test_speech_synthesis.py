import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("espeakng_loader")

from curation.engines.engine import loaded
from curation.engines.speech_synthesis import Espeak, EspeakServer, SynthesisError

TEXT = "On Monday, Mr. Anderson carried the yellow umbrella of the captain 3.5 kilometers."
ROOT = Path(__file__).parents[3]


def test_the_same_text_gives_the_same_samples_whatever_was_spoken_before() -> None:
    espeak = Espeak()
    first = espeak.speak(TEXT, "en-us")
    espeak.speak("Something quite different was said in the meantime!", "en-us+f3", rate_wpm=240, pitch=80)
    espeak.speak("你好", "cmn")
    again = espeak.speak(TEXT, "en-us")
    assert again.samples.tobytes() == first.samples.tobytes()
    assert again.words == first.words


@pytest.mark.parametrize("voice", ["en-us", "en-us+f2", "en-us+croak"])
def test_another_process_at_another_time_speaks_the_same_samples(voice: str) -> None:
    mine = Espeak().speak(TEXT, voice).samples.tobytes()
    time.sleep(1.1)
    code = (
        "import sys; from curation.engines.speech_synthesis import Espeak;"
        f"sys.stdout.buffer.write(Espeak().speak({TEXT!r}, {voice!r}).samples.tobytes())"
    )
    other = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, timeout=60)
    assert other.stdout == mine


def test_words_name_their_place_in_the_text_and_start_in_order() -> None:
    speech = Espeak().speak(TEXT, "en-us")
    said = [TEXT[word.text_start : word.text_start + word.text_length] for word in speech.words]
    assert said[:4] == ["On", "Monday", "Mr", "Anderson"]
    starts = [word.start_s for word in speech.words]
    assert starts == sorted(starts)
    assert starts[0] >= 0 and starts[-1] < speech.duration_s
    assert speech.samples.dtype == np.int16


def test_places_in_a_text_count_characters_not_bytes() -> None:
    text = "Ñandú é ümlaut umbrella"
    speech = Espeak().speak(text, "en-us")
    last = speech.words[-1]
    assert text[last.text_start : last.text_start + last.text_length] == "umbrella"


def test_a_language_without_a_voice_of_its_name_is_found() -> None:
    british, american = Espeak().speak(TEXT, "en-gb"), Espeak().speak(TEXT, "en-us")
    assert british.samples.tobytes() != american.samples.tobytes()
    assert Espeak().speak(TEXT, "en-gb+f2").samples.tobytes() != british.samples.tobytes()


@pytest.mark.parametrize("voice", ["xx-nowhere", "../../etc/passwd", "en-us+../f3", ""])
def test_a_voice_that_does_not_exist_is_named(voice: str) -> None:
    with pytest.raises(SynthesisError, match="voice"):
        Espeak().speak(TEXT, voice)


def test_a_text_without_sound_is_an_error() -> None:
    with pytest.raises(SynthesisError, match="no sound"):
        Espeak().speak("", "en-us")


def test_a_long_text_passes_the_pipes_whole() -> None:
    speech = Espeak().speak(TEXT * 100, "en-us", rate_wpm=450)
    assert speech.duration_s > 100


def test_an_utterance_past_its_limit_is_given_up_and_the_next_one_is_spoken() -> None:
    with pytest.raises(SynthesisError, match="longer than"):
        Espeak(limit_s=0.001).speak(TEXT * 50, "en-us")
    assert Espeak(limit_s=30.0).speak("Hello.", "en-us").duration_s > 0


def test_a_helper_that_was_killed_is_named_and_started_again() -> None:
    espeak = Espeak(word_gap=1)
    espeak.speak("Hello.", "en-us")
    server = loaded(espeak)
    os.kill(server._process.pid, signal.SIGKILL)
    server._process.wait()
    assert espeak.speak("Hello.", "en-us").duration_s > 0


def test_the_helper_dies_with_its_parent() -> None:
    code = (
        "from curation.engines.engine import loaded; from curation.engines.speech_synthesis import Espeak; import time;"
        "e = Espeak(); e.speak('Hello.', 'en-us'); print(loaded(e)._process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        helper = int(parent.stdout.readline())
        parent.kill()
    for _ in range(100):
        if not _alive(helper):
            return
        time.sleep(0.1)
    pytest.fail("the helper process lives on")


def test_a_closed_server_starts_again_when_asked() -> None:
    server = EspeakServer()
    request = {"text": "Hello.", "voice": "en-us", "rate_wpm": 175, "pitch": 50}
    request |= {"pitch_range": 50, "volume": 100, "word_gap": 0, "limit_s": 30.0}
    first = server.ask(request)
    server.close()
    assert server.ask(request) == first
    server.close()


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
