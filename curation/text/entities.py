"""HTML's character references in texts that are no HTML: `&amp;`, `&#39;`, `&nbsp;` and `&amp;amp;` are decoded.

Captions and alternative texts are taken out of pages with them, encoded once too often or twice. What they stand for is
text: `&lt;b&gt;` becomes `<b>`, which checks of markup then see as they see any other.
"""

import re
from dataclasses import dataclass
from html import unescape
from html.entities import html5

import pyarrow as pa
import pyarrow.compute as pc

from curation.stage import Stage, with_column
from schemas.documents import TEXT

ROUNDS = 4
"""A text is decoded until nothing changes, at most so often: `&amp;amp;amp;lt;` is as deep as pages nest."""

_ENTITY = re.compile(
    r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});"
    # Often met without its semicolon; `AT&T`, `R&D` and the parameters of an address are not.
    r"|&(?:amp|nbsp|quot|lt|gt|apos|#0?39|#160)(?![\w;=])"
)
_BARE = {" ": " ", "\u00ad": "", "\u200b": ""}
"""A space that does not break, and what is not seen: in a caption a space, and nothing."""


def decoded(text: str) -> str:
    """The text with its character references as what they stand for; the same where it has none."""
    for _ in range(ROUNDS):
        if "&" not in text:
            break
        once = _ENTITY.sub(_meant, text)
        if once == text:
            break
        text = once
    return text


def _meant(found: re.Match[str]) -> str:
    """What a reference stands for; one in capitals that HTML does not know is that of the small letter's capital."""
    entity = found[0]
    name = entity.strip("&;")
    if name[0] != "#":
        known = html5.get(f"{name};")
        if known is None and name.isupper():
            known = html5.get(f"{name.lower()};")
            known = known and (known.upper() if len(known.upper()) == len(known) else known)
        return entity if known is None else _BARE.get(known.replace("\xa0", " "), known)
    meant = unescape(entity if entity.endswith(";") else f"{entity};")
    return _BARE.get(meant.replace("\xa0", " "), meant)


def decoded_column(texts: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """The texts decoded; and each as it was where that is another, else null."""
    before = texts.cast(pa.string()).combine_chunks()
    before = before.combine_chunks() if isinstance(before, pa.ChunkedArray) else before
    hits = pc.fill_null(pc.match_substring(before, "&"), False)
    if not pc.any(hits).as_py():
        return before, pa.nulls(len(before), pa.string())
    some = pc.indices_nonzero(hits)
    new = pa.array([decoded(text) for text in before.take(some).to_pylist()], pa.string())
    after = pc.replace_with_mask(before, hits, new)
    changed = pc.fill_null(pc.not_equal(before, after), False)
    return after, pc.if_else(changed, before, pa.scalar(None, pa.string()))


@dataclass(frozen=True)
class DecodeTexts(Stage):
    """Decode HTML's character references in a document's texts, and in what it says of its images.

    The texts of a page are as its parser decoded them, which is what a reader of the page sees: in a page about HTML
    `&amp;lt;` is meant. What it says of an image (`alt`) is often encoded twice, so that is decoded again, and so are
    the texts of tables and of lines of JSON. `source_texts` has those that changed as they were, by their place.
    """

    reads = ("nodes",)
    locators = ("uri",)
    writes = ("nodes", "source_texts")

    def __call__(self, documents: pa.Table) -> pa.Table:
        lists = documents["nodes"].combine_chunks()
        items = pc.list_flatten(lists)
        of = pc.list_parent_indices(lists)
        nothing = pa.nulls(documents.num_rows, _SOURCE_TEXTS)
        if not len(items):
            return with_column(documents, "source_texts", nothing)
        texts = pc.struct_field(items, "text")
        after, before = decoded_column(pa.chunked_array([texts]))
        page = pa.array([uri.casefold().endswith(_PAGES) for uri in documents["uri"].to_pylist()], pa.bool_()).take(of)
        as_read = pc.and_(page, pc.equal(pc.struct_field(items, "node_kind"), TEXT))
        before = pc.if_else(as_read, pa.scalar(None, pa.string()), before)
        changed = pc.indices_nonzero(pc.is_valid(before)).to_pylist()
        if not changed:
            return with_column(documents, "source_texts", nothing)
        columns = [pc.struct_field(items, i) for i in range(items.type.num_fields)]
        at = items.type.get_field_index("text")
        columns[at] = pc.if_else(pc.is_valid(before), after, texts)
        fields = [items.type.field(i) for i in range(items.type.num_fields)]
        places = lists.offsets.to_pylist()
        told: list[list[dict[str, object]] | None] = [None] * documents.num_rows
        for place in changed:
            row = of[place].as_py()
            told[row] = [*(told[row] or []), {"ordinal": place - places[row], "text": before[place].as_py()}]
        nodes = pa.ListArray.from_arrays(
            lists.offsets, pa.StructArray.from_arrays(columns, fields=fields), mask=pc.is_null(lists)
        )
        documents = with_column(documents, "nodes", nodes)
        return with_column(documents, "source_texts", pa.array(told, _SOURCE_TEXTS))


_PAGES = (".html", ".htm", ".xhtml")
_SOURCE_TEXTS = pa.list_(pa.struct([pa.field("ordinal", pa.int64()), pa.field("text", pa.string())]))
