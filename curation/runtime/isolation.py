"""Work that killed its process, done again in processes of its own until the rows that kill stand alone.

The parent hands a block to a child; a child that dies is known by its exit, and one that holds more memory than it
may is killed. Then the block is halved, and so on down to the group of rows that kills, which becomes `failed: crashed`
with the stage that it died in.
"""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import RunFailed
from curation.runtime.chain import ALIKE_ROOTS, CRASHED, Outcome, crashed, halves, join_outcomes
from curation.runtime.memory import BY_DEFAULT, LOOKS_EVERY_S, MemoryLimits, held_bytes
from curation.runtime.nodes import Map
from curation.runtime.tasks import Run, Task, in_this_process
from curation.store.objects import Store

STAGE_FILE = "stage"
HELD = "it held more than"


def isolated(store: Store, timeout_s: float, memory: MemoryLimits = BY_DEFAULT) -> Run:
    """Run chains in child processes; one that dies, or passes `timeout_s` or `memory`, costs its own rows alone."""

    def run(task: Task, rows: pa.Table) -> Outcome:
        assert isinstance(task.node, Map)
        found, stage, error = _in_child(task, rows, store, timeout_s, memory.of(task.node, rows))
        if found is not None:
            return found
        both = halves(rows, task.node.unit.together)
        if both is None:
            return crashed(task.node.name, rows, stage, error)
        return join_outcomes([run(task, half) for half in both])

    def whole(task: Task, rows: pa.Table) -> Outcome:
        outcome = run(task, rows)
        _refuse_death_of_all(task, rows, outcome, memory)
        return outcome

    return whole


def _refuse_death_of_all(task: Task, rows: pa.Table, outcome: Outcome, memory: MemoryLimits) -> None:
    """End the run where the rows of many sources all died alike: that is a library or a machine, not the rows.

    Many files in one folder may all unfold too far. But where memory is limited by hand, the limit may be too low.
    """
    if pc.count_distinct(rows["root"]).as_py() < ALIKE_ROOTS:
        return
    ends = outcome.ledger.group_by(["reason", "error"]).aggregate([]).to_pylist()
    if len(ends) != 1 or ends[0]["reason"] != CRASHED:
        return
    if memory.unit_bytes is not None or HELD not in ends[0]["error"]:
        raise RunFailed(f"node {task.node.name}: of all {rows.num_rows} rows of a unit, {ends[0]['error']}")


def _in_child(
    task: Task, rows: pa.Table, store: Store, timeout_s: float, memory_bytes: int
) -> tuple[Outcome | None, str, str]:
    """The outcome, or None with the stage in which the child died and how."""
    with tempfile.TemporaryDirectory(prefix="curate-") as name:
        folder = Path(name)
        (folder / "task").write_bytes(pickle.dumps((task, rows, store)))
        command = [sys.executable, "-m", "curation.runtime.isolation", name]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, env=_same_path()) as child:
            try:
                ended = _watched(child, timeout_s, memory_bytes)
            finally:
                child.kill()
        died = "" if (folder / "outcome").exists() else ended or _how(child.returncode)
        if not died:
            result = pickle.loads((folder / "outcome").read_bytes())
            if isinstance(result, BaseException):
                raise result
            return result, "", ""
        stage_file = folder / STAGE_FILE
        stage = stage_file.read_text() if stage_file.exists() else "start"
        if stage == "start" and died.startswith("exit code"):
            raise RunFailed(f"node {task.node.name}: an isolated process does not start: {died}; see its error above")
        return None, stage, f"the process died in stage {stage}: {died}"


def _watched(child: "subprocess.Popen[bytes]", timeout_s: float, memory_bytes: int) -> str:
    """Wait for a child; why it has to be ended, or nothing where it ended itself."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            child.wait(LOOKS_EVERY_S)
            return ""
        except subprocess.TimeoutExpired:
            if (held_bytes(child.pid) or 0) > memory_bytes:
                return f"{HELD} {memory_bytes / 1e9:.1f} GB of memory (--memory-gb allows a unit more)"
    return f"no result after {timeout_s:.0f} s"


def _same_path() -> dict[str, str]:
    """The environment of a child that finds the modules that this process finds."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(folder for folder in sys.path if folder)}


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:  # real-time signals have no names
        return f"signal {-code}"


def _end_with(parent: int) -> None:
    """Leave nobody behind: a parent that was killed cannot end a child that hangs."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def main(folder: Path) -> None:
    """The child: files in its own folder are written and read by its parent alone, so pickle is safe here."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    task, rows, store = pickle.loads((folder / "task").read_bytes())

    def entering(stage: str) -> None:
        (folder / STAGE_FILE).write_text(stage)

    run = in_this_process(store, entering)
    try:
        result: Outcome | BaseException = run(task, rows)
    except Exception as error:
        result = error
    try:
        data = pickle.dumps(result)
    except Exception:
        data = pickle.dumps(RunFailed(str(result)))
    (folder / "outcome.part").write_bytes(data)
    (folder / "outcome.part").rename(folder / "outcome")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
