"""Views keep their names and their columns whatever the recipe, and no column has a name that SQL reserves."""

import importlib
import pkgutil
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

import curation
import schemas
from curation.audit.contact_sheet import groups
from curation.audit.views import QueryError, ask, columns_of, open_views
from curation.errors import SourceError
from curation.proving import caption_score, document_score
from curation.runtime.chain import check_chain
from curation.runtime.nodes import Listing, Map, Pack, Pipeline, Reduce, stages_of
from curation.stage import Stage, mark
from curation.store.objects import Store
from curation.store.parts import Receipt, put_table
from curation.store.versions import NodeRecord, Version, read_version
from dags.dag import PIPELINES, read_job
from schemas.ledger import LEDGER
from schemas.shards import SHARD_INDEX, SQL_NAMES
from schemas.views import SAW, VIEWS
from tests.curation.audit.test_hostile_names import LEDGER_ROW, stored
from tests.support.small_corpus import audit, curate
from tests.support.small_pairs import QUIET, pairs, write_tars

DOCS = (Path(__file__).parents[3] / "docs" / "audit.md").read_text()
EVERYTHING_ON = {"speech": (), "captions": ("density={}",), "documents": ()}
FILES = {"speech": "a.wav", "captions": "a.tar", "documents": "a.html"}


def whole_pipeline(name: str, folder: Path) -> Pipeline:
    """A pipeline with every step that makes a view."""
    (folder / FILES[name]).write_bytes(b"")
    return read_job(f"{name}-embedded", [f"source.path={folder}", *EVERYTHING_ON[name]]).pipeline


def columns_by_node(pipeline: Pipeline) -> dict[str, set[str]]:
    """What each node's rows have, by what its stages say they write."""
    columns: dict[str, set[str]] = {}
    for node in pipeline.nodes:
        match node:
            case Listing():
                columns[node.name] = set(node.rows.column_names)
            case Map() | Reduce():
                joined = [name for join in node.joins for name in columns[join]]
                after = check_chain(node.name, [*columns[node.source], *joined], stages_of(node))
                # A reduce that answers for documents names them by their root.
                columns[node.name] = {*node.function.writes, "root"} if isinstance(node, Reduce) else set(after)
            case Pack():
                columns[node.name] = {*SHARD_INDEX.names, *node.layout.index}
    return columns


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_the_stated_views_are_the_nodes_of_the_pipeline_with_columns_that_they_write(name: str, tmp_path: Path) -> None:
    columns = columns_by_node(whole_pipeline(name, tmp_path))
    assert list(VIEWS[name]) == list(columns)
    for view, schema in VIEWS[name].items():
        assert set(schema.names) - {one.name for one in SAW} <= columns[view], view


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_the_docs_list_every_view_of_a_pipeline(name: str) -> None:
    chapter = re.split(r"^### ", DOCS, flags=re.MULTILINE)
    [text] = [part for part in chapter if part.startswith(f"{name}\n")]
    assert re.findall(r"^\| (\w+) \| ", text, re.MULTILINE)[1:] == list(VIEWS[name])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of captions with every step on."""
    folder = tmp_path_factory.mktemp("whole")
    write_tars(folder / "in", pairs(60))
    kept_all = ("pair_check.min_cosine=null", "resampling.min_quality=-1", "concepts.keep_unmatched=true")
    return run_captions(folder, "density={}", *kept_all)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of captions with every step off that can be."""
    folder = tmp_path_factory.mktemp("quiet")
    write_tars(folder / "in", pairs(12))
    return run_captions(folder, *QUIET, "perceptual=null", "text=null", "usable=null")


def run_captions(folder: Path, *settings: str) -> Path:
    sets = [word for one in (f"source.path={folder / 'in'}", *settings) for word in ("--set", one)]
    done = curate("run", "captions-embedded", *sets, "--store", str(folder / "store"), "--runner", "inline")
    assert done.code == 0, done.err
    return folder / "store"


def types(views: duckdb.DuckDBPyConnection, view: str) -> dict[str, str]:
    question = "select column_name, data_type from duckdb_columns() where table_name = $1"
    return {name: type_ for name, type_ in views.execute(question, [view]).fetchall()}


def test_a_recipe_that_switches_steps_off_takes_no_view_and_no_column_away(whole: Path, quiet: Path) -> None:
    on, off = (open_views(Store(store), read_version(Store(store), "captions")) for store in (whole, quiet))
    for view, schema in VIEWS["captions"].items():
        there, here = types(on, view), types(off, view)
        for name in (SQL_NAMES.get(name, name) for name in schema.names):
            assert here[name] == there[name], (view, name)
    made = {row["view"] for row in audit(whole, "select view_name as view from duckdb_views() where not internal")}
    kept = {row["view"] for row in audit(quiet, "select view_name as view from duckdb_views() where not internal")}
    assert made == kept == {*VIEWS["captions"], "ledger", "lineage", "shards"}


def test_questions_of_a_whole_run_are_answered_by_a_quiet_one(quiet: Path) -> None:
    views = open_views(Store(quiet), read_version(Store(quiet), "captions"))
    for question in caption_score.QUESTIONS:
        assert ask(views, question).column_names
    assert ask(views, "select count(*) as n from matched").to_pylist() == [{"n": 0}]
    assert ask(views, "select count(similarity) as n, count(*) as all from encoded").to_pylist() == [
        {"n": 0, "all": 12}
    ]
    assert ask(views, "select first_byte, size from packed order by first_byte limit 1")["first_byte"].to_pylist() == [
        0
    ]
    assert groups(views, read_version(Store(quiet), "captions"), 3)[0].count == 12


