"""Rows of the pipeline of image-text pairs: listed files, the entries that they hold, pairs."""

import pyarrow as pa

from schemas.fields import field
from schemas.places import PLACE
from schemas.rows import ROW

SPLIT = "train, validation, test, or what else files are named for; null where none is"

TERMS = (
    field("language", pa.string(), "ISO 639-1 code, as the source says"),
    field("licence", pa.string(), "licence, as the source says"),
    field("consent", pa.string(), "consent, as the source says"),
)

PAIR_LISTING = pa.schema(
    [
        *ROW,
        field("name", pa.string(), "path below the source"),
        field("format", pa.string(), "tar, parquet, arrow, jsonl, json, csv, or files: a folder of samples"),
        field("size_bytes", pa.int64(), "size of the file; null if it is not there", unit="bytes"),
        field("modified_ns", pa.int64(), "when the file was changed last", unit="ns"),
        field("beside", pa.string(), "hash of names, sizes and times of the loose files that it may name"),
        field("roots", pa.list_(pa.string()), "folders into which links may lead"),
        field("split", pa.string(), SPLIT),
        *TERMS,
        field("error", pa.string(), "why the file cannot be used"),
    ]
)
"""One row a file; `kind` is listing."""

PAIR_ENTRY = (
    *ROW,
    field("parents", pa.list_(pa.string()), "the listed file; of a pair, its entries"),
    field("name", pa.string(), "the file's name and the key in it, or the image's path"),
    field("key", pa.string(), "what the source calls it: the tar's key, the row's or line's number"),
    field("url", pa.string(), "where the image was downloaded from, as the source says"),
    field("place", PLACE, "where the image's bytes lie"),
    field("caption", pa.string(), "its text; of a pair with HTML's character references as what they stand for"),
    field("metadata", pa.string(), "all else that the source says of it, as JSON"),
    field("split", pa.string(), SPLIT),
    *TERMS,
)

ENTRY = pa.schema(
    [
        *PAIR_ENTRY,
        field("size_bytes", pa.int64(), "size of the file that has the image's bytes", unit="bytes"),
        field("modified_ns", pa.int64(), "when that file was changed last", unit="ns"),
    ]
)
"""One row a pair as it stands in a file; `kind` is entry, `root` stands for the file by its name, `ordinal` for the
place there."""

PAIR = pa.schema(
    [
        *PAIR_ENTRY,
        field("image_hash", pa.string(), "xxh3-128 of the image's bytes, in hex"),
        field("image_bytes", pa.int64(), "their number", unit="bytes"),
        field("source_caption", pa.string(), "its text as the source has it, where that is another; else null"),
        field("occurrences", pa.list_(pa.string()), "names of all entries with these bytes and this text"),
    ]
)
"""One row an image and a text; `kind` is pair. The same in several entries is one pair with the terms of them all."""
