"""What every test shares: the real recordings where they are at hand, and no model hub."""

import os
from pathlib import Path

import pytest

# Read by the libraries when they are imported, so set before any test module is.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")


@pytest.fixture(scope="session")
def media() -> Path:
    """The folder of real recordings: `CURATE_MEDIA`, or `shared/media` beside the checkout; skips without one."""
    folder = Path(os.environ.get("CURATE_MEDIA") or Path(__file__).parents[2] / "shared" / "media")
    if not folder.is_dir():
        pytest.skip(f"no real recordings: {folder} is not a folder; CURATE_MEDIA names one")
    return folder
