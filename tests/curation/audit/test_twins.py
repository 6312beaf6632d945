"""A duplicate is shown with the row that stays and its distance; a list that is cut says how to see all of it."""

import io
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curation.audit.contact_sheet import HEADING, MARGIN, TILE, Group, _font, _lines, contact_sheet, groups
from curation.audit.twins import twin_columns, with_twins
from curation.audit.views import open_views, why
from curation.store.objects import Store
from curation.store.parts import Receipt, put_table
from curation.store.versions import NodeRecord, Version, read_version
from dags.output import MOST_LINES
from schemas.ledger import LEDGER
from tests.curation.audit.test_hostile_names import LEDGER_ROW
from tests.support.small_corpus import audit, curate
from tests.support.small_pairs import QUIET, Pair, caption, image_bytes, spoilt, write_folder

BROKEN = 25


def small(number: int) -> bytes:
    """The image of a number at two thirds of its size: a perceptual duplicate, and the one that goes."""
    with Image.open(io.BytesIO(image_bytes(number, 360, 300))) as image:
        sink = io.BytesIO()
        image.resize((240, 200)).save(sink, "PNG")
    return sink.getvalue()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images, two of them in a smaller copy too, and many that are broken."""
    folder = tmp_path_factory.mktemp("twins")
    some = [Pair(f"good{n}", image_bytes(n, 360, 300), caption(n)) for n in range(6)]
    some += [Pair(f"copy{n}", small(n), caption(n + 50)) for n in range(2)]
    some += [spoilt(Pair(f"broken{n}", image_bytes(100 + n), caption(100 + n))) for n in range(BROKEN)]
    write_folder(folder / "in", some)
    sets = [word for one in (f"source.path={folder / 'in'}", *QUIET, "max_failed_share=1.0") for word in ("--set", one)]
    done = curate("run", "captions-embedded", *sets, "--store", str(folder / "store"), "--runner", "inline")
    assert done.code == 0, done.err
    (folder / "said").write_text(done.err)
    return folder / "store"


def duplicates(store: Path) -> list[dict[str, Any]]:
    question = "select row_id, uri, value, threshold from ledger where reason = 'perceptual_duplicate' order by uri"
    found = audit(store, question)
    assert [Path(row["uri"]).stem for row in found] == ["copy0", "copy1"]
    return found


def test_why_tells_of_a_duplicate_who_stays_and_how_near_it_is(store: Path) -> None:
    for row in duplicates(store):
        done = curate("audit", "--why", row["row_id"], "--store", str(store), "--json")
        told = [json.loads(line) for line in done.out.splitlines()]
        [twin] = [one for one in told if one["duplicate_of"]]
        assert twin["reason"] == "perceptual_duplicate" and twin["row_id"] == row["row_id"]
        assert Path(twin["duplicate_uri"]).stem == Path(row["uri"]).stem.replace("copy", "good")
        stays = audit(store, f"select row_id from packed where row_id = '{twin['duplicate_of']}'")
        assert stays == [{"row_id": twin["duplicate_of"]}]
        assert twin["duplicate_distance"] == row["value"]
        table = curate("audit", "--why", row["row_id"], "--store", str(store)).out
        assert twin["duplicate_of"] in table and twin["duplicate_uri"] in table and "duplicate_of" in table


def test_why_of_a_row_that_is_no_duplicate_has_no_column_for_it(store: Path) -> None:
    kept = audit(store, "select row_id from packed limit 1")[0]["row_id"]
    assert "duplicate_uri" not in curate("audit", "--why", kept, "--store", str(store)).out


def version_with(root: Path, columns: dict[str, list[Any]], **entry: Any) -> tuple[Store, Version]:
    """A version of one node that saw two rows, of which the second was rejected."""
    store = Store(root)
    rows = pa.table({"row_id": ["stays", "goes"], **columns})
    entries = [
        LEDGER_ROW | {"row_id": "stays", "uri": "/first"},
        LEDGER_ROW | {"row_id": "goes", "uri": "/second", "verdict": "rejected"} | entry,
    ]
    files = {"rows": put_table(store, "p", "rows", rows)}
    files["ledger"] = put_table(store, "p", "ledger", pa.Table.from_pylist(entries, LEDGER))
    lineage = pa.table({name: pa.array([], pa.string()) for name in ("child", "parent", "node")})
    files["lineage"] = put_table(store, "p", "lineage", lineage)
    node = NodeRecord("n", "f", [Receipt("n", "p", files).content()], 2)
    return store, Version("data", 1, None, {}, [], [node], [])


@pytest.mark.parametrize(
    ("columns", "entry", "distance"),
    [
        ({"duplicate_of": [None, "stays"], "duplicate_distance": [None, 3.0]}, {"value": 3.0, "threshold": 6.0}, 3.0),
        ({"perceptual_duplicate_of": [None, "stays"]}, {"value": 4.0}, 4.0),
        ({"perceptual_duplicate_of": [None, "stays"], "perceptual_distance": [None, 5]}, {}, 5.0),
        ({"semantic_duplicate_of": [None, "stays"], "semantic_similarity": [None, 0.75]}, {}, 0.25),
        ({"exact_duplicate_of": [None, "stays"]}, {}, None),
        (
            {"perceptual_duplicate_of": pa.nulls(2, pa.string()), "semantic_duplicate_of": [None, "stays"]}
            | {"perceptual_distance": pa.nulls(2, pa.int64()), "semantic_similarity": [None, 0.5]},
            {},
            0.5,
        ),
    ],
)
def test_every_way_to_say_whose_duplicate_a_row_is_is_understood(
    tmp_path: Path, columns: dict[str, list[Any]], entry: dict[str, Any], distance: float | None
) -> None:
    store, version = version_with(tmp_path, columns, **entry)
    views = open_views(store, version)
    kept, gone = (with_twins(views, list(why(views, row_id)))[0] for row_id in ("stays", "goes"))
    assert (kept["duplicate_of"], kept["duplicate_uri"], kept["duplicate_distance"]) == (None, None, None)
    assert (gone["duplicate_of"], gone["duplicate_uri"]) == ("stays", "/first")
    assert gone["duplicate_distance"] == (None if distance is None else pytest.approx(distance))
    assert gone["threshold"] == entry.get("threshold")


def test_rows_without_columns_of_duplicates_have_no_twins(tmp_path: Path) -> None:
    store, version = version_with(tmp_path, {"value": [1, 2]})
    views = open_views(store, version)
    assert with_twins(views, list(why(views, "goes")))[0]["duplicate_of"] is None
    assert twin_columns([]) == ("coalesce(null, null)::varchar", "coalesce(null, null)::double")


def test_the_sheet_draws_the_one_that_stays_beside_its_duplicate(store: Path) -> None:
    version = read_version(Store(store), "captions")
    shown = {group.reason: group for group in groups(open_views(Store(store), version), version, 8)}
    group = shown["perceptual_duplicate"]
    assert group.count == len(group.rows) == 2
    for row in group.rows:
        assert Path(row["twin"]["uri"]).stem == Path(row["uri"]).stem.replace("copy", "good")
    with Image.open(io.BytesIO(contact_sheet([group], 8))) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    top = MARGIN + HEADING
    tiles = [pixels[top : top + TILE, x : x + TILE] for x in range(MARGIN, 4 * (TILE + MARGIN), TILE + MARGIN)]
    first, stays, second, stays_too = tiles
    assert np.abs(first - stays).mean() < 12 > np.abs(second - stays_too).mean()
    assert np.abs(first - second).mean() > 30
    assert all(row.get("twin") is None for name, other in shown.items() if name != group.reason for row in other.rows)


def test_a_duplicate_whose_twin_is_not_to_be_shown_is_named() -> None:
    row = {"row_id": "goes", "uri": "/x", "place": None, "image_hash": None, "text": "", "twin": None}
    row |= {"value": 3.0, "threshold": 6.0, "duplicate_of": "0123456789abcdef", "duplicate_distance": None}
    lines = "".join(_lines(row, _font(11)))
    assert "distance 3, threshold 6" in lines and "0123456789abcdef" in lines.replace(" ", "")
    assert Group("rejected", "x", 1, [row]).heading == "rejected: x (1)"


def test_a_list_of_failures_that_is_cut_says_which_question_shows_them_all(store: Path) -> None:
    lines = (store.parent / "said").read_text().splitlines()
    [rest] = [line for line in lines if line.startswith("…")]
    assert rest.startswith(f"… and {BROKEN - MOST_LINES} more: curate audit ")
    assert len([line for line in lines if line.startswith("failed in")]) == MOST_LINES
    words = shlex.split(rest.partition(": ")[2])
    done = curate(*words[1:], "--json")
    assert done.code == 0 and len(done.out.splitlines()) == BROKEN


def test_damage_that_is_cut_is_listed_with_all(store: Path, tmp_path: Path) -> None:
    version = read_version(Store(store), "captions")
    parts = [
        vars(file) for node in version.nodes for part in version.parts(node.name) for file in part["files"].values()
    ]
    names = sorted({file["path"] for file in (*parts, *map(vars, version.files))})
    assert len(names) > MOST_LINES
    copy = tmp_path / "sto re"
    for file in store.rglob("*"):
        if file.is_file():
            target = copy / file.relative_to(store)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    for name in names:
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(bytes(data))
    done = curate("verify", "--store", str(copy))
    [rest] = [line for line in done.err.splitlines() if line.startswith("…")]
    assert done.code == 1
    again = curate(*shlex.split(rest.partition(": ")[2])[1:])
    assert again.code == 1 and len(again.err.splitlines()) > MOST_LINES and "…" not in again.err


def test_the_sheet_says_which_question_lists_all(store: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "sheet.png")
    done = curate("sheet", "--out", out, "--store", str(store), "--per-reason", "2")
    [line] = [line for line in done.out.splitlines() if line.startswith("all of them: ")]
    rows = curate(*shlex.split(line.partition(": ")[2])[1:], "--json").out.splitlines()
    assert len(rows) == audit(store, "select count(*) as n from ledger")[0]["n"]
    assert "all of them" not in curate("sheet", "--out", out, "--store", str(store), "--per-reason", "99").out
