"""SIGTERM and SIGHUP end a run as Ctrl-C does: the code says which it was, nothing is charged to a unit."""

import os
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np
import pytest

from curation.store.objects import TEMPORARY, Store
from curation.store.runs import runs
from curation.store.versions import read_version

ROOT = Path(__file__).parents[3]
RATE_HZ = 16_000


def command(folder: Path, *more: str) -> list[str]:
    """A run that takes a while, in units of one recording."""
    source = folder / "in"
    if not source.exists():
        source.mkdir()
        for number in range(12):
            samples = (8000 * np.sin(np.arange(int((20 + number / 10) * RATE_HZ)) * 0.1)).astype("<i2")
            with wave.open(str(source / f"{number}.wav"), "wb") as file:
                file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
                file.writeframes(samples.tobytes())
    sets = ["--set", f"source.path={source}", "--set", "work.listen_s=1", "--set", "second_opinion=sidecar"]
    return [sys.executable, "-m", "dags.cli", "run", "speech-embedded", *sets, "--store", str(folder / "s"), *more]


def started(folder: Path, *more: str, receipts: int = 3) -> "subprocess.Popen[bytes]":
    """The command, once it has done some units."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command(folder, *more), cwd=ROOT, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    deadline = time.monotonic() + 90
    while len(list(folder.glob("s/parts/*/*/receipt.json"))) < receipts and time.monotonic() < deadline:
        time.sleep(0.01)
    return process


def marks(folder: Path) -> list[Path]:
    return [mark for mark in folder.glob("s/attempts/*/*") if not mark.name.startswith(TEMPORARY)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_with_its_code_and_without_a_mark(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = started(tmp_path, "--runner", "inline")
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == code, said.decode()
    assert said.decode().endswith("curate: stopped; completed units are kept, run the same command to go on\n")
    assert "Traceback" not in said.decode()
    assert marks(tmp_path) == [] and Store(tmp_path / "s").names("leases") == []
    record = runs(Store(tmp_path / "s"), "speech")[0]
    assert record.outcome == ("stopped" if number == signal.SIGINT else f"stopped by {number.name}")


def test_a_second_signal_does_not_disturb_the_tidying_up(tmp_path: Path) -> None:
    process = started(tmp_path, "--runner", "inline")
    for _ in range(20):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.005)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 143, said.decode()
    assert marks(tmp_path) == [] and runs(Store(tmp_path / "s"), "speech")[0].outcome == "stopped by SIGTERM"


def test_a_run_that_was_started_to_outlive_its_terminal_does(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    code = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    words = [sys.executable, "-c", code, *command(tmp_path, "--runner", "inline")]
    process = subprocess.Popen(words, cwd=ROOT, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    while not list(tmp_path.glob("s/parts/*/*/receipt.json")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=120)
    assert read_version(Store(tmp_path / "s"), "speech").number == 1


@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_under_ray_a_signal_closes_the_slots(tmp_path: Path, number: signal.Signals) -> None:
    process = started(tmp_path, "--workers", "2", receipts=2)
    workers = slots(process.pid)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said.decode()
    assert runs(Store(tmp_path / "s"), "speech")[0].outcome == f"stopped by {number.name}"
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert workers and not [worker for worker in workers if Path(f"/proc/{worker}").exists()]


def slots(parent: int) -> list[int]:
    """Processes of Ray below a process."""
    found = [parent]
    for pid in found:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            found += [int(child) for child in children.read_text().split()]
    return found[1:]
