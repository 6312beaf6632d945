"""`make demo`: the main job on a small corpus of its own, command by command, as a user would type them."""

import shlex
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from dags.proof import proof_of

FOLDER = Path("demo")
HOURS = 0.2
SEED = 7


def main() -> None:
    """Make the corpus, then plan, look, run, change a limit, ask, verify, prove. Prints where to look."""
    console = Console()
    started = time.monotonic()
    corpus, store = FOLDER / "corpus", FOLDER / "store"
    proof = proof_of("speech")
    if not proof.is_there(corpus):
        console.print(f"Speaking a small corpus with planted faults to {corpus} …")
    proof.ensure(corpus, SEED, HOURS)
    settings = [setting for setting in proof.settings(corpus) if not setting.startswith("dataset=")]
    recipe = ["speech-embedded", *(part for setting in settings for part in ("--set", setting))]
    strict = ["--set", "cross_check.max_unmatched_share=0.05"]
    reasons = "select verdict, reason, count(*) as rows from ledger group by all order by rows desc"
    rejected = "select row_id, reason, round(value, 2) as value, uri from ledger where verdict = 'rejected' limit 3"
    one = "select row_id from ledger where stage = 'CrossCheck' order by row_id limit 1"
    steps: list[tuple[str, list[str]]] = [
        ("What would run, on which engines?", ["plan", *recipe]),
        ("A first look: two recordings through everything.", ["run", *recipe, "--limit", "2"]),
        ("All of them; what the first look computed is found again.", ["run", *recipe]),
        ("A stricter limit: decided again, nothing is transcribed again.", ["run", *recipe, *strict]),
        ("Why are rows in, or out?", ["audit", reasons]),
        ("Some that are out:", ["audit", rejected]),
        ("And the whole story of one:", ["audit", "--why", one]),
        ("Is every byte as it was written?", ["verify"]),
        ("Versions:", ["status"]),
        ("How much of what was planted was found?", ["prove", "speech", "--corpus", str(corpus)]),
    ]
    for title, command in steps:
        if "--why" in command:
            command[-1] = _first_row_id(store, command[-1])
        console.rule(f"[bold]{title}", align="left")
        console.print(f"$ {shlex.join(['curate', *command, '--store', str(store)])}\n", soft_wrap=True, highlight=False)
        _curate(*command, "--store", str(store))
    console.rule("[bold]Where to look", align="left")
    console.print(f"{store}/speech/<version>/README.md    the dataset card, with how to load the shards")
    console.print(f"{store}/speech/<version>/interleaved  speech and text, cut and masked (WebDataset tars)")
    console.print(f"{store}/speech/<version>/asr          audio in, text out")
    console.print(f"{corpus}/truth.jsonl                  what is true of the corpus")
    console.print(f"The demo took {(time.monotonic() - started) / 60:.1f} minutes.")


def _first_row_id(store: Path, question: str) -> str:
    answer = _curate("audit", question, "--json", "--store", str(store), capture=True)
    return answer.split('"')[3] if answer else ""


def _curate(*command: str, capture: bool = False) -> str:
    """Run the command; the demo ends with the first that fails."""
    sys.stdout.flush()
    result = subprocess.run(
        [sys.executable, "-m", "dags.cli", *command],
        check=False,
        text=True,
        stdout=subprocess.PIPE if capture else None,
    )
    if result.returncode:
        sys.exit(result.returncode)
    return result.stdout or ""


if __name__ == "__main__":
    main()
