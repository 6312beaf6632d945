"""From listed files to image-text pairs: the entries in each file, the hashes of their images, each pair once."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.errors import MediaError, TooLarge
from curation.first_look import shares
from curation.hashing import bytes_digest
from curation.media.decoded import MAX_FILE_BYTES, ROW_BYTES, FileBudget, file_budget
from curation.media.pair_files import images_of, key_draw
from curation.media.pair_records import FoundImage, PairNames
from curation.media.places import MAX_BYTES, read_place
from curation.media.source_splits import held_out_rank
from curation.pair_sources import PairSource, names_of
from curation.rows import derived_id, source_id
from curation.stage import Stage, failure, mark, measure_each, reject, with_column
from curation.text.entities import decoded_column
from schemas.ledger import DECISION, SAMPLED_OUT
from schemas.pairs import ENTRY, PAIR
from schemas.places import PLACE

ROWS_AT_ONCE = 10_000
REMEDY = "raise source.max_decoded_bytes, or split the file"


@dataclass(frozen=True)
class ReadEntries(Stage):
    """Make the entries of listed files: one for each caption of each image. Images are not read.

    What cannot be used is a failed entry that names its file and place: a sample without an image, a broken line, the
    point where a file is damaged; entries before it are kept. A file that cannot be opened fails itself; one that has
    nothing in it is rejected. A sample without a text is an entry without a caption.

    `caption`, `image` and `image_folder` are those of `PairSource`.
    """

    caption: str | None = None
    image: str | None = None
    image_folder: str | None = None
    at_most: int | None = None
    """Entries taken of all files together: of each those of the images with the least draw. Damage is reported as
    well."""
    max_text_bytes: int = 1 << 24
    """Of a text, or of a line; a longer one fails."""
    max_metadata_bytes: int = 1 << 14
    """The longest values stay out, and are named."""
    max_decoded_bytes: int = MAX_FILE_BYTES
    """Of all entries of a file (`media.decoded.file_budget`); a file that unfolds to more fails as a whole."""

    reads = (
        "name",
        "format",
        "size_bytes",
        "modified_ns",
        "beside",
        "split",
        "language",
        "licence",
        "consent",
        "error",
    )
    locators = ("uri", "roots")
    writes = tuple(name for name in ENTRY.names if name != "parents")
    makes = "entry"
    packages = ("pyarrow",)
    version = 2

    def __call__(self, files: pa.Table) -> pa.Table:
        opened = [(file, self._images(file)) for file in files.to_pylist()]
        if self.at_most is not None:
            opened = _first_look(opened, self.at_most)
        tables = [_entries(files.slice(i, 1), file, images) for i, (file, images) in enumerate(opened)]
        return pa.concat_tables(tables, promote_options="default") if tables else files

    def _images(self, file: dict[str, Any]) -> Iterator[FoundImage]:
        if file["error"]:
            raise MediaError(file["error"])
        limits = (self.max_text_bytes, self.max_metadata_bytes)
        names = PairNames(self.caption, self.image, self.image_folder, *limits, tuple(file["roots"]))
        found = images_of(file["uri"], file["format"], file["name"], names, file["row_id"], self.at_most)
        if file["format"] != "files":
            found = _within(file_budget(file["uri"], self.max_decoded_bytes, REMEDY), found)
        yield from found


def read_entries(source: PairSource, limit: int | None = None) -> ReadEntries:
    """The stage for a source. With a limit all files must come in one block."""
    names = names_of(source)
    return ReadEntries(
        names.caption, names.image, names.image_folder, limit, max_decoded_bytes=source.max_decoded_bytes
    )


def _within(budget: FileBudget, images: Iterator[FoundImage]) -> Iterator[FoundImage]:
    """Images, as long as what is said of them is within the budget."""
    for one in images:
        said = one.said
        texts = sum(len(caption) + ROW_BYTES for caption in said.captions if caption is not None)
        budget.take(ROW_BYTES + texts + len(said.metadata or "") + len(said.url or "") + len(one.error or ""))
        yield one


def _entries(listed: pa.Table, file: dict[str, Any], images: Iterator[FoundImage]) -> pa.Table:
    """The entries of one file, and the file itself where it cannot be read or has none."""
    entries = _Entries(file)
    decided: pa.Table | None = None
    try:
        for found in images:
            entries.add(found)
    except NotDrawn:
        decided = None if entries.count else reject(listed, [True], "not_drawn", verdict=SAMPLED_OUT)
    except TooLarge as error:
        return mark(listed, [failure(error)])
    except MediaError as error:
        decided = mark(listed, [failure(error)])
    tables = [entries.table()] if entries.count else []
    if decided is not None:
        tables.append(decided)
    elif not tables:
        tables.append(reject(listed, pa.array([True]), "no_pairs"))
    return pa.concat_tables(tables, promote_options="default")


def _first_look(
    opened: list[tuple[dict[str, Any], Iterator[FoundImage]]], at_most: int
) -> list[tuple[dict[str, Any], Iterator[FoundImage]]]:
    """So many entries of all files together, and what is wrong with each."""
    read = [(file, *_read(images)) for file, images in opened]
    counts = [sum(len(one.said.captions) for one in found if one.nth >= 0) for _, found, _ in read]
    taken = shares(counts, at_most)
    return [
        (file, _again(_cut(found, file["row_id"], share), error or (NotDrawn() if count and not share else None)))
        for (file, found, error), count, share in zip(read, counts, taken, strict=True)
    ]


class NotDrawn(Exception):
    """A file has entries, and none of them is among those that a first look takes."""


def _read(images: Iterator[FoundImage]) -> tuple[list[FoundImage], MediaError | None]:
    found: list[FoundImage] = []
    try:
        found.extend(images)
    except TooLarge as error:
        return [], error
    except MediaError as error:
        return found, error
    return found, None


def _again(found: list[FoundImage], error: Exception | None) -> Iterator[FoundImage]:
    yield from found
    if error is not None:
        raise error


def _cut(found: list[FoundImage], file_id: str, at_most: int) -> list[FoundImage]:
    """Images whose captions are at most so many, taken by the draws of the images."""
    left = at_most
    kept: list[FoundImage] = []
    for one in sorted(found, key=lambda one: (one.nth < 0, key_draw(file_id, one.key, one.nth), one.ordinal)):
        if one.nth >= 0:
            one = one._replace(said=one.said._replace(captions=list(one.said.captions[:left])))
            left -= len(one.said.captions)
        if one.said.captions:
            kept.append(one)
    return sorted(kept, key=lambda one: (one.ordinal, one.nth))


class _Entries:
    """The entries of one file, gathered column by column."""

    def __init__(self, file: dict[str, Any]) -> None:
        self._file = file
        self._names = [name for name in ENTRY.names if name not in ("root", "kind", "parents", "place")]
        self._batches: list[pa.RecordBatch] = []
        self._clear()

    def _clear(self) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in self._names}
        self._places: list[tuple[Any, ...]] = []
        self._decisions: list[dict[str, Any] | None] = []

    @property
    def count(self) -> int:
        return len(self._decisions) + sum(len(batch) for batch in self._batches)

    def add(self, found: FoundImage) -> None:
        file, columns = self._file, self._columns
        image, said = found.image, found.said
        for number, caption in enumerate(said.captions):
            row_id = derived_id([file["row_id"]], "entry", [found.key, found.nth, number])
            values = (
                *(row_id, found.ordinal, found.uri, found.name, found.key, said.url, caption, said.metadata),
                file["split"],
                *(said.language or file["language"], said.licence or file["licence"], said.consent or file["consent"]),
                *((None, None) if image is None else (image.file_bytes, image.modified_ns)),
            )
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
            self._places.append((None,) * 5 if image is None else image[:5])
            error = None if found.error is None else MediaError(found.error, found.hides)
            self._decisions.append(None if error is None else failure(error))
        if len(self._decisions) >= ROWS_AT_ONCE:
            self._flush()

    def table(self) -> pa.Table:
        """All entries, with decisions where there are any."""
        self._flush()
        return pa.Table.from_batches(self._batches)

    def _flush(self) -> None:
        count = len(self._decisions)
        if not count:
            return
        listed = self._file["row_id"]
        columns_of_place = zip(*self._places, strict=True)
        fields = [pa.array(values, field.type) for values, field in zip(columns_of_place, PLACE, strict=True)]
        missing = pa.array([path is None for path, *_ in self._places])
        columns = {name: pa.array(values, ENTRY.field(name).type) for name, values in self._columns.items()}
        columns |= {
            # By its name below the source, so that a source that was moved gives the same shards. The file's own id
            # goes by its path: every source has a 00000.tar, and that of one is withdrawn without the others.
            "root": pa.repeat(source_id(["file", self._file["name"]]), count),
            "kind": pa.repeat("entry", count),
            "parents": pa.array([[listed]] * count, ENTRY.field("parents").type),
            "place": pa.StructArray.from_arrays(fields, fields=list(PLACE), mask=missing),
        }
        arrays = [*(columns[name] for name in ENTRY.names), pa.array(self._decisions, DECISION)]
        self._batches.append(pa.RecordBatch.from_arrays(arrays, schema=ENTRY.append(pa.field("decision", DECISION))))
        self._clear()


@dataclass(frozen=True)
class ScanImage(Stage):
    """Read each image's bytes once, and hash them; nothing is decoded.

    The place and the state of the file that has them say whether they must be read again, and end here: from now on an
    image is its hash.
    """

    max_bytes: int = MAX_BYTES

    reads = ("place", "size_bytes", "modified_ns")
    locators = ("uri",)
    writes = ("image_hash", "image_bytes")
    drops = ("size_bytes", "modified_ns")

    def __call__(self, entries: pa.Table) -> pa.Table:
        columns = {"image_hash": pa.string(), "image_bytes": pa.int64()}
        return measure_each(entries, columns, self._measure, reads=["place", "uri"])

    def _measure(self, entry: dict[str, Any]) -> dict[str, Any]:
        try:
            data = read_place(entry["place"], max_bytes=self.max_bytes)
        except MediaError as error:
            raise MediaError(f"{entry['uri']}: {error}") from error
        return {"image_hash": bytes_digest(data), "image_bytes": len(data)}


FROM_ENTRIES = tuple(name for name in ENTRY.names if name in PAIR.names and name not in ("row_id", "kind", "parents"))
"""What a pair takes from its first entry."""


@dataclass(frozen=True)
class OneRowPerPair(Stage):
    """Make one pair of all entries with the same image bytes and the same text; it lists all their names.

    Texts are the same where they are so with HTML's character references decoded, and the pair has that text: `&amp;`,
    `&#39;` and `&amp;amp;` are read as a reader of the page sees them. `source_caption` is what the source has.
    The first entry by name gives the fields. Licences, or consents, that differ are not decided between: the pair has
    all of them, sorted and joined by "; ", so that neither the card nor a filter for one of them takes it for free of
    the others. An entry that states none adds none.

    A pair that stands in several splits is in that which is held out most strictly (test, validation, train), so that
    nothing of it is trained on.
    """

    reads = (*(name for name in FROM_ENTRIES if name not in ("root", "ordinal", "uri")), "image_hash", "image_bytes")
    locators = ("uri",)
    writes = tuple(name for name in PAIR.names if name != "parents")
    makes = "pair"
    version = 2

    def __call__(self, entries: pa.Table) -> pa.Table:
        if not entries.num_rows:
            return entries
        caption, source_caption = decoded_column(entries["caption"])
        entries = with_column(with_column(entries, "caption", caption), "source_caption", source_caption)
        order = pc.sort_indices(entries, sort_keys=[("name", "ascending"), ("row_id", "ascending")]).to_numpy()
        encoded = pa.array(_pair_ids(entries)).take(pa.array(order)).dictionary_encode()
        group = encoded.indices.to_numpy()
        _, first = np.unique(group, return_index=True)
        ends = np.concatenate([[0], np.cumsum(np.bincount(group))]).astype(np.int32)
        # Entries of one pair next to each other, by name.
        together = order[np.argsort(group, kind="stable")]
        pairs = entries.select([*FROM_ENTRIES, "image_hash", "image_bytes", "source_caption"]).take(
            pa.array(order[first])
        )
        for name, values in {
            "row_id": encoded.dictionary,
            "kind": pa.repeat("pair", pairs.num_rows),
            "parents": pa.ListArray.from_arrays(ends, _taken(entries["row_id"], together)),
            "occurrences": _distinct_lists(_taken(entries["name"], together), ends),
            "licence": _all_terms(_taken(entries["licence"], together), ends),
            "consent": _all_terms(_taken(entries["consent"], together), ends),
            "split": _held_out(_taken(entries["split"], together), ends),
        }.items():
            pairs = with_column(pairs, name, values)
        return pairs.select(PAIR.names).cast(PAIR)


def _pair_ids(entries: pa.Table) -> list[str]:
    columns = (entries["image_hash"].to_pylist(), entries["caption"].to_pylist())
    return [
        source_id([image_hash, None if caption is None else bytes_digest(caption.encode())])
        for image_hash, caption in zip(*columns, strict=True)
    ]


def _taken(column: pa.ChunkedArray, places: NDArray[np.uint64]) -> pa.Array:
    return column.take(pa.array(places)).combine_chunks()


def _distinct_lists(values: pa.Array, ends: NDArray[np.int32]) -> pa.ListArray:
    """Lists of sorted values, each value once a list; list i goes from `ends[i]` to `ends[i + 1]`."""
    codes = values.dictionary_encode().indices.to_numpy()
    keep = np.ones(len(codes), bool)
    keep[1:] = codes[1:] != codes[:-1]
    keep[ends[:-1]] = True
    kept_before = np.concatenate([[0], np.cumsum(keep)]).astype(np.int32)
    return pa.ListArray.from_arrays(kept_before[ends], values.filter(pa.array(keep)))


def _held_out(splits: pa.Array, ends: NDArray[np.int32]) -> pa.Array:
    """Of each list the split that is held out most strictly."""
    known = sorted(splits.unique().to_pylist(), key=lambda split: (held_out_rank(split), split or ""))
    ranks = pc.index_in(splits, pa.array(known, pa.string())).to_numpy(zero_copy_only=False)
    least = np.minimum.reduceat(ranks, ends[:-1]) if len(ends) > 1 else ranks
    return pa.array(known, pa.string()).take(pa.array(least))


def _all_terms(values: pa.Array, ends: NDArray[np.int32]) -> pa.Array:
    """Of each list its terms, sorted and joined. Lists that have one and the same throughout are not looked at."""
    codes = pc.fill_null(values.dictionary_encode().indices, -1).to_numpy()
    starts = ends[:-1]
    differ = np.minimum.reduceat(codes, starts) != np.maximum.reduceat(codes, starts)
    terms = values.take(pa.array(starts))
    if not differ.any():
        return terms
    joined = terms.to_pylist()
    for i in np.flatnonzero(differ):
        joined[i] = "; ".join(sorted({term for term in values[ends[i] : ends[i + 1]].to_pylist() if term})) or None
    return pa.array(joined, pa.string())
