"""What every test shares: the real recordings where they are at hand, and no model hub."""

import os
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

# Read by the libraries when they are imported, so set before any test module is.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")


STARTS_SOMETHING = re.compile(
    rb"subprocess|multiprocessing|import venv|small_corpus|small_pairs|chat_server|run_toy|RayRunner|InlineRunner|runpy"
    rb"|load_model|import torch|\bs3: str\b|mark\.(?:ray|slow)\n"
)
"""What stands in a test file that starts a process, a server, a cluster, a whole run or a large model."""

SECONDS_LONG = {
    "test_a_caption_of_a_megabyte_is_bounded_work",
    "test_a_hundred_thousand_entries_and_a_caption_of_a_megabyte_take_seconds",
    "test_a_long_file_is_not_held_whole",
    "test_a_page_made_to_be_slow_is_not",
    "test_an_excerpt_of_three_seconds_is_found_in_the_recording_it_is_from",
    "test_any_text_is_a_page",
    "test_blocks_of_real_speech_differ_as_those_of_the_paper_and_excerpts_are_found",
    "test_blurred_scenes_are_rejected_and_sharp_ones_kept",
    "test_copies_of_real_images_stay_near_and_others_are_far",
    "test_copies_of_rendered_scenes_stay_near_and_others_are_far",
    "test_damage_is_a_media_error_or_an_image",
    "test_every_line_of_a_csv_is_accounted_for",
    "test_every_line_of_json_is_accounted_for",
    "test_every_single_flipped_byte_is_named_with_its_sample",
    "test_every_utterance_is_in_one_sample_whatever_their_order",
    "test_ideal_quotas_grow_with_the_budget_and_whole_ones_fall_by_one_at_most",
    "test_japanese_is_read_in_kana_and_not_as_mandarin",
    "test_no_damage_escapes_as_anything_but_a_media_error",
    "test_no_damage_of_a_tar_ends_a_run_or_makes_up_a_pair",
    "test_no_licence_breaks_the_card",
    "test_no_other_pairing_is_worth_more",
    "test_no_text_makes_a_check_raise",
    "test_no_unrelated_or_blank_image_is_rejected",
    "test_opus_keeps_times_and_bytes",
    "test_rules_take_any_text",
    "test_scripts_are_romanised_word_by_word",
    "test_texts_that_are_no_utterances_are_compared_all_the_same",
    "test_the_banded_index_finds_what_brute_force_finds",
    "test_the_measure_does_not_depend_on_other_rows_or_on_where_the_file_lies",
    "test_the_result_does_not_depend_on_how_a_block_is_cut",
    "test_the_spread_is_what_a_loop_counts_in_any_order",
    "test_the_time_to_list_a_folder_grows_with_its_files_and_no_faster",
    "test_unrelated_sound_is_above_the_limit",
    "test_what_was_sealed_is_read_again",
    "test_who_stays_does_not_depend_on_the_order_of_rows",
    "test_winners_do_not_depend_on_the_order_of_rows",
    "test_words_hold_all_of_the_text_and_nothing_else",
    "test_writing_is_read_and_its_share_measured",
}
"""Tests of a second or more each; `make test` runs them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="only files that start no process, server, cluster or run")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With --fast, files that start something are not even imported."""
    if config.getoption("--fast") and collection_path.match("test_*.py"):
        return STARTS_SOMETHING.search(collection_path.read_bytes()) is not None or None
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --fast, tests that take long, or that need a cluster, are left out of the other files."""
    if config.getoption("--fast"):
        names = {item: getattr(item, "originalname", item.name) for item in items}
        marked = [item for item in items if item.get_closest_marker("slow") or item.get_closest_marker("ray")]
        slow = {*marked, *(item for item in items if names[item] in SECONDS_LONG)}
        config.hook.pytest_deselected(items=list(slow))
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session")
def media() -> Path:
    """The folder of real recordings: `CURATE_MEDIA`, or `shared/media` beside the checkout; skips without one."""
    folder = Path(os.environ.get("CURATE_MEDIA") or Path(__file__).parents[2] / "shared" / "media")
    if not folder.is_dir():
        pytest.skip(f"no real recordings: {folder} is not a folder; CURATE_MEDIA names one")
    return folder


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of a bucket on a server of our own, with the environment that obstore reads."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT": endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/bucket", method="PUT")):
            yield "s3://bucket"
    server.stop()
