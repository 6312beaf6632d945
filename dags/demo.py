"""`make demo`: every pipeline on a small corpus of its own, command by command, as a user would type them."""

import shlex
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from dags.proof import proof_of

FOLDER = Path("demo")
STORE = FOLDER / "store"
SIZES = {"speech": 0.2, "captions": 800, "documents": 120}
SEED = 7

Step = tuple[str, list[str]]
"""What a command is for, and its words; "ROW" among them is the first row that the last question answered with."""

REASONS = "select verdict, reason, count(*) as rows from ledger group by all order by rows desc"


def main() -> None:
    """Make the corpora, then plan, look, run, change a limit, ask, withdraw, verify, prove. Prints where to look."""
    console = Console()
    started = time.monotonic()
    chapters = {"speech": speech, "captions": captions, "documents": documents}
    for pipeline, steps in chapters.items():
        corpus = FOLDER / f"{pipeline}-corpus"
        proof = proof_of(pipeline)
        console.rule(f"[bold cyan]{pipeline}", style="cyan")
        if not proof.is_there(corpus):
            console.print(f"Making {SIZES[pipeline]:g} {proof.unit} with planted faults in {corpus} …")
        proof.ensure(corpus, SEED, SIZES[pipeline])
        settings = [setting for setting in proof.settings(corpus) if not setting.startswith("dataset=")]
        recipe = [proof.recipe, *(part for setting in settings for part in ("--set", setting))]
        row_id = ""
        for title, command in steps(recipe, corpus):
            row_id = _step(console, pipeline, title, [row_id if word == "ROW" else word for word in command]) or row_id
    console.rule("[bold]Where to look", align="left")
    for place, what in (
        (f"{STORE}/speech/<version>/README.md", "the dataset card, with code that loads the shards"),
        (f"{STORE}/speech/<version>/interleaved", "speech and text, interleaved and masked (WebDataset tars)"),
        (f"{STORE}/captions/<version>/jpg", "images, byte for byte as in the source, with their texts"),
        (f"{STORE}/documents/<version>/documents", "documents in order, with their images"),
        (f"{FOLDER}/sheet.png", "kept images, and some of each reason for which others were not kept"),
        (f"{FOLDER}/<pipeline>-corpus/truth.jsonl", "the truth of a corpus"),
    ):
        console.print(f"{place:44} {what}", highlight=False, soft_wrap=True)
    console.print(f"The demo took {(time.monotonic() - started) / 60:.1f} minutes.")


def speech(recipe: list[str], corpus: Path) -> list[Step]:
    """Recordings to interleaved speech and text."""
    one = "select row_id from ledger where stage = 'CrossCheck' order by row_id limit 1"
    return [
        ("What would run, on which engines?", ["plan", *recipe]),
        ("A first look: two recordings through everything.", ["run", *recipe, "--limit", "2"]),
        ("All of them; what the first look computed is reused.", ["run", *recipe]),
        (
            "A stricter threshold: rows are decided again, nothing is transcribed again.",
            ["run", *recipe, "--set", "cross_check.max_unmatched_share=0.05"],
        ),
        ("Why are rows in, or out?", ["audit", REASONS]),
        ("One that was rejected:", ["audit", one]),
        ("Every decision about it:", ["audit", "--why", "ROW"]),
        ("Is every byte as it was written?", ["verify"]),
        ("How many of the planted faults were found?", ["prove", "speech", "--corpus", str(corpus)]),
    ]


def captions(recipe: list[str], corpus: Path) -> list[Step]:
    """Image-text pairs to a balanced dataset."""
    counts = "entry, count, round(expected, 1) as expected, kept"
    balance = f"select {counts} from concept_balance order by count desc limit 8"
    one = "select row_id from packed order by row_id limit 1"
    return [
        ("Tars of images and texts, with faults, duplicates and a long tail.", ["run", *recipe]),
        (
            "A stricter threshold: pairs are decided again, no image is embedded again.",
            ["run", *recipe, "--set", "pair_check.min_cosine=0.2"],
        ),
        ("Why are pairs in, or out?", ["audit", REASONS]),
        ("Common concepts shrink, rare ones stay:", ["audit", balance]),
        ("What was kept, and what was not:", ["sheet", "--out", str(FOLDER / "sheet.png")]),
        ("Somebody asks for an image to be removed:", ["audit", one]),
        ("It goes with everything made from it, and stays out; nothing is computed.", ["withdraw", "--id", "ROW"]),
        ("How many of the planted faults were found?", ["prove", "captions", "--corpus", str(corpus)]),
    ]


def documents(recipe: list[str], corpus: Path) -> list[Step]:
    """Interleaved documents, paired and pruned."""
    return [
        ("Pages and lists of texts and images.", ["run", *recipe]),
        ("What was removed from documents, and why?", ["audit", REASONS]),
        ("How many of the planted faults were found?", ["prove", "documents", "--corpus", str(corpus)]),
        ("All versions:", ["status"]),
    ]


def _step(console: Console, pipeline: str, title: str, words: list[str]) -> str:
    """Show a command and what it says; the first row id that it answers with, where it asks for one."""
    asks = words[0] in ("audit", "verify", "sheet", "withdraw")
    words = [*words, *(["--dataset", pipeline] if asks else []), "--store", str(STORE)]
    console.rule(f"[bold]{title}", align="left")
    console.print(f"$ {shlex.join(['curate', *words])}\n", soft_wrap=True, highlight=False)
    _curate(*words)
    if not words[1].startswith("select row_id"):
        return ""
    said = _curate(*words, "--json", capture=True)
    return said.split('"')[3] if said else ""


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
