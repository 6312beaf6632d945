"""Aligners give every word of a text its time or a reason, and one clip's error stays its own."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
from numpy.typing import NDArray

from curation.engines.ctc import AnyAligner, CtcAligner, read_vocabulary
from curation.engines.engine import loaded
from curation.engines.forced_alignment import (
    AlignedWord,
    AlignmentFailed,
    ForcedAligner,
    LanguageNotAligned,
    PocketSphinxAligner,
)
from curation.engines.open_clip_towers import declare_torchvision_operators
from curation.errors import EngineMissing
from curation.media.clips import SPEECH_RATE_HZ, Clip

HOP = 320
SENTENCES = (
    "The old man walked slowly down the street.",
    "She bought three apples and a bottle of milk from the market.",
    "Nobody knows what will happen tomorrow, but we can hope.",
    "The train to London leaves at seven in the morning.",
    "Rice is often served in round bowls.",
    "Four hours of steady work faced us.",
)


def words_of(aligned: list[AlignedWord] | Exception) -> list[AlignedWord]:
    assert not isinstance(aligned, Exception), aligned
    return aligned


def one(aligner: ForcedAligner, clip: Clip, text: str) -> list[AlignedWord]:
    return words_of(aligner.align([clip], [text])[0])


def decoded(path: Path) -> NDArray[np.int16]:
    """A file as mono int16 at 16 kHz."""
    import av

    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=SPEECH_RATE_HZ)
        frames = [*container.decode(audio=0), None]
        return np.concatenate([out.to_ndarray()[0] for frame in frames for out in resampler.resample(frame)])


# PocketSphinx


@pytest.fixture(scope="module")
def sphinx() -> PocketSphinxAligner:
    pytest.importorskip("pocketsphinx")
    return PocketSphinxAligner()


@pytest.fixture(scope="module")
def spoken() -> list[tuple[Clip, str, dict[int, float]]]:
    """Sentences spoken by espeak-ng, each with the true starts in seconds by the word's place in the text."""
    pytest.importorskip("espeakng_loader")
    import av

    from curation.engines.speech_synthesis import Espeak

    rng = np.random.default_rng(0)
    found = []
    for voice in ("en-us", "en-gb+f3"):
        for text in SENTENCES:
            speech = Espeak().speak(text, voice)
            frame = av.AudioFrame.from_ndarray(speech.samples[None], format="s16", layout="mono")
            frame.sample_rate = speech.rate_hz
            resampler = av.AudioResampler(format="s16", layout="mono", rate=SPEECH_RATE_HZ)
            samples = np.concatenate([f.to_ndarray()[0] for part in (frame, None) for f in resampler.resample(part)])
            samples = np.pad(samples, 3200) + rng.normal(0, 20, len(samples) + 6400)
            starts = {word.text_start: word.start_s + 0.2 for word in speech.words}
            found.append((Clip(samples.astype(np.int16), "en"), text, starts))
    return found


def test_word_starts_on_synthetic_speech_are_within_25_ms_on_average(
    sphinx: PocketSphinxAligner, spoken: list[tuple[Clip, str, dict[int, float]]]
) -> None:
    errors = []
    for clip, text, starts in spoken:
        place = 0
        for word in one(sphinx, clip, text):
            place = text.index(word.text, place)
            assert word.start is not None
            if place in starts:  # the synthesiser runs function words together: their place is missing
                errors.append(abs(word.start / SPEECH_RATE_HZ - starts[place]))
            place += len(word.text)
    assert len(errors) > 80
    assert np.mean(errors) <= 0.025


def test_words_come_in_order_within_the_clip_with_their_punctuation(
    sphinx: PocketSphinxAligner, spoken: list[tuple[Clip, str, dict[int, float]]]
) -> None:
    for clip, text, _ in spoken:
        words = one(sphinx, clip, text)
        assert [word.text for word in words] == text.split()
        times = [tick for word in words if word.start is not None for tick in (word.start, word.end)]
        assert times == sorted(times)  # type: ignore[type-var]
        assert times[0] >= 0 and times[-1] <= len(clip.samples)  # type: ignore[operator]
        assert all(word.score is not None and word.score <= 0 for word in words)


