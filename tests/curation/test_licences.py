"""Rows of licences that a recipe does not allow stay out, however they are written."""

import json
import tarfile
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from curation.licences import SEPARATOR, AllowedLicence
from curation.runtime.chain import run_chain
from tests.support.small_corpus import Answer, audit, curate
from tests.support.small_pairs import QUIET, Pair, caption, image_bytes, pairs, write_folder

ALLOWED = ("CC0-1.0", "CC-BY-4.0")
OWN = (*ALLOWED, "Apache-2.0", "BSD-3-Clause", "MIT")
"""With those of the engines that these runs need."""

TERMS = st.sampled_from(["CC0-1.0", "CC-BY-4.0", "CC-BY-NC-4.0", "proprietary", "", " ", "cc0"])


def decided(*licences: str | None) -> list[str | None]:
    """Why each row stays out; None where it does not."""
    ids = [f"{n:03d}" for n in range(len(licences))]
    rows = pa.table(
        {
            **{"row_id": ids, "root": ids, "ordinal": pa.array([0] * len(ids), pa.int64())},
            **{"kind": ["pair"] * len(ids), "uri": ids, "licence": pa.array(licences, pa.string())},
        }
    )
    ledger = run_chain("n", [AllowedLicence(ALLOWED)], rows).ledger.to_pylist()
    return [row["reason"] for row in sorted(ledger, key=lambda row: row["row_id"])]


@pytest.mark.parametrize(
    ("licence", "reason"),
    [
        ("CC0-1.0", None),
        ("CC-BY-4.0; CC0-1.0", None),
        (None, "licence_not_stated"),
        ("", "licence_not_stated"),
        ("proprietary", "licence_not_allowed"),
        ("CC0-1.0; proprietary", "licence_not_allowed"),
        ("; ", "licence_not_allowed"),
        ("CC0-1.0; ", "licence_not_allowed"),
        ("CC0-1.0;CC-BY-4.0", "licence_not_allowed"),
        ("not CC0-1.0", "licence_not_allowed"),
        ("CC0-1.0\n", "licence_not_allowed"),
    ],
)
def test_only_what_is_written_as_the_recipe_has_it_is_allowed(licence: str | None, reason: str | None) -> None:
    assert decided(licence) == [reason]


@given(st.lists(st.lists(TERMS, min_size=1, max_size=4), min_size=1, max_size=8))
def test_what_came_under_several_licences_needs_all_of_them(several: list[list[str]]) -> None:
    kept = [reason is None for reason in decided(*(SEPARATOR.join(terms) for terms in several))]
    assert kept == [set(terms) <= set(ALLOWED) for terms in several]


def run(source: Path, store: Path, *sets: str) -> Answer:
    words = [word for one in (f"source.path={source}", *QUIET, *sets) for word in ("--set", one)]
    return curate("run", "captions-embedded", *words, "--store", str(store), "--runner", "inline")


def write_licensed(path: Path, *said: tuple[Pair, object]) -> None:
    with tarfile.open(path, "w") as tar:
        for pair, licence in said:
            known = json.dumps({"caption": pair.caption, "licence": licence}).encode()
            for name, data in ((f"{pair.key}.jpg", pair.image), (f"{pair.key}.json", known)):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, BytesIO(data))


def test_the_same_pair_under_a_licence_that_is_not_allowed_does_not_come_in_by_the_other(tmp_path: Path) -> None:
    source, store = tmp_path / "in", tmp_path / "store"
    source.mkdir()
    shared, *others = pairs(6)
    odd: list[object] = ["CC0-1.0", ["CC0-1.0"], 7, None, "CC0-1.0; GPL-3.0-only"]
    write_licensed(source / "a.tar", (shared, "CC0-1.0"), *zip(others, odd, strict=True))
    write_licensed(source / "b.tar", (shared, "proprietary"))
    allowed = f"allow_licences=[{', '.join(OWN)}]"
    done = run(source, store, allowed)
    assert done.code == 0, done.err
    told = audit(store, "select uri, reason from ledger where verdict = 'rejected'")
    assert {Path(row["uri"]).stem: row["reason"] for row in told} == {
        shared.key: "licence_not_allowed",
        others[1].key: "licence_not_stated",
        others[2].key: "licence_not_stated",
        others[3].key: "licence_not_stated",
        others[4].key: "licence_not_allowed",
    }
    assert audit(store, "select licence, count(*) n from packed group by 1") == [{"licence": "CC0-1.0", "n": 1}]
    card = (store / "captions/1/README.md").read_text()
    assert "proprietary" not in card.split("## Recipe")[0]


def test_what_the_source_says_of_all_counts_where_a_pair_says_nothing(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "in", pairs(3))
    allowed = f"allow_licences=[{', '.join(OWN)}]"
    refused = run(source, tmp_path / "store", allowed, "source.licence=proprietary")
    assert refused.code == 5 and "licence_not_allowed" in refused.err
    assert run(source, tmp_path / "store", allowed, "source.licence=CC-BY-4.0").code == 0
    one = Pair("one", image_bytes(9), caption(9))
    write_licensed(source / "a.tar", (one, "proprietary"))
    assert run(source, tmp_path / "store", allowed, "source.licence=CC-BY-4.0").code == 0
    told = audit(tmp_path / "store", "select uri, reason from ledger where verdict = 'rejected'")
    assert [(Path(row["uri"]).stem, row["reason"]) for row in told] == [("one", "licence_not_allowed")]
