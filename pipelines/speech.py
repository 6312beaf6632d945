"""Raw recordings to interleaved speech-text shards (LongCat-Flash-Omni, section 3.1.1)."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from curation.decontamination.recipe import Decontamination
from curation.engines.ctc import AnyAligner
from curation.engines.forced_alignment import PocketSphinxAligner
from curation.engines.speech_recognition import AnyRecogniser, Sidecar
from curation.engines.voice_activity import Silero
from curation.licences import AllowedLicence
from curation.ranges import Count, Percentile, Positive, check
from curation.recipe import Recipe, engine_shorthand
from curation.runtime.nodes import WHOLE, Listing, Map, Pack, Pinned, Pipeline, Reduce, Unit
from curation.sources import Source, list_source
from curation.speech.alignment import Align, QuietBetweenWords, TimedWords
from curation.speech.disagreement import CrossCheck
from curation.speech.encoding import EncodeAudio
from curation.speech.hallucination import Hallucinations
from curation.speech.interleaving import Fragments, Masking
from curation.speech.layout import SpeechLayout
from curation.speech.pace import Pace, PaceBounds, WithinPace
from curation.speech.recordings import OneRowPerContent, Scan
from curation.speech.samples import MakeSamples
from curation.speech.transcription import TrainingText, opinion
from curation.speech.voice_activity import SpeechProbability, Subtitles, Utterances


class PaceRecipe(BaseModel):
    """Bounds of pace: percentiles of this corpus, or those of an earlier version (`bounds: 3`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lower_percentile: Percentile = 0.5
    upper_percentile: Percentile = 99.5
    min_count: Count = 1000
    bounds: Count | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        lower, upper = self.lower_percentile, self.upper_percentile
        check(lower < upper, f"pace.lower_percentile: {lower} is not below pace.upper_percentile, {upper}")
        return self


class Work(BaseModel):
    """Size of one unit of work. A unit is what a kill can cost, and should take about a minute."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scan_files: Positive = 200.0
    listen_s: Positive = 3600.0
    transcribe_s: Positive = 300.0
    encode_s: Positive = 900.0
    shard_bytes: Positive = 256e6


class SpeechRecipe(Recipe):
    """The keys of a speech recipe; those of a stage are its fields."""

    source: Source = Source()
    decontaminate: Decontamination | None = None
    voice_activity: Silero = Silero()
    utterances: Utterances = Utterances()
    first_opinion: AnyRecogniser
    second_opinion: AnyRecogniser
    cross_check: CrossCheck = CrossCheck()
    hallucinations: Hallucinations = Hallucinations()
    training_text: TrainingText = TrainingText()
    aligner: AnyAligner = PocketSphinxAligner()
    timed_words: TimedWords = TimedWords()
    quiet: QuietBetweenWords = QuietBetweenWords()
    pace: PaceRecipe = PaceRecipe()
    samples: MakeSamples = MakeSamples()
    fragments: Fragments = Fragments()
    masking: Masking = Masking()
    audio: EncodeAudio = EncodeAudio()
    work: Work = Work()

    @field_validator("voice_activity", "first_opinion", "second_opinion", "aligner", mode="before")
    @classmethod
    def _engine(cls, value: Any) -> Any:
        return engine_shorthand(value)


def speech(recipe: SpeechRecipe, limit: int | None = None) -> Pipeline:
    """The nodes of a speech dataset, in order."""
    work, leaks = recipe.work, recipe.decontaminate
    nodes = (
        Listing("listing", list_source(recipe.source, limit)),
        Map("scan", "listing", (Scan(),), Unit(target=work.scan_files)),
        Map("recordings", "scan", (OneRowPerContent(), *allowed(recipe)), WHOLE),
        # A VAD system splits a long audio into speaking segments and removes non-speaking regions.
        Map(
            "utterances",
            "recordings",
            (SpeechProbability(recipe.voice_activity), Subtitles(reads_subtitles(recipe)), recipe.utterances),
            Unit("work_s", work.listen_s),
        ),
        # Two recognisers cross-validate; segments with significant disagreement go. An aligner times the words.
        Map(
            "transcripts",
            "utterances",
            (
                *(leaks.audio() if leaks else ()),
                opinion(recipe.first_opinion, "transcript"),
                opinion(recipe.second_opinion, "second_opinion"),
                recipe.hallucinations,
                recipe.cross_check,
                recipe.training_text,
                *(leaks.text("text") if leaks else ()),
                Align(recipe.aligner),
                recipe.timed_words,
                recipe.quiet,
                Pace(),
            ),
            Unit("speech_s", work.transcribe_s),
        ),
        # Segments whose seconds per length fall outside the 0.5th to 99.5th percentile go.
        pace_bounds(recipe.pace),
        # Adjacent segments with silences shorter than 10 s are merged, split at punctuation, and masked.
        Map(
            "samples",
            "transcripts",
            (WithinPace(), recipe.samples, recipe.fragments, recipe.masking),
            Unit("speech_s", work.encode_s, together="root"),
            joins=("pace_bounds",),
        ),
        Map("encoded", "samples", (recipe.audio,), Unit("duration_s", work.encode_s)),
        Pack(
            "packed",
            "encoded",
            SpeechLayout(extensions=(recipe.audio.format, "json", "txt")),
            Unit("payload_bytes", work.shard_bytes, together="root"),
        ),
    )
    return Pipeline(recipe.dataset, nodes)


def allowed(recipe: SpeechRecipe) -> tuple[AllowedLicence, ...]:
    """The gate for licences of sources, where the recipe names any."""
    return (AllowedLicence(recipe.allow_licences),) if recipe.allow_licences is not None else ()


def reads_subtitles(recipe: SpeechRecipe) -> bool:
    """Whether one of the two opinions is the subtitles."""
    return any(isinstance(engine, Sidecar) for engine in (recipe.first_opinion, recipe.second_opinion))


def pace_bounds(pace: PaceRecipe) -> Reduce | Pinned:
    """The corpus's own percentiles, or an earlier version's."""
    if pace.bounds is not None:
        return Pinned("pace_bounds", pace.bounds)
    return Reduce(
        "pace_bounds", "transcripts", PaceBounds(pace.lower_percentile, pace.upper_percentile, pace.min_count)
    )
