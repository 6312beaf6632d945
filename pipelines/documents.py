"""Interleaved documents: cleaned, paired, pruned by density, put together again (LongCat-Flash-Omni, section 3.1.2)."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from curation.decontamination.recipe import Decontamination
from curation.diversity.clusters import CheckEmbedding, Clusters
from curation.diversity.concepts import STARTER, LexiconPath, MatchConcepts
from curation.diversity.density import DensityPruning, KeepDense
from curation.diversity.duplicates import ExactDuplicates, RejectDuplicates
from curation.diversity.near_hashes import HASH_BITS
from curation.document_sources import DocumentSource, list_documents
from curation.documents.alt_texts import CheckAltTexts
from curation.documents.filters import (
    DocumentFlaggedWords,
    DocumentLanguage,
    DocumentLength,
    DocumentNoise,
    DocumentPersonalData,
    DocumentRepetition,
    DocumentShape,
    DocumentSpecialCharacters,
    NodeBoilerplate,
    NodeFlaggedWords,
    NodeLength,
    NodeNoise,
    NodePersonalData,
    NodeRepetition,
    NodeSpecialCharacters,
)
from curation.documents.image_tar import GatherImages
from curation.documents.layout import INDEXED, SCORES, DocumentLayout
from curation.documents.pairing import PairImages, Unpaired
from curation.documents.reading import OneDocumentPerContent, ReadDocuments, ScanNodes, SplitNodes, first_look
from curation.documents.reassembly import Reassemble, WholeDocuments
from curation.documents.repeats import CommonImages, ImageSpread, OncePerDocument, TextsDigest
from curation.documents.scores import Knowledge, NodeQuality
from curation.documents.segments import EmbedSegments, Segments
from curation.engines.image_safety import AnyImageSafety
from curation.engines.image_text_embedding import AnyImageTextEmbedder, OpenClip
from curation.licences import AllowedLicence
from curation.ranges import Count, Positive, check
from curation.recipe import Recipe, engine_shorthand
from curation.runtime.nodes import WHOLE, Listing, Pack, Pipeline, Unit
from curation.stage import Forget, Only, Stage
from curation.text.entities import DecodeTexts
from curation.vision.encoding import EncodeImage
from curation.vision.image_checks import ImageQuality, ImageSize, UsableImage
from curation.vision.pair_check import EmbedImage, JointEmbedding, PairCheck
from curation.vision.sensitive_images import NotSensitive, SensitiveScore
from pipelines.steps import Steps
from schemas.documents import IMAGE, TEXT


class DocumentChecks(BaseModel):
    """Checks of a document as a whole; null switches one off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    length: DocumentLength | None = DocumentLength()
    noise: DocumentNoise | None = DocumentNoise()
    special_characters: DocumentSpecialCharacters | None = DocumentSpecialCharacters()
    repetition: DocumentRepetition | None = DocumentRepetition()
    flagged_words: DocumentFlaggedWords | None = DocumentFlaggedWords()
    personal_data: DocumentPersonalData | None = DocumentPersonalData()
    language: DocumentLanguage | None = DocumentLanguage()


class TextChecks(BaseModel):
    """Checks of each text of a document; null switches one off, save those whose measures are scores later."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    length: NodeLength = NodeLength()
    noise: NodeNoise = NodeNoise()
    repetition: NodeRepetition = NodeRepetition()
    boilerplate: NodeBoilerplate | None = NodeBoilerplate()
    special_characters: NodeSpecialCharacters | None = NodeSpecialCharacters()
    flagged_words: NodeFlaggedWords | None = NodeFlaggedWords()
    personal_data: NodePersonalData | None = NodePersonalData()


class Repeats(BaseModel):
    """Duplicates that are rejected; null switches a rule off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    documents: bool = True
    """Of documents with the same texts, that with the most images stays."""
    in_document: OncePerDocument | None = OncePerDocument()
    images: CommonImages | None = CommonImages()
    image_distance: Annotated[int, Field(ge=0, lt=HASH_BITS)] = ImageSpread.distance
    """Bits of 64 in which perceptual hashes of what counts as one image may differ, across documents."""
    image_colour_distance: Positive | None = ImageSpread.max_colour_distance
    """How far colours of what counts as one image may be apart, of 255; null leaves colour out."""


