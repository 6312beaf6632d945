"""Ranges that values of a recipe lie in: of one value, by its type; of several together, by `check`."""

from typing import Annotated

from pydantic import Field

from curation.errors import RecipeError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Percentile = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=1)]


def check(holds: bool, complaint: str) -> None:
    """Refuse values that contradict each other.

    Args:
        complaint: begins with the key in the recipe, and has its value.

    Raises:
        RecipeError: with the complaint.
    """
    if not holds:
        raise RecipeError(complaint)
