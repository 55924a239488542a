"""Every figure that the project promises, measured on this machine: `python -m finegrid.benchmark.bench --out bench/`.

bench/BENCH.md has the table, bench/bench.json the numbers; both grow with every section, so that a run that is stopped
leaves what it has measured. `--only` chooses sections; figures of sections that are not run again are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from finegrid import __version__
from finegrid.benchmark import (
    adjusting,
    calibrating,
    endurance,
    fault_fits,
    faults,
    fuzzing,
    heads,
    known_truth,
    large,
    pairs,
    remapping,
    sampling,
    scoring,
    sharing,
    skill,
    speed,
    statistical,
)
from finegrid.benchmark.figures import Bench, Figure, Section, table
from finegrid.conventions.spans import seconds

SECTIONS: dict[str, Section] = {
    "import": speed.importing,
    "demo": skill.demo,
    "conservation": skill.conservation,
    "pairs": pairs.pairs,
    "integrals": remapping.integrals,
    "building": remapping.building,
    "applying": remapping.applying,
    "streaming": remapping.streaming,
    "adjusting": adjusting.adjusting,
    "heads-mrms": heads.mrms,
    "heads-era5": heads.era5,
    "heads-racmo": heads.racmo,
    "heads-projection": sampling.projection,
    "heads-steps": sampling.few_steps,
    "heads-values": sampling.values,
    "heads-cost": sampling.cost,
    "heads-truth": known_truth.known_truth,
    "calibration-racmo-pr": calibrating.racmo_pr,
    "calibration-racmo-tas": calibrating.racmo_tas,
    "calibration-mrms": calibrating.mrms,
    "scoring-speed": scoring.speed,
    "scoring-read": scoring.shared_read,
    "statistical": statistical.observed,
    "statistical-racmo": statistical.racmo,
    "patterns": statistical.patterns,
    "tiles": large.tiles,
    "archive": large.archive,
    "fuzz": fuzzing.fuzz,
    "years": large.years,
    "constraint": speed.constraint,
    "downscale": speed.long_record,
    "throughput": endurance.throughput,
    "manners": endurance.manners,
    "soak": endurance.soak,
    "faults": faults.kills,
    "faults-fit": fault_fits.fits,
    "faults-benchmark": fault_fits.benchmarks,
    "faults-cost": faults.notes,
    "workers": sharing.downscaling,
    "workers-evaluate": sharing.judging,
    "workers-fit": sharing.learning,
    "era5": skill.era5,
    "step": speed.step,
    "racmo": skill.racmo,
    "constraints": skill.constraints,
    "two-runs": skill.two_runs,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sections that are asked for."""
    asked = _parser().parse_args(arguments)
    bench = Bench(
        out=asked.out,
        budget=asked.budget,
        steps=asked.steps,
        seeds=asked.seeds,
        hours=asked.hours,
        say=_say,
    )
    bench.out.mkdir(parents=True, exist_ok=True)
    for name in asked.only or SECTIONS:
        _say(f"## {name}")
        found = SECTIONS[name](bench)
        _say(table(found))
        _keep(bench.out, name, found)
    _say(f"\n{(bench.out / 'BENCH.md').read_text(encoding='utf-8')}")


def _keep(out: Path, name: str, found: Sequence[Figure]) -> None:
    """Put the figures of a section into the files."""
    path = out / "bench.json"
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["sections"] if path.exists() else {}
    known[name] = [figure.to_dict() for figure in found]
    ordered = {key: known[key] for key in SECTIONS if key in known}
    record = {"machine": _machine(), "written": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "sections": ordered}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    figures = [Figure(**each) for section in ordered.values() for each in section]
    (out / "BENCH.md").write_text(f"# Figures\n\n{_machine()}\n\n{table(figures)}\n", encoding="utf-8")


def _machine() -> str:
    return (
        f"finegrid {__version__}, torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, "
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m finegrid.benchmark.bench", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench"), help="folder to write (default: bench)")
    parser.add_argument("--only", type=_sections, help=f"sections, parted by commas: {', '.join(SECTIONS)}")
    parser.add_argument("--budget", type=_budget, default=300.0, help="training time of each network (default: 5min)")
    parser.add_argument("--steps", type=int, default=300, help="training steps where constraints are compared")
    parser.add_argument("--seeds", type=int, default=3, help="seeds where constraints are compared")
    parser.add_argument("--hours", type=int, default=87_600, help="length of the long record")
    return parser


def _budget(text: str) -> float:
    return float(text) if text.replace(".", "", 1).isdigit() else seconds(text)


def _sections(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no section {', '.join(unknown)}; the names are {', '.join(SECTIONS)}")
    return names


def _say(words: str) -> None:
    print(words, flush=True)  # noqa: T201


if __name__ == "__main__":
    if "GOMP_SPINCOUNT" not in os.environ:  # threads as the command line has them; to be said before torch loads
        os.environ["GOMP_SPINCOUNT"] = "10000"
        os.execv(sys.executable, [sys.executable, "-m", "finegrid.benchmark.bench", *sys.argv[1:]])
    main()
