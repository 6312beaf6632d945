"""Recordings that last for hours: does memory stay, and does an hour cost the same in a long recording as in a short?

One recording of known speech is repeated, with its subtitles, to a short FLAC and to a long one, and each goes through
the whole pipeline in a process of its own. Both opinions are the subtitles, so that no recogniser hides what the rest
costs: what is left is decoding, voice activity, alignment, encoding and packing. Times are CPU seconds, start-up apart.

    python benchmarks/long_recording.py [--hours 2] [--short-minutes 10] [--seed 0] [--json]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import process_time
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.pipeline import peak_memory_bytes, stage_seconds

SPOKEN_H = 0.1
"""What is repeated."""


class Unwatched:
    """Tells nobody how a run goes on."""

    def node_starts(self, *_: Any) -> None: ...

    def landed(self, *_: Any) -> None: ...

    def node_ends(self, *_: Any) -> None: ...


def write_recording(spoken: Path, folder: Path, seconds: float) -> None:
    """Repeat the recording of a corpus, sound and subtitles, for about `seconds`; never held whole."""
    import av
    from av.audio.frame import AudioFrame

    from curation.media.clips import SPEECH_RATE_HZ
    from curation.media.spans import read_spans
    from curation.proving.cues import srt
    from curation.proving.truth import read_truth

    folder.mkdir()
    truth = read_truth(spoken)
    recording = truth.recordings[0]
    (samples,) = read_spans(str(spoken / recording.file), [(0, int(recording.duration_s * SPEECH_RATE_HZ))])
    times = max(1, round(seconds * SPEECH_RATE_HZ / len(samples)))
    with av.open(folder / "recording.flac", "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SPEECH_RATE_HZ, layout="mono")
        stream.codec_context.thread_count = 1
        container.start_encoding()
        step = stream.codec_context.frame_size
        whole = samples[: len(samples) // step * step]
        for start in range(0, times * len(whole), step):
            place = start % len(whole)
            frame = AudioFrame.from_ndarray(whole[None, place : place + step].copy(), "s16", "mono")
            frame.sample_rate, frame.pts = SPEECH_RATE_HZ, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    starts_s = [number * len(whole) / SPEECH_RATE_HZ for number in range(times)]
    said = [u for u in truth.utterances if not u.fault]
    lines = [(start_s + u.start_s, start_s + u.end_s, u.cue) for start_s in starts_s for u in said]
    (folder / "recording.srt").write_text(srt(lines), encoding="utf-8")


def measure(folder: Path, name: str) -> dict[str, Any]:
    """One recording through the pipeline in this process, after the spoken one has warmed it up."""
    from curation.media.audio import probe_audio
    from curation.runtime.inline import InlineRunner
    from curation.store.objects import Store
    from dags.dag import read_job, run_job

    def run(name: str) -> Store:
        store = Store(folder / f"{name}-store")
        keys = {
            "source.path": folder / name,
            "first_opinion": "sidecar",
            "second_opinion": "sidecar",
            "aligner.dictionary_path": folder / "spoken" / "domain.dict",
        }
        job = read_job("speech-embedded", [f"{key}={value}" for key, value in keys.items()])
        run_job(job, store, InlineRunner(), Unwatched())
        return store

    run("spoken")
    start = process_time()
    store = run(name)
    spent_s = process_time() - start
    audio_h = (probe_audio(str(folder / name / "recording.flac")).header_duration_s or 0) / 3600
    return {
        "audio_s": audio_h * 3600,
        "peak_memory_mb": peak_memory_bytes() / 1e6,
        "cpu_s": spent_s,
        "cpu_s_per_audio_hour": spent_s / audio_h,
        "stages_cpu_s_per_audio_hour": {stage: cpu_s / audio_h for stage, cpu_s in stage_seconds(store).items()},
    }


def in_fresh_processes(hours: float, short_minutes: float, seed: int) -> dict[str, Any]:
    """Make both recordings, and measure each in a process that has done nothing else.

    Raises:
        SystemExit: a run failed; it has said why.
    """
    from curation.proving.speech_corpus import make_corpus

    with tempfile.TemporaryDirectory(prefix="curate-benchmark-") as place:
        folder = Path(place)
        make_corpus(folder / "spoken", seed=seed, hours=SPOKEN_H, recordings=1)
        figures: dict[str, Any] = {}
        for name, seconds in (("short", short_minutes * 60), ("long", hours * 3600)):
            write_recording(folder / "spoken", folder / name, seconds)
            command = [sys.executable, __file__, "--measure", name, str(folder)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
            if done.returncode:
                sys.exit(f"the process of the {name} recording ended with {done.returncode}")
            figures[name] = json.loads(done.stdout)
    short, long = figures["short"], figures["long"]
    figures["memory_ratio"] = long["peak_memory_mb"] / short["peak_memory_mb"]
    figures["cost_ratio"] = long["cpu_s_per_audio_hour"] / short["cpu_s_per_audio_hour"]
    return figures


def show(figures: dict[str, Any]) -> None:
    short, long = figures["short"], figures["long"]
    print(f"{'':40} {'short':>10} {'long':>10} {'ratio':>8}")
    rows = {name: (short[name], long[name]) for name in short if not isinstance(short[name], dict)}
    for stage, cpu_s in long["stages_cpu_s_per_audio_hour"].items():
        rows[stage] = (short["stages_cpu_s_per_audio_hour"].get(stage, 0.0), cpu_s)
    for name, (before, after) in rows.items():
        ratio = f"{after / before:8.2f}" if before else ""
        print(f"{name:40} {before:10.3f} {after:10.3f} {ratio}")
    print("stages: CPU seconds per hour of audio\ntargets: peak_memory_mb of the long one < 600, cost_ratio <= 1.2")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--hours", type=float, default=2, help="length of the long recording")
    arguments.add_argument("--short-minutes", type=float, default=10, help="length of the short one")
    arguments.add_argument("--seed", type=int, default=0, help="of the speech")
    arguments.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    arguments.add_argument("--measure", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.measure:
        name, folder = chosen.measure
        print(json.dumps(measure(Path(folder), name)))
        return
    figures = in_fresh_processes(chosen.hours, chosen.short_minutes, chosen.seed)
    if chosen.json:
        print(json.dumps(figures))
    else:
        show(figures)


if __name__ == "__main__":
    main()
