"""From a finished run to a version: its funnel, its card, its shards under their names, and the manifest last."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from curation.engines.engine import Engine
from curation.hashing import bytes_digest, digest
from curation.media.source_splits import TRAIN, held_out_rank
from curation.runtime.failures import Failures, failures_of, too_many
from curation.runtime.nodes import Pack, Pipeline
from curation.runtime.run import Run, Runner, Watcher
from curation.stage import Reference, Stage
from curation.store.dataset_card import Counts, EngineUse, FunnelRow, SourceTerms, Subset, dataset_card
from curation.store.layout import Amount
from curation.store.objects import Store
from curation.store.parts import BLOB, PartFile, Receipt, read_part_table
from curation.store.shard_index import energon_files, index_bytes, subset_index
from curation.store.tar_shards import shard_name, shard_split
from curation.store.versions import (
    NodeRecord,
    ShardRecord,
    ShelfRecord,
    Version,
    claim_number,
    publish,
    read_version,
    remove_folder,
    version_numbers,
)
from curation.store.withdrawals import WithdrawnSince, withdrawal_records, withdrawn_from
from schemas.ledger import FAILED, KEPT, REJECTED, SAMPLED_OUT

COVERAGE = "concept_coverage"
"""The reduce whose table stands on the card."""


def run_and_publish(
    run: Run,
    runner: Runner,
    watcher: Watcher,
    recipe: dict[str, Any],
    max_failed_share: float,
    max_defect_share: float = 1.0,
    *,
    limit: int | None = None,
    before: Callable[[], None] = lambda: None,
) -> tuple[Version, bool]:
    """Run a pipeline to a version, and say whether it is new.

    If something is withdrawn on the way, the run goes over its nodes again without it.

    Args:
        before: called before anything is published; it may object by raising.

    Raises:
        RunFailed: no result can be had.
        StoreError: an object that would be listed is damaged.
    """
    while True:
        receipts = run.run(runner, watcher)
        before()
        withdrawn = run.withdrawn.asked
        try:
            return publish_run(
                run.pipeline,
                recipe,
                max_failed_share,
                receipts,
                run.store,
                limit=limit,
                withdrawn=withdrawn,
                computed=run.computed,
                max_defect_share=max_defect_share,
            )
        except WithdrawnSince:
            run = replace(run, withdrawn=withdrawn_from(run.store, run.pipeline.dataset), retry_failed=False)


def publish_run(
    pipeline: Pipeline,
    recipe: dict[str, Any],
    max_failed_share: float,
    receipts: dict[str, list[Receipt]],
    store: Store,
    limit: int | None = None,
    withdrawn: Sequence[str] = (),
    computed: Collection[str] = (),
    max_defect_share: float = 1.0,
) -> tuple[Version, bool]:
    """The version of a run, and whether it is new: the same content as the newest version needs no other.

    The version is visible only when its manifest is put, and that comes last.

    Args:
        withdrawn: what the run left out, as it was asked for.
        computed: parts that were written just now; all others are compared with their checksums before they are listed.

    Raises:
        WithdrawnSince: more was withdrawn while the run went on.
        StoreError: an object that would be listed is damaged.
    """
    nodes = [node_record(node.name, node.fingerprint(), receipts[node.name], store) for node in pipeline.nodes]
    packs = [receipt for node in pipeline.nodes if isinstance(node, Pack) for receipt in receipts[node.name]]
    failures = {node.name: failures_of(receipts[node.name], store) for node in pipeline.nodes}
    verdict = judge(nodes, failures, max_failed_share, max_defect_share)
    newest = _newest(store, pipeline.dataset)
    draft = Version(
        dataset=pipeline.dataset,
        number=0,
        parent=newest.number if newest else None,
        recipe=recipe,
        engines=[
            *(engine_record(pipeline, engine) for engine in pipeline.engines()),
            *(reference_record(stage, reference) for stage in pipeline.stages() for reference in stage.references()),
        ],
        nodes=nodes,
        shards=shard_records(packs),
        limit=limit,
        accepted=not verdict,
        verdict=verdict,
        shelves=[shelf_record(node) for node in pipeline.nodes if isinstance(node, Pack)],
        withdrawn=list(withdrawn),
    )
    if newest and newest.content() == draft.content():
        return newest, False
    for node in pipeline.nodes:
        check_files([receipt for receipt in receipts[node.name] if receipt.part not in computed], store)
    return put_version(draft, packs, store)


def check_files(receipts: Iterable[Receipt], store: Store) -> None:
    """Compare the tables and shards of parts with their checksums. Blobs are compared as they are copied.

    Raises:
        StoreError: naming the object that is damaged.
    """
    for receipt in receipts:
        for role, file in receipt.files.items():
            if role != BLOB:
                store.check(file.path, file.xxh3)


def put_version(draft: Version, packs: Sequence[Receipt], store: Store) -> tuple[Version, bool]:
    """Give a version a number, its shards their names, and its folder card and indexes; then make it visible.

    A withdrawal makes numbers void that were claimed before it, so what was withdrawn is read after the claim: a
    version that becomes visible after a withdrawal knows of it.

    Args:
        draft: all but its number, the paths of its shards, and its files.
        packs: the receipts of its shards.

    Raises:
        WithdrawnSince: more was withdrawn than the draft leaves out.
    """
    content = draft.content()
    while True:
        number = claim_number(store, draft.dataset, content, draft.parent or 0)
        if {record.asked for record in withdrawal_records(store, draft.dataset)} - set(draft.withdrawn):
            raise WithdrawnSince(f"something was withdrawn from {draft.dataset} meanwhile; run the same command again")
        found = _put_version(draft, number, packs, store)
        if found is not None:
            return found


def _put_version(draft: Version, number: int, packs: Sequence[Receipt], store: Store) -> tuple[Version, bool] | None:
    """A version under a number that was claimed for it; None if the claim was made void."""
    if (beside := _newest(store, draft.dataset)) and beside.content() == draft.content():
        return beside, False  # a run at the same time was first
    folder = f"{draft.dataset}/{number}"
    shards = [replace(shard, path=f"{folder}/{shard.path}") for shard in draft.shards]
    for shard in shards:
        store.link(shard.part_path, shard.path)
    version = replace(draft, number=number, shards=shards)
    files = {f"{folder}/{name}": data for name, data in version_files(version, packs, store).items()}
    for path, data in files.items():
        store.create(path, data)
    records = [PartFile(path, len(data), bytes_digest(data)) for path, data in sorted(files.items())]
    version = replace(version, files=records)
    found = publish(store, version)
    if found is None:
        remove_folder(store, version)
    return found


def _newest(store: Store, dataset: str) -> Version | None:
    return read_version(store, dataset) if version_numbers(store, dataset) else None


def judge(
    nodes: Sequence[NodeRecord],
    failures: Mapping[str, Mapping[str, Failures]],
    max_failed_share: float,
    max_defect_share: float,
) -> str:
    """Why a run's result is not to be trusted; empty where it is."""
    listed = next((node.rows_in for node in nodes if node.rows_in), 0)
    for node in nodes:
        if why := too_many(node, failures.get(node.name, {}), max_failed_share, max_defect_share):
            return why
    decided = [node for node in nodes if node.counts]
    emptied = next((node for node in decided if not node.verdicts(KEPT)), None)
    if not listed or emptied is None:
        return ""
    worst = max(((n, r) for counts in emptied.reasons.values() for r, n in counts.items()), default=None)
    sampled = any(counts.get(SAMPLED_OUT) for counts in emptied.counts.values())
    rest = "mostly sampled out" if sampled else "all failed; `curate audit` shows how"
    why = f"mostly for {worst[1]}" if worst else rest
    return f"nothing was kept of {listed} files: {emptied.name} kept no row, {why}"


