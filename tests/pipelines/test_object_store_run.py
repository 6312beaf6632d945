"""A whole run on an object store: the same shards as on disk, found again, verified, audited."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

from curation.store.objects import Store
from curation.store.versions import read_version
from tests.support.small_corpus import READ_ALONG, audit, curate, run, speak_corpus


def test_a_run_on_an_object_store_gives_the_shards_of_a_run_on_disk(s3: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    speak_corpus(tmp_path / "in")
    url = f"{s3}/curated"
    on_disk = run(tmp_path / "in", tmp_path / "store", *READ_ALONG)
    assert on_disk.code == 0, on_disk.err
    away = run(tmp_path / "in", url, *READ_ALONG)
    assert away.code == 0, away.err
    here, there = read_version(Store(tmp_path / "store"), "speech"), read_version(Store(url), "speech")
    assert [shard.sha256 for shard in there.shards] == [shard.sha256 for shard in here.shards] and here.shards
    for shard in there.shards:
        assert hashlib.sha256(Store(url).read(shard.path)).hexdigest() == shard.sha256
    assert there.content() == here.content()
    again = run(tmp_path / "in", url, *READ_ALONG)
    assert "nothing changed since version speech/1" in again.out
    assert curate("verify", "--store", url).code == 0
    question = "select node, verdict, count(*) as rows from ledger group by all order by all"
    assert audit(url, question) == audit(tmp_path / "store", question)


def test_what_the_readme_says_of_endpoint_and_credentials_is_enough(s3: str) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    said = set(re.findall(r"AWS_\w+", readme[readme.index("### Where the store is") :]))
    needed = {"AWS_ENDPOINT", "AWS_ALLOW_HTTP", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"}
    assert needed <= said
    bare = {name: value for name, value in os.environ.items() if not name.startswith("AWS_") or name in needed}
    code = "import sys; from curation.store.objects import Store; s = Store(sys.argv[1]); s.create('a/b', b'x'); print(s.names('a'))"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code, f"{s3}/readme"], env=bare, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "['a/b']"
