"""Train the trees that tell a page's body (`curation/media/page_body.onnx`) on pages whose body people marked.

Needs `lightgbm`, `onnx` and the extra `documents`; takes the folders of the sets as `benchmarks/pages.py` does, and
only those pages of them that its figures leave out. The same pages and packages give the same trees.

    python scripts/train_page_body.py --wcxb FOLDER --article-extraction FOLDER --readability FOLDER \\
        --newspaper FOLDER --trafilatura FOLDER --out curation/media/page_body.onnx
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import LCSseq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.page_sets import SETS, WORD, GoldPage
from curation.media.html_encoding import decode_page
from curation.media.html_pages import MAX_BLOCKS, MAX_DEPTH
from curation.media.html_walk import PageImage, Walk, walk_page
from curation.media.page_features import features

MAX_WORDS = 30_000
"""Of a page that are aligned with its gold text."""
LEAST_WORDS = 20
"""A gold text of which fewer stand in the page teaches nothing."""
PIECE_WORDS = 60
"""A block counts as so many at most, where only a piece of it is marked."""
PIECES_WEIGHT = 0.3
"""Of a page of which only pieces are marked, against one with its whole text."""
SIZE = 0.8
"""Blocks weigh as their words to this power, and each page as much as another."""
ROUNDS = 120
PARAMETERS = {
    "objective": "cross_entropy",
    "num_leaves": 15,
    "learning_rate": 0.12,
    "min_data_in_leaf": 30,
    "min_sum_hessian_in_leaf": 5,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.6,
    "bagging_freq": 1,
    "lambda_l2": 5,
    "max_bin": 63,
    "seed": 1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 2,
    "verbose": -1,
}


def aligned(walk: Walk, gold: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Of each block, how many words are in the longest common sequence with the gold text, and how many it has."""
    found: list[str] = []
    owner: list[int] = []
    for place, block in enumerate(walk.blocks):
        if not isinstance(block, PageImage):
            words = WORD.findall(block.text.lower())
            found += words
            owner += [place] * len(words)
    numbers: dict[str, int] = {}
    ours = [numbers.setdefault(word, len(numbers)) for word in found[:MAX_WORDS]]
    true = [numbers.setdefault(word, len(numbers)) for word in WORD.findall(gold.lower())[:MAX_WORDS]]
    hits, sizes = np.zeros(len(walk.blocks)), np.zeros(len(walk.blocks))
    np.add.at(sizes, owner[:MAX_WORDS], 1)
    for step in LCSseq.opcodes(ours, true):
        if step.tag == "equal":
            np.add.at(hits, owner[step.src_start : step.src_end], 1)
    return hits, sizes


def marked(walk: Walk, page: GoldPage) -> tuple[NDArray[Any], NDArray[Any]]:
    """The same where only pieces are marked; blocks without one have no words."""
    present, absent = ([" ".join(piece.split()) for piece in pieces] for pieces in (page.present, page.absent))
    hits, sizes = np.zeros(len(walk.blocks)), np.zeros(len(walk.blocks))
    for place, block in enumerate(walk.blocks):
        if isinstance(block, PageImage):
            continue
        text = " ".join(block.text.split())
        size = min(PIECE_WORDS, len(WORD.findall(text)))
        if any(piece in text or (len(text) > 20 and text in piece) for piece in present):
            hits[place] = sizes[place] = size
        elif any(piece in text for piece in absent):
            sizes[place] = size
    return hits, sizes


def examples(folders: dict[str, Path]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Rows, the share of each that belongs to a body, and their weights."""
    rows, shares, weights = [], [], []
    for name, folder in folders.items():
        for page in SETS[name](folder):
            if not page.tuned:
                continue
            walk = walk_page(decode_page(page.data), MAX_DEPTH, MAX_BLOCKS)
            hits, sizes = marked(walk, page) if page.text is None else aligned(walk, page.text)
            used = sizes > 0
            if not used.any() or (page.text is not None and hits.sum() < LEAST_WORDS):
                continue
            weight = sizes[used] ** SIZE
            rows.append(features(walk)[used].astype(np.float32))
            shares.append(hits[used] / sizes[used])
            weights.append(weight / weight.sum() * (PIECES_WEIGHT if page.text is None else 1) * 1000)
        print(f"{name}: {sum(map(len, rows))} rows so far", file=sys.stderr)
    return np.concatenate(rows), np.concatenate(shares), np.concatenate(weights)


def as_onnx(model: dict[str, Any], width: int) -> bytes:
    """LightGBM's trees, as it dumps them, as one operator of ONNX whose sum is the log odds."""
    from onnx import TensorProto, helper

    nodes: dict[str, list[Any]] = {
        key: [] for key in ("treeids", "nodeids", "featureids", "modes", "values", "true", "false")
    }
    leaves: dict[str, list[Any]] = {key: [] for key in ("treeids", "nodeids", "weights")}

    def add(tree: int, node: dict[str, Any]) -> int:
        number = len(nodes["nodeids"]) - first
        leaf = "leaf_value" in node
        values = (
            (tree, number, 0, "LEAF", 0.0)
            if leaf
            else (tree, number, node["split_feature"], "BRANCH_LEQ", node["threshold"])
        )
        for key, value in zip(("treeids", "nodeids", "featureids", "modes", "values"), values, strict=True):
            nodes[key].append(value)
        place = len(nodes["true"])
        nodes["true"].append(0)
        nodes["false"].append(0)
        if leaf:
            for key, value in zip(("treeids", "nodeids", "weights"), (tree, number, node["leaf_value"]), strict=True):
                leaves[key].append(value)
        else:
            nodes["true"][place] = add(tree, node["left_child"])
            nodes["false"][place] = add(tree, node["right_child"])
        return number

    for tree in model["tree_info"]:
        first = len(nodes["nodeids"])
        add(tree["tree_index"], tree["tree_structure"])
    trees = helper.make_node(
        "TreeEnsembleRegressor",
        ["rows"],
        ["score"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_treeids=nodes["treeids"],
        nodes_nodeids=nodes["nodeids"],
        nodes_featureids=nodes["featureids"],
        nodes_modes=nodes["modes"],
        nodes_values=[float(value) for value in nodes["values"]],
        nodes_truenodeids=nodes["true"],
        nodes_falsenodeids=nodes["false"],
        target_treeids=leaves["treeids"],
        target_nodeids=leaves["nodeids"],
        target_ids=[0] * len(leaves["nodeids"]),
        target_weights=[float(value) for value in leaves["weights"]],
    )
    graph = helper.make_graph(
        [trees],
        "page_body",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    made: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return made


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in SETS:
        arguments.add_argument(f"--{name}", type=Path)
    arguments.add_argument("--out", type=Path, required=True)
    chosen = vars(arguments.parse_args())
    folders = {name: folder for name in SETS if (folder := chosen[name.replace("-", "_")]) is not None}
    import lightgbm

    rows, shares, weights = examples(folders)
    model = lightgbm.train(PARAMETERS, lightgbm.Dataset(rows, shares, weight=weights), ROUNDS)
    chosen["out"].write_bytes(as_onnx(model.dump_model(), rows.shape[1]))


if __name__ == "__main__":
    main()
