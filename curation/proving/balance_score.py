"""Whether a concept balance did what its formula says, from what it wrote beside each pair."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.diversity.concept_report import concept_balance, tail_coverage
from curation.diversity.concepts import is_drawn, keep_probability
from curation.proving.figures import Figure, share
from schemas.concepts import CONCEPT_COUNTS
from schemas.ledger import SAMPLED_OUT

DEVIATIONS = 4.0
"""Standard deviations that an entry's kept pairs may lie from what was expected; 1 of 16,000 entries lies further."""
NOT_DRAWN = "concept_over_represented"
LANGUAGE = "en"
"""Of all concepts of a made corpus."""


def balance_figures(balanced: pa.Table, ledger: pa.Table, limit: float | None) -> Iterator[Figure]:
    """Expected and realised counts of concepts, the tail, and what a doubled t would do.

    Args:
        balanced: row_id, concepts, keep_probability, concept_draw of every pair that was decided on.
        limit: t, one for all concepts; None where it is not known, which leaves nothing to measure.
    """
    balanced = balanced.filter(pc.is_valid(balanced["concept_draw"]))
    if limit is None or not balanced.num_rows:
        return
    counted = pc.value_counts(pc.list_flatten(balanced["concepts"]))
    languages = pa.array([LANGUAGE] * len(counted))
    columns = [counted.field("values"), languages, counted.field("counts")]
    counts = pa.table(dict(zip(CONCEPT_COUNTS.names, columns, strict=True))).cast(CONCEPT_COUNTS)
    probabilities = balanced["keep_probability"].to_numpy()
    draws = balanced["concept_draw"].to_numpy()
    out = ledger.filter(pc.and_(pc.equal(ledger["verdict"], SAMPLED_OUT), pc.equal(ledger["reason"], NOT_DRAWN)))
    named = pc.fill_null(pc.list_value_length(balanced["concepts"]), 0).to_numpy() > 0
    kept = ~np.array(pc.is_in(balanced["row_id"], value_set=out["row_id"].combine_chunks()), bool) & named
    ours = keep_probability(balanced["concepts"], counts, limit)
    wrong = int((np.abs(ours - probabilities) > 1e-9).sum())
    yield Figure("concepts: probabilities that are not the formula's", float(wrong), at_most=0, plain=True)
    report = concept_balance(balanced["concepts"], probabilities, kept, counts, limit)
    expected, deviation, stayed = (report[name].to_numpy() for name in ("expected", "deviation", "kept"))
    near = np.abs(stayed - expected) <= DEVIATIONS * deviation + 1e-6
    within = f"concepts within {DEVIATIONS:.0f} standard deviations"
    yield share(within, int(near.sum()), report.num_rows, at_least=1.0)
    (tail,) = tail_coverage(report).to_pylist()
    yield share("rare concepts that kept every pair", tail["tail_entries_whole"], tail["tail_entries"], at_least=1.0)
    for when in ("before", "after"):
        name = f"concept matches of rare concepts, {when} the balance"
        yield Figure(name, tail[f"tail_share_{when}"], count=f"of {tail[f'matches_{when}']}")
    yield share("pairs kept by the balance", int(kept.sum()), len(kept))
    excess = report["excess"].to_numpy()
    above = f"{int((excess > 0).sum())} of {report.num_rows} concepts"
    yield Figure("pairs kept above t, for the sake of rarer concepts", float(excess.sum()), count=above, plain=True)
    twice = is_drawn(keep_probability(balanced["concepts"], counts, 2 * limit), draws)
    lost = int((kept & ~twice).sum())
    more = f"{int(twice.sum())} instead of {int(kept.sum())}"
    yield Figure("pairs that a doubled t would lose", float(lost), at_most=0, count=more, plain=True)
