"""From listed files to the nodes of documents: entries, each content once, its texts and images one by one."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from heapq import nsmallest
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curation.errors import MediaError
from curation.first_look import shares
from curation.hashing import bytes_digest, draw
from curation.media.decoded import MAX_FILE_BYTES, ROW_BYTES, FileBudget, file_budget
from curation.media.document_files import Found, read_documents
from curation.media.document_records import MAX_NODES
from curation.media.html_pages import DROPPED, MAX_DEPTH
from curation.media.places import MAX_BYTES, read_place
from curation.media.source_splits import most_held_out
from curation.rows import derived_id
from curation.stage import Stage, fail, failure, measure_each, reject
from schemas.documents import DOCUMENT, DOCUMENT_ENTRY, IMAGE, NODE
from schemas.ledger import DECISION, SAMPLED_OUT

NODES_AT_ONCE = 20_000
REMEDY = "raise reading.max_decoded_bytes, or split the file"
SCANNED = {"image_hash": pa.string(), "image_bytes": pa.int64()}
TERMS = ("language", "licence", "consent")


@dataclass(frozen=True)
class ReadDocuments(Stage):
    """Make an entry of every document in a file. A line, row or page that cannot be read fails alone."""

    at_most: Annotated[int, Field(gt=0)] | None = None
    """Entries of all files together, chosen by the hash of their places; the others are not made."""
    max_document_bytes: int = 1 << 26
    max_nodes: int = MAX_NODES
    """A document with more texts, or more images, is not read. `shape` has the limit of one that is wanted."""
    dropped_tags: tuple[str, ...] = DROPPED
    """Of HTML pages: left out with all that is in them, where a page is too short to tell its body otherwise."""
    body_only: bool = True
    """Of HTML pages: keep the body alone, without navigation, teasers and notices; false: all but `dropped_tags`."""
    max_depth: int = MAX_DEPTH
    """Of HTML pages: tags open at once."""
    max_decoded_bytes: Annotated[int, Field(gt=0)] = MAX_FILE_BYTES
    """What the documents of one file may have in all, or 32 times what the file has on disk, where that is more. A file
    that unfolds to more fails."""

    reads = ("uri", "name", "format", "size_bytes", "modified_ns", "beside", "split", *TERMS, "error")
    writes = tuple(name for name in DOCUMENT_ENTRY.names if name != "parents")
    locators = ("folder", "images", "roots")
    packages = ("lxml", "charset-normalizer", "onnxruntime")
    extra = "documents"
    makes = "entry"
    version = 2

    def __call__(self, files: pa.Table) -> pa.Table:
        made_of_each: list[pa.Table] = [_made([], [])]
        errors: list[BaseException | None] = []
        drawn: list[bool] = []
        listed = files.to_pylist()
        read: Iterable[tuple[pa.Table | None, MediaError | None]] = map(self._all, listed)
        if self.at_most is not None:
            read = self._first_look(listed)
        for file, (made, error) in zip(listed, read, strict=True):
            if error is None and made is not None and not made.num_rows:
                error = MediaError(f"{file['uri']}: no document in it")
            made_of_each += [] if made is None else [made]
            drawn.append(made is not None)
            errors.append(error)
        decided = reject(fail(files, errors), [not one for one in drawn], "not_drawn", verdict=SAMPLED_OUT)
        decided = decided.filter(pc.is_valid(decided["decision"]))
        made_of_each += [decided] if decided.num_rows else []
        return pa.concat_tables(made_of_each, promote_options="default")

    def _found(self, file: dict[str, Any]) -> Iterator[Found]:
        if file["error"]:
            raise MediaError(file["error"])
        found = read_documents(
            file,
            max_document_bytes=self.max_document_bytes,
            max_nodes=self.max_nodes,
            dropped=self.dropped_tags,
            max_depth=self.max_depth,
            body=self.body_only,
        )
        yield from _within(file_budget(file["uri"], self.max_decoded_bytes, REMEDY), found)

    def _all(self, file: dict[str, Any]) -> tuple[pa.Table, MediaError | None]:
        """The documents of a file; none of one that cannot be read to its end."""
        entries = _Entries(file)
        try:
            for found in self._found(file):
                entries.add(found)
        except MediaError as error:
            return _made([], []), error
        return entries.table(), None

    def _first_look(self, files: list[dict[str, Any]]) -> Iterator[tuple[pa.Table | None, MediaError | None]]:
        """So many documents of all files together; None of a file that has some, of which none is drawn."""
        read = [self._drawn(file) for file in files]
        taken = shares([len(found) for found, _ in read], self.at_most or 0)
        for file, (found, error), share in zip(files, read, taken, strict=True):
            entries = _Entries(file)
            for one in sorted(found[:share], key=lambda one: one.number):
                entries.add(one)
            yield None if found and not share else entries.table(), error

    def _drawn(self, file: dict[str, Any]) -> tuple[list[Found], MediaError | None]:
        def key(one: Found) -> float:
            return draw(0, f"{file['name']}\x1f{one.number}", "limit")

        try:
            return nsmallest(self.at_most or 0, self._found(file), key=key), None
        except MediaError as error:
            return [], error


class _Entries:
    """The entries of one file; as Arrow's, which take much less, as soon as there are some."""

    def __init__(self, file: dict[str, Any]) -> None:
        self._file = file
        self._tables: list[pa.Table] = []
        self._entries: list[dict[str, Any]] = []
        self._decisions: list[dict[str, Any] | None] = []
        self._nodes = 0

    def add(self, found: Found) -> None:
        self._entries.append(_entry(self._file, found))
        self._decisions.append(None if found.error is None else failure(found.error))
        self._nodes += 1 + len(found.fields.get("nodes") or ())
        if self._nodes >= NODES_AT_ONCE:
            self._flush()

    def table(self) -> pa.Table:
        self._flush()
        return pa.concat_tables(self._tables)

    def _flush(self) -> None:
        self._tables.append(_made(self._entries, self._decisions))
        self._entries, self._decisions, self._nodes = [], [], 0


