"""Three hosts with working folders of their own: recipes with relative paths give the bytes of one process.

Each host is a network namespace with a host name; Ray asks for a token.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.audit.verification import verify
from curation.diversity.lexicon import from_words, write_lexicon
from curation.store.objects import Store
from curation.store.versions import Version, read_version
from tests.support.cluster_hosts import Hosts, cluster, lacking
from tests.support.small_corpus import speak_corpus
from tests.support.small_pairs import THINGS, caption, image_bytes, pairs, write_folder

pytestmark = [pytest.mark.ray, pytest.mark.slow]

COUNT = 60


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    if not os.environ.get("CURATE_CLUSTER"):
        pytest.skip("three hosts in network namespaces, each a Ray node: set CURATE_CLUSTER=1 on a quiet machine")
    if reason := lacking():
        pytest.skip(reason)
    with cluster(tmp_path_factory.mktemp("hosts"), 3) as made:
        yield made


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recipes, and beside them all that they name, by relative paths."""
    folder = tmp_path_factory.mktemp("project")
    write_folder(folder / "pairs", pairs(COUNT))
    (folder / "lists").mkdir()
    write_lexicon(from_words(THINGS, "en", "test"), folder / "lists/lexicon.parquet")
    (folder / "lists/flagged.txt").write_text("nobody\n")
    (folder / "eval").mkdir()
    (folder / "eval/texts.txt").write_text(f"{caption(3)}\nA text that no caption repeats, of a dozen words.\n")
    (folder / "eval/images").mkdir()
    (folder / "eval/images/leak.jpg").write_bytes(image_bytes(5))
    sets = "[{name: texts, path: ../eval/texts.txt}, {name: seen, path: ../eval/images}]"
    speak_corpus(folder / "speech")
    (folder / "lists/words.dict").write_text("zyzzyva Z IH Z IH V AH\n")
    (folder / "pages").mkdir()
    texts = [[" ".join(caption(n + m) for m in (0, 20, 40)), None, caption(n + 60)] for n in range(12)]
    nodes = [json.dumps({"texts": some, "images": [None, f"{n}.jpg", None]}) for n, some in enumerate(texts)]
    (folder / "pages/pages.jsonl").write_text("\n".join(nodes) + "\n")
    for number in range(12):
        (folder / f"pages/{number}.jpg").write_bytes(image_bytes(number))
    (folder / "recipes").mkdir()
    (folder / "recipes/captions.yaml").write_text(
        "extends: captions-embedded\nsource: {path: ../pairs, image_folder: ../pairs}\n"
        "concepts: {lexicon: ../lists/lexicon.parquet}\ntext: {flagged_words: {words_path: ../lists/flagged.txt}}\n"
        f"decontaminate: {{sets: {sets}}}\npair_check: {{min_cosine: null, min_probability: null}}\n"
        "work: {scan_pairs: 6, check_pairs: 6, match_pairs: 4, encode_bytes: 100000}\n"
    )
    (folder / "recipes/documents.yaml").write_text(
        "extends: documents-embedded\nsource: {path: ../pages, images: ../pages}\nlexicon: ../lists/lexicon.parquet\n"
        "document: {flagged_words: {words_path: ../lists/flagged.txt}}\npairing: {min_similarity: -1}\n"
        "work: {check_nodes: 6, pair_nodes: 6}\n"
    )
    (folder / "recipes/speech.yaml").write_text(
        "extends: speech-embedded\nsource: {path: ../speech}\nfirst_opinion: {engine: sidecar}\n"
        "second_opinion: {engine: sidecar}\naligner: {engine: pocketsphinx, dictionary_path: ../lists/words.dict}\n"
        "work: {listen_s: 3, transcribe_s: 3, encode_s: 3}\n"
    )
    return folder


