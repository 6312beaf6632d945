"""Two hundred recordings, of which three are broken and one crashes its decoder; then ten more."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curation.audit.views import open_views
from curation.engines.speech_synthesis import Espeak
from curation.media.audio_encoding import encode_audio
from curation.store.objects import Store
from curation.store.versions import Version, read_version

CRASH_IN_THE_DECODER = """
import importlib.abc, importlib.util, os, signal, sys


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "curation.media.audio":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def loaded(module):
            load(module)
            stretches = module._stretches

            def dying(path):
                if "crashes" in path:
                    os.kill(os.getpid(), signal.SIGSEGV)
                return stretches(path)

            module._stretches = dying

        spec.loader.exec_module = loaded
        return spec


sys.meta_path.insert(0, Finder())
"""
RECIPE = """
extends: speech-embedded
second_opinion: {engine: sidecar}
work: {scan_files: 25, listen_s: 60, transcribe_s: 60, encode_s: 60}
"""
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def speak(folder: Path, number: int) -> None:
    digits = [NUMBERS[int(digit)] for digit in f"{number:03d}"]
    text = f"The number of this recording is {' '.join(digits)}, and that is all."
    speech = Espeak().speak(text, "en-us")
    (folder / f"talk-{number:03d}.wav").write_bytes(encode_audio(speech.samples, speech.rate_hz, "wav"))
    (folder / f"talk-{number:03d}.txt").write_text(text)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("two-hundred")
    corpus = place / "corpus"
    corpus.mkdir()
    for number in range(196):
        speak(corpus, number)
    speech = Espeak().speak("This one will be cut short in the middle of its only sentence.", "en-us")
    (corpus / "broken-cut.flac").write_bytes(encode_audio(speech.samples, speech.rate_hz, "flac")[:-4000])
    (corpus / "broken-empty.wav").write_bytes(b"")
    (corpus / "broken-text.mp3").write_text("no sound at all\n" * 200)
    (corpus / "crashes.wav").write_bytes(encode_audio(speech.samples, speech.rate_hz, "wav"))
    (corpus / "crashes.txt").write_text("This one will be cut short in the middle of its only sentence.")
    (place / "recipe.yaml").write_text(RECIPE)
    (place / "sitecustomize.py").write_text(CRASH_IN_THE_DECODER)
    return place


def curate_run(place: Path) -> Version:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(place), *sys.path])}
    curate = [sys.executable, "-m", "dags.cli", "run", str(place / "recipe.yaml"), "--store", str(place / "store")]
    command = [*curate, "--set", f"source.path={place / 'corpus'}", "--runner", "ray", "--workers", "2"]
    finished = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return read_version(Store(place / "store"), "speech")


def measured(place: Path, stage: str) -> set[str]:
    files = (place / "store" / "measures").glob(f"{stage}*/*.parquet")
    return {key for file in files for key in pq.read_table(file, columns=["key"])["key"].to_pylist()}


def parts(version: Version, node: str) -> set[str]:
    return {str(part["part"]) for part in version.parts(node)}


def test_four_of_two_hundred_fail_and_say_why_and_ten_more_compute_only_themselves(place: Path) -> None:
    version = curate_run(place)
    views = open_views(Store(place / "store"), version)
    failed = views.sql("select uri, node, stage, reason, error from ledger where verdict = 'failed' order by uri")
    rows = [(Path(uri).name, node, stage, reason, error) for uri, node, stage, reason, error in failed.fetchall()]
    assert [row[:4] for row in rows] == [
        ("broken-cut.flac", "utterances", "SpeechProbability", "MediaError"),
        ("broken-empty.wav", "scan", "Scan", "MediaError"),
        ("broken-text.mp3", "scan", "Scan", "MediaError"),
        ("crashes.wav", "utterances", "SpeechProbability", "crashed"),
    ]
    assert all(name in error for (name, *_, error) in rows[:3])
    assert "SIGSEGV" in rows[3][4]
    processed = views.sql("select count(distinct uri) from utterances where verdict = 'kept'").fetchall()
    assert processed == [(196,)]
    balance = views.sql("select node, count(*), count(distinct row_id) from ledger group by node").fetchall()
    sums = {node.name: node.rows_in + sum(node.made.values()) for node in version.nodes if node.counts}
    assert {node: rows for node, rows, _ in balance} == sums == {node: distinct for node, _, distinct in balance}

    heard, aligned = measured(place, "SpeechProbability"), measured(place, "Align")
    for number in range(196, 206):
        speak(place / "corpus", number)
    wider = curate_run(place)
    assert len(measured(place, "SpeechProbability") - heard) == 10
    added = open_views(Store(place / "store"), wider).sql(
        "select count(*) from transcripts where number is not null and regexp_matches(name, 'talk-(19[6-9]|20)')"
    )
    assert len(measured(place, "Align") - aligned) == added.fetchall()[0][0]
    for node in ("scan", "utterances", "transcripts", "encoded"):
        again = parts(wider, node) - parts(version, node)
        assert len(again) <= 20, node
        assert len(parts(wider, node) & parts(version, node)) > 0, node