def _made(entries: list[dict[str, Any]], decisions: list[dict[str, Any] | None]) -> pa.Table:
    made = pa.Table.from_pylist(entries, DOCUMENT_ENTRY)
    return made.append_column("decision", pa.array(decisions, DECISION))


def _within(budget: FileBudget, documents: Iterator[Found]) -> Iterator[Found]:
    """Documents, as long as their nodes are within the budget."""
    for one in documents:
        nodes = one.fields.get("nodes") or ()
        budget.take(ROW_BYTES * (1 + len(nodes)) + len(one.fields.get("metadata") or ""))
        budget.take(sum(len(node["text"] or "") for node in nodes) + len(str(one.error or "")))
        yield one


def first_look(stage: ReadDocuments, limit: int | None) -> ReadDocuments:
    """The stage that takes `limit` documents in all; then all files must come in one block."""
    return replace(stage, at_most=limit)


def _entry(file: dict[str, Any], found: Found) -> dict[str, Any]:
    row_id = derived_id([file["row_id"]], "entry", found.number)
    row = {
        "row_id": row_id,
        "root": found.content or row_id,
        "ordinal": found.number,
        "kind": "entry",
        "uri": file["uri"],
        "parents": [file["row_id"]],
        "name": found.name,
        "split": file["split"],
    }
    return row | found.fields | {term: found.fields.get(term) or file[term] for term in TERMS}


@dataclass(frozen=True)
class OneDocumentPerContent(Stage):
    """Make one document of all entries with the same content; it lists all their names.

    Entries of one content must come together, which a unit that keeps roots together sees to. Licences, or consents,
    that differ are not decided between: the document has all of them, sorted and joined by "; ". Of several splits it
    is in that which is held out most strictly (test, validation, train). All else is that of the first by name.
    """

    reads = tuple(name for name in DOCUMENT_ENTRY.names if name not in ("row_id", "root", "ordinal", "kind", "parents"))
    writes = tuple(name for name in DOCUMENT.names if name != "parents")
    makes = "document"

    def __call__(self, entries: pa.Table) -> pa.Table:
        keys = ["root", "name", "row_id", "licence", "consent", "split"]
        groups: dict[str, list[dict[str, Any]]] = {}
        for place, entry in enumerate(entries.select(keys).to_pylist()):
            groups.setdefault(entry["root"], []).append(entry | {"place": place})
        several = [sorted(group, key=lambda entry: (entry["name"], entry["row_id"])) for group in groups.values()]
        first = entries.take(pa.array([group[0]["place"] for group in several], pa.int64()))
        made = {name: first[name] for name in DOCUMENT_ENTRY.names if name in first.column_names} | {
            "row_id": first["root"],
            "ordinal": pa.repeat(pa.scalar(0, pa.int64()), len(several)),
            "kind": pa.repeat("document", len(several)),
            "parents": pa.array(
                [sorted(entry["row_id"] for entry in group) for group in several], pa.list_(pa.string())
            ),
            "occurrences": pa.array(
                [sorted({entry["name"] for entry in group}) for group in several], pa.list_(pa.string())
            ),
            "licence": pa.array([_all_terms(group, "licence") for group in several], pa.string()),
            "consent": pa.array([_all_terms(group, "consent") for group in several], pa.string()),
            "split": pa.array([most_held_out(entry["split"] for entry in group) for group in several], pa.string()),
        }
        return pa.table([made[name] for name in DOCUMENT.names], schema=DOCUMENT)


def _all_terms(entries: list[dict[str, Any]], column: str) -> str | None:
    return "; ".join(sorted({entry[column] for entry in entries if entry[column]})) or None