class WhatIsLeft(BaseModel):
    """What a document must have left to be put together again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_images: Count = 1
    min_words: Positive = 10.0


class Work(BaseModel):
    """Size of one unit of work. A unit is what a kill can cost, and should take about a minute."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    read_files: Positive = 1.0
    check_documents: Positive = 5_000.0
    scan_documents: Positive = 1_000.0
    check_nodes: Positive = 20_000.0
    pair_nodes: Positive = 2_000.0
    assemble_nodes: Positive = 50_000.0
    encode_bytes: Positive = 64e6
    shard_bytes: Positive = 256e6


class DocumentsRecipe(Recipe):
    """The keys of a recipe for interleaved documents; those of a stage are its fields. Null switches a step off."""

    source: DocumentSource = DocumentSource()
    reading: ReadDocuments = ReadDocuments()
    shape: DocumentShape = DocumentShape()
    document: DocumentChecks = DocumentChecks()
    text: TextChecks = TextChecks()
    size: ImageSize = ImageSize(min_side=150, max_aspect_ratio=2.0)
    quality: ImageQuality = ImageQuality()
    usable: UsableImage | None = UsableImage()
    safety: AnyImageSafety | None = None
    sensitive: NotSensitive = NotSensitive()
    repeats: Repeats = Repeats()
    decontaminate: Decontamination | None = None
    embedder: AnyImageTextEmbedder | None = OpenClip()
    segments: Segments = Segments()
    pairing: PairImages = PairImages()
    joint: JointEmbedding = JointEmbedding()
    node_quality: NodeQuality = NodeQuality()
    left: WhatIsLeft = WhatIsLeft()
    lexicon: LexiconPath = STARTER
    clusters: Clusters | None = Clusters()
    density: DensityPruning | None = Field(DensityPruning(score_weights=dict.fromkeys(SCORES, 1.0)))
    image: EncodeImage = EncodeImage()
    work: Work = Work()

    @field_validator("embedder", "safety", mode="before")
    @classmethod
    def _engine(cls, value: Any) -> Any:
        return engine_shorthand(value)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        check(self.density is None or self.clusters is not None, "density: requires clusters; or set it to null")
        strange = sorted(set(self.density.score_weights) - set(SCORES)) if self.density else []
        check(not strange, f"density.score_weights: {', '.join(strange)} is not one of {', '.join(SCORES)}")
        if self.decontaminate:
            self.decontaminate.require("text", "image")
        return self


def documents(recipe: DocumentsRecipe, limit: int | None = None) -> Pipeline:
    """The nodes of a dataset of interleaved documents, in order."""
    work = recipe.work
    if recipe.document.language and not recipe.source.language:
        recipe.document.language.require_known("document.language.languages")
    files = list_documents(recipe.source, limit)
    split = "split" if files["split"].null_count < files.num_rows else ""
    steps = Steps([Listing("listing", files)])
    # The recipe may cap it as well; `--limit` has the last word.
    steps.then(recipe.reading if limit is None else first_look(recipe.reading, limit))
    whole = limit is not None or recipe.reading.at_most is not None
    steps.map("entries", WHOLE if whole else Unit(target=work.read_files))

    # Documents that are too complex, too noisy or too short as a whole go, and what they consist of is looked at.
    steps.then(OneDocumentPerContent(), DecodeTexts(), *document_checks(recipe))
    steps.map("documents", Unit(target=work.check_documents, together="root"))
    steps.reduce("facts", WholeDocuments(("node_count", *measured_language(recipe))))
    if recipe.repeats.documents:
        steps.reduce("duplicates", ExactDuplicates(("texts_digest",), "image_count", split or None))
        steps.then(RejectDuplicates("exact"), joins=("duplicates",))
    steps.then(SplitNodes(), ScanNodes())
    steps.map("nodes", Unit(target=work.scan_documents))
    steps.then(*node_checks(recipe))
    steps.map("checked", Unit(target=work.check_nodes, together="root"))
    if recipe.repeats.images:
        # Logos and advertisements: what many documents show tells nothing of one of them.
        steps.reduce("spread", ImageSpread(recipe.repeats.image_distance, recipe.repeats.image_colour_distance))
        steps.then(*only(IMAGE, [recipe.repeats.images]), joins=("spread",))

    # Each image is paired with the segment of a text that describes it best, or rejected.
    steps.then(*pairs(recipe))
    steps.map("paired", Unit(target=work.pair_nodes, together="root"))

    # What is left is put together again, and scored.
    language = next((f"document_{name}" for name in measured_language(recipe)), None)
    steps.then(Reassemble(recipe.left.min_images, recipe.left.min_words, language), joins=("facts",))
    steps.then(*([CheckEmbedding()] if recipe.embedder else []))
    steps.then(MatchConcepts(recipe.lexicon, "text"), Knowledge(recipe.lexicon))
    steps.map("assembled", Unit(target=work.assemble_nodes, together="root"))
    if recipe.clusters and recipe.embedder:
        steps.reduce("clusters", recipe.clusters)
        steps.then(joins=("clusters",))
    if recipe.density and recipe.embedder:
        # Complex clusters keep more; each keeps its best documents, at every distance from its centroid.
        steps.reduce("density", recipe.density, joins=("clusters",))
        steps.then(KeepDense(), joins=("density",))
    steps.then(Forget(("embedding",)), GatherImages(recipe.image))
    steps.map("encoded", Unit("image_bytes", work.encode_bytes))
    index = (*INDEXED, *([split] if split else []), *scores(recipe))
    layout = DocumentLayout(index=index, scores=scores(recipe), split=split)
    nodes = (*steps.nodes, Pack("packed", "encoded", layout, Unit("payload_bytes", work.shard_bytes)))
    return Pipeline(recipe.dataset, nodes)