def test_a_version_of_another_pipeline_has_the_views_of_its_nodes(tmp_path: Path) -> None:
    store, version = stored(tmp_path, ["items"])
    assert not columns_of(open_views(store, version), "matched")
    for recipe in ({"pipeline": "documents"}, {"pipeline": ["documents"]}, {"pipeline": None}):
        views = open_views(store, replace(version, recipe=recipe))
        assert bool(columns_of(views, "paired")) == (recipe["pipeline"] == "documents")
        assert columns_of(views, "items")
        with pytest.raises(SourceError):
            groups(views, replace(version, nodes=[]), 3)
    views = open_views(store, replace(version, recipe={"pipeline": "documents"}))
    for question in document_score.QUESTIONS:
        assert ask(views, question).column_names


def reserved() -> set[str]:
    question = "select keyword_name from duckdb_keywords() where keyword_category = 'reserved'"
    return {name for (name,) in duckdb.sql(question).fetchall()}


def test_no_column_has_a_name_that_sql_reserves() -> None:
    """Fields within a column may: after a dot, SQL takes any name."""
    names: dict[str, str] = {}
    for module in pkgutil.iter_modules(schemas.__path__):
        for schema in vars(importlib.import_module(f"schemas.{module.name}")).values():
            if isinstance(schema, pa.Schema):
                names |= {SQL_NAMES.get(name, name): module.name for name in schema.names}
    for module in pkgutil.walk_packages(curation.__path__, "curation."):
        importlib.import_module(module.name)
    for stage in every_stage(Stage):
        written: Any = stage.__dict__.get("writes", ())
        names |= {name: stage.__name__ for name in (written if isinstance(written, tuple) else ())}
    assert len(names) > 200 and {"threshold", "first_byte"} <= set(names)
    assert not {name: where for name, where in names.items() if name.casefold() in reserved()}
    assert "limit" in reserved()


def every_stage(parent: type[Stage]) -> list[type[Stage]]:
    return [one for child in parent.__subclasses__() for one in (child, *every_stage(child))]


def test_what_pipelines_write_is_asked_for_without_quotes(whole: Path) -> None:
    views = open_views(Store(whole), read_version(Store(whole), "captions"))
    for view in ("ledger", "lineage", "shards", *VIEWS["captions"]):
        for name in columns_of(views, view):
            ask(views, f"select {name} from {view} where {name} is null order by {name} limit 1")


def ledger_part(store: Store, number: int, former: bool) -> NodeRecord:
    """A node whose one rejected row is in a ledger of today, or in one of before."""
    row = LEDGER_ROW | {"row_id": f"r{number}", "verdict": "rejected", "value": 3.0, "threshold": 2.0 + number}
    ledger = pa.Table.from_pylist([row], LEDGER)
    if former:
        ledger = ledger.rename_columns(["limit" if name == "threshold" else name for name in ledger.column_names])
    content = {
        "node": "n",
        "part": f"p/{number}",
        "files": {"ledger": vars(put_table(store, f"p/{number}", "ledger", ledger))},
    }
    return NodeRecord(f"n{number}", "f", [content], 1)


@pytest.mark.parametrize("former", [(True,), (False,), (True, False), (False, True, True)])
def test_ledgers_of_before_are_read_under_the_names_of_today(tmp_path: Path, former: tuple[bool, ...]) -> None:
    store = Store(tmp_path)
    nodes = [ledger_part(store, number, old) for number, old in enumerate(former)]
    views = open_views(store, Version("data", 1, None, {}, [], nodes, []))
    assert "limit" not in columns_of(views, "ledger")
    found = ask(views, "select threshold from ledger order by row_id")["threshold"].to_pylist()
    assert found == [2.0 + number for number in range(len(former))]


def test_a_decision_with_a_field_that_the_ledger_lacks_is_a_defect() -> None:
    rows = pa.table({"row_id": ["a"]})
    with pytest.raises(Exception, match="'limit' is none of them"):
        mark(rows, [{"verdict": "rejected", "reason": "x", "value": 1.0, "limit": 2.0, "error": None}])


def test_views_of_a_store_elsewhere_are_the_same(tmp_path: Path, s3: str) -> None:
    answers = []
    for root in (str(tmp_path), f"{s3}/views"):
        store = Store(root)
        nodes = [ledger_part(store, number, old) for number, old in enumerate((True, False))]
        rows = put_table(store, "p/m", "rows", pa.table({"row_id": ["r1"], 'x" as y; --': [1]}))
        nodes.append(NodeRecord("matched", "f", [Receipt("matched", "p/m", {"rows": rows}).content()], 1))
        sample = {"key": "k", "shard": "train-000000.tar", "row_id": "r1", "offset": 512, "size": 1024, "parts": []}
        index = put_table(store, "p/x", "index", pa.Table.from_pylist([sample], SHARD_INDEX))
        nodes.append(NodeRecord("packed", "f", [Receipt("packed", "p/x", {"index": index}).content()], 1))
        views = open_views(store, Version("captions", 1, None, {"pipeline": "captions"}, [], nodes, []))
        questions = (
            "select threshold from ledger order by 1",
            'select row_id, similarity, "x"" as y; --" as strange from matched',
            "select key, first_byte, shard from packed",
            "select * from concept_balance",
            "select count(*) as n from shards",
        )
        answers.append([ask(views, question).to_pylist() for question in questions])
        with pytest.raises(QueryError):
            ask(views, "from read_text('/etc/passwd')")
    assert answers[0] == answers[1]
    assert answers[0][:3] == [
        [{"threshold": 2.0}, {"threshold": 3.0}],
        [{"row_id": "r1", "similarity": None, "strange": 1}],
        [{"key": "k", "first_byte": 512, "shard": "train-000000.tar"}],
    ]
