"""What a recipe says of evaluation sets, and the stages that come of it."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from pydantic import Field

from curation.decontamination.evaluation_sets import EvaluationSet, Kind
from curation.decontamination.stages import AudioFingerprint, AudioOverlap, ImageOverlap, TextOverlap
from curation.errors import RecipeError
from curation.ranges import Count, Positive, Share, check
from curation.stage import Stage
from curation.vision.image_checks import ImageQuality


@dataclass(frozen=True)
class Decontamination:
    """The recipe's key `decontaminate`: evaluation sets, in the order in which they name what they share, and limits.

    Its limits are those of the stages. Each method gives the stages for one kind of content, none where no set holds
    any of it.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    sets: tuple[EvaluationSet, ...] = ()
    min_text_share: Share = 0.5
    ngram_words: Count = 13
    ngram_characters: Count = 20
    max_image_distance: Annotated[int, Field(ge=0, lt=32)] = 4
    max_image_colour_distance: Positive | None = 48.0
    max_bit_error: Annotated[float, Field(ge=0, lt=0.5)] = 0.35
    min_common_s: Positive = 0.75

    def __post_init__(self) -> None:
        names = [one.name for one in self.sets]
        twice = sorted({name for name in names if names.count(name) > 1})
        check(not twice, f"decontaminate.sets: {', '.join(twice)} appears twice")

    def text(self, column: str) -> tuple[Stage, ...]:
        """For a column of texts."""
        sets = self._of("text")
        limits = (self.min_text_share, self.ngram_words, self.ngram_characters)
        return (TextOverlap(sets, column, *limits),) if sets else ()

    def image(self, quality: ImageQuality) -> tuple[Stage, ...]:
        """For images whose `perceptual_hash` a stage like `quality` has measured before."""
        sets = self._of("image")
        colour = self.max_image_colour_distance
        return (
            (ImageOverlap(sets, self.max_image_distance, quality=quality, max_colour_distance=colour),) if sets else ()
        )

    def audio(self, *, whole: bool = False) -> tuple[Stage, ...]:
        """For spans of recordings, or recordings as a whole."""
        sets = self._of("audio")
        overlap = AudioOverlap(sets, whole, self.max_bit_error, self.min_common_s)
        return (AudioFingerprint(whole), overlap) if sets else ()

    def require(self, *kinds: Kind) -> None:
        """Refuse a set of which a pipeline that compares these kinds would use nothing.

        Raises:
            RecipeError: naming the set.
        """
        for one in self.sets:
            if not any(one.may_hold(kind) for kind in kinds):
                raise RecipeError(f"decontaminate.sets: {one.name} has nothing to compare: {', '.join(kinds)}")

    def _of(self, kind: Kind) -> tuple[EvaluationSet, ...]:
        """The sets that hold a kind; of a table only the column for it, so that the others change no fingerprint."""
        columns = {"text": None, "image": None, "audio": None}
        found = [one for one in self.sets if one.may_hold(kind)]
        return tuple(
            replace(one, **columns | {kind: getattr(one, kind)}) if getattr(one, kind) else one for one in found
        )
