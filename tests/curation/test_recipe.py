"""Recipes: what extends what, what a setting changes, and errors that name the key."""

from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from curation.errors import RecipeError
from curation.recipe import check_recipe, engine_shorthand, merged, read_recipe, recipe_names
from pipelines.speech import SpeechRecipe


def recipe(folder: Path, text: str, name: str = "mine.yaml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def complaint(name: str, *sets: str) -> str:
    with pytest.raises(RecipeError) as raised:
        check_recipe(SpeechRecipe, read_recipe(name, sets), name)
    assert raised.value.exit_code == 2
    return str(raised.value)


def test_recipes_come_with_the_package_and_are_valid() -> None:
    assert {"speech", "speech-embedded"} <= set(recipe_names())
    for name in ("speech", "speech-embedded"):
        check_recipe(SpeechRecipe, read_recipe(name), name)


def test_a_recipe_needs_only_what_it_changes(tmp_path: Path) -> None:
    name = recipe(tmp_path, "extends: speech-embedded\ndataset: podcasts\nsamples: {max_silence_s: 5}\n")
    mine, base = read_recipe(name), read_recipe("speech-embedded")
    assert mine["samples"] == base["samples"] | {"max_silence_s": 5}
    assert mine == base | {"dataset": "podcasts", "samples": mine["samples"]}


def test_a_recipe_extends_one_that_lies_beside_it(tmp_path: Path) -> None:
    recipe(tmp_path, "extends: speech\ndataset: base\nwork: {scan_files: 3}\n", "base.yaml")
    name = recipe(tmp_path, "extends: base.yaml\ndataset: top\n")
    assert (read_recipe(name)["dataset"], read_recipe(name)["work"]["scan_files"]) == ("top", 3)


def test_a_setting_has_the_last_word_and_the_last_setting_most_of_all() -> None:
    sets = ["source.path=/data", "cross_check.max_disagreement=0.2", "cross_check.max_disagreement=0.3"]
    value = read_recipe("speech-embedded", sets)
    assert value["source"]["path"] == "/data" and value["source"]["language"] == "en"
    assert value["cross_check"]["max_disagreement"] == 0.3


def test_a_setting_is_yaml() -> None:
    sets = ["allow_licences=[MIT, BSD-2-Clause]", "source.licence=null", "dataset=a=b", "source.consent="]
    value = read_recipe("speech", sets)
    assert value["allow_licences"] == ["MIT", "BSD-2-Clause"]
    assert (value["source"]["licence"], value["dataset"], value["source"]["consent"]) == (None, "a=b", None)


@pytest.mark.parametrize("setting", ["dataset", "=x", " =x", "source.path: /data"])
def test_a_setting_that_is_none_is_told_how_to_be_one(setting: str) -> None:
    with pytest.raises(RecipeError, match="write key=value, such as"):
        read_recipe("speech", [setting])


def test_a_setting_that_is_not_yaml_is_quoted() -> None:
    with pytest.raises(RecipeError, match=r"--set dataset: '\[' is not YAML"):
        read_recipe("speech", ["dataset=["])


def test_another_engine_replaces_the_keys_of_the_first() -> None:
    over = {"second_opinion": {"engine": "pocketsphinx"}}
    assert merged({"second_opinion": {"engine": "openai-whisper", "model": "medium"}}, over) == over


def test_the_same_engine_keeps_the_keys_that_are_not_changed() -> None:
    base = {"engine": "faster-whisper", "model": "large-v3", "beam": 5}
    assert merged(base, {"engine": "faster-whisper", "model": "tiny"}) == base | {"model": "tiny"}
    assert merged(base, {"model": "tiny"}) == base | {"model": "tiny"}


def test_an_engine_is_written_short_in_a_setting() -> None:
    assert engine_shorthand("faster-whisper:large-v3") == {"engine": "faster-whisper", "model": "large-v3"}
    assert engine_shorthand("sidecar") == {"engine": "sidecar"}
    value = read_recipe("speech", ["first_opinion=sidecar", "second_opinion=faster-whisper:tiny"])
    checked = check_recipe(SpeechRecipe, value, "speech")
    assert checked.first_opinion.engine == "sidecar"
    assert (checked.second_opinion.engine, checked.second_opinion.model) == ("faster-whisper", "tiny")  # type: ignore[union-attr]


@given(st.recursive(st.integers() | st.text(max_size=3), lambda inner: st.dictionaries(st.sampled_from("abc"), inner)))
@settings(deadline=None)
def test_merging_with_nothing_or_with_itself_changes_nothing(value: object) -> None:
    assert merged(value, value) == value
    if isinstance(value, dict):
        assert merged(value, {}) == value and merged({}, value) == value


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("sauce.path=/data", "unknown key sauce"),
        ("source.pth=/data", "unknown key source.pth"),
        ("cross_check.max_disagrement=0.1", "unknown key cross_check.max_disagrement"),
        ("pace.upper=3", "unknown key pace.upper"),
        ("second_opinion.modle=tiny", "unknown key second_opinion.modle"),
        ("work.scan_files=many", "work.scan_files: "),
        ("work.scan_files=-1", "work.scan_files: "),
        ("cross_check.max_disagreement=[1]", "cross_check.max_disagreement: "),
        ("max_failed_share=2", "max_failed_share: "),
        ("dataset=../elsewhere", "dataset: "),
        ("dataset=Üm", "dataset: "),
        ("second_opinion.engine=wisper", "second_opinion: "),
        ("source=/data", "source: "),
        ("cross_check=null", "cross_check: "),
    ],
)
def test_a_typo_or_a_wrong_value_names_its_key(setting: str, key: str) -> None:
    assert complaint("speech-embedded", setting).startswith(f"recipe speech-embedded: {key}")


