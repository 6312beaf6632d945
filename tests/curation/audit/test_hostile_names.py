"""Names that a stranger wrote into a store never run as SQL, and a question reads the version's tables and no more."""

import json
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, strategies as st

from curation.audit.views import QueryError, ask, everything_about, open_views, why
from curation.errors import CurateError, StageError, StoreError
from curation.runtime.withdrawing import find_withdrawal
from curation.sql import UnquotableName, identifier, literal
from curation.store.dataset_card import Subset, loading_snippets
from curation.store.objects import Store
from curation.store.parts import Receipt, put_table
from curation.store.versions import NodeRecord, Version, publish
from schemas.ledger import LEDGER, LINEAGE
from tests.support.small_corpus import curate

LEDGER_ROW = dict.fromkeys(LEDGER.names) | {
    "row_id": "r1",
    "node": "n",
    "kind": "item",
    "made": False,
    "verdict": "kept",
    "uri": "/a",
}
ROWS = pa.table({"row_id": ["r1"], "url": ["http://a"], "place": ["p"], "image_hash": ["h"], "verdict": ["kept"]})


def copying(target: Path) -> str:
    return f"copy (select 42) to '{target}'"


def hostile_names(target: Path) -> list[str]:
    """Names that are SQL as soon as anything forgets to quote them."""
    run = copying(target)
    return [
        f'x" as select 1; {run}; create view "y',
        f'x"; {run}; --',
        f"x'; {run}; --",
        f"x') ; {run}; select ('",
        f'x" where 1=1; {run}; from "x',
        f'"; {run}; "',
        f'x"" as select 1; {run}; create view ""y',
        f'x\\"; {run}; --',
        f"x`; {run}; --",
        f"x]; {run}; --",
        f"x\n; {run}; --",
        f"x\r\n{run};\r\n",
        f"x/**/;{run};/**/",
        f"x$$; {run}; $$",
        f"x\u2019; {run}; --",
        f"x\uff02; {run}; --",
        f"x\u02ba; {run}; --",
        f'main"."x"; {run}; --',
        f"(select 1); {run}",
        f"x; {run}",
        f"{run}",
        f'a"b"c; {run}',
        f"$1; {run}",
        f"?; {run}",
        f"%s; {run}",
        f"{{x}}; {run}",
        f"\u202e; {run}",
        f"{'x' * 5000}; {run}",
        f"read_csv('/etc/passwd'); {run}",
        f"'/etc/passwd'; {run}",
        "duckdb_views",
        "information_schema.tables",
        "main.pg_class",
        "x\" union all select content from read_text('/etc/passwd') --",
        "x' union all select content from read_text('/etc/passwd') --",
        "..",
        "select",
        "[bold red]x[/bold red]",
    ]


def stored(root: Path, names: list[str], folder: str = "parts/names", version: int = 1) -> tuple[Store, Version]:
    """A store with one version that has a node of each name."""
    store = Store(root)
    nodes = []
    for number, name in enumerate(names):
        part = f"{folder}/{number}"
        files = {
            "rows": put_table(store, part, "rows", ROWS),
            "ledger": put_table(store, part, "ledger", pa.Table.from_pylist([LEDGER_ROW | {"node": "n"}], LEDGER)),
            "lineage": put_table(store, part, "lineage", LINEAGE.empty_table()),
        }
        counts = {"item": {"kept": 1}}
        content = Receipt(name, part, files, counts, 1).content()
        nodes.append(NodeRecord(name, "f", [content], 1, {}, counts, {}))
    made = Version("data", version, None, {}, [], nodes, [])
    publish(store, made)
    return store, made


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "written"


