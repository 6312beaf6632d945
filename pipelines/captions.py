"""Image-text pairs to a balanced, audited dataset (LongCat-Flash-Omni, section 3.1.2)."""

from dataclasses import replace
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from curation.decontamination.recipe import Decontamination
from curation.diversity.clusters import CheckEmbedding, Clusters
from curation.diversity.concept_report import ConceptReport, TailReport
from curation.diversity.concepts import STARTER, ConceptBalance, KeepProbability, LexiconPath, Limits, MatchConcepts
from curation.diversity.coverage import ConceptCoverage, ConceptLanguage, Coverage
from curation.diversity.density import DensityPruning, KeepDense
from curation.diversity.duplicates import PerceptualDuplicates, RejectDuplicates, SemanticDuplicates
from curation.diversity.resampling import ClusterRates, Resample
from curation.documents.filters import CaptionPersonalData
from curation.engines.image_safety import AnyImageSafety
from curation.engines.image_text_embedding import AnyImageTextEmbedder, OpenClip
from curation.engines.text_embedding import AnyTextEmbedder
from curation.engines.text_reading import AnyTextReader
from curation.licences import AllowedLicence
from curation.pair_sources import PairSource, list_pairs
from curation.ranges import Positive, Share, check
from curation.recipe import Recipe, engine_shorthand
from curation.runtime.nodes import WHOLE, Listing, Pack, Pipeline, Unit
from curation.stage import Forget, Stage
from curation.text.caption_checks import (
    CaptionBoilerplate,
    CaptionLanguage,
    CaptionLength,
    CaptionScripts,
    CaptionSpecialCharacters,
    FlaggedWords,
)
from curation.text.caption_detail import CaptionDetail
from curation.text.ngram_repetition import CaptionRepetition
from curation.text.text_embeddings import EmbedCaption
from curation.text.truncation import CaptionTruncation
from curation.vision.encoding import EncodeImage
from curation.vision.entries import OneRowPerPair, ScanImage, read_entries
from curation.vision.image_checks import ImageQuality, ImageSize, UsableImage
from curation.vision.layout import INDEXED, PairLayout
from curation.vision.pair_check import EmbedImage, EmbedText, JointEmbedding, PairCheck
from curation.vision.pair_text import PairText
from curation.vision.recaptioning import CheckRecaption, Recaption
from curation.vision.sensitive_images import NotSensitive, SensitiveScore
from curation.vision.text_in_image import NotOnlyText, TextInImage
from pipelines.steps import Steps


class TextChecks(BaseModel):
    """Checks of the caption alone; null switches one off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    length: CaptionLength | None = CaptionLength()
    boilerplate: CaptionBoilerplate | None = CaptionBoilerplate()
    special_characters: CaptionSpecialCharacters | None = CaptionSpecialCharacters()
    scripts: CaptionScripts | None = CaptionScripts()
    repetition: CaptionRepetition | None = CaptionRepetition()
    truncation: CaptionTruncation | None = CaptionTruncation()
    language: CaptionLanguage | None = CaptionLanguage()
    flagged_words: FlaggedWords | None = FlaggedWords()
    personal_data: CaptionPersonalData | None = None

    def stages(self) -> list[Stage]:
        """Cheap ones first."""
        language = self.language and replace(self.language, source_language="language")
        flagged = self.flagged_words and replace(self.flagged_words, measured_column="caption" if language else None)
        told = self.model_copy(update={"language": language, "flagged_words": flagged})
        return [stage for _, stage in told if stage is not None]


class PairLimits(BaseModel):
    """What a pair's similarity must reach, in cosine or in SigLIP's probability; for one checkpoint alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_cosine: float | None = 0.05
    min_probability: float | None = None
    languages: tuple[str, ...] = ()
    """Those that the checkpoint reads, by ISO 639-1; pairs in others are not judged. Empty for any."""


class Concepts(BaseModel):
    """MetaCLIP's concept balance, of captions in languages that the lexicon covers; t per language under `limits`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lexicon: LexiconPath = STARTER
    coverage: Coverage = Coverage()
    min_confidence: Share = 0.9
    """A measured language that is less sure is unknown."""
    limits: Limits = Limits()
    keep_unmatched: bool = False
    seed: int = 0

    def measured(self) -> ConceptCoverage:
        """How much the lexicon covers; where nothing is rejected for naming no entry, any share will do."""
        least = 0.0 if self.keep_unmatched else self.coverage.min_coverage
        return ConceptCoverage(self.lexicon, replace(self.coverage, min_coverage=least))


class Work(BaseModel):
    """Size of one unit of work. A unit is what a kill can cost, and should take about a minute."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    read_files: Positive = 1.0
    scan_pairs: Positive = 10_000.0
    check_pairs: Positive = 20_000.0
    match_pairs: Positive = 1_000.0
    choose_pairs: Positive = 100_000.0
    encode_bytes: Positive = 64e6
    shard_bytes: Positive = 256e6