def engine_record(pipeline: Pipeline, engine: Engine) -> dict[str, Any]:
    """What a version says of an engine."""
    return {
        "engine": engine.label,
        "role": next(stage.name for stage in pipeline.stages() if engine in stage.engines()),
        "fingerprint": engine.fingerprint(),
        "repeatable": engine.repeatable,
        "code_licence": engine.code_licence,
        "weights_licence": engine.weights_licence,
        "limits": engine.limits,
    }


def reference_record(stage: Stage, reference: Reference) -> dict[str, Any]:
    """What a version says of a list that rows were judged by; it stands among the engines."""
    return {
        "engine": reference.name,
        "role": stage.name,
        "fingerprint": digest([reference.name, reference.licence, reference.covers]),
        "repeatable": True,
        "code_licence": "",
        "weights_licence": reference.licence,
        "limits": reference.covers,
    }


def shelf_record(shelf: Pack) -> ShelfRecord:
    """What a version says of a pack."""
    layout = shelf.layout
    amounts, origins = ([asdict(amount) for amount in several] for several in (layout.amounts, layout.origins))
    return ShelfRecord(shelf.name, shelf.source, dict(layout.subsets), amounts, origins)


def shard_records(packs: Sequence[Receipt]) -> list[ShardRecord]:
    """Shards with their names, numbered within each split of a subset in the order of the plan."""
    numbers: Counter[tuple[str, str]] = Counter()
    records = []
    for receipt in packs:
        subset = receipt.details["subset"]
        split = receipt.details.get("split", TRAIN)
        name = f"{subset}/{shard_name(split, numbers[subset, split])}"
        numbers[subset, split] += 1
        shard = receipt.files["shard"]
        details = receipt.details
        records.append(ShardRecord(name, shard.path, subset, shard.size, details["sha256"], details["samples"]))
    return records