def test_no_name_of_a_node_runs(tmp_path: Path) -> None:
    assert len(hostile_names(tmp_path)) >= 30
    for number in range(len(hostile_names(tmp_path))):
        # Within the store, where a file could be written before.
        target = tmp_path / f"store-{number}" / "written"
        name = hostile_names(target)[number]
        store, version = stored(tmp_path / f"store-{number}", [name])
        views = open_views(store, version)
        assert name in [row["view_name"] for row in ask(views, "select view_name from duckdb_views()").to_pylist()]
        assert everything_about(views, [name], "r1")["url"] == "http://a"
        assert [row["row_id"] for row in why(views, "r1")] == ["r1"]
        assert find_withdrawal(views, version, source="http://a").ids == ("r1",)
        place = str(tmp_path / f"store-{number}")
        for command in (["audit"], ["audit", "--why", "r1"], ["sheet", "--out", str(tmp_path / "s.png")], ["status"]):
            done = curate(*command, "--store", place)
            assert "Traceback" not in done.err
            assert done.code == 0 or command[0] == "sheet", done.err
        done = curate("withdraw", "--source", "http://a", "--dry-run", "--store", place)
        assert done.code == 0 and "Traceback" not in done.err
        assert not target.exists(), name


def test_no_name_of_a_column_runs(tmp_path: Path, target: Path) -> None:
    """Columns of a known view are named in SQL, so that those that it lacks can be added."""
    names = hostile_names(target)
    store = Store(tmp_path / "store")
    rows = pa.table({"row_id": ["r1"]} | {name: [number] for number, name in enumerate(names)})
    files = {"rows": put_table(store, "p", "rows", rows)}
    node = NodeRecord("matched", "f", [Receipt("matched", "p", files).content()], 1)
    views = open_views(store, Version("data", 1, None, {"pipeline": "captions"}, [], [node], []))
    [row] = ask(views, "from matched").to_pylist()
    assert {name: row[name] for name in names} == {name: number for number, name in enumerate(names)}
    assert row["similarity"] is None and not target.exists()
    assert everything_about(views, ["matched"], "r1")[names[0]] == 0


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "\0"])
def test_names_that_sql_cannot_hold_are_one_clear_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnquotableName):
        identifier(name)
    store = Store(tmp_path)
    files = {"rows": put_table(store, "p", "rows", ROWS)}
    node = NodeRecord(name, "f", [Receipt("n", "p", files).content()], 1)
    with pytest.raises(CurateError):
        open_views(store, Version("data", 1, None, {}, [], [node], []))


@pytest.mark.parametrize("name", ["ledger", "LINEAGE", "Shards"])
def test_a_node_cannot_stand_for_the_ledger(tmp_path: Path, name: str) -> None:
    store, version = stored(tmp_path, [name])
    with pytest.raises(StoreError, match="two views"):
        open_views(store, version)
    store, version = stored(tmp_path / "two", ["a", "A"])
    with pytest.raises(StoreError, match="two views"):
        open_views(store, version)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_a_quoted_name_is_that_name_and_a_quoted_text_that_text(text: str) -> None:
    with duckdb.connect() as connection:
        found = connection.execute(f"select {literal(text)} as {identifier(text)}")
        assert found.description is not None and found.description[0][0] == text
        assert found.fetchall() == [(text,)]


def hostile_questions(store: Path, outside: Path, target: Path) -> list[str]:
    """Questions that would read or write something else than the version."""
    return [
        *(f"from {reader}('{outside}')" for reader in ("read_text", "read_blob", "read_csv", "read_json", "sniff_csv")),
        *(f"from {reader}('{outside}.parquet')" for reader in ("read_parquet", "parquet_metadata", "parquet_schema")),
        *(f"from {reader}('{outside}.parquet')" for reader in ("parquet_kv_metadata", "parquet_file_metadata")),
        f"from '{outside}'",
        f"from '{outside}.parquet'",
        f"from '{outside}.csv'",
        f"select * from glob('{outside.parent}/*')",
        "from glob('/*')",
        f"from read_text('{store}/../{outside.name}')",
        f"from read_text('{store}/unlisted.txt')",
        f"from read_parquet('{store}/*/*/*.parquet')",
        f"from read_text('{store}/data/_versions/1.json')",
        "select getenv('HOME')",
        "from read_text('/proc/self/environ')",
        "from read_csv('http://127.0.0.1:9/x')",
        "from read_parquet('s3://bucket/x')",
        f"from read_duckdb('{outside}')",
        f"from query({literal(copying(target))})",
        f"from query({literal(f'from read_text({literal(str(outside))})')})",
        f"from query_table({literal(str(outside) + '.parquet')})",
        f"from enable_logging(storage='file', storage_config={{'path': '{target}'}})",
        f"from enable_profiling(save_location='{target}')",
        copying(target),
        f"select 1; {copying(target)}",
        f"with t as ({copying(target)}) from t",
        f"explain analyze {copying(target)}",
        f"copy ledger to '{target}' (format csv)",
        f"copy ledger to '{store}/written' (format csv)",
        f"export database '{target}'",
        f"attach '{target}' as other",
        f"create table t as from read_text('{outside}')",
        "create view ledger as select 1",
        "drop view ledger",
        "insert into ledger values (1)",
        "install httpfs",
        "load httpfs",
        "set enable_external_access = true",
        "set lock_configuration = false",
        f"set temp_directory = '{target}'",
        "reset enable_external_access",
        f"pragma profiling_output = '{target}'",
        f"pragma import_database('{outside.parent}')",
        "pragma enable_profiling",
        "call pragma_version()",
        f"prepare p as {copying(target)}",
        "from secret_of_this_process",
        "select 1 from duckdb_secrets()",
        "checkpoint",
        "select \udce9",
    ]


