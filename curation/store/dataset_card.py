"""The card of a version: a README.md that people read, and from which `datasets.load_dataset(folder)` knows the folder.

Layout that the card describes, below the version's folder:

    README.md
    <subset>/<split>-000000.tar, …           the shards, with `.tar.idx` and `.nv-meta/` for Energon beside them
    index/<subset>.parquet                   keys, offsets, hashes and scores of all samples of a subset
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from curation.errors import StageError
from curation.store.shard_index import energon_split
from curation.store.tar_shards import EXTENSION

SUBSET_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")
SPLIT_NAME = re.compile(r"[a-z][a-z0-9]*")
UNDETERMINED = "und"
"""ISO 639-2 for an unknown language."""
MAX_CELL_LETTERS = 300
FEATURE_TYPES = {"json": "json", "txt": "string"}
"""How `datasets` reads a part. All else is `binary`: for a media type it would require a decoder."""


Counts = Mapping[str, float]
"""By heading, in the order of columns: samples, then what else a layout counts (hours, images)."""


@dataclass(frozen=True)
class Subset:
    """One folder of shards whose samples have the same parts."""

    name: str
    description: str
    extensions: tuple[str, ...]
    splits: Mapping[str, int]
    """Shards per split; their names begin with the split's."""
    size: int
    """Bytes of all its shards."""
    counts: Counts
    languages: Mapping[str | None, Counts]
    """By ISO 639 code."""
    content: str
    """A digest of its shards: no two contents have one."""


@dataclass(frozen=True)
class SourceTerms:
    """What came under one licence and one consent, as the source states them."""

    licence: str | None
    consent: str | None
    counts: Counts


@dataclass(frozen=True)
class EngineUse:
    """An engine that shaped this version."""

    role: str
    label: str
    code_licence: str
    weights_licence: str
    limits: str


@dataclass(frozen=True)
class FunnelRow:
    """What happened at one node: rows that came in and were made, and their verdicts."""

    node: str
    came_in: int
    made: int
    kept: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    """By reason."""
    sampled_out: int = 0
    failed: int = 0


def dataset_card(
    *,
    title: str,
    version: str,
    subsets: Sequence[Subset],
    sources: Sequence[SourceTerms],
    engines: Sequence[EngineUse],
    funnel: Sequence[FunnelRow],
    recipe: str,
    coverage: Sequence[Mapping[str, Any]] = (),
) -> str:
    """README.md of a version. Licences, consents and reasons come from strangers: they are text in it, never markup.

    Args:
        subsets: the first one is what `load_dataset(folder)` loads when none is named.
        recipe: the resolved recipe, as YAML.
        coverage: per language, how much the lexicon of a concept balance covers (`schemas.concepts.CONCEPT_COVERAGE`).
    """
    for subset in subsets:
        _check_names(subset)
    headings = tuple(subsets[0].counts) if subsets else ("samples",)
    sections = [
        f"# {_inline(title)}, version {_inline(version)}",
        "## Subsets",
        _table(("subset", *headings, "shards", "GB", "parts", "what"), map(_subset_row, subsets)),
        "## Languages",
        _table(("subset", "language", *headings), _language_rows(subsets)),
        "## Licences and consent of the sources",
        _table(("licence", "consent", *(sources[0].counts if sources else ())), map(_terms_row, sources)),
        "## Engines",
        _table(
            ("role", "engine or list", "licence of code", "of weights or data", "limits"), map(_engine_row, engines)
        ),
        *_coverage_section(coverage),
        "## Funnel",
        _table(("node", "in", "made", "kept", "rejected", "sampled out", "failed"), map(_funnel_row, funnel)),
        "## Recipe",
        _fenced("yaml", recipe),
        "## Loading",
        "Each of these runs in this folder. Media is left as encoded bytes.",
    ]
    for subset in subsets[:1]:
        for name, snippet in loading_snippets(subset).items():
            sections += [f"### {name}", _fenced("python", snippet)]
    return f"---\n{_front_matter(title, version, subsets, sources)}---\n\n" + "\n\n".join(sections) + "\n"


def _check_names(subset: Subset) -> None:
    """Names that the card prints in code and in front matter are plain ones, whatever store they come from."""
    for what, pattern, names in (
        ("subset name", SUBSET_NAME, [subset.name]),
        ("split name", SPLIT_NAME, list(subset.splits)),
        ("extension", EXTENSION, list(subset.extensions)),
    ):
        if strange := [name for name in names if not pattern.fullmatch(name)]:
            raise StageError(f"{what} {strange[0]!r} is not of a-z and 0-9, as code and folders need it")


