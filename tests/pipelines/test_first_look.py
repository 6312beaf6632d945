"""`--limit N` takes N source rows, and opens no more files than it takes to find them."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from curation.first_look import LEAST_FILES, ROW_BYTES, opened_files, shares
from tests.support.small_corpus import audit, curate
from tests.support.small_pairs import QUIET, pairs, write_tars

COUNTS = st.lists(st.integers(0, 50), max_size=12)


@given(COUNTS, st.integers(0, 200))
def test_shares_are_what_was_asked_for_or_all_that_there_is(counts: list[int], limit: int) -> None:
    taken = shares(counts, limit)
    assert sum(taken) == min(limit, sum(counts))
    assert all(0 <= few <= count for few, count in zip(taken, counts, strict=True))
    # No file gives two more than one that has some left.
    most = max(taken, default=0)
    assert all(few >= most - 1 for few, count in zip(taken, counts, strict=True) if few < count)


@given(COUNTS, st.integers(0, 200), st.integers(0, 50))
def test_a_larger_limit_takes_no_less_of_any_file(counts: list[int], limit: int, more: int) -> None:
    assert all(few <= many for few, many in zip(shares(counts, limit), shares(counts, limit + more), strict=True))


def files(count: int, size: int | None, format_: str = "tar") -> list[dict[str, Any]]:
    return [{"name": f"{n}", "row_id": f"{n:05}", "size_bytes": size, "format": format_} for n in range(count)]


@pytest.mark.parametrize(
    ("rows", "limit", "opened"),
    [
        (files(500, 1_000_000_000), 500, LEAST_FILES),
        (files(500, 10 * ROW_BYTES), 500, 50),
        (files(500, 1000), 500, 500),
        (files(500, 1000), 7, 7),
        (files(5, 1_000_000_000), 500, 5),
        (files(500, 10**9, "html"), 300, 300),
        (files(500, None, "files"), 300, 300),
        (files(500, 1_000_000_000), None, 500),
    ],
)
def test_large_files_are_enough_by_few(rows: list[dict[str, Any]], limit: int | None, opened: int) -> None:
    assert len(opened_files(rows, limit)) == opened


def test_the_help_of_limit_says_what_it_counts() -> None:
    for command in ("run", "plan"):
        text = " ".join(curate(command, "--help").out.replace("│", " ").split())
        assert "this many source rows (recordings, pairs, documents)" in text


def test_a_first_look_at_a_hundred_tars_takes_pairs_not_tars(tmp_path: Path) -> None:
    write_tars(tmp_path / "in", pairs(200), 100)
    sets = [word for one in (f"source.path={tmp_path / 'in'}", *QUIET) for word in ("--set", one)]
    for limit, tars in ((30, 30), (130, 100)):
        store = tmp_path / f"store-{limit}"
        more = ("--store", str(store), "--runner", "inline", "--limit", str(limit))
        done = curate("run", "captions-embedded", *sets, *more)
        assert done.code == 0, done.err
        [found] = audit(store, "select (select count(*) from entries) as n, (select count(*) from listing) as tars")
        assert found == {"n": limit, "tars": tars}
        assert audit(store, "select count(*) as n from packed") == [{"n": limit}]
