"""The command: exit codes that mean something, one line per error, and questions that cannot reach out."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from curation.store.objects import TEMPORARY, Store
from curation.store.versions import read_version
from dags import cli

ROOT = Path(__file__).parents[2]
RATE_HZ = 16_000
EMBEDDED = ("speech-embedded", "--set", "second_opinion=sidecar", "--runner", "inline")
SENTENCES = ("The river runs along the old stone wall.", "Seven people walked home before the rain.")


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def curate(*words: str | Path) -> Done:
    """The command, in this process; an exception that it does not explain goes on to the test."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["curate", *map(str, words)])
        patch.setattr(cli.console, "_width", 200)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    code = ended.value.code
    assert code is None or isinstance(code, int)
    return Done(code or 0, out.getvalue(), err.getvalue())


def tone(path: Path, seconds: float = 1.0) -> None:
    """A recording without speech."""
    samples = (8000 * np.sin(np.arange(int(seconds * RATE_HZ)) * 0.1)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(samples.tobytes())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spoken recording with its subtitles, and a file that is no recording."""
    pytest.importorskip("espeakng_loader")
    from curation.engines.speech_synthesis import Espeak

    folder = tmp_path_factory.mktemp("corpus")
    sound, cues = [], []
    for number, sentence in enumerate(SENTENCES):
        speech = Espeak().speak(sentence, "en-us")
        quiet = np.zeros(speech.rate_hz, np.int16)
        start = sum(len(piece) for piece in [*sound, quiet]) / speech.rate_hz
        sound += [quiet, speech.samples]
        span = f"00:00:{start:06.3f} --> 00:00:{start + speech.duration_s:06.3f}".replace(".", ",")
        cues.append(f"{number + 1}\n{span}\n{sentence}\n")
    with wave.open(str(folder / "talk.wav"), "wb") as file:
        file.setparams((1, 2, speech.rate_hz, 0, "NONE", ""))
        file.writeframes(np.concatenate([*sound, quiet]).tobytes())
    (folder / "talk.srt").write_text("\n".join(cues))
    (folder / "broken.wav").write_bytes(b"RIFF nothing")
    return folder


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one version."""
    store = tmp_path_factory.mktemp("finished") / "store"
    source = f"source.path={corpus}"
    done = curate("run", *EMBEDDED, "--set", source, "--set", "max_failed_share=1", "--store", store)
    assert done.returncode == 0, done.stderr
    return store


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the store to damage."""
    shutil.copytree(finished, tmp_path / "store")
    yield tmp_path / "store"


def complaint(*words: str | Path, code: int) -> str:
    """What a command says on standard error that ends with this code."""
    done = curate(*words)
    assert done.returncode == code, (done.returncode, done.stderr)
    return done.stderr


def test_a_typo_in_a_recipe_ends_with_2_and_names_the_key(tmp_path: Path) -> None:
    for command in ("plan", "run"):
        said = complaint(command, "speech-embedded", "--set", "sauce.path=/", "--store", tmp_path, code=2)
        assert said == "curate: recipe speech-embedded: unknown key sauce\n"
    assert "'speach'" in complaint("plan", "speach", code=2)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_is_not_there_ends_with_2(tmp_path: Path) -> None:
    said = complaint("run", *EMBEDDED, "--set", f"source.path={tmp_path}/none", "--store", tmp_path / "s", code=2)
    assert said.startswith(f"curate: source.path: no recordings in {tmp_path}/none")
    assert "source.path is empty" in complaint("plan", "speech-embedded", code=2)


def test_an_engine_that_is_missing_ends_with_3_and_says_how_to_get_it(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav")
    engine = f"aligner={{engine: ctc, model_path: {tmp_path}/none.onnx, vocabulary_path: {tmp_path}/none.json}}"
    words = (*EMBEDDED[:3], "--set", engine, "--set", f"source.path={tmp_path}", "--store", tmp_path / "store")
    for command, more in (("plan", ()), ("run", ("--runner", "inline"))):
        said = complaint(command, *words, *more, code=3)
        assert "engine ctc: model_path" in said and "does not exist" in said


def test_a_licence_that_is_not_allowed_ends_with_3(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav")
    words = (*EMBEDDED, "--set", "allow_licences=[MIT]", "--set", f"source.path={tmp_path}", "--store", tmp_path / "s")
    said = complaint("run", *words, code=3)
    assert "which allow_licences does not name" in said and "pocketsphinx" in said
    assert not (tmp_path / "s").exists()


def test_a_store_that_cannot_be_written_ends_with_4(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav")
    (tmp_path / "store").write_bytes(b"")
    said = complaint("run", *EMBEDDED, "--set", f"source.path={tmp_path}", "--store", tmp_path / "store", code=4)
    assert said.count("\n") == 1 and "cannot write" in said


def test_a_run_that_keeps_nothing_ends_with_5(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav")
    words = (*EMBEDDED, "--set", f"source.path={tmp_path}", "--store", tmp_path / "store")
    said = complaint("run", *words, code=5)
    assert "version speech/1 is marked as not accepted: nothing was kept of 1 files" in said
    assert "not accepted" in complaint("run", *words, code=5)


def test_a_run_with_too_many_failures_ends_with_5_and_tells_how_many(corpus: Path, tmp_path: Path) -> None:
    said = complaint("run", *EMBEDDED, "--set", f"source.path={corpus}", "--store", tmp_path, code=5)
    assert "1 of 2 listing rows failed at scan, more than max_failed_share 0.05" in said


def test_a_plan_opens_no_media(tmp_path: Path) -> None:
    for name in ("garbage.wav", "empty.mp3"):
        (tmp_path / name).write_bytes(b"\xff" * (name == "garbage.wav"))
    os.mkfifo(tmp_path / "whoever-opens-this-hangs.flac")
    (tmp_path / "nowhere.ogg").symlink_to(tmp_path / "gone")
    done = curate("plan", "speech-embedded", "--set", f"source.path={tmp_path}", "--store", tmp_path / "store")
    assert done.returncode == 0, done.stderr
    assert re.search(r"scan +│ 0 +│ \d +│ 4 ", done.stdout), done.stdout


def test_a_plan_of_a_finished_run_has_nothing_to_do(finished: Path, corpus: Path) -> None:
    words = ("--set", "second_opinion=sidecar", "--set", f"source.path={corpus}", "--store", finished)
    done = curate("plan", "speech-embedded", *words)
    rows = re.findall(r"^│ (\w+) +│ +(\d+) +│ +(\d+) +│ +(\d+) ", done.stdout, re.MULTILINE)
    assert len(rows) >= 7 and all(todo == "0" for _, _, todo, _ in rows)


def test_running_again_computes_nothing_and_makes_no_version(finished: Path, corpus: Path) -> None:
    words = ("--set", f"source.path={corpus}", "--set", "max_failed_share=1", "--store", finished)
    done = curate("run", *EMBEDDED, *words)
    assert "nothing changed since version speech/1" in done.stdout
    assert set(re.findall(r"(\d+) units computed", done.stdout)) == {"0"}


def test_status_lists_versions(finished: Path, tmp_path: Path) -> None:
    assert re.search(r"speech/1 .* yes", curate("status", "--store", finished).stdout)
    assert "no store at" in complaint("status", "--store", tmp_path / "nothing", code=4)


def ask(store: Path, sql: str) -> Done:
    return curate("audit", "--store", store, "--json", sql)


def test_the_ledger_answers_in_sql(finished: Path) -> None:
    done = ask(finished, "select verdict, reason, stage from ledger where node = 'scan' order by verdict")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"verdict": "failed", "reason": "MediaError", "stage": "Scan"},
        {"verdict": "kept", "reason": None, "stage": None},
    ]
    balance = "select node, kind, count(*) n, count(distinct row_id) ids from ledger group by all having n <> ids"
    assert ask(finished, balance).stdout == ""


def test_every_node_is_a_view(finished: Path) -> None:
    shown = curate("audit", "--store", finished).stdout
    assert all(f" {view} " in shown for view in ("ledger", "lineage", "shards", "recordings", "utterances", "samples"))


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_csv('/etc/passwd')",
        "select * from read_text('/etc/passwd')",
        "select * from read_blob('{store}/../../../../../../etc/passwd')",
        "select * from glob('/etc/*')",
        "from '/etc/passwd'",
        "attach '/tmp/other.db'",
        "attach '{store}/other.db'",
        "install httpfs",
        "load httpfs",
        "copy (select 1) to '{store}/parts/planted.csv'",
        "copy (select 1) to '/tmp/planted.csv'",
        "explain analyze copy (select 1) to '{store}/parts/planted.csv'",
        "select 1; copy (select 1) to '{store}/parts/planted.csv'",
        "export database '{store}/planted'",
        "set enable_external_access = true",
        "set allowed_directories = ['/']",
        "drop view ledger",
        "create table t as select 1",
        "select getenv('HOME')",
        "select * from ledgre",
        "selec",
    ],
)
def test_a_question_reads_the_store_alone_and_writes_nowhere(finished: Path, sql: str) -> None:
    before = sorted(finished.rglob("*"))
    done = ask(finished, sql.format(store=finished))
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("curate: ")
    assert sorted(finished.rglob("*")) == before


def test_why_tells_a_row_with_its_parents_and_children(finished: Path) -> None:
    samples = ask(finished, "select row_id from ledger where kind = 'sample' and node = 'encoded'")
    row = json.loads(samples.stdout.splitlines()[0])
    done = curate("audit", "--store", finished, "--json", "--why", row["row_id"])
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert told[0]["kind"] == "listing"
    assert {entry["kind"] for entry in told} == {"listing", "recording", "utterance", "sample"}
    assert {entry["row_id"] for entry in told if entry["kind"] == "sample"} == {row["row_id"]}
    assert "no row 'nobody' in this version" in complaint("audit", "--store", finished, "--why", "nobody", code=2)


def test_a_version_or_a_dataset_that_is_not_there_is_said(finished: Path, tmp_path: Path) -> None:
    assert "versions: [1]" in complaint("verify", "--store", finished, "--version", "7", code=4)
    assert "has no dataset yet" in complaint("verify", "--store", tmp_path, code=4)
    assert "datasets here: ['speech']" in complaint("audit", "--store", finished, "--dataset", "images", code=4)


def test_a_whole_version_verifies(finished: Path) -> None:
    done = curate("verify", "--store", finished)
    assert done.returncode == 0 and re.search(r"speech/1: \d\d+ objects read, 0 damaged", done.stdout)


def flip(path: Path, at: int) -> None:
    """Change one byte, as a disk does; hard links of the same bytes are changed along with it."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def test_verify_names_the_sample_of_a_flipped_byte(copy: Path) -> None:
    store = Store(copy)
    shard = next(shard for shard in read_version(store, "speech").shards if shard.subset == "asr")
    index = store.read_table("speech/1/index/asr.parquet").to_pylist()
    assert len(index) == len(SENTENCES)
    part = index[1]["parts"][0]
    flip(copy / shard.path, part["offset"] + part["size"] // 2)
    said = complaint("verify", "--store", copy, code=1)
    assert shard.path in said and index[1]["key"] in said and index[0]["key"] not in said


@pytest.mark.parametrize(
    ("node", "role"), [("listing", "rows"), ("encoded", "ledger"), ("encoded", "rows"), ("encoded", "blob")]
)
def test_verify_names_a_damaged_part_and_a_missing_one(copy: Path, node: str, role: str) -> None:
    receipt = next(r for r in read_version(Store(copy), "speech").receipts(node))
    path = receipt.files[role].path
    flip(copy / path, receipt.files[role].size // 2)
    assert f"{path}" in complaint("verify", "--store", copy, code=1)
    (copy / path).unlink()
    assert path in complaint("verify", "--store", copy, code=1)


def test_a_question_to_a_store_that_lacks_a_part_is_told_so(copy: Path) -> None:
    receipt = next(r for r in read_version(Store(copy), "speech").receipts("scan"))
    (copy / receipt.files["ledger"].path).unlink()
    said = complaint("audit", "--store", copy, "select count(*) from ledger", code=4)
    assert receipt.files["ledger"].path in said


def test_ctrl_c_ends_with_130_and_says_that_what_is_done_is_kept(tmp_path: Path) -> None:
    for number in range(12):
        tone(tmp_path / f"{number}.wav", 20 + number / 10)
    sets = ["--set", f"source.path={tmp_path}", "--set", "work.listen_s=1"]
    words = ["run", *EMBEDDED, *sets, "--store", str(tmp_path / "s")]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "dags.cli", *words], cwd=ROOT, env=env, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("s/parts/*/*/receipt.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said.decode()
    assert said.decode().endswith("curate: stopped; completed units are kept, run the same command to go on\n")
    assert not [mark for mark in tmp_path.glob("s/attempts/*/*") if not mark.name.startswith(TEMPORARY)]