def loading_snippets(subset: Subset) -> dict[str, str]:
    """Python that loads a subset, by the library's name. It runs in the version's folder."""
    _check_names(subset)
    name, split, media = subset.name, next(iter(subset.splits)), subset.extensions[0]
    return {
        "webdataset": f"""\
from glob import glob

import webdataset as wds

shards = sorted(glob("{name}/{split}-*.tar"))
for sample in wds.WebDataset(shards, shardshuffle=False).decode():
    print(sample["__key__"], len(sample["{media}"]))
""",
        "datasets": f"""\
from pathlib import Path

from datasets import load_dataset

samples = load_dataset(str(Path.cwd()), "{name}", split="{split}")
for sample in samples:
    print(sample["__key__"], len(sample["{media}"]))
""",
        "Ray": f"""\
from pathlib import Path

import ray

shards = sorted(map(str, Path("{name}").resolve().glob("{split}-*.tar")))
samples = ray.data.read_webdataset(shards, decoder=None)
for sample in samples.iter_rows():
    print(sample["__key__"], len(sample["{media}"]))
""",
        "DuckDB, and one part out of a shard": f"""\
import duckdb

parts = duckdb.execute(
    "select key, shard, p.offset, p.size from (select key, shard, unnest(parts) as p from 'index/{name}.parquet')"
    " where p.extension = '{media}' order by key"
).fetchall()
for key, shard, offset, size in parts:
    with open(f"{name}/{{shard}}", "rb") as tar:
        tar.seek(offset)
        print(key, len(tar.read(size)))
""",
        "Energon": f"""\
from megatron.energon import Cooker, CrudeSample, DefaultTaskEncoder, WorkerConfig, get_savable_loader
from megatron.energon import get_train_dataset, stateless


@stateless
def cook(sample):
    return CrudeSample(sample)


class Bytes(DefaultTaskEncoder):
    decoder = None
    cookers = [Cooker(cook)]


samples = get_train_dataset(
    "{name}",
    split_part="{energon_split(split)}",
    worker_config=WorkerConfig(rank=0, world_size=1, num_workers=0),
    task_encoder=Bytes(),
    batch_size=None,
    shuffle_buffer_size=None,
    max_samples_per_sequence=None,
    repeat=False,
)
for sample in get_savable_loader(samples):
    print(sample["__key__"], len(sample["{media}"]))
""",
    }


def _front_matter(title: str, version: str, subsets: Sequence[Subset], sources: Sequence[SourceTerms]) -> str:
    licences = sorted({_plain(terms.licence) for terms in sources if terms.licence})
    languages = sorted({_plain(code or UNDETERMINED) for subset in subsets for code in subset.languages})
    matter: dict[str, Any] = {
        "pretty_name": _plain(title),
        "license": "other",
        "license_name": "; ".join(licences) or "unknown",
        "language": languages,
        "configs": [
            _config(title, version, subset) | ({"default": True} if subset is subsets[0] else {}) for subset in subsets
        ],
        "dataset_info": [{"config_name": subset.name, "features": _features(subset)} for subset in subsets],
    }
    # Escapes keep out the line breaks of other alphabets, which some readers of front matter split at.
    return yaml.safe_dump(matter, sort_keys=False, allow_unicode=False)


def _config(title: str, version: str, subset: Subset) -> dict[str, Any]:
    """How `datasets` finds a subset.

    The library keeps what it loaded under the folder's name (here the version's number, whichever the dataset), the
    subset's name, and a hash of these lines and of the features; what is in the files does not count. Without more, the
    first version of every dataset would be found again as that of another. So these lines say what the files hold, in
    the description, the one field that is free: names stay short, and the same content is never loaded twice.
    """
    description = f"{_plain(title)}, version {_plain(version)}: {subset.name}, content {subset.content}"
    return {"config_name": subset.name, "description": description, "data_files": _data_files(subset)}


def _data_files(subset: Subset) -> list[dict[str, str]]:
    return [{"split": split, "path": f"{subset.name}/{split}-*.tar"} for split in subset.splits]


def _features(subset: Subset) -> list[dict[str, str]]:
    types = {"__key__": "string", "__url__": "string"}
    types |= {part: FEATURE_TYPES.get(part.rsplit(".", 1)[-1], "binary") for part in sorted(subset.extensions)}
    return [{"name": name, "dtype": dtype} for name, dtype in types.items()]


def _subset_row(subset: Subset) -> list[str]:
    shards = ", ".join(f"{split} {count}" for split, count in subset.splits.items())
    parts = ", ".join(sorted(subset.extensions))
    size = f"{subset.size / 1e9:.3f}"
    return [subset.name, *_numbers(subset.counts), shards, size, parts, subset.description]


def _language_rows(subsets: Sequence[Subset]) -> Iterable[list[str]]:
    for subset in subsets:
        for code, counts in sorted(subset.languages.items(), key=lambda item: item[0] or UNDETERMINED):
            yield [subset.name, code or UNDETERMINED, *_numbers(counts)]


def _terms_row(terms: SourceTerms) -> list[str]:
    return [terms.licence or "not stated", terms.consent or "not stated", *_numbers(terms.counts)]


def _engine_row(use: EngineUse) -> list[str]:
    return [use.role, use.label, use.code_licence or "no code", use.weights_licence or "no weights", use.limits]


def _coverage_section(coverage: Sequence[Mapping[str, Any]]) -> list[str]:
    if not coverage:
        return []
    headings = ("language", "entries", "captions", "name an entry", "share", "concept balance")
    rows = []
    for row in coverage:
        done = "applied" if row["covered"] else "not applied: kept as they are"
        counts = (str(row[name]) for name in ("entries", "captions", "matched"))
        rows.append((row["concept_language"], *counts, f"{row['coverage']:.3f}", done))
    return ["## Languages of concepts", _table(headings, rows)]


def _funnel_row(row: FunnelRow) -> list[str]:
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(row.rejected.items()))
    rejected = f"{sum(row.rejected.values())} ({reasons})" if reasons else "0"
    return [row.node, str(row.came_in), str(row.made), str(row.kept), rejected, str(row.sampled_out), str(row.failed)]


def _numbers(counts: Counts) -> list[str]:
    return [str(number) if isinstance(number, int) else f"{number:.2f}" for number in counts.values()]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_inline(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _plain(text: str) -> str:
    """One line without characters that steer a terminal, a page's direction or a parser; cut where it is long."""
    visible = "".join(c for c in text if c.isspace() or not unicodedata.category(c).startswith("C"))
    line = " ".join(visible.split())
    return line if len(line) <= MAX_CELL_LETTERS else line[: MAX_CELL_LETTERS - 1] + "…"


def _inline(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>|&~$])", r"\\\1", _plain(text))


def _fenced(language: str, text: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.encode('utf-8', 'replace').decode().rstrip()}\n{fence}"