def test_no_question_reads_or_writes_outside_the_version(tmp_path: Path, target: Path) -> None:
    secret_of_this_process = pa.table({"hush": ["hush"]})
    outside = tmp_path / "outside"
    outside.write_text("hush")
    outside.with_suffix(".csv").write_text("hush\nhush\n")
    pq.write_table(secret_of_this_process, tmp_path / "outside.parquet")
    root = tmp_path / "store"
    store, version = stored(root, ["items"])
    (root / "unlisted.txt").write_text("hush")
    before = sorted(tmp_path.rglob("*"))
    questions = hostile_questions(root, outside, target)
    assert len(questions) >= 30
    for question in questions:
        with pytest.raises(QueryError):
            ask(open_views(store, version), question)
        assert sorted(tmp_path.rglob("*")) == before, question
    done = curate("audit", questions[0], "--store", str(root))
    assert done.code == 2 and "Traceback" not in done.err and "hush" not in done.out + done.err


def test_big_answers_spill_to_a_folder_of_their_own_that_goes_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store, version = stored(tmp_path / "store", ["items"])
    views = open_views(store, version)
    [spill] = views.execute("select current_setting('temp_directory')").fetchone() or [""]
    assert Path(spill).parent == tmp_path and Path(spill).name.startswith("curate-audit-")
    assert views.execute("select count(*) from ledger").fetchall() == [(1,)]
    views.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


@pytest.mark.parametrize("pattern", ["*", "?", "[ab]", "**", "{a,b}", "a'b", "a%b", "_", "[!x]", "x/**/y"])
def test_a_pattern_in_a_path_is_that_path(tmp_path: Path, pattern: str) -> None:
    store, _ = stored(tmp_path / "st*re [1]", ["items"], folder="parts/a")
    put_table(store, "parts/b/0", "rows", ROWS.set_column(0, "row_id", pa.array(["another"])))
    _, mine = stored(tmp_path / "st*re [1]", ["items"], folder=f"parts/{pattern}", version=2)
    views = open_views(store, mine)
    assert ask(views, "select row_id from items").to_pylist() == [{"row_id": "r1"}]
    [node] = mine.nodes
    rows = node.parts[0]["files"]["rows"]
    moved = json.loads(json.dumps(node.parts[0]))
    for path in (f"parts/{pattern}*/0/*.parquet", "parts/b/?/*.parquet", "parts/[b]/0/rows-*.parquet"):
        moved["files"]["rows"] = rows | {"path": path}
        with pytest.raises(StoreError, match="cannot read"):
            open_views(store, replace(mine, nodes=[replace(node, parts=[moved])]))


@pytest.mark.parametrize("name", ['jpg"]));import os;os.system("x', "jpg'\"", "a b", "", "j\nx", "JPG", "../x", "x;"])
def test_no_name_becomes_code_in_the_card(name: str) -> None:
    good = Subset("jpg", "", ("jpg",), {"train": 1}, 1, {}, {}, "c")
    assert loading_snippets(good)
    for bad in (replace(good, name=name), replace(good, extensions=(name,)), replace(good, splits={name: 1})):
        with pytest.raises(StageError):
            loading_snippets(bad)
