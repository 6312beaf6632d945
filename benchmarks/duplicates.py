"""Perceptual duplicates: the same pairs as brute force, and what millions of hashes cost beside bands one by one.

    python benchmarks/duplicates.py [--json] [--sizes 1000000 3000000] [--brute 100000]

Hashes are drawn, each with the signature of its colours; every twentieth is a near copy of another, half of these with
its colours. Beside these even ones there are crowds, as they are met: images of a thousandth as many templates, of one
template, of one hash in many colours, and hashes of which a third of the bits never change (blank and low-contrast
images). Each size of each is a process of its own, whose seconds and peak of memory are told.

- **Pairs**: all pairs within 4 bits among `--brute` hashes, by combined bands and by brute force, must be the same.
- **One by one**: hashes with one equal band of five are compared, as is common (Norouzi et al. 2012); over the first of
  the sizes alone, since it is quadratic.
- **Growth**: seconds of the largest size over those of the first, over the ratio of the sizes; 1 is linear.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.diversity.duplicates import PerceptualDuplicates
from curation.diversity.near_hashes import hamming_pairs

DISTANCE = 4
CROWDS = ("even", "templates", "one template", "one hash", "few bits")

Hashes = NDArray[np.uint64]


def flipped(hashes: Hashes, bits: int, chance: np.random.Generator) -> Hashes:
    """Hashes with so many bits turned, fewer where one is met twice."""
    for _ in range(bits):
        hashes = hashes ^ (np.uint64(1) << chance.integers(0, 64, len(hashes)).astype(np.uint64))
    return hashes


def corpus(kind: str, count: int, seed: int = 0) -> pa.Table:
    """What the reduce reads of `count` images."""
    chance = np.random.default_rng(seed)
    hashes = chance.integers(0, 2**64, count, np.uint64)
    colours = chance.integers(60, 190, (count, 48), np.uint8)
    if kind == "templates":
        template = chance.integers(0, max(1, count // 1000), count)
        hashes, colours = flipped(hashes[template], 3, chance), colours[template]
    elif kind == "one template":
        hashes, colours = flipped(np.zeros(count, np.uint64), 3, chance), colours[np.zeros(count, np.int64)]
    elif kind == "one hash":
        # Plain grounds: one colour all over.
        hashes = np.zeros(count, np.uint64)
        colours[:, 16:32], colours[:, 32:] = colours[:, 16:17], colours[:, 32:33]
        colours[:, :16] = 128
    elif kind == "few bits":
        hashes &= np.uint64(2**64 - 2**22)
    else:
        hashes[20::20] = flipped(hashes[19:-1:20], 2, chance)
        colours[40::40] = colours[39:-1:40]
    flat = pa.py_buffer(np.ascontiguousarray(colours).tobytes())
    signatures = pa.Array.from_buffers(pa.binary(48), count, [None, flat])
    ids = pa.array([f"{i:032x}" for i in chance.permutation(count).tolist()])
    columns = {"row_id": ids, "perceptual_hash": hashes, "colour_signature": signatures}
    return pa.table(columns | {"short_side": chance.integers(200, 2000, count).astype(np.int32)})


def over_a_corpus(kind: str, count: int) -> dict[str, Any]:
    """CPU seconds of the reduce, the peak of memory over its rows, and how many go."""
    rows = corpus(kind, count)
    before = peak_mb()
    started = time.process_time()
    found = PerceptualDuplicates(distance=DISTANCE, quality="short_side")(rows)
    return {
        "kind": kind,
        "rows": count,
        "cpu_s": time.process_time() - started,
        "peak_mb_over_rows": peak_mb() - before,
        "duplicates": found.num_rows,
    }


def one_by_one(count: int) -> dict[str, Any]:
    """CPU seconds of the pairs alone, by one band of five and by combined ones."""
    hashes = corpus("even", count)["perceptual_hash"].to_numpy()
    started = time.process_time()
    single = single_bands(hashes)
    other = time.process_time() - started
    started = time.process_time()
    ours = hamming_pairs(hashes, DISTANCE)
    cpu_s = time.process_time() - started
    if not np.array_equal(single, ours):
        raise SystemExit("bands one by one find other pairs than combined ones")
    return {"rows": count, "ours_cpu_s": cpu_s, "single_cpu_s": other, "single_over_ours": other / cpu_s}


def single_bands(hashes: Hashes) -> NDArray[np.int64]:
    """All near pairs, in order: hashes with an equal band, one band after the other."""
    found = []
    for number in range(DISTANCE + 1):
        start, end = (64 * i // (DISTANCE + 1) for i in (number, number + 1))
        band = hashes >> np.uint64(start) & np.uint64((1 << (end - start)) - 1)
        order = np.argsort(band, kind="stable")
        here = np.arange(len(order))
        step = 0
        while len(here):
            step += 1
            here = here[here < len(order) - step]
            here = here[band[order[here]] == band[order[here + step]]]
            left, right = order[here], order[here + step]
            near = np.bitwise_count(hashes[left] ^ hashes[right]) <= DISTANCE
            found.append(np.sort(np.stack([left[near], right[near]], axis=1), axis=1))
    return np.unique(np.concatenate(found), axis=0)


def beside_brute_force(count: int) -> dict[str, Any]:
    """Pairs of every crowd of `count` different hashes that both find, and CPU seconds."""
    results: dict[str, Any] = {"rows": count, "pairs": 0, "ours_pairs": 0, "ours_cpu_s": 0.0, "brute_cpu_s": 0.0}
    for kind in ("even", "templates", "few bits"):
        hashes = np.unique(corpus(kind, count)["perceptual_hash"].to_numpy())
        started = time.process_time()
        ours = hamming_pairs(hashes, DISTANCE)
        results["ours_cpu_s"] += time.process_time() - started
        started = time.process_time()
        brute = []
        for i in range(len(hashes) - 1):
            near = np.flatnonzero(np.bitwise_count(hashes[i + 1 :] ^ hashes[i]) <= DISTANCE)
            brute.append(np.stack([np.full(len(near), i), i + 1 + near], axis=1))
        results["brute_cpu_s"] += time.process_time() - started
        expected = np.concatenate(brute)
        if not np.array_equal(ours, expected):
            raise SystemExit(f"{kind}: combined bands find other pairs than brute force")
        results["pairs"] += len(expected)
        results["ours_pairs"] += len(ours)
    results["same_pairs"] = results["ours_pairs"] / results["pairs"]
    return results


def peak_mb() -> float:
    """The process's peak of memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def alone(*arguments: str) -> Any:
    """What this script finds in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000_000, 3_000_000], help="images of each corpus")
    parser.add_argument("--brute", type=int, default=100_000, help="hashes that are compared each with each")
    parser.add_argument("--crowds", nargs="*", default=list(CROWDS), choices=CROWDS)
    parser.add_argument("--one", nargs=2, metavar=("KIND", "ROWS"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(over_a_corpus(asked.one[0], int(asked.one[1]))))
        return
    sizes = sorted(asked.sizes)
    corpora = [alone("--one", kind, str(size)) for kind in asked.crowds for size in sizes]
    growth = {}
    for kind in asked.crowds:
        first, last = ([one["cpu_s"] for one in corpora if one["kind"] == kind][i] for i in (0, -1))
        growth[kind] = last / first / (sizes[-1] / sizes[0])
    even = [one for one in corpora if one["kind"] == "even"]
    results: dict[str, Any] = {"corpora": corpora, "growth": growth, "single": one_by_one(sizes[0])}
    results["brute"] = beside_brute_force(asked.brute)
    if even:
        few, many = even[0], even[-1]
        results["growth_of_even"] = {
            "few_cpu_s": few["cpu_s"],
            "many_cpu_s": many["cpu_s"],
            "over_linear": growth["even"],
        }
    if asked.json:
        print(json.dumps(results))
        return
    for one in corpora:
        print(
            f"{one['kind']:>13} {one['rows']:>10,} {one['cpu_s']:8.2f} CPU s {one['peak_mb_over_rows']:8.0f} MB "
            f"{one['duplicates']:>10,} duplicates"
        )
    for kind, over in growth.items():
        print(f"growth of {kind}: {over:.2f} of linear")
    print(json.dumps({"single": results["single"], "brute": results["brute"]}))


if __name__ == "__main__":
    main()