def test_a_number_is_timed_and_a_word_that_no_dictionary_has_says_so(
    sphinx: PocketSphinxAligner, spoken: list[tuple[Clip, str, dict[int, float]]]
) -> None:
    clip, text, _ = spoken[3]
    plain = one(sphinx, clip, text)
    words = one(sphinx, clip, text.replace("seven", "7").replace("London", "Lundonne").replace(" in ", " — in "))
    by_text = {word.text: word for word in words}
    assert by_text["7"] == replace(plain[6], text="7")
    assert by_text["Lundonne"] == AlignedWord("Lundonne", None, None, None, "not_in_dictionary")
    assert by_text["—"] == AlignedWord("—", None, None, None, "no_letters")
    for before in (plain[2], plain[4]):
        after = by_text[before.text]
        assert after.start is not None and before.start is not None
        assert abs(after.start - before.start) < 0.05 * SPEECH_RATE_HZ


def test_results_do_not_depend_on_order_or_neighbours(
    sphinx: PocketSphinxAligner, spoken: list[tuple[Clip, str, dict[int, float]]]
) -> None:
    clips, texts = [clip for clip, _, _ in spoken], [text for _, text, _ in spoken]
    texts[2] = texts[2].replace("tomorrow", "Zzqxw")
    together = sphinx.align(clips, texts)
    order = [7, 2, 11, 0, 5, 2]
    assert sphinx.align([clips[i] for i in order], [texts[i] for i in order]) == [together[i] for i in order]
    loud = Clip(np.random.default_rng(1).normal(0, 9000, 48_000).astype(np.int16), "en")
    assert sphinx.align([loud, clips[0]], ["the wrong words", texts[0]])[1] == together[0]
    fresh = PocketSphinxAligner(beams=(1e-120, 0.0), start_shift_s=0.0)
    loaded.cache_clear()
    assert fresh.align([clips[5]], [texts[5]]) == [together[5]]


def test_what_cannot_be_aligned_fails_alone_with_its_reason(
    sphinx: PocketSphinxAligner, spoken: list[tuple[Clip, str, dict[int, float]]]
) -> None:
    clip, text, _ = spoken[0]
    cases = [
        (clip, text),
        (replace(clip, language="de"), "Der alte Mann."),
        (clip, ""),
        (clip, "— … 「"),
        (clip, "zzqxw xqzzw"),
        (Clip(clip.samples[:3200], "en"), text),
        (Clip(clip.samples[:0], "en"), text),
        (clip, text),
    ]
    results = sphinx.align([c for c, _ in cases], [t for _, t in cases])
    assert words_of(results[0]) == words_of(results[-1])
    assert isinstance(results[1], LanguageNotAligned)
    messages = [str(result) for result in results[1:-1] if isinstance(result, (AlignmentFailed, LanguageNotAligned))]
    assert len(messages) == len(cases) - 2
    for message, part in zip(
        messages,
        ["language is de", "no words", "dictionary", "dictionary", "0.20 s of audio", "0.00 s of audio"],
        strict=True,
    ):
        assert part in message


def test_a_dictionary_of_ones_own_adds_words(tmp_path: Path, spoken: list[tuple[Clip, str, dict[int, float]]]) -> None:
    pytest.importorskip("pocketsphinx")
    clip, text, _ = spoken[3]
    path = tmp_path / "names.dict"
    path.write_text(";;; names\nzzqxw L AH N D AH N\nthe(2) DH IY\n")
    plain = one(PocketSphinxAligner(), clip, text)
    named = one(PocketSphinxAligner(dictionary_path=str(path)), clip, text.replace("London", "Zzqxw"))
    assert [(w.start, w.end) for w in named] == [(w.start, w.end) for w in plain]
    assert PocketSphinxAligner(dictionary_path=str(path)).fingerprint() != PocketSphinxAligner().fingerprint()
    for content, part in (("word\n", "line 1"), ("word B LA\n", "not a pronunciation")):
        path.write_text(content)
        loaded.cache_clear()
        with pytest.raises(EngineMissing, match=part):
            PocketSphinxAligner(dictionary_path=str(path)).align([clip], [text])
    assert "does not exist" in (PocketSphinxAligner(dictionary_path=str(tmp_path / "none")).missing() or "")