class CaptionsRecipe(Recipe):
    """The keys of a recipe for image-text pairs; those of a stage are its fields. Null switches a step off."""

    source: PairSource = PairSource()
    text: TextChecks | None = TextChecks()
    size: ImageSize = ImageSize()
    quality: ImageQuality = ImageQuality()
    usable: UsableImage | None = UsableImage()
    safety: AnyImageSafety | None = None
    sensitive: NotSensitive = NotSensitive()
    decontaminate: Decontamination | None = None
    perceptual: PerceptualDuplicates | None = PerceptualDuplicates(
        quality=("short_side", "caption_detail"), same="image_hash"
    )
    text_reader: AnyTextReader | None = None
    text_in_image: NotOnlyText = NotOnlyText()
    embedder: AnyImageTextEmbedder | None = OpenClip()
    pair_check: PairLimits = PairLimits()
    recaption: Recaption | None = None
    recaption_check: CheckRecaption = CheckRecaption()
    text_embedder: AnyTextEmbedder | None = None
    joint: JointEmbedding = JointEmbedding()
    clusters: Clusters | None = Clusters()
    semantic: SemanticDuplicates | None = SemanticDuplicates()
    resampling: ClusterRates | None = ClusterRates(quality="similarity", min_quality=0.1)
    concepts: Concepts | None = Concepts()
    density: DensityPruning | None = None
    image: EncodeImage = EncodeImage()
    seed: int = 0
    work: Work = Work()

    @field_validator("embedder", "text_embedder", "text_reader", "safety", mode="before")
    @classmethod
    def _engine(cls, value: Any) -> Any:
        return engine_shorthand(value)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.decontaminate:
            self.decontaminate.require("text", "image")
        embedded = self.embedder is not None or self.text_embedder is not None
        check(self.clusters is None or embedded, "clusters: requires an embedder or a text_embedder; or set it to null")
        for name in ("semantic", "resampling", "density"):
            given = getattr(self, name) is not None
            check(not given or self.clusters is not None, f"{name}: requires clusters; or set it to null")
        return self


def captions(recipe: CaptionsRecipe, limit: int | None = None) -> Pipeline:
    """The nodes of a dataset of image-text pairs, in order."""
    work = recipe.work
    if recipe.text and recipe.text.language and not recipe.source.language:
        recipe.text.language.require_known("text.language.languages")
    files = list_pairs(recipe.source, limit)
    split = "split" if files["split"].null_count < files.num_rows else ""
    choose = Unit(target=work.choose_pairs)
    steps = Steps([Listing("listing", files)])
    steps.then(read_entries(recipe.source, limit))
    steps.map("entries", Unit(target=work.read_files) if limit is None else WHOLE)
    steps.then(ScanImage())
    steps.map("scan", Unit(target=work.scan_pairs))
    steps.then(OneRowPerPair())
    steps.map("pairs", WHOLE)

    # Text first, which is cheapest; then the image's header; then one decode at draft scale.
    steps.then(*checks(recipe))
    if recipe.concepts and not recipe.recaption:
        steps.then(*concepts(recipe, recipe.concepts, "caption"))
    steps.map("checked", Unit(target=work.check_pairs))
    if recipe.concepts and not recipe.recaption:
        # Whether the lexicon covers the captions is known here, before anything expensive.
        steps.reduce("concept_coverage", recipe.concepts.measured())
    if recipe.perceptual:
        steps.reduce("duplicates", replace(recipe.perceptual, split=split or None))
        steps.then(RejectDuplicates("perceptual", recipe.perceptual.distance), joins=("duplicates",))

    # Pairs that do not match go; the bar is low, since variety matters more than purity.
    steps.then(*matches(recipe))
    if recipe.embedder or recipe.text_embedder or recipe.text_reader or recipe.recaption:
        steps.map("matched", Unit(target=work.match_pairs))
    if recipe.concepts and recipe.recaption:
        steps.reduce("concept_coverage", recipe.concepts.measured())
    if recipe.clusters:
        # Embeddings are clustered; the tail stays, the head shrinks, clusters of low quality are thinned.
        steps.reduce("clusters", recipe.clusters)
        if recipe.semantic:
            steps.reduce("semantic", replace(recipe.semantic, split=split or None), joins=("clusters",))
            steps.then(RejectDuplicates("semantic", recipe.semantic.epsilon), joins=("semantic",))
        steps.then(Forget(("embedding",)), joins=("clusters",))
        if recipe.resampling:
            steps.map("deduplicated", choose)
            steps.reduce("rates", recipe.resampling)
            steps.then(Resample(recipe.seed), joins=("rates",))
    if recipe.concepts:
        # Very common concepts are thinned to t; rare ones stay whole.
        steps.map("resampled", choose)
        lexicon, limits, seed = recipe.concepts.lexicon, recipe.concepts.limits, recipe.concepts.seed
        steps.reduce("concepts", KeepProbability(lexicon, limits), joins=("concept_coverage",))
        steps.reduce("concept_balance", ConceptReport(lexicon, limits, seed), joins=("concepts",))
        steps.reduce("tail_coverage", TailReport(lexicon, limits, seed), joins=("concepts",))
        steps.then(ConceptBalance(seed, recipe.concepts.keep_unmatched), joins=("concepts",))
    if recipe.density:
        steps.map("balanced", choose)
        steps.reduce("density", recipe.density)
        steps.then(KeepDense(), joins=("density",))

    steps.then(recipe.image)
    steps.map("encoded", Unit("image_bytes", work.encode_bytes))
    index = (*INDEXED, *([split] if split else []), *scores(recipe))
    layout = PairLayout(index=index, scores=scores(recipe), split=split)
    nodes = (*steps.nodes, Pack("packed", "encoded", layout, Unit("payload_bytes", work.shard_bytes)))
    return Pipeline(recipe.dataset, nodes)


