"""Rows of the pipeline of interleaved documents: listed files, the entries that they hold, documents, their nodes.

A file's entry is one document as it stands there. Entries of one content share their `root`, the id of the document
that they are, so that a unit which keeps roots together has all of them, and they become one document.
"""

import pyarrow as pa

from schemas.fields import field
from schemas.pairs import SPLIT, TERMS
from schemas.places import PLACE
from schemas.rows import ROW

TEXT = "text"
IMAGE = "image"

DOCUMENT_LISTING = pa.schema(
    [
        *ROW,
        field("name", pa.string(), "path below the source"),
        field("format", pa.string(), "jsonl, json, parquet, arrow or html"),
        field("size_bytes", pa.int64(), "size of the file; null if it is not there", unit="bytes"),
        field("modified_ns", pa.int64(), "when the file was changed last", unit="ns"),
        field("folder", pa.string(), "the folder that the images of its documents must lie below"),
        field("images", pa.string(), "the folder in which relative paths of images begin"),
        field("beside", pa.string(), "hash of names, sizes and times of the images in `folder`"),
        field("roots", pa.list_(pa.string()), "folders into which links may lead"),
        field("split", pa.string(), SPLIT),
        *TERMS,
        field("error", pa.string(), "why the file cannot be used"),
    ]
)
"""One row a file; `kind` is listing."""

NODE_ITEM = pa.struct(
    [
        pa.field("node_kind", pa.string(), metadata={"description": "text or image"}),
        pa.field("text", pa.string(), metadata={"description": "the text; of an image, what the page says it shows"}),
        pa.field("place", PLACE, metadata={"description": "where the image's bytes lie; null where they are not here"}),
        pa.field("url", pa.string(), metadata={"description": "the image's address, as the source says"}),
        pa.field("name", pa.string(), metadata={"description": "the image's name in the source"}),
        pa.field("error", pa.string(), metadata={"description": "why it cannot be used"}),
    ]
)
"""A stretch of text or an image, in a document's list."""

_DOCUMENT = (
    field("parents", pa.list_(pa.string()), "the listed file, or the entries"),
    field("name", pa.string(), "the file's name and the row or line in it"),
    field("url", pa.string(), "the page's address, as the source says"),
    field("title", pa.string(), "the page's title, as the source says"),
    field("nodes", pa.list_(NODE_ITEM), "texts and images, in order"),
    field("document_bytes", pa.int64(), "UTF-8 bytes of its texts; for planning", unit="bytes"),
    field("image_files", pa.string(), "hash of sizes and times of its images' files; null where it names none"),
    field("metadata", pa.string(), "all else that the source says of it, as JSON"),
    field("split", pa.string(), SPLIT),
    *TERMS,
)

DOCUMENT_ENTRY = pa.schema([*ROW, *_DOCUMENT])
"""One row a document as it stands in a file; `kind` is entry, `root` the id of its content, `ordinal` its place."""

DOCUMENT = pa.schema(
    [*ROW, *_DOCUMENT, field("occurrences", pa.list_(pa.string()), "names of all entries that are it")]
)
"""One row a content; `kind` is document, `root` its own id. It has the terms of all its entries."""

NODE = pa.schema(
    [
        *ROW,
        field("parents", pa.list_(pa.string()), "the document"),
        field("node_kind", pa.string(), "text or image"),
        field("text", pa.string(), "the text; of an image, what the page says it shows"),
        field("place", PLACE, "where the image's bytes lie"),
        field("image_hash", pa.string(), "xxh3-128 of the image's bytes, in hex; null for a text"),
        field("image_bytes", pa.int64(), "their number; null for a text", unit="bytes"),
        field("url", pa.string(), "the image's address, as the source says"),
        field("name", pa.string(), "the document's name; for an image with its own"),
        *TERMS,
    ]
)
"""One row a node; `kind` is node, `root` the document, `ordinal` its place among its nodes, from 0."""