@pytest.mark.parametrize(
    "setting",
    [
        "utterances.threshold=1.5",
        "utterances.exit_threshold=0.9",
        "utterances.exit_threshold=0",
        "utterances.min_speech_s=-0.1",
        "utterances.min_silence_s=-1",
        "utterances.end_trim_s=-1",
        "utterances.pad_s=-1",
        "utterances.pad_s=.nan",
        "utterances.max_utterance_s=0",
        "utterances.max_utterance_s=0.2",
        "utterances.max_utterance_s=.inf",
        "utterances.max_cue_pause_s=-1",
        "utterances.min_cue_overlap=1.1",
        "timed_words.max_untimed_share=1.1",
        "quiet.frame_s=0",
        "quiet.frame_s=0.00001",
        "quiet.frame_s=1",
        "quiet.margin_db=-1",
        "quiet.silence_db=-1",
        "quiet.floor_percentile=101",
        "quiet.reach_s=0",
        "pace.lower_percentile=-1",
        "pace.upper_percentile=101",
        "pace.min_count=0",
        "pace.bounds=0",
        "samples.max_silence_s=-1",
        "samples.max_sample_s=0",
        "samples.tasks=[]",
        "samples.tasks=[asr, poem]",
        "fragments.min_pause_s=-1",
        "fragments.min_unaligned_pause_s=-1",
        "fragments.cut_at=1.5",
        "masking.text_only=1.5",
        "masking.text_only=0.9",
        "masking.audio_only=-0.1",
        "work.encode_s=0",
        "work.listen_s=.inf",
    ],
)
def test_a_value_out_of_its_range_names_its_key(setting: str) -> None:
    assert setting.partition("=")[0] in complaint("speech", setting)


@pytest.mark.parametrize(
    ("sets", "keys"),
    [
        (("pace.lower_percentile=99", "pace.upper_percentile=1"), ("pace.lower_percentile", "pace.upper_percentile")),
        (("utterances.threshold=0.3",), ("utterances.exit_threshold", "utterances.threshold")),
        (("utterances.min_speech_s=8",), ("utterances.max_utterance_s", "utterances.min_speech_s")),
        (("quiet.reach_s=0.005",), ("quiet.frame_s", "quiet.reach_s")),
        (("masking.audio_only=0.8",), ("masking.text_only", "masking.audio_only")),
    ],
)
def test_values_that_do_not_go_together_name_both_keys(sets: tuple[str, ...], keys: tuple[str, ...]) -> None:
    said = complaint("speech", *sets)
    assert all(key in said for key in keys) and "\n" not in said


def test_the_largest_and_smallest_values_that_can_be_meant_are_taken() -> None:
    sets = ["utterances.threshold=0.35", "utterances.pad_s=0", "utterances.max_utterance_s=1", "masking.text_only=0.75"]
    check_recipe(SpeechRecipe, read_recipe("speech", [*sets, "quiet.frame_s=0.3", "samples.tasks=[asr]"]), "speech")


def test_every_mistake_is_named_at_once() -> None:
    lines = complaint("speech-embedded", "sauce=1", "work.scan_files=x").splitlines()
    assert len(lines) == 2


def test_a_key_that_stands_twice_is_an_error(tmp_path: Path) -> None:
    name = recipe(tmp_path, "extends: speech\nsource:\n  path: a\n  path: b\n")
    with pytest.raises(RecipeError, match=r"mine.yaml: key 'path' appears twice .*line 3"):
        read_recipe(name)


def test_a_missing_recipe_lists_those_that_there_are(tmp_path: Path) -> None:
    for name in ("speach", str(tmp_path / "none.yaml"), "/etc/passwd", "../recipes/speech", ""):
        with pytest.raises(RecipeError, match=r"no recipe .*: give a .yaml file, or one of .*speech, speech-embedded"):
            read_recipe(name)


@pytest.mark.parametrize("names", [("one.yaml", "one.yaml"), ("one.yaml", "two.yaml")])
def test_recipes_that_extend_each_other_are_an_error(tmp_path: Path, names: tuple[str, str]) -> None:
    for name, other in (names, names[::-1]):
        recipe(tmp_path, f"extends: {other}\n", name)
    with pytest.raises(RecipeError, match="extends itself"):
        read_recipe(str(tmp_path / names[0]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a recipe is a mapping of keys, this is NoneType"),
        ("- a\n- b\n", "a recipe is a mapping of keys, this is list"),
        ("source: [\n", "mine.yaml: "),
        ("extends: [speech]\n", "is not a recipe"),
        ("extends: nowhere.yaml\n", "no recipe 'nowhere.yaml'"),
        ("source: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
        ("1: 2\nextends: speech\n", ": 1: Keys should be strings"),
    ],
)
def test_what_is_no_recipe_is_said_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    said = complaint(recipe(tmp_path, text))
    assert message in said and "\n" not in said


def test_a_recipe_that_is_not_utf_8_is_said(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"dataset: \xff\n")
    assert "cannot be read" in complaint(str(tmp_path / "mine.yaml"))
