"""Engines say which languages they know, and a source that is in none of these is refused before it is heard."""

import json
from pathlib import Path

import pytest

from curation.engines.ctc import CtcAligner
from curation.engines.forced_alignment import PocketSphinxAligner
from curation.engines.speech_recognition import FasterWhisper, PocketSphinx
from curation.errors import RecipeError
from dags.dag import Job, read_job


def job(source: Path, *sets: str, recipe: str = "speech-embedded") -> Job:
    return read_job(recipe, [f"source.path={source}", *sets])


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    (tmp_path / "a.wav").touch()
    return tmp_path


def test_a_source_in_a_language_that_no_aligner_or_recogniser_knows_is_refused(recording: Path) -> None:
    with pytest.raises(RecipeError, match=r"knows en, and the files are in de: .*source\.language") as refusal:
        job(recording, "source.language=de")
    assert [line.partition(": ")[2].partition(" ")[0] for line in str(refusal.value).splitlines()] == [
        "Transcribe(pocketsphinx)",
        "Align(pocketsphinx)",
    ]


def test_a_region_does_not_make_another_language(recording: Path) -> None:
    assert job(recording, "source.language=en-GB").pipeline.dataset == "speech"


def test_a_manifest_that_says_other_languages_goes_on(recording: Path) -> None:
    manifest = recording / "files.jsonl"
    lines = [{"path": "a.wav"}, {"path": "a.wav", "language": "en", "channel": 1}]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert job(manifest, "source.language=de").pipeline.dataset == "speech"


def test_an_engine_of_many_languages_is_not_asked(recording: Path, tmp_path: Path) -> None:
    sets = ("source.language=de", "aligner={engine: ctc}", "second_opinion={engine: faster-whisper}")
    assert job(recording, *sets).pipeline.dataset == "speech"


def test_engines_say_what_they_know() -> None:
    assert PocketSphinxAligner().languages == ("en",)
    assert PocketSphinx(language="ru").languages == ("ru",)
    assert CtcAligner().languages is FasterWhisper().languages is None