@dataclass(frozen=True)
class SplitNodes(Stage):
    """Make a row of each node of a document. An image whose bytes are not here fails alone."""

    reads = ("nodes", "name", *TERMS)
    writes = tuple(name for name in NODE.names if name not in ("parents", *SCANNED))
    makes = "node"

    def __call__(self, documents: pa.Table) -> pa.Table:
        documents = documents.combine_chunks()
        lists = documents["nodes"]
        # A document without nodes has no children to live on in.
        empty = pc.equal(pc.fill_null(pc.list_value_length(lists), 0), 0)
        items = pa.Table.from_struct_array(pc.list_flatten(lists))
        of = pc.list_parent_indices(lists).combine_chunks() if items.num_rows else pa.array([], pa.int64())
        index = of.to_numpy(zero_copy_only=False)
        # Parents stand in order, so a node's place is its distance from its parent's first.
        ordinals = np.arange(len(index)) - np.searchsorted(index, index)
        roots = documents["row_id"].take(of)
        made: dict[str, Any] = {name: items[name] for name in ("node_kind", "text", "place", "url")}
        made |= {name: documents[name].take(of) for name in TERMS}
        made["uri"] = _uris(documents["uri"].take(of), items["place"])
        made |= {
            "row_id": pa.array(
                [derived_id([root], "node", i) for root, i in zip(roots.to_pylist(), ordinals.tolist(), strict=True)],
                pa.string(),
            ),
            "root": roots,
            "ordinal": pa.array(ordinals, pa.int64()),
            "kind": pa.repeat("node", items.num_rows),
            "parents": _each_in_a_list(roots),
            "name": _names(documents["name"].take(of), items["name"]),
        }
        schema = pa.schema([NODE.field(name) for name in NODE.names if name in made])
        nodes = pa.table([made[name] for name in schema.names], schema=schema)
        nodes = _without_bytes(nodes, items["error"])
        if not pc.any(empty).as_py():
            return nodes
        rejected = reject(documents.filter(empty), [True] * pc.sum(empty).as_py(), "no_nodes")
        return pa.concat_tables([nodes, rejected], promote_options="default")


def _each_in_a_list(values: pa.ChunkedArray) -> pa.ListArray:
    flat = values.combine_chunks()
    return pa.ListArray.from_arrays(pa.array(np.arange(len(flat) + 1), pa.int32()), flat)


def _uris(documents: pa.ChunkedArray, places: pa.ChunkedArray) -> pa.ChunkedArray:
    """Where a node comes from: an image's own file, or its place in the document's; of all else the document's."""
    path, format_, offset, column = (pc.struct_field(places, name) for name in ("path", "format", "offset", "column"))
    cell = pc.binary_join_element_wise(path, offset.cast(pa.string()), column, ":")
    within = pc.binary_join_element_wise(path, offset.cast(pa.string()), ":")
    own = pc.if_else(pc.equal(format_, "file"), path, pc.coalesce(cell, within))
    return pc.coalesce(own, documents)


def _names(documents: pa.ChunkedArray, images: pa.ChunkedArray) -> pa.ChunkedArray:
    """A node's name: its document's, and an image's own after it."""
    both = pc.binary_join_element_wise(documents, images, ": ")
    return pc.if_else(pc.is_valid(images), both, documents)


def _without_bytes(nodes: pa.Table, errors: pa.ChunkedArray) -> pa.Table:
    """Fail the nodes that cannot be used: images that are named and not here, and what reading found wrong."""
    absent = pc.and_(pc.equal(nodes["node_kind"], IMAGE), pc.is_null(pc.struct_field(nodes["place"], "path")))
    hits = pc.or_(absent, pc.is_valid(errors))
    if not pc.any(hits).as_py():
        return nodes
    columns = (hits, errors, nodes["name"], nodes["url"])
    raised: list[BaseException | None] = []
    for hit, error, name, url in zip(*(column.to_pylist() for column in columns), strict=True):
        reason = error or f"the image is not here, only its address {url}"
        raised.append(MediaError(f"{name}: {reason}") if hit else None)
    return fail(nodes, raised)


@dataclass(frozen=True)
class ScanNodes(Stage):
    """Hash the bytes of each image, by which all that looks at it finds it again; texts have none."""

    max_bytes: int = MAX_BYTES

    reads = ("node_kind",)
    writes = tuple(SCANNED)
    locators = ("place", "uri")

    def __call__(self, nodes: pa.Table) -> pa.Table:
        return measure_each(nodes, SCANNED, self.scan, reads=(*self.reads, *self.locators))

    def scan(self, node: dict[str, Any]) -> dict[str, Any]:
        """The columns of `SCANNED` for one node."""
        if node["node_kind"] != IMAGE:
            return {}
        data = read_place(node["place"], max_bytes=self.max_bytes)
        return {"image_hash": bytes_digest(data), "image_bytes": len(data)}


@dataclass(frozen=True)
class DocumentFacts(Stage):
    """What a document's nodes do not carry, one row a document by its `root`: for reassembly."""

    reads = ("name", "url", "title", "metadata", "occurrences", "split")
    writes = tuple(f"document_{name}" for name in reads)

    def __call__(self, documents: pa.Table) -> pa.Table:
        facts = {f"document_{name}": documents[name] for name in self.reads}
        return pa.table({"root": documents["row_id"]} | facts)
