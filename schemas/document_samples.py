"""Rows of documents that were put together again: what is left of their nodes, in order, and what is known of them."""

import pyarrow as pa

from schemas.fields import field
from schemas.pairs import SPLIT, TERMS
from schemas.places import PLACE
from schemas.rows import ROW

KEPT_NODE = pa.struct(
    [
        pa.field("node_kind", pa.string(), metadata={"description": "text or image"}),
        pa.field("ordinal", pa.int64(), metadata={"description": "its place in the source; one that is missing went"}),
        pa.field("text", pa.string(), metadata={"description": "the text; of an image, what the page says it shows"}),
        pa.field("image", pa.int32(), metadata={"description": "which of `images` an image is, from 0"}),
        pa.field("url", pa.string(), metadata={"description": "the image's address, as the source says"}),
        pa.field("paired_node", pa.int32(), metadata={"description": "the text that an image is paired with, from 0"}),
        pa.field("paired_text", pa.string(), metadata={"description": "the segment of it that the pair is"}),
        pa.field("similarity", pa.float64(), metadata={"description": "cosine of the pair"}),
        pa.field("match_probability", pa.float64(), metadata={"description": "SigLIP's, where the checkpoint has it"}),
    ]
)

KEPT_IMAGE = pa.struct(
    [
        pa.field("image_hash", pa.string(), metadata={"description": "xxh3-128 of the file's bytes, in hex"}),
        pa.field("image_format", pa.string(), metadata={"description": "jpeg, png, webp and so on"}),
        pa.field("width", pa.int32(), metadata={"description": "as it is shown", "unit": "pixels"}),
        pa.field("height", pa.int32(), metadata={"description": "as it is shown", "unit": "pixels"}),
    ]
)

DOCUMENT_SAMPLE = pa.schema(
    [
        *ROW,
        field("parents", pa.list_(pa.string()), "the nodes that are left"),
        field("name", pa.string(), "the document's name"),
        field("url", pa.string(), "the page's address, as the source says"),
        field("title", pa.string(), "the page's title, as the source says"),
        field("metadata", pa.string(), "all else that the source says of it, as JSON"),
        field("occurrences", pa.list_(pa.string()), "names of all entries that are it"),
        field("split", pa.string(), SPLIT),
        *TERMS,
        field("task", pa.string(), "the subset that it goes to"),
        field("nodes", pa.list_(KEPT_NODE), "texts and images, in order"),
        field("images", pa.list_(KEPT_IMAGE), "the different ones among them, in order of their first showing"),
        field("places", pa.list_(PLACE), "where the bytes of each lie"),
        field("image_bytes", pa.int64(), "of all of them", unit="bytes"),
        field("text", pa.string(), "its texts, with an empty line between them"),
        field("image_count", pa.int64(), "nodes that are images", unit="nodes"),
        field("words", pa.float64(), "of its texts; a letter of an unspaced script is a part of one", unit="words"),
        field("removed", pa.int64(), "nodes that went on the way", unit="nodes"),
        field("similarity", pa.float64(), "mean cosine of its pairs"),
        field("quality", pa.float64(), "see curation.documents.scores"),
        field("checkpoint", pa.string(), "the weights that similarities are of"),
        field("embedding", pa.list_(pa.float32()), "mean direction of its pairs' joint embeddings, of length 1"),
    ]
)
"""`kind` is sample, `root` the document."""