def finished(hosts: Hosts, project: Path, recipe: str, store: Path, *more: str) -> tuple[int, str]:
    """The command on the head's host, from the project's folder."""
    words = [sys.executable, "-m", "dags.cli", "run", f"recipes/{recipe}.yaml", "--store", str(store), *more]
    process = hosts.command(words, cwd=project)
    out, said = process.communicate(timeout=400)
    return process.returncode, out.decode() + said.decode()


def objects(root: Path) -> dict[str, bytes]:
    """Everything that a run leaves, but what tells times."""
    store = Store(root)
    found = {name: store.read(name) for name in store.names("") if not name.startswith(("measures/", "leases/"))}
    return {name: data for name, data in found.items() if not name.endswith("receipt.json") and "/_runs/" not in name}


def inline(hosts: Hosts, project: Path, recipe: str, store: Path) -> Version:
    if not store.exists():
        finished(hosts, project, recipe, store, "--runner", "inline")
    return read_version(Store(store), recipe)


@pytest.mark.parametrize("recipe", ["captions", "documents", "speech"])
def test_on_three_hosts_relative_paths_give_the_bytes_of_one_process(
    hosts: Hosts, project: Path, recipe: str, tmp_path: Path
) -> None:
    alone = inline(hosts, project, recipe, project / f"inline-{recipe}")
    code, said = finished(hosts, project, recipe, tmp_path / "s", "--address", hosts.address, "--workers", "3")
    assert code == 0, said
    version = read_version(Store(tmp_path / "s"), recipe)
    assert version == alone and version.accepted and version.shards, said
    assert objects(tmp_path / "s") == objects(project / f"inline-{recipe}")
    assert "../" not in json.dumps(version.recipe)


def test_a_worker_that_does_not_see_what_the_recipe_names_ends_the_run_naming_its_host(
    hosts: Hosts, project: Path, tmp_path: Path
) -> None:
    blind = hosts.add(hidden=[project / "lists"])
    try:
        hosts.wait(4)
        code, said = finished(hosts, project, "captions", tmp_path / "s", "--address", hosts.address, "--workers", "4")
        assert code != 0
        words = " ".join(said.split())
        assert f"worker on {blind.name} ({blind.address}): host {blind.name}: {project}/lists/" in words, said
        assert "cannot be seen" in words and "Traceback" not in said
        store = Store(tmp_path / "s")
        ledgers = [store.read_table(name) for name in store.names("parts") if "/ledger-" in name]
        assert not any("failed" in ledger["verdict"].to_pylist() for ledger in ledgers)
        assert not store.names("captions/_versions")
    finally:
        blind.kill()


def test_without_the_token_nobody_joins(hosts: Hosts, project: Path, tmp_path: Path) -> None:
    stranger = Hosts(hosts.folder, token="0" * 64, hosts=hosts.hosts)
    started = time.monotonic()
    code, said = finished(stranger, project, "captions", tmp_path / "s", "--address", hosts.address)
    assert code != 0 and "RAY_AUTH_TOKEN" in said and time.monotonic() - started < 60


def test_a_host_that_dies_in_the_midst_costs_nothing(hosts: Hosts, project: Path, tmp_path: Path) -> None:
    alone = inline(hosts, project, "captions", project / "inline-captions")
    words = [sys.executable, "-m", "dags.cli", "run", "recipes/captions.yaml", "--store", str(tmp_path / "s")]
    process = hosts.command([*words, "--address", hosts.address, "--workers", "3"], cwd=project)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "s").glob("parts/*/*/receipt.json"))) < 8 and time.monotonic() < deadline:
        time.sleep(0.1)
    hosts.hosts[2].kill()
    out, said = process.communicate(timeout=400)
    assert process.returncode == 0, (out + said).decode()
    version = read_version(Store(tmp_path / "s"), "captions")
    assert version == alone and not any(wrong for _, wrong in verify(Store(tmp_path / "s"), version))
    assert objects(tmp_path / "s") == objects(project / "inline-captions")
