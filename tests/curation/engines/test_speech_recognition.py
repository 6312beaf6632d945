"""Speech recognisers: subtitles, pocketsphinx on a small domain, and Whisper on weights that the test makes."""

import json
import os
import pickle
import random
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import log10
from pathlib import Path
from typing import Any

import av
import numpy as np
import pydantic
import pytest
from numpy.typing import NDArray

from curation.engines import whisper as whisper_models
from curation.engines.engine import loaded
from curation.engines.speech_recognition import (
    AnyRecogniser,
    ClipUnfit,
    FasterWhisper,
    LanguageUnknown,
    NoSidecar,
    OpenAIWhisper,
    PocketSphinx,
    Sidecar,
    SpeechRecogniser,
    Transcript,
    whisper_compression_ratio,
)
from curation.errors import EngineMissing
from curation.media.clips import SPEECH_RATE_HZ, Clip
from schemas.speech import TRANSCRIPT

# --- speech that the test makes

SUBJECTS = ("the old farmer", "a young doctor", "my brother", "every winter", "the quiet garden", "our teacher")
ACTIONS = ("walked slowly", "crossed the bridge", "opened the door", "kept the money", "painted a house")
PLACES = ("before the morning", "after the storm", "near the village", "with great care", "under a tall tree")

SPEAK = """
import ctypes, sys
import espeakng_loader
espeak = ctypes.CDLL(espeakng_loader.get_library_path())
rate = espeak.espeak_Initialize(2, 0, espeakng_loader.get_data_path().encode(), 0)
pcm = bytearray()
@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
def heard(samples, count, events):
    pcm.extend(ctypes.string_at(samples, 2 * count) if samples and count > 0 else b"")
    return 0
espeak.espeak_SetSynthCallback(heard)
espeak.espeak_SetVoiceByName(sys.argv[1].encode())
text = sys.argv[2].encode()
espeak.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 1, 0, 1, None, None)
espeak.espeak_Synchronize()
sys.stdout.buffer.write(rate.to_bytes(4, "little") + bytes(pcm))
"""


def sentences(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choice(part) for part in (SUBJECTS, ACTIONS, PLACES)) for _ in range(count)]


def spoken(text: str, voice: str = "en-us") -> NDArray[np.int16]:
    """The text by espeak-ng at 16 kHz, in a process of its own so that the samples are the same each time."""
    pytest.importorskip("espeakng_loader")
    answer = subprocess.run([sys.executable, "-c", SPEAK, voice, text], check=True, capture_output=True).stdout
    frame = av.AudioFrame.from_ndarray(np.frombuffer(answer[4:], np.int16)[None], format="s16", layout="mono")
    frame.sample_rate = int.from_bytes(answer[:4], "little")
    return resampled([frame])


def resampled(frames: Sequence[av.AudioFrame]) -> NDArray[np.int16]:
    resampler = av.AudioResampler("s16", "mono", SPEECH_RATE_HZ)
    return np.concatenate([out.to_ndarray()[0] for frame in [*frames, None] for out in resampler.resample(frame)])


def decoded(path: Path) -> NDArray[np.int16]:
    with av.open(str(path)) as container:
        return resampled(list(container.decode(audio=0)))


def noise(seed: int, seconds: float = 1.0) -> NDArray[np.int16]:
    draws = np.random.default_rng(seed).normal(0, 3000, int(seconds * SPEECH_RATE_HZ))
    return (draws * np.sin(np.arange(len(draws)) * (seed + 1) / 3000)).astype(np.int16)


