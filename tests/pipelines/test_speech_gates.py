"""What keeps recordings out of the pipeline of speech by what they are: an evaluation set's, or another licence's."""

import json
import shutil
from pathlib import Path

from tests.support.small_corpus import READ_ALONG, audit, run, speak_corpus


def test_speech_of_an_evaluation_set_goes_under_its_name(tmp_path: Path) -> None:
    source = speak_corpus(tmp_path / "in")
    (tmp_path / "eval").mkdir()
    shutil.copy(source / "good-1.wav", tmp_path / "eval" / "other-name.wav")
    sets = f"decontaminate={{sets: [{{name: testset, path: {tmp_path / 'eval'}}}]}}"
    done = run(source, tmp_path / "store", *READ_ALONG, "--set", sets)
    assert done.code == 0, done.err
    told = audit(tmp_path / "store", "select distinct uri, reason from ledger where verdict = 'rejected'")
    assert [(Path(row["uri"]).name, row["reason"]) for row in told] == [("good-1.wav", "in_testset")]


def test_a_transcript_of_an_evaluation_set_goes_under_its_name(tmp_path: Path) -> None:
    source = speak_corpus(tmp_path / "in")
    (tmp_path / "eval.txt").write_text("Seven men carried the heavy table down the stairs.\n")
    sets = f"decontaminate={{sets: [{{name: sentences, path: {tmp_path / 'eval.txt'}}}]}}"
    done = run(source, tmp_path / "store", *READ_ALONG, "--set", sets)
    assert done.code == 0, done.err
    told = audit(tmp_path / "store", "select distinct uri, reason from ledger where verdict = 'rejected'")
    assert [(Path(row["uri"]).name, row["reason"]) for row in told] == [("good-1.wav", "in_sentences")]


def test_recordings_of_another_licence_stay_out(tmp_path: Path) -> None:
    source = speak_corpus(tmp_path / "in", 3)
    licences = ["CC0-1.0", "CC-BY-NC-4.0", None]
    lines = [
        json.dumps({"path": f"good-{number}.wav", "sidecar": f"good-{number}.txt", "licence": licence})
        for number, licence in enumerate(licences)
    ]
    (source / "list.jsonl").write_text("\n".join(lines))
    allowed = "allow_licences=[CC0-1.0, MIT, Apache-2.0, BSD-2-Clause, BSD-3-Clause]"
    done = run(source / "list.jsonl", tmp_path / "store", *READ_ALONG, "--set", allowed)
    assert done.code == 0, done.err
    told = audit(tmp_path / "store", "select uri, reason from ledger where verdict = 'rejected' order by uri")
    assert [(Path(row["uri"]).name, row["reason"]) for row in told] == [
        ("good-1.wav", "licence_not_allowed"),
        ("good-2.wav", "licence_not_stated"),
    ]