def checks(recipe: CaptionsRecipe) -> list[Stage]:
    """What is asked of a pair's text, then of its image, each by itself."""
    allowed = [AllowedLicence(recipe.allow_licences)] if recipe.allow_licences is not None else []
    texts = recipe.text.stages() if recipe.text else []
    detail = [CaptionDetail()] if recipe.perceptual else []
    images = [recipe.size, recipe.quality, *([recipe.usable] if recipe.usable else [])]
    if recipe.safety:
        images += [SensitiveScore(recipe.safety), recipe.sensitive]
    leaks = recipe.decontaminate
    return [
        *allowed,
        *texts,
        *detail,
        *(leaks.text("caption") if leaks else ()),
        *images,
        *(leaks.image(recipe.quality) if leaks else ()),
    ]


def matches(recipe: CaptionsRecipe) -> list[Stage]:
    """What is asked of image and text together, and the vectors that later nodes work on."""
    stages: list[Stage] = []
    if recipe.text_reader:
        stages += [TextInImage(recipe.text_reader), recipe.text_in_image]
    if recipe.embedder:
        limits = recipe.pair_check
        stages += [EmbedImage(recipe.embedder), EmbedText(recipe.embedder)]
        told = "caption" if limits.languages and recipe.text and recipe.text.language else None
        stages += [PairCheck(recipe.embedder, limits.min_cosine, limits.min_probability, limits.languages, told)]
    if recipe.recaption:
        stages += [recipe.recaption, recipe.recaption_check]
    measured = "caption_language" if recipe.text and recipe.text.language else None
    stages.append(PairText(("recaption", "caption") if recipe.recaption else ("caption",), measured))
    if recipe.text_embedder:
        stages.append(EmbedCaption(recipe.text_embedder))
    elif recipe.embedder:
        stages.append(recipe.joint)
    if recipe.embedder:
        stages.append(Forget(("image_embedding", "text_embedding")))
    if recipe.clusters:
        stages.append(CheckEmbedding())
    if recipe.concepts and recipe.recaption:
        if recipe.text and (language := recipe.text.language):
            # Measures alone: it rejects nothing.
            language = replace(language, languages=(), max_unwanted=1.0, min_confidence=None, max_other_share=1.0)
            stages.append(replace(language, column="recaption"))
        stages += concepts(recipe, recipe.concepts, "recaption", "caption")
    return stages


def concepts(recipe: CaptionsRecipe, asked: Concepts, *columns: str) -> list[Stage]:
    """What a pair's text names, and in which language; the text is the first of these columns that a pair has."""
    measured = bool(recipe.text and recipe.text.language)
    column = columns[0] if len(columns) == 1 else "text"
    return [ConceptLanguage(columns, measured, asked.min_confidence), MatchConcepts(asked.lexicon, column)]


def scores(recipe: CaptionsRecipe) -> tuple[str, ...]:
    """Columns that say what a sample is worth, as far as the recipe makes them."""
    matched = ("similarity", "match_probability", "checkpoint") if recipe.embedder else ()
    clustered = ("cluster", "centroid_cosine") if recipe.clusters else ()
    named = ("concepts",) if recipe.concepts else ()
    return ("sharpness", "entropy", *matched, *clustered, *named)