def bigram(texts: Sequence[str], path: Path, discount: float = 0.5) -> Path:
    """A bigram of the texts in ARPA format, with absolute discounting."""
    walks = [["<s>", *text.split(), "</s>"] for text in texts]
    words = Counter(word for walk in walks for word in walk)
    pairs = Counter(pair for walk in walks for pair in pairwise(walk))
    after: dict[str, list[str]] = defaultdict(list)
    for first, second in pairs:
        after[first].append(second)
    total = sum(words.values()) - words["<s>"]
    lines = ["\\data\\", f"ngram 1={len(words)}", f"ngram 2={len(pairs)}", "", "\\1-grams:"]
    for word, count in sorted(words.items()):
        left = discount * len(after[word]) / count
        unseen = 1 - sum(words[second] for second in after[word]) / total
        backoff = log10(max(left, 1e-3) / max(unseen, 1e-6))
        lines.append(f"{-99 if word == '<s>' else log10(count / total):.4f} {word} {backoff:.4f}")
    lines += ["", "\\2-grams:"]
    lines += [f"{log10((n - discount) / words[a]):.4f} {a} {b}" for (a, b), n in sorted(pairs.items())]
    path.write_text("\n".join([*lines, "", "\\end\\", ""]))
    return path


def edits(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    costs = list(range(len(hypothesis) + 1))
    for i, word in enumerate(reference, 1):
        before, costs = costs, [i]
        for j, other in enumerate(hypothesis, 1):
            costs.append(min(before[j] + 1, costs[-1] + 1, before[j - 1] + (word != other)))
    return costs[-1]


def word_error_rate(texts: Sequence[str], answers: Sequence[Transcript | Exception]) -> float:
    wrong = sum(edits(text.split(), text_of(answer).split()) for text, answer in zip(texts, answers, strict=True))
    return wrong / sum(len(text.split()) for text in texts)


def text_of(answer: Transcript | Exception) -> str:
    assert isinstance(answer, Transcript), answer
    return answer.text


# --- what all of them share


def test_a_transcript_has_the_fields_of_the_schema() -> None:
    assert {field.name for field in TRANSCRIPT} == set(Transcript.__dataclass_fields__)


def test_compression_is_whispers_own() -> None:
    whisper_utils = pytest.importorskip("whisper.utils")
    for text in ("a", "so so so so so so so so so so so so so so", "今日は天気がいい"):
        assert whisper_compression_ratio(text) == whisper_utils.compression_ratio(text)
    assert whisper_compression_ratio("") == 0


def test_a_recipe_names_its_recogniser() -> None:
    reading: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(AnyRecogniser)
    for engine in (Sidecar(), PocketSphinx(), FasterWhisper(), OpenAIWhisper()):
        assert reading.validate_python({"engine": engine.engine}) == engine
    assert reading.validate_python({"engine": "faster-whisper", "beam_size": 1}) == FasterWhisper(beam_size=1)


@pytest.mark.parametrize(
    ("recipe", "complaint"),
    [
        ({"engine": "sphinx"}, "does not match any of the expected tags"),
        ({"engine": "pocketsphinx", "grammer_path": "x"}, "grammer_path"),
        ({"engine": "pocketsphinx", "grammar_path": "x", "language_model_path": "y"}, "not both"),
        ({"engine": "faster-whisper", "batch_size": 0}, "batch_size"),
    ],
)
def test_an_invalid_recogniser_is_refused(recipe: dict[str, Any], complaint: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=complaint):
        pydantic.TypeAdapter(AnyRecogniser).validate_python(recipe)


def test_sidecar_reads_subtitles_and_tells_apart_clips_without_any() -> None:
    samples = np.zeros(160, np.int16)
    read, absent, empty = Sidecar().transcribe([Clip(samples, "en", "Hello."), Clip(samples), Clip(samples, None, "")])
    assert read == Transcript("Hello.", "en", compression=whisper_compression_ratio("Hello."), recogniser="sidecar")
    assert isinstance(absent, NoSidecar)
    assert text_of(empty) == ""


# --- pocketsphinx


def dictionary(texts: Sequence[str], path: Path) -> Path:
    """The CMU dictionary's entries for the words of the texts, which load in milliseconds and not in seconds."""
    import pocketsphinx

    words = {word for text in texts for word in text.split()}
    lines = Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict")).read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if line.split()[0].partition("(")[0] in words))
    return path


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> PocketSphinx:
    """pocketsphinx with a bigram and a dictionary of the domain's sentences."""
    pytest.importorskip("pocketsphinx")
    folder, texts = tmp_path_factory.mktemp("domain"), sentences(300, seed=99)
    return PocketSphinx(
        language_model_path=str(bigram(texts, folder / "domain.lm")),
        dictionary_path=str(dictionary(texts, folder / "domain.dict")),
    )


@pytest.fixture(scope="module")
def speech() -> dict[str, NDArray[np.int16]]:
    return {text: spoken(text) for text in sentences(6, seed=7)}


def test_pocketsphinx_recognises_its_domain(domain: PocketSphinx, speech: dict[str, NDArray[np.int16]]) -> None:
    answers = domain.transcribe([Clip(samples, "en-US") for samples in speech.values()])
    assert word_error_rate(list(speech), answers) <= 0.03
    for answer in answers:
        assert isinstance(answer, Transcript)
        assert answer.language == "en" and answer.recogniser == "pocketsphinx" and answer.no_speech is None


def test_pocketsphinx_needs_the_noise_that_it_adds_to_clean_speech(
    domain: PocketSphinx, speech: dict[str, NDArray[np.int16]]
) -> None:
    clips = [Clip(samples) for samples in speech.values()]
    without = replace(domain, noise_floor_db=None).transcribe(clips)
    assert word_error_rate(list(speech), domain.transcribe(clips)) < word_error_rate(list(speech), without)


def test_pocketsphinx_is_less_sure_of_speech_outside_its_domain(
    domain: PocketSphinx, speech: dict[str, NDArray[np.int16]]
) -> None:
    strange = ("quantum machines compute quickly", "my favourite colour is purple", "she sells shells by the sea shore")
    inside = [answer.confidence for answer in transcripts(domain, [Clip(samples) for samples in speech.values()])]
    outside = [answer.confidence for answer in transcripts(domain, [Clip(spoken(text)) for text in strange])]
    assert np.mean([value for value in inside if value]) > np.mean([value for value in outside if value]) + 0.2


def transcripts(engine: SpeechRecogniser, clips: Sequence[Clip]) -> list[Transcript]:
    return [answer for answer in engine.transcribe(clips) if isinstance(answer, Transcript)]


def test_pocketsphinx_hears_the_same_in_any_order_and_company(
    domain: PocketSphinx, speech: dict[str, NDArray[np.int16]]
) -> None:
    clips = [*(Clip(samples) for samples in speech.values()), Clip(noise(3)), Clip(speech[next(iter(speech))] // 8)]
    alone = [domain.transcribe([clip])[0] for clip in clips]
    order = random.Random(1).sample(range(len(clips)), len(clips))
    shuffled = dict(zip(order, domain.transcribe([clips[i] for i in order]), strict=True))
    assert [shuffled[i] for i in range(len(clips))] == alone


def test_a_clip_that_pocketsphinx_refuses_costs_itself_alone(
    domain: PocketSphinx, speech: dict[str, NDArray[np.int16]]
) -> None:
    text, samples = next(iter(speech.items()))
    german, empty, good, silent = domain.transcribe(
        [Clip(samples, "de"), Clip(samples[:0]), Clip(samples), Clip(np.zeros(16000, np.int16))]
    )
    assert isinstance(german, LanguageUnknown) and "'de'; it knows en" in str(german)
    assert isinstance(empty, ClipUnfit)
    assert text_of(good) == text
    assert isinstance(silent, Transcript) and silent.text == "" and silent.confidence is None


def test_pocketsphinx_recognises_a_grammar(
    domain: PocketSphinx, tmp_path: Path, speech: dict[str, NDArray[np.int16]]
) -> None:
    rules = [" | ".join(part) for part in (SUBJECTS, ACTIONS, PLACES)]
    grammar = tmp_path / "domain.gram"
    grammar.write_text(f"#JSGF V1.0;\ngrammar domain;\npublic <sentence> = ({rules[0]}) ({rules[1]}) ({rules[2]});\n")
    engine = replace(domain, language_model_path=None, grammar_path=str(grammar))
    answers = engine.transcribe([Clip(samples) for samples in speech.values()])
    assert word_error_rate(list(speech), answers) <= 0.03


def test_models_that_pocketsphinx_cannot_use_are_named(domain: PocketSphinx, tmp_path: Path) -> None:
    gone = PocketSphinx(language_model_path=str(tmp_path / "gone.lm"))
    assert "language_model_path" in str(gone.missing())
    broken = tmp_path / "broken.lm"
    broken.write_text("this is no language model")
    with pytest.raises(EngineMissing, match=r"broken\.lm"):
        loaded(replace(domain, language_model_path=str(broken)))
    unknown = tmp_path / "unknown.gram"
    unknown.write_text("#JSGF V1.0;\ngrammar g;\npublic <s> = the xylotrope;\n")
    with pytest.raises(EngineMissing, match="xylotrope"):
        replace(domain, language_model_path=None, grammar_path=str(unknown)).transcribe([Clip(noise(1))])


def test_pocketsphinx_recognises_real_speech_with_a_language_model_of_its_domain(media: Path, tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    recordings = sorted((media / "speech").glob("austen_*.wav"))
    texts = [path.with_suffix(".txt").read_text().replace("<s>", "").replace("</s>", "").strip() for path in recordings]
    jfk = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
    recordings, texts = [*recordings, media / "speech" / "jfk.flac"], [*(text.lower() for text in texts), jfk]
    known = [*texts, *sentences(50, seed=3)]
    engine = PocketSphinx(
        language_model_path=str(bigram(known, tmp_path / "books.lm")),
        dictionary_path=str(dictionary(known, tmp_path / "books.dict")),
    )
    answers = engine.transcribe([Clip(decoded(recording), "en") for recording in recordings])
    assert word_error_rate(texts, answers) <= 0.06


# --- Whisper, with weights that mean nothing: what is tried is everything around them


MULTILINGUAL, ENGLISH_ONLY = 51865, 51864
STATE, HEADS, LAYERS = 16, 2, 2


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multilingual Whisper of random weights."""
    return write_checkpoint(tmp_path_factory.mktemp("openai") / "tiny-random.pt", MULTILINGUAL)


def write_checkpoint(path: Path, n_vocab: int) -> Path:
    """A Whisper of random weights, as OpenAI stores one."""
    pytest.importorskip("whisper")
    import torch
    from whisper.model import ModelDimensions, Whisper

    dims = ModelDimensions(80, 1500, STATE, HEADS, LAYERS, n_vocab, 448, STATE, HEADS, LAYERS)
    model = Whisper(dims)
    generator = torch.Generator().manual_seed(5)
    for name, weight in model.named_parameters():
        if "ln" not in name:
            torch.nn.init.normal_(weight, 0, 0.5, generator=generator)
    torch.save({"dims": vars(dims), "model_state_dict": model.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def converted(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights as a folder that CTranslate2 reads, with the tokenizer that faster-whisper requires."""
    return write_converted(checkpoint, tmp_path_factory.mktemp("ctranslate2"), "multilingual")


def write_converted(checkpoint: Path, folder: Path, vocabulary_name: str) -> Path:
    """A checkpoint as a folder for CTranslate2: its weights under other names, and its vocabulary as a tokenizer."""
    pytest.importorskip("faster_whisper")
    import torch
    from ctranslate2.converters.utils import fuse_linear  # type: ignore[import-untyped]
    from ctranslate2.specs import common_spec  # type: ignore[import-untyped]
    from ctranslate2.specs.whisper_spec import WhisperSpec  # type: ignore[import-untyped]
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from whisper.tokenizer import get_encoding

    weights = {name: w.numpy() for name, w in torch.load(checkpoint, weights_only=True)["model_state_dict"].items()}

    def linear(spec: Any, name: str) -> Any:
        spec.weight = weights[f"{name}.weight"]
        if f"{name}.bias" in weights:
            spec.bias = weights[f"{name}.bias"]
        return spec

    def norm(spec: Any, name: str) -> None:
        spec.gamma, spec.beta = weights[f"{name}.weight"], weights[f"{name}.bias"]

    def attention(spec: Any, name: str, fused: Sequence[Sequence[str]]) -> None:
        for target, parts in zip(spec.linear, fused, strict=False):
            fuse_linear(target, [linear(common_spec.LinearSpec(), f"{name}.{part}") for part in parts])
        linear(spec.linear[-1], f"{name}.out")

    spec = WhisperSpec(LAYERS, HEADS, LAYERS, HEADS)
    linear(spec.encoder.conv1, "encoder.conv1")
    linear(spec.encoder.conv2, "encoder.conv2")
    spec.encoder.position_encodings.encodings = weights["encoder.positional_embedding"]
    spec.decoder.position_encodings.encodings = weights["decoder.positional_embedding"]
    spec.decoder.embeddings.weight = weights["decoder.token_embedding.weight"]
    spec.decoder.projection.weight = weights["decoder.token_embedding.weight"]
    norm(spec.encoder.layer_norm, "encoder.ln_post")
    norm(spec.decoder.layer_norm, "decoder.ln")
    for side, layers in (("encoder", spec.encoder.layer), ("decoder", spec.decoder.layer)):
        for i, layer in enumerate(layers):
            block = f"{side}.blocks.{i}"
            attention(layer.self_attention, f"{block}.attn", [("query", "key", "value")])
            norm(layer.self_attention.layer_norm, f"{block}.attn_ln")
            if side == "decoder":
                attention(layer.attention, f"{block}.cross_attn", [("query",), ("key", "value")])
                norm(layer.attention.layer_norm, f"{block}.cross_attn_ln")
            linear(layer.ffn.linear_0, f"{block}.mlp.0")
            linear(layer.ffn.linear_1, f"{block}.mlp.2")
            norm(layer.ffn.layer_norm, f"{block}.mlp_ln")

    encoding = get_encoding(vocabulary_name)
    letters = bytes_to_letters()
    ranks = encoding._mergeable_ranks
    vocabulary = {"".join(letters[b] for b in token): rank for token, rank in ranks.items()}
    merges = [
        ("".join(letters[b] for b in first), "".join(letters[b] for b in second))
        for first, second in merged_pairs(ranks)
    ]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = sorted(encoding.special_tokens_set, key=encoding.encode_single_token)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    tokenizer.save(str(folder / "tokenizer.json"))

    spec.register_vocabulary([*sorted(vocabulary, key=lambda token: vocabulary[token]), *specials])
    languages = [encoding.encode_single_token(token) for token in specials[2:101]]
    spec.config.lang_ids, spec.config.suppress_ids, spec.config.suppress_ids_begin = languages, [], [220, 50257]
    spec.config.alignment_heads = [(1, 0)]
    spec.validate()
    spec.optimize()
    spec.save(str(folder))
    (folder / "preprocessor_config.json").write_text(json.dumps({"feature_size": 80}))
    return folder


def bytes_to_letters() -> list[str]:
    """GPT-2's spelling of bytes: printable ones as themselves, the others from U+0100 upwards."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def merged_pairs(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The merges of byte pair encoding that made these tokens, in their order."""
    pairs = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            at = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], rank))
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) == 2:
            pairs.append((parts[0], parts[1]))
    return pairs


@pytest.fixture(params=["openai-whisper", "faster-whisper"])
def tiny(request: pytest.FixtureRequest) -> FasterWhisper | OpenAIWhisper:
    """Each of the two runtimes, with the same random weights."""
    if request.param == "openai-whisper":
        return OpenAIWhisper(model=str(request.getfixturevalue("checkpoint")), beam_size=1)
    return FasterWhisper(model=str(request.getfixturevalue("converted")), beam_size=1)


def test_whisper_gives_a_transcript_with_its_figures(tiny: FasterWhisper | OpenAIWhisper) -> None:
    assert tiny.missing() is None and tiny.repeatable
    given, detected = transcripts(tiny, [Clip(noise(1), "de-AT"), Clip(noise(2))])
    assert given.language == "de" and detected.language in loaded(tiny).languages()
    for answer in (given, detected):
        assert answer.text == answer.text.strip() != ""
        assert answer.confidence is not None and answer.confidence < 0
        assert answer.no_speech is not None and 0 <= answer.no_speech <= 1
        assert answer.compression == whisper_compression_ratio(answer.text) and answer.recogniser == tiny.engine
    assert given.text != detected.text


def test_whisper_hears_the_same_in_any_order_and_company(tiny: FasterWhisper | OpenAIWhisper) -> None:
    clips = [Clip(noise(seed, 0.3 + seed), "en") for seed in range(4)]
    forwards = tiny.transcribe(clips)
    assert [tiny.transcribe([clip])[0] for clip in reversed(clips)] == forwards[::-1]
    assert len({text_of(answer) for answer in forwards}) > 1


def test_a_clip_that_whisper_refuses_costs_itself_alone(tiny: FasterWhisper | OpenAIWhisper) -> None:
    good = Clip(noise(1), "en")
    unknown, long, empty, first, last = tiny.transcribe(
        [Clip(noise(1), "tlh"), Clip(noise(1, 30.1)), Clip(noise(1)[:0]), good, Clip(noise(1, 30.0), "en")]
    )
    assert isinstance(unknown, LanguageUnknown) and "'tlh'" in str(unknown)
    assert isinstance(long, ClipUnfit) and "30.1 s long" in str(long)
    assert isinstance(empty, ClipUnfit)
    assert [first] == tiny.transcribe([good])
    assert isinstance(last, Transcript)


def test_models_of_english_alone_refuse_other_languages(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "tiny.en.pt", ENGLISH_ONLY)
    (tmp_path / "converted").mkdir()
    folder = write_converted(checkpoint, tmp_path / "converted", "gpt2")
    for engine in (OpenAIWhisper(model=str(checkpoint), beam_size=1), FasterWhisper(model=str(folder), beam_size=1)):
        german, english, unsaid = engine.transcribe([Clip(noise(1), "de"), Clip(noise(1), "en"), Clip(noise(1))])
        assert isinstance(german, LanguageUnknown) and "it knows en" in str(german)
        assert isinstance(english, Transcript) and english.language == "en" and english == unsaid


def test_a_device_that_is_not_here_stops_the_engine_and_not_each_clip(tiny: FasterWhisper | OpenAIWhisper) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(EngineMissing, match=r"(?i)cuda"):
        replace(tiny, device="cuda").transcribe([Clip(noise(1))])


@pytest.mark.parametrize("beam_size", [1, 3])
def test_both_runtimes_agree_on_the_same_weights(checkpoint: Path, converted: Path, beam_size: int) -> None:
    torch_engine = OpenAIWhisper(model=str(checkpoint), beam_size=beam_size)
    other = FasterWhisper(model=str(converted), beam_size=beam_size, compute_type="float32")
    clips = [Clip(noise(seed), language) for seed, language in ((1, "en"), (2, "de"), (3, None))]
    for ours, theirs in zip(transcripts(torch_engine, clips), transcripts(other, clips), strict=True):
        assert ours.language == theirs.language
        assert ours.no_speech == pytest.approx(theirs.no_speech, rel=1e-3)
        assert ours.text[:40] == theirs.text[:40]


def test_batches_hear_what_single_clips_do_and_are_recordings(converted: Path) -> None:
    single = FasterWhisper(model=str(converted), beam_size=1, compute_type="float32")
    batched = replace(single, batch_size=3)
    clips = [Clip(noise(seed), None if seed % 2 else "en") for seed in range(4)]
    clips.insert(1, Clip(noise(1)[:0]))
    answers = batched.transcribe(clips)
    assert isinstance(answers.pop(1), ClipUnfit)
    expected = single.transcribe([clip for clip in clips if len(clip.samples)])
    assert [text_of(answer) for answer in answers] == [text_of(answer) for answer in expected]
    assert not batched.repeatable and not replace(single, device="cuda").repeatable


def test_a_model_that_is_not_here_comes_with_the_command_that_brings_it(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    message = str(FasterWhisper(model="large-v3").missing())
    assert "`hf download Systran/faster-whisper-large-v3 --local-dir DIR` brings it, then `model: DIR`" in message
    assert "hf download me/mine" in str(FasterWhisper(model="me/mine").missing())
    assert "hf download Systran/faster-whisper-large-v3 " in str(FasterWhisper(model=f"{tmp_path}/gone").missing())
    assert "whisper.load_model('turbo')" in str(OpenAIWhisper(model="turbo").missing())
    with pytest.raises(EngineMissing, match="is not here"):
        OpenAIWhisper(model=str(tmp_path / "gone.pt")).transcribe([Clip(noise(1))])


def test_models_in_the_caches_of_both_libraries_are_found_by_name(
    checkpoint: Path, converted: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    repository = tmp_path / "models--Systran--faster-whisper-base"
    shutil.copytree(converted, repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    (tmp_path / "whisper").mkdir()
    shutil.copy(checkpoint, tmp_path / "whisper" / "base.pt")
    for named, placed in ((FasterWhisper(model="base"), converted), (OpenAIWhisper(model="base"), checkpoint)):
        assert named.missing() is None
        assert named.fingerprint() == replace(named, model=str(placed)).fingerprint()
        assert named.label == f"{named.engine}:base"


def test_the_fingerprint_follows_weights_and_parameters(converted: Path, tmp_path: Path) -> None:
    engine = FasterWhisper(model=str(converted))
    moved = Path(shutil.copytree(converted, tmp_path / "moved"))
    (moved / "README.md").write_text("changes no transcript")
    assert replace(engine, model=str(moved)).fingerprint() == engine.fingerprint()
    assert replace(engine, beam_size=2).fingerprint() != engine.fingerprint()
    (moved / "config.json").write_text("{}")
    assert replace(engine, model=str(moved)).fingerprint() != engine.fingerprint()


def test_an_incomplete_or_damaged_folder_is_refused_without_asking_a_hub(converted: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(converted, tmp_path / "damaged"))
    (folder / "model.bin").write_bytes((folder / "model.bin").read_bytes()[:5000])
    with pytest.raises(EngineMissing, match="damaged cannot be loaded"):
        loaded(FasterWhisper(model=str(folder)))
    shutil.copy(converted / "model.bin", folder)
    (folder / "preprocessor_config.json").write_text('{"feature_size": 128}')
    with pytest.raises(EngineMissing, match="128 mel bands, not 80"):
        loaded(FasterWhisper(model=str(folder)))
    (folder / "tokenizer.json").unlink()
    assert "tokenizer.json does not exist; `hf download" in str(FasterWhisper(model=str(folder)).missing())


class Malice:
    """What a pickle runs when it is trusted."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.trace),)


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(checkpoint: Path, tmp_path: Path) -> None:
    import torch

    trace, evil = tmp_path / "trace", tmp_path / "evil.pt"
    honest = torch.load(checkpoint, weights_only=True)
    for write in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))):
        write({**honest, "dims": Malice(trace)}, evil)
        with pytest.raises(EngineMissing, match=r"evil\.pt is damaged, or no Whisper checkpoint") as refusal:
            whisper_models.TorchWhisper(evil, "cpu")
        assert not trace.exists() and "weights_only" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None, {"dims": {}}, {"dims": {"n_mels": 3}}, [1, 2]])
def test_a_damaged_checkpoint_is_named(checkpoint: Path, tmp_path: Path, content: Any) -> None:
    import torch

    path = tmp_path / "damaged.pt"
    if content is None:
        path.write_bytes(checkpoint.read_bytes()[:-5000])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(EngineMissing, match=r"damaged\.pt is damaged, or no Whisper checkpoint"):
        OpenAIWhisper(model=str(path)).transcribe([Clip(noise(1))])
