"""The pipeline of image-text pairs, as its users run it: what is broken, what is run again, what comes out."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from curation.hashing import bytes_digest
from curation.store.objects import Store
from curation.store.versions import Version, read_version
from tests.support.small_corpus import Answer, audit, curate
from tests.support.small_pairs import QUIET, Pair, caption, image_bytes, pairs, spoilt, write_folder, write_tars

MATCHED = "pair_check.min_cosine=-1"
"""For images of which the embedded engine knows nothing."""


def run(source: Path, store: Path, *sets: str, runner: str = "inline", more: tuple[str, ...] = ()) -> Answer:
    settings = [word for setting in (f"source.path={source}", *sets) for word in ("--set", setting)]
    return curate("run", "captions-embedded", *settings, "--store", str(store), "--runner", runner, *more)


def last(store: Path) -> Version:
    return read_version(Store(store), "captions")


def kept(store: Path) -> set[str]:
    """The names of the pairs in the shards, without that of their file."""
    version = last(store)
    names: set[str] = set()
    for receipt in version.receipts("packed"):
        names |= set(Store(store).read_table(receipt.files["index"].path)["name"].to_pylist())
    return {name.rsplit("/", 1)[1].split(".")[0] for name in names}


def counted(store: Path, node: str) -> dict[str, int]:
    """Verdicts of a node's pairs."""
    record = last(store).node(node)
    assert record is not None
    return record.counts["pair"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tars(tmp_path_factory.mktemp("pairs"), pairs(60), shards=3)


@pytest.mark.slow
def test_20_corrupt_among_10000_fail_alone_and_by_name(tmp_path: Path) -> None:
    some = pairs(10_000)
    broken = {some[n].key for n in range(7, 10_000, 500)}
    write_tars(tmp_path / "in", [spoilt(pair) if pair.key in broken else pair for pair in some], shards=4)
    done = run(tmp_path / "in", tmp_path / "store", *QUIET)
    assert done.code == 0, done.err
    assert counted(tmp_path / "store", "checked") == {"failed": 20, "kept": 9980}
    assert kept(tmp_path / "store") == {pair.key for pair in some} - broken
    told = audit(tmp_path / "store", "select uri, stage, error from ledger where verdict = 'failed'")
    assert {row["uri"].rsplit("/", 1)[1].split(".")[0] for row in told} == broken
    assert {row["stage"] for row in told} == {"ImageQuality"}
    assert all("cannot be decoded" in row["error"] and row["uri"].split("/")[-2] in row["error"] for row in told)
    strict = run(tmp_path / "in", tmp_path / "store", *QUIET, "max_failed_share=0.001")
    assert strict.code == 5 and "20 of 10000 pair rows failed at checked" in strict.err


def test_one_image_with_three_captions_is_three_pairs_and_one_image(tmp_path: Path) -> None:
    shared = image_bytes(1)
    some = [Pair(f"{n:03d}", shared, caption(n)) for n in range(3)] + pairs(4, first=10)
    write_tars(tmp_path / "in", some)
    assert run(tmp_path / "in", tmp_path / "store", *QUIET).code == 0
    found = audit(tmp_path / "store", "select count(*) n, count(distinct image_hash) images from packed")
    assert found == [{"n": 7, "images": 5}]
    card = (tmp_path / "store/captions/1/README.md").read_text()
    assert "| jpg | 7 | 5 |" in card


def test_the_same_pair_in_two_files_is_one_with_both_names(tmp_path: Path) -> None:
    some = pairs(4)
    write_tars(tmp_path / "in/a", some)
    write_tars(tmp_path / "in/b", [replace(some[0], key="again"), *pairs(2, first=50)])
    assert run(tmp_path / "in", tmp_path / "store", *QUIET).code == 0
    found = audit(tmp_path / "store", "select occurrences from pairs where len(occurrences) > 1")
    assert [[name.split("/")[0] for name in row["occurrences"]] for row in found] == [["a", "b"]]
    assert counted(tmp_path / "store", "checked") == {"kept": 6}


def test_the_bytes_of_images_come_through_untouched(corpus: Path, tmp_path: Path) -> None:
    import webdataset

    assert run(corpus, tmp_path, *QUIET).code == 0
    shards = sorted(map(str, (tmp_path / "captions/1/jpg").glob("*.tar")))
    given = {bytes_digest(pair.image): pair for pair in pairs(60)}
    seen = 0
    for sample in webdataset.WebDataset(shards, shardshuffle=False):
        known = json.loads(sample["json"])
        assert given[bytes_digest(sample["jpg"])].caption == sample["txt"].decode() == known["text"]
        assert known["image_hash"] == bytes_digest(sample["jpg"]) and known["licence"] == "CC0-1.0"
        seen += 1
    assert seen == 60


def test_images_are_encoded_again_only_where_the_recipe_asks(corpus: Path, tmp_path: Path) -> None:
    import webdataset

    assert run(corpus, tmp_path, *QUIET, "image={format: webp, max_side: 120, quality: 80}").code == 0
    [sample, *_] = webdataset.WebDataset(str(tmp_path / "captions/1/webp/train-000000.tar"), shardshuffle=False)
    with Image.open(io.BytesIO(sample["webp"])) as image:
        assert (image.format, max(image.size)) == ("WEBP", 120)


def test_images_of_other_formats_are_subsets_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    some = [replace(pair, image=image_bytes(n, format_="png")) for n, pair in enumerate(pairs(6))]
    write_folder(folder, [*some[:3], *pairs(3, first=3)])
    assert run(folder, tmp_path / "store", *QUIET).code == 0
    assert {shard.subset: shard.samples for shard in last(tmp_path / "store").shards} == {"jpg": 3, "png": 3}


def test_a_second_run_finds_everything_done_and_makes_no_version(corpus: Path, tmp_path: Path) -> None:
    first = run(corpus, tmp_path, MATCHED)
    assert first.code == 0, first.err
    again = run(corpus, tmp_path, MATCHED)
    assert again.code == 0 and "nothing changed since version captions/1" in again.out
    assert all(" 0 units computed" in line for line in again.out.splitlines() if "units computed" in line)


def test_a_changed_similarity_limit_decides_again_and_embeds_nothing(corpus: Path, tmp_path: Path) -> None:
    assert run(corpus, tmp_path, MATCHED).code == 0
    measures = Store(tmp_path).names("measures")
    assert any("EmbedImage" in name for name in measures)
    [middle] = audit(tmp_path, "select median(similarity) as cosine from matched")
    changed = run(corpus, tmp_path, f"pair_check.min_cosine={middle['cosine']}")
    assert changed.code == 0, changed.err
    assert counted(tmp_path, "matched") == {"kept": 30, "rejected": 30}
    assert Store(tmp_path).names("measures") == measures
    computed = [line.split(":")[0] for line in changed.out.splitlines() if "1 units computed" in line]
    assert computed[0] == "matched", "nothing before it is done again"


def test_more_pairs_embed_only_themselves(tmp_path: Path) -> None:
    write_tars(tmp_path / "in/a", pairs(30))
    store = Store(tmp_path / "store")
    assert run(tmp_path / "in", tmp_path / "store", MATCHED).code == 0
    before = set(store.names("measures"))
    write_tars(tmp_path / "in/b", pairs(7, first=100))
    assert run(tmp_path / "in", tmp_path / "store", MATCHED).code == 0
    fresh = [name for name in store.names("measures") if name not in before and "EmbedImage" in name]
    assert sum(store.read_table(name).num_rows for name in fresh) == 7


BALANCED = ("embedder=null", "clusters=null", "semantic=null", "resampling=null", "concepts.limits.given.en=4")


@pytest.mark.ray
@pytest.mark.slow
def test_concept_balance_keeps_the_same_pairs_however_the_source_is_cut_and_whoever_runs_it(tmp_path: Path) -> None:
    some = pairs(150)
    found = []
    for shards in (1, 2, 7):
        write_tars(tmp_path / f"in{shards}", some, shards=shards)
        assert run(tmp_path / f"in{shards}", tmp_path / f"store{shards}", *BALANCED).code == 0
        found.append(kept(tmp_path / f"store{shards}"))
    ray = run(tmp_path / "in7", tmp_path / "ray", *BALANCED, runner="ray", more=("--workers", "2"))
    assert ray.code == 0, ray.err
    found.append(kept(tmp_path / "ray"))
    assert 20 < len(found[0]) < 150
    assert found.count(found[0]) == 4
    same = [Store(tmp_path / name).read(s.path) for name in ("store7", "ray") for s in last(tmp_path / name).shards]
    assert same[: len(same) // 2] == same[len(same) // 2 :]


def test_doubling_t_keeps_every_pair_that_was_kept_and_who_is_not_drawn_is_sampled_out(tmp_path: Path) -> None:
    write_tars(tmp_path / "in", pairs(150))
    found = []
    for t in (4, 8):
        settings = (*BALANCED[:-1], f"concepts.limits.given.en={t}")
        assert run(tmp_path / "in", tmp_path / "store", *settings).code == 0
        found.append(kept(tmp_path / "store"))
    assert found[0] < found[1]
    assert counted(tmp_path / "store", "encoded") == {"kept": len(found[1]), "sampled_out": 150 - len(found[1])}
    balance = audit(tmp_path / "store", "from concept_balance")
    assert {row["entry"] for row in balance} >= {"dog", "cat"}
    for row in balance:
        assert abs(row["kept"] - row["expected"]) <= 4 * row["deviation"] + 1e-9
        if row["count"] <= row["t"]:
            assert row["kept"] == row["count"]
    [tail] = audit(tmp_path / "store", "from tail_coverage where language = 'en'")
    assert tail["matches_before"] == sum(row["count"] for row in balance)
    assert tail["matches_after"] == sum(row["kept"] for row in balance)
    assert tail["tail_entries"] == tail["tail_entries_whole"] > 0
    assert tail["tail_share_after"] > tail["tail_share_before"]


def test_a_licence_that_is_not_allowed_is_named(tmp_path: Path) -> None:
    write_tars(tmp_path / "in", pairs(3))
    write_folder(tmp_path / "in/loose", pairs(3, first=10))
    allowed = "allow_licences=[Apache-2.0, CC0-1.0, BSD-3-Clause, MIT]"
    done = run(tmp_path / "in", tmp_path / "store", *QUIET, allowed)
    assert done.code == 0, done.err
    reasons = audit(tmp_path / "store", "select reason, count(*) n from ledger where verdict = 'rejected' group by 1")
    assert reasons == [{"reason": "licence_not_stated", "n": 3}]


def test_pairs_that_are_in_an_evaluation_set_go_under_its_name(tmp_path: Path) -> None:
    some = pairs(20)
    write_tars(tmp_path / "in", some)
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval/one.jpg").write_bytes(some[3].image)
    sets = f"decontaminate={{sets: [{{name: holdout, path: {tmp_path / 'eval'}}}]}}"
    assert run(tmp_path / "in", tmp_path / "store", *QUIET, sets).code == 0
    told = audit(tmp_path / "store", "select uri, reason from ledger where verdict = 'rejected'")
    assert [(row["uri"].rsplit("/", 1)[1], row["reason"]) for row in told] == [("000000003.jpg", "in_holdout")]


def test_a_pair_is_withdrawn_by_the_url_that_it_came_from(corpus: Path, tmp_path: Path) -> None:
    assert run(corpus, tmp_path, *QUIET).code == 0
    url = "http://example.org/000000007.jpg"
    done = curate("withdraw", "--source", url, "--store", str(tmp_path))
    assert done.code == 0 and "changed: captions/1/jpg/train-000000.tar" in done.out, done.err
    assert "000000007" not in kept(tmp_path) and len(kept(tmp_path)) == 59
    assert run(corpus, tmp_path, *QUIET).code == 0
    assert "000000007" not in kept(tmp_path) and len(kept(tmp_path)) == 59


def test_a_file_that_is_withdrawn_takes_none_of_its_name_with_it(tmp_path: Path) -> None:
    for name, first in (("a", 0), ("b", 50)):
        write_tars(tmp_path / name, pairs(4, first=first))
    store = tmp_path / "store"
    write_tars(tmp_path / "a" / "more", pairs(2, first=90))
    assert run(tmp_path / "a", store, *QUIET).code == 0
    assert curate("withdraw", "--source", str(tmp_path / "a" / "00000.tar"), "--store", str(store)).code == 0
    assert run(tmp_path / "b", store, *QUIET).code == 0
    assert kept(store) == {f"{n:09d}" for n in range(50, 54)}


def test_a_first_look_takes_as_many_pairs_as_it_says(corpus: Path, tmp_path: Path) -> None:
    assert run(corpus, tmp_path, *QUIET, more=("--limit", "9")).code == 0
    assert len(kept(tmp_path)) == 9


@pytest.mark.ray
@pytest.mark.slow
def test_every_loader_of_the_card_reads_the_images_as_they_were(corpus: Path, tmp_path: Path) -> None:
    assert run(corpus, tmp_path / "store", *QUIET).code == 0
    folder = tmp_path / "store/captions/1"
    card = (folder / "README.md").read_text()
    snippets = dict(re.findall(r"^### (.+?)\n\n```python\n(.*?)^```$", card, re.MULTILINE | re.DOTALL))
    sizes = sorted(len(pair.image) for pair in pairs(60))
    offline: dict[str, str] = {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    offline["RAY_ADDRESS"] = "local"  # not the cluster of a test beside this one
    for loader in ("webdataset", "datasets", "Ray", "DuckDB, and one part out of a shard"):
        words = [sys.executable, "-c", snippets[loader]]
        done = subprocess.run(words, cwd=folder, env=os.environ | offline, capture_output=True, text=True, check=False)
        said = re.findall(r"^[0-9a-f]{32} (\d+)$", done.stdout, re.MULTILINE)
        assert sorted(map(int, said)) == sizes, f"{loader}: {done.stderr[-2000:]}"


def test_captions_are_clustered_by_their_texts_alone_where_no_image_is_embedded(corpus: Path, tmp_path: Path) -> None:
    texts = ("embedder=null", "text_embedder=hashed-ngrams", "clusters.clusters=4", "semantic=null", "concepts=null")
    assert run(corpus, tmp_path, *texts, "resampling={quality: null, whole_until: 5, alpha: 0}").code == 0
    assert not any("EmbedImage" in name for name in Store(tmp_path).names("measures"))
    [found] = audit(tmp_path, "select count(distinct cluster) n from encoded")
    assert found["n"] == 4
    assert counted(tmp_path, "encoded").keys() == {"kept", "sampled_out"}


def test_density_keeps_exactly_its_share(corpus: Path, tmp_path: Path) -> None:
    texts = ("embedder=null", "text_embedder=hashed-ngrams", "clusters.clusters=4", "semantic=null", "concepts=null")
    assert run(corpus, tmp_path, *texts, "resampling=null", "density={keep_fraction: 0.35}").code == 0
    assert counted(tmp_path, "encoded") == {"kept": 21, "sampled_out": 39}
    reasons = audit(tmp_path, "select distinct reason from ledger where verdict = 'sampled_out'")
    assert reasons == [{"reason": "density_pruned"}]


def test_images_that_are_pages_of_text_are_dropped_where_a_reader_is_asked(tmp_path: Path) -> None:
    page = Image.new("RGB", (420, 300), "white")
    lines = ("The harbour was quiet this morning", "and nobody had seen the old boat", "since the storm of last winter")
    for number, line in enumerate(lines * 3):
        ImageDraw.Draw(page).text((6, 4 + 32 * number), line, fill="black", font=ImageFont.load_default(25))
    sink = io.BytesIO()
    page.save(sink, "jpeg", quality=92)
    write_tars(tmp_path / "in", [*pairs(3), Pair("page", sink.getvalue(), caption(9))])
    done = run(tmp_path / "in", tmp_path / "store", *QUIET, "text_reader=rapidocr")
    assert done.code == 0, done.err
    told = audit(tmp_path / "store", "select uri, reason from ledger where verdict = 'rejected'")
    assert [(row["uri"].rsplit("/", 1)[1], row["reason"]) for row in told] == [("page.jpg", "image_is_text")]
    [read] = audit(tmp_path / "store", "select text_in_image from matched where text_in_image like '%harbour%'")
    assert "nobody had seen" in read["text_in_image"]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    write_tars(tmp_path / "in", pairs(400), shards=8)
    sets = (MATCHED, "work.scan_pairs=40", "work.check_pairs=40", "work.match_pairs=20")
    assert run(tmp_path / "in", tmp_path / "whole", *sets).code == 0
    words = [w for s in (f"source.path={tmp_path / 'in'}", *sets) for w in ("--set", s)]
    command = [sys.executable, "-m", "dags.cli", "run", "captions-embedded", *words, "--runner", "inline"]
    for seconds in (2.5, 4.0):
        words = [*command, "--store", str(tmp_path / "killed")]
        child = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL)
        time.sleep(seconds)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    assert run(tmp_path / "in", tmp_path / "killed", *sets).code == 0
    both = [[Store(tmp_path / n).read(s.path) for s in last(tmp_path / n).shards] for n in ("whole", "killed")]
    assert both[0] == both[1]
