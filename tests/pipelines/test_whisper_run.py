"""Whole runs whose recognisers are Whisper on its two runtimes, with weights that mean nothing."""

from pathlib import Path

import pytest

from tests.curation.engines.test_speech_recognition import MULTILINGUAL, write_checkpoint, write_converted
from tests.support.small_corpus import audit, run, speak_corpus


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("weights")
    checkpoint = write_checkpoint(folder / "random.pt", MULTILINGUAL)
    (folder / "converted").mkdir()
    return checkpoint, write_converted(checkpoint, folder / "converted", "multilingual")


def test_both_whispers_hear_every_utterance_and_what_they_say_of_themselves_is_kept(
    weights: tuple[Path, Path], tmp_path: Path
) -> None:
    checkpoint, converted = weights
    (tmp_path / "in").mkdir()
    speak_corpus(tmp_path / "in", 2)
    opinions = (
        *("--set", f"first_opinion={{engine: faster-whisper, model: {converted}, beam_size: 1}}"),
        *("--set", f"second_opinion={{engine: openai-whisper, model: {checkpoint}, beam_size: 1}}"),
    )
    answer = run(tmp_path / "in", tmp_path / "store", *opinions, recipe="speech")
    assert answer.code == 5, "random weights write nothing that fits the sound"
    assert "nothing was kept of 2 files" in answer.err
    heard = audit(tmp_path / "store", "select transcript, second_opinion from transcripts")
    assert len(heard) == 2
    for row in heard:
        first, second = row["transcript"], row["second_opinion"]
        assert (first["recogniser"], second["recogniser"]) == ("faster-whisper", "openai-whisper")
        assert first["text"] and first["text"][:40] == second["text"][:40], "the same weights, the same words"
        for one in (first, second):
            assert one["confidence"] < 0 and 0 <= one["no_speech"] <= 1 and one["compression"] > 0
    assert audit(tmp_path / "store", "select * from ledger where verdict = 'failed'") == []