def version_files(version: Version, packs: Sequence[Receipt], store: Store) -> dict[str, bytes]:
    """The card, the indexes and Energon's files, by their path in the version's folder."""
    files: dict[str, bytes] = {}
    subsets = []
    amounts = [Amount(**amount) for shelf in version.shelves for amount in shelf.amounts]
    told = {name: words for shelf in version.shelves for name, words in shelf.subsets.items()}
    for name in sorted({shard.subset for shard in version.shards}, key=lambda name: ([*told, name].index(name), name)):
        tables = []
        mine = [shard for shard in version.shards if shard.subset == name]
        parts = {receipt.files["shard"].path: receipt for receipt in packs}
        for shard in mine:
            table = read_part_table(store, parts[shard.part_path].files["index"])
            file_name = shard.path.rsplit("/", 1)[1]
            place = table.column_names.index("shard")
            names = pa.array([file_name] * table.num_rows, pa.string())
            tables.append(table.set_column(place, table.schema.field("shard"), names))
        index = subset_index(tables)
        files[f"index/{name}.parquet"] = index_bytes(index)
        files |= {f"{name}/{path}": data for path, data in energon_files(index).items()}
        extensions = tuple(part["extension"] for part in index["parts"][0].as_py())
        of_splits = Counter(shard_split(shard.path.rsplit("/", 1)[1]) for shard in mine)
        # Whoever names none gets the first: what is trained on.
        splits = dict(sorted(of_splits.items(), key=lambda item: (-held_out_rank(item[0]), item[0])))
        size = sum(shard.size for shard in mine)
        counted, languages = _counts(index, amounts), _languages(index, amounts)
        content = digest([shard.sha256 for shard in mine])
        subsets.append(Subset(name, told.get(name, ""), extensions, splits, size, counted, languages, content))
    files["README.md"] = dataset_card(
        title=version.dataset,
        version=str(version.number),
        subsets=subsets,
        sources=[terms for shelf in version.shelves for terms in _terms(version, shelf, store)],
        engines=[_use(engine) for engine in version.engines],
        coverage=_coverage(version, store),
        funnel=[row for node in version.nodes for row in funnel_rows(node)],
        recipe=yaml.safe_dump(version.recipe, sort_keys=False, allow_unicode=True),
    ).encode()
    return files


def funnel_rows(node: NodeRecord) -> list[FunnelRow]:
    """A node of the funnel, a line for each kind of row that it saw."""
    return [
        FunnelRow(
            node=f"{node.name}: {kind}",
            came_in=sum(counts.values()) - node.made.get(kind, 0),
            made=node.made.get(kind, 0),
            kept=counts.get(KEPT, 0),
            rejected=node.reasons.get(kind, {}),
            sampled_out=counts.get(SAMPLED_OUT, 0),
            failed=counts.get(FAILED, 0),
        )
        for kind, counts in sorted(node.counts.items(), key=lambda item: (item[0] in node.made, item[0]))
    ]


