"""What files that are small on disk and large once they are read cost: each is read beside a good file, in a process of
its own.

    python benchmarks/bombs.py [--only NAME ...] [--json]

For each bomb (`bomb_files.py`): what it has on disk, what became of it, the most memory that its reading took, what
that process had before, and the seconds.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.bomb_files import BOMBS, good_file  # noqa: E402

FIRST_ROWS = 5000


def read_one(name: str, folder: str) -> dict[str, Any]:
    """The ledger of a bomb and a good file that are read together, and the memory and time that it took."""
    from curation.document_sources import DocumentSource, list_documents
    from curation.documents.reading import ReadDocuments
    from curation.pair_sources import PairSource, list_pairs
    from curation.runtime.chain import run_chain
    from curation.sources import Source, list_source
    from curation.speech.recordings import Scan
    from curation.vision.entries import read_entries

    bomb, path = BOMBS[name], Path(folder)
    bomb.write(path / bomb.file)
    status = (path / bomb.file).stat()
    good_file(bomb.pipeline, path)
    before, started = _peak_bytes(), time.monotonic()
    match bomb.pipeline:
        case "captions":
            pairs = PairSource(path=folder)
            listing, stage = list_pairs(pairs), read_entries(pairs)
        case "documents":
            listing, stage = list_documents(DocumentSource(path=folder)), ReadDocuments()
        case _:
            listing, stage = list_source(Source(path=folder)), Scan()
    ledger = run_chain("read", [stage], listing, together="root").ledger
    return {
        "ledger": ledger.slice(0, FIRST_ROWS).to_pylist(),
        "on_disk": min(status.st_size, status.st_blocks * 512),
        "made_first": before,
        "peak": _peak_bytes(),
        "seconds": time.monotonic() - started,
    }


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_a_process(name: str) -> dict[str, Any]:
    """`read_one` in a process of its own, or how that ended."""
    with tempfile.TemporaryDirectory() as folder:
        code = "import json, sys\nfrom benchmarks.bombs import read_one\nprint(json.dumps(read_one(*sys.argv[1:])))"
        command = [sys.executable, "-c", code, name, folder]
        done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, check=False)
    if done.returncode:
        return {"outcome": f"exit code {done.returncode}: {done.stderr.decode()[-200:]}"}
    found: dict[str, Any] = json.loads(done.stdout)
    own = [row for row in found.pop("ledger") if BOMBS[name].file in f"{row['uri']} {row['error']}"]
    failed = [row for row in own if row["verdict"] == "failed"]
    return found | {"outcome": f"{len(failed)} failed: {failed[0]['reason']}" if failed else "read"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=BOMBS, default=list(BOMBS))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = {}
    for name in arguments.only:
        rows[name] = one = in_a_process(name)
        if not arguments.json:
            sizes = [f"{one.get(key, 0) / 1e6:8.1f} MB" for key in ("on_disk", "made_first", "peak")]
            print(f"{name:20} {' '.join(sizes)} {one.get('seconds', 0):7.1f} s  {one['outcome']}", flush=True)
    if arguments.json:
        print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
