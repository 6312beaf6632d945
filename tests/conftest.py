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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="only files that start no process, server, cluster or run")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With --fast, files that start something are not even imported."""
    if config.getoption("--fast") and collection_path.match("test_*.py"):
        return STARTS_SOMETHING.search(collection_path.read_bytes()) is not None or None
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --fast, tests that are marked as slow, or that need a cluster, are left out of the other files."""
    if config.getoption("--fast"):
        slow = [item for item in items if item.get_closest_marker("slow") or item.get_closest_marker("ray")]
        config.hook.pytest_deselected(items=slow)
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