def test_word_times_on_a_real_recording_agree_with_those_set_by_hand(sphinx: PocketSphinxAligner, media: Path) -> None:
    clip = Clip(decoded(media / "speech" / "bobby.wav"), "en")
    starts = [word.start for word in one(sphinx, clip, "Bobby ripped the ledger")]
    grid = (media / "speech" / "bobby_words.TextGrid").read_text()
    lines = [line.split("=")[1].strip() for line in grid.split('name = "phrase"')[0].splitlines() if "=" in line]
    by_hand = [float(lines[lines.index(f'"{word}"') - 2]) for word in ("RIPPED", "THE", "LEDGER")]
    found = [start / SPEECH_RATE_HZ for start in starts[1:] if start is not None]
    assert np.abs(np.array(found) - by_hand).max() < 0.05


def test_long_pauses_do_not_defeat_the_beams(sphinx: PocketSphinxAligner, media: Path) -> None:
    clip = Clip(decoded(media / "speech" / "audio_1.opus"), "en")
    text = json.loads((media / "speech" / "audio_1.json").read_text())["text"]
    assert sum(word.untimed is None for word in one(sphinx, clip, text)) > 100


# CTC

VOCABULARY = {"<blank>": 0, "|": 1} | {letter: i + 2 for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz'")}


def save_onnx(path: Path, nodes: list[object], constants: dict[str, NDArray[np.float32]], outputs: int) -> None:
    """Write a model from `wave` [1, samples] to `scores` [1, frames, outputs]."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    graph = helper.make_graph(
        nodes,
        "ctc",
        [helper.make_tensor_value_info("wave", onnx.TensorProto.FLOAT, [1, "samples"])],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, "frames", outputs])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, str(path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with vocab.json, `reader.onnx`, which reads a token from the mean level of each 20 ms, and
    `random.onnx`, convolutions over 400 samples and then nine frames, with random weights."""
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node
    folder = tmp_path_factory.mktemp("ctc")
    size = len(VOCABULARY)
    (folder / "vocab.json").write_text(json.dumps(VOCABULARY))
    # The score of token k at level m (in tokens) is -(m - k)^2 without m^2, which softmax does not see.
    tokens = np.arange(size, dtype=np.float32)
    weights = np.repeat((2 * tokens * 32768 / 1000 / HOP)[:, None, None], HOP, axis=2).astype(np.float32)
    save_onnx(
        folder / "reader.onnx",
        [
            node("Unsqueeze", ["wave", "one"], ["channel"]),
            node("Conv", ["channel", "weights", "bias"], ["by_token"], strides=[HOP]),
            node("Transpose", ["by_token"], ["scores"], perm=[0, 2, 1]),
        ],
        {"one": np.array([1]), "weights": weights * 4, "bias": -(tokens**2) * 4},
        size,
    )
    rng = np.random.default_rng(0)
    save_onnx(
        folder / "random.onnx",
        [
            node("Unsqueeze", ["wave", "one"], ["channel"]),
            node("Conv", ["channel", "first"], ["hidden"], strides=[HOP]),
            node("Tanh", ["hidden"], ["bent"]),
            node("Conv", ["bent", "second"], ["by_token"], pads=[4, 4]),
            node("Transpose", ["by_token"], ["scores"], perm=[0, 2, 1]),
        ],
        {
            "one": np.array([1]),
            "first": rng.normal(0, 0.2, (16, 1, 400)).astype(np.float32),
            "second": rng.normal(0, 0.5, (size, 16, 9)).astype(np.float32),
        },
        size,
    )
    return folder


@pytest.fixture(scope="module")
def reader(folder: Path) -> CtcAligner:
    pytest.importorskip("onnxruntime")
    return CtcAligner(
        model_path=str(folder / "reader.onnx"),
        vocabulary_path=str(folder / "vocab.json"),
        licence="CC0-1.0",
        normalise_waveform=False,
    )


def written_wave(tokens: list[tuple[str, int]], language: str = "en") -> Clip:
    """A clip whose level says each token for that many frames of 20 ms."""
    levels = [VOCABULARY[token] for token, frames in tokens for _ in range(frames)]
    return Clip(np.repeat(np.array(levels, np.int16) * 1000, HOP), language)


HELLO_YOU = [
    *[("<blank>", 5), ("h", 2), ("e", 1), ("l", 2), ("<blank>", 1), ("l", 1), ("o", 3), ("<blank>", 2), ("|", 1)],
    *[("<blank>", 4), ("y", 2), ("o", 1), ("u", 2), ("<blank>", 6)],
]


def test_a_ctc_model_that_says_known_tokens_gives_known_times(reader: CtcAligner) -> None:
    hello, you = one(reader, written_wave(HELLO_YOU), "Hello, you!")
    assert (hello.text, hello.start, hello.end) == ("Hello,", 5 * HOP, 15 * HOP)
    assert (you.text, you.start, you.end) == ("you!", 22 * HOP, 27 * HOP)
    assert hello.score is not None and -0.1 < hello.score <= 0
    shifted = replace(reader, start_shift_s=-0.02, end_shift_s=10.0)
    hello, _ = one(shifted, written_wave(HELLO_YOU), "Hello, you!")
    assert (hello.start, hello.end) == (4 * HOP, len(written_wave(HELLO_YOU).samples))


def test_a_wrong_text_scores_worse_than_the_right_one(reader: CtcAligner) -> None:
    right, wrong = (one(reader, written_wave(HELLO_YOU), text)[0].score for text in ("hello you", "jelly you"))
    assert right is not None and wrong is not None and wrong < right - 1


def test_numbers_and_other_scripts_are_timed_by_their_letters(reader: CtcAligner) -> None:
    pytest.importorskip("uroman")
    seven = [("<blank>", 3), *[(letter, 2) for letter in "seven"], ("<blank>", 3)]
    assert one(reader, written_wave(seven), "7")[0].start == 3 * HOP
    nihao = [("<blank>", 3), *[(letter, 2) for letter in "nihao"], ("<blank>", 3)]
    ni, hao = one(reader, written_wave(nihao, "zh"), "你好。")
    assert [(w.text, w.start, w.end) for w in (ni, hao)] == [("你", 3 * HOP, 7 * HOP), ("好。", 7 * HOP, 13 * HOP)]


def test_words_that_cannot_be_spelt_leave_their_neighbours_in_place(reader: CtcAligner) -> None:
    plain = replace(reader, romanise=False)
    clip = written_wave([*HELLO_YOU[:8], ("<blank>", 1), *[(x, 3) for x in "zxqz"], ("<blank>", 1), *HELLO_YOU[9:]])
    hello, unknown, dash, you = one(plain, clip, "hello щука — you")
    assert (hello.start, hello.end) == (5 * HOP, 15 * HOP)
    assert (you.start, you.end) == (35 * HOP, 40 * HOP)
    assert (unknown.untimed, dash.untimed) == ("not_in_vocabulary", "no_letters")
    failed = plain.align([clip, clip, clip], ["щука", "— …", ""])
    assert [type(result) for result in failed] == [AlignmentFailed] * 3


def test_a_text_longer_than_its_audio_is_refused_and_says_why(reader: CtcAligner) -> None:
    short, good, none = reader.align(
        [written_wave(HELLO_YOU[:3]), written_wave(HELLO_YOU), Clip(np.zeros(0, np.int16), "en")],
        ["hello you and everyone", "hello you", "hello"],
    )
    assert isinstance(short, AlignmentFailed) and "needs 23 frames" in str(short)
    assert len(words_of(good)) == 2
    assert isinstance(none, AlignmentFailed) and "0.000 s" in str(none)


@pytest.mark.parametrize("seconds", [1.0, 4.99, 5.0, 7.013, 12.0, 12.02])
def test_windows_with_context_hear_what_one_pass_hears(folder: Path, seconds: float) -> None:
    pytest.importorskip("onnxruntime")
    whole = CtcAligner(model_path=str(folder / "random.onnx"), vocabulary_path=str(folder / "vocab.json"))
    clip = Clip(np.random.default_rng(2).normal(0, 3000, round(seconds * 16_000)).astype(np.int16), "en")
    at_once = whole.log_probs(loaded(whole), clip)
    for window_s in (1.0, 2.5):
        windows = replace(whole, window_s=window_s, context_s=0.5).log_probs(loaded(whole), clip)
        assert windows.shape == at_once.shape
        np.testing.assert_allclose(windows, at_once, atol=1e-4)


def test_a_random_model_aligns_the_same_in_any_company(folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    aligner = CtcAligner(model_path=str(folder / "random.onnx"), vocabulary_path=str(folder / "vocab.json"))
    rng = np.random.default_rng(3)
    clips = [Clip(rng.normal(0, 3000, n).astype(np.int16), "en") for n in (16_000, 40_000, 23_456)]
    texts = ["a small dog", "numbers such as 1984 are read", "it barks"]
    together = aligner.align(clips, texts)
    assert [aligner.align([clip], [text])[0] for clip, text in zip(clips, texts, strict=True)] == together
    assert all(len(words_of(result)) == len(text.split()) for result, text in zip(together, texts, strict=True))


def test_vocabularies_are_read_in_their_usual_forms(tmp_path: Path) -> None:
    forms = {
        "map.json": '{"<s>": 0, "a": 1, " ": 2}',
        "list.json": '["<s>", "a", " "]',
        "numbered.txt": "<s> 0\na 1\n  2\n",
        "numbered_crlf.txt": "<s> 0\r\na 1\r\n  2\r\n",
    }
    for name, content in forms.items():
        (tmp_path / name).write_text(content, newline="")
        assert read_vocabulary(tmp_path / name) == {"<s>": 0, "a": 1, " ": 2}
    (tmp_path / "plain.txt").write_text("<s>\na\n▁\n")
    assert read_vocabulary(tmp_path / "plain.txt") == {"<s>": 0, "a": 1, "▁": 2}
    for damaged in (b"{", b"\xff\xfe", b'{"a": "b"}', b"3"):
        (tmp_path / "bad.json").write_bytes(damaged)
        with pytest.raises(EngineMissing, match="not a vocabulary"):
            read_vocabulary(tmp_path / "bad.json")


def test_what_is_missing_or_does_not_fit_is_said_before_any_clip(folder: Path, reader: CtcAligner) -> None:
    assert "model_path is not given" in (CtcAligner().missing() or "")
    assert "hf download" in (CtcAligner().missing() or "")
    assert "does not exist" in (replace(reader, model_path=str(folder / "none.onnx")).missing() or "")
    assert reader.missing() is None
    clip = written_wave(HELLO_YOU)
    (folder / "long.json").write_text(json.dumps({**VOCABULARY, "!": 500}))
    (folder / "no.onnx").write_bytes(b"not a model")
    for changed, part in (
        (replace(reader, blank="<pad>"), "no blank '<pad>'"),
        (replace(reader, vocabulary_path=str(folder / "long.json")), "counts to 500"),
        (replace(reader, model_path=str(folder / "no.onnx")), "not an ONNX model"),
    ):
        with pytest.raises(EngineMissing, match=part):
            changed.align([clip], ["hello"])


def test_licences_and_weights_enter_what_is_reported(folder: Path, reader: CtcAligner) -> None:
    assert reader.weights_licence == "CC0-1.0"
    assert CtcAligner().weights_licence == "unknown"
    assert replace(reader, model_path=str(folder / "random.onnx")).fingerprint() != reader.fingerprint()


def test_a_recipe_names_its_aligner() -> None:
    reading: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(AnyAligner)
    for engine in (PocketSphinxAligner(), CtcAligner()):
        assert reading.validate_python({"engine": engine.engine}) == engine


@pytest.mark.slow
def test_a_wav2vec2_checkpoint_is_loaded_from_its_folder(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    declare_torchvision_operators()
    config = transformers.Wav2Vec2Config(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    transformers.Wav2Vec2ForCTC(config).save_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps(VOCABULARY))
    aligner = CtcAligner(runtime="transformers", model_path=str(tmp_path))
    assert loaded(aligner).hop == HOP
    clip = Clip(np.random.default_rng(4).normal(0, 3000, 32_000).astype(np.int16), "en")
    words = one(aligner, clip, "a small dog")
    assert [word.text for word in words] == ["a", "small", "dog"]
    assert aligner.align([clip], ["a small dog"]) == [words]
    (tmp_path / "model.safetensors").unlink()
    loaded.cache_clear()
    with pytest.raises(EngineMissing, match="safetensors"):
        aligner.align([clip], ["a small dog"])