def document_checks(recipe: DocumentsRecipe) -> list[Stage]:
    """What is asked of a document as a whole, cheap checks first."""
    allowed = [AllowedLicence(recipe.allow_licences)] if recipe.allow_licences is not None else []
    compared = [TextsDigest()] if recipe.repeats.documents else []
    language = recipe.document.language and replace(recipe.document.language, source_language="language")
    asked = recipe.document.model_copy(update={"language": language})
    return [*allowed, recipe.shape, *(stage for _, stage in asked if stage is not None), *compared]


def measured_language(recipe: DocumentsRecipe) -> tuple[str, ...]:
    """The column with a document's language, where the recipe asks for it to be measured."""
    language = recipe.document.language
    return (f"{language.column}_language",) if language else ()


def node_checks(recipe: DocumentsRecipe) -> list[Stage]:
    """What is asked of each text, then of each image, by itself."""
    leaks = recipe.decontaminate
    texts = [stage for _, stage in recipe.text if stage is not None]
    once = recipe.repeats.in_document
    images = [recipe.size, recipe.quality, *([recipe.usable] if recipe.usable else []), *([once] if once else [])]
    if recipe.safety:
        images += [SensitiveScore(recipe.safety), recipe.sensitive]
    return [
        *only(TEXT, [*texts, *(leaks.text("text") if leaks else ())]),
        *only(IMAGE, [alt_texts(recipe.text), *images, *(leaks.image(recipe.quality) if leaks else ())]),
    ]


def alt_texts(text: TextChecks) -> CheckAltTexts:
    """What is asked of an image's own text: as of any text, but that one word may be enough."""
    length = replace(text.length, min_words=0)
    asked = (text.noise, text.boilerplate, text.flagged_words, text.personal_data)
    return CheckAltTexts((length, *(check for check in asked if check is not None)))


def pairs(recipe: DocumentsRecipe) -> list[Stage]:
    """What brings images and texts together, and what is measured of each pair."""
    embedder = recipe.embedder
    if embedder is None:
        return [Unpaired(), recipe.node_quality]
    return [
        *only(TEXT, [recipe.segments, EmbedSegments(embedder)]),
        *only(IMAGE, [EmbedImage(embedder)]),
        recipe.pairing,
        # The pairing has its limit; here the pair gets its probability and the name of the weights.
        *only(IMAGE, [PairCheck(embedder, min_cosine=None), recipe.joint]),
        Forget(("image_embedding", "text_embedding")),
        recipe.node_quality,
    ]


def only(kind: str, stages: Iterable[Stage]) -> list[Stage]:
    """Stages for nodes of one kind."""
    return [Only("node_kind", kind, stage) for stage in stages]


def scores(recipe: DocumentsRecipe) -> tuple[str, ...]:
    """Columns that say what a document is worth, as far as the recipe makes them."""
    clustered = ("cluster", "centroid_cosine") if recipe.clusters and recipe.embedder else ()
    pruned = ("density_score",) if recipe.density and recipe.embedder else ()
    return (*SCORES, *clustered, *pruned)