def node_record(name: str, fingerprint: str, receipts: Sequence[Receipt], store: Store) -> NodeRecord:
    """What a version says of a node: its parts, and what became of its rows."""
    counts: dict[str, Counter[str]] = {}
    reasons: dict[str, Counter[str]] = {}
    made: Counter[str] = Counter()
    for receipt in receipts:
        made.update(receipt.made)
        for kind, verdicts in receipt.counts.items():
            counts.setdefault(kind, Counter()).update(verdicts)
        if any(REJECTED in verdicts for verdicts in receipt.counts.values()):
            ledger = read_part_table(store, receipt.files["ledger"], ["kind", "verdict", "reason"])
            ledger = ledger.filter(pc.equal(ledger["verdict"], REJECTED))
            for row in ledger.group_by(["kind", "reason"]).aggregate([([], "count_all")]).to_pylist():
                reasons.setdefault(row["kind"], Counter())[row["reason"]] += row["count_all"]
    return NodeRecord(
        name=name,
        fingerprint=fingerprint,
        parts=[receipt.content() for receipt in receipts],
        rows_in=sum(receipt.rows_in for receipt in receipts),
        made={kind: n for kind, n in sorted(made.items())},
        counts={kind: dict(sorted(counts[kind].items())) for kind in sorted(counts)},
        reasons={kind: dict(sorted(reasons[kind].items())) for kind in sorted(reasons)},
    )


def _counts(rows: pa.Table, amounts: Iterable[Amount]) -> Counts:
    """How many rows, and what else is counted of them."""
    counts: dict[str, float] = {"samples": rows.num_rows}
    for amount in amounts:
        column = rows[amount.column]
        if amount.per is None:
            counts[amount.heading] = pc.count_distinct(column).as_py()
        else:
            total = math.fsum(column.drop_null().to_pylist()) / amount.per
            counts[amount.heading] = int(total) if pa.types.is_integer(column.type) and total.is_integer() else total
    return counts


def _languages(index: pa.Table, amounts: Iterable[Amount]) -> dict[str | None, Counts]:
    codes = sorted(pc.unique(index["language"]).to_pylist(), key=str)
    return {code: _counts(index.filter(_equals(index["language"], code)), amounts) for code in codes}


def _terms(version: Version, shelf: ShelfRecord, store: Store) -> list[SourceTerms]:
    """Licences and consents of what samples were made of, with how much it is."""
    amounts = [Amount(**amount) for amount in (*shelf.origins, *shelf.amounts)]
    columns = list(dict.fromkeys(["licence", "consent", "verdict", *(amount.column for amount in amounts)]))
    receipts = version.receipts(shelf.source)
    if not receipts:
        return []
    tables = [read_part_table(store, receipt.files["rows"], columns) for receipt in receipts]
    rows = pa.concat_tables(tables, promote_options="default")
    rows = rows.filter(pc.equal(rows["verdict"], KEPT))
    terms = rows.group_by(["licence", "consent"]).aggregate([]).to_pylist()
    found = []
    for licence, consent in sorted(((row["licence"], row["consent"]) for row in terms), key=str):
        mine = rows.filter(pc.and_(_equals(rows["licence"], licence), _equals(rows["consent"], consent)))
        found.append(SourceTerms(licence, consent, _counts(mine, amounts)))
    return found


def _coverage(version: Version, store: Store) -> list[dict[str, Any]]:
    """Per language, how much the lexicon of a concept balance covers; nothing where there was none."""
    return [
        row
        for receipt in version.receipts(COVERAGE)
        for row in read_part_table(store, receipt.files["table"]).to_pylist()
    ]


def _equals(column: pa.ChunkedArray, value: str | None) -> pa.ChunkedArray:
    return pc.is_null(column) if value is None else pc.fill_null(pc.equal(column, value), False)


def _use(record: dict[str, Any]) -> EngineUse:
    names = ("role", "engine", "code_licence", "weights_licence", "limits")
    return EngineUse(*(record.get(name) or "" for name in names))
