#!/usr/bin/env python3
"""Compares the training step of tools/step_bench with PyTorch's on this machine.

Each round runs Subpix, PyTorch contiguous, PyTorch channels_last and then the three in reverse
order (ABBA), each in a process of its own, so that a drift of the machine's clock hits both sides
alike. The rival of a round is the faster layout. Ratio: Subpix time / rival time, below 1 is better.
Writes NAME.json (everything measured) and NAME.md (tables) into the results folder.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile

import machine

ROOT = machine.ROOT
LAYOUTS = ["contiguous", "channels_last"]


def fail(sentence):
    print(f"compare_step.py: {sentence}", file=sys.stderr)
    sys.exit(2)


def measure(command):
    """Runs a benchmark that takes --json FILE and returns what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "result.json")
        done = subprocess.run(command + ["--json", path], capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr or done.stdout).strip().split("\n")[-1]
            fail(f"'{shlex.join(command)}' failed: {reason}")
        with open(path, encoding="utf-8") as file:
            return json.load(file)


def summarise(rounds):
    """Ratios of the rounds; each side of a round is the mean of its two medians."""
    ratios = []
    for one in rounds:
        ours = statistics.mean(r["median_ms"] for r in one["subpix"])
        rival = {layout: statistics.mean(r["median_ms"] for r in one[layout]) for layout in LAYOUTS}
        best = min(rival, key=rival.get)
        ratios.append({"subpix_ms": ours, "rival_ms": rival[best], "rival": best,
                       "ratio": ours / rival[best]})
    values = [r["ratio"] for r in ratios]
    return {"ratio": statistics.median(values), "ratio_min": min(values), "ratio_max": max(values),
            "rounds": ratios}


def phase_rows(rounds, rival):
    """(name, Subpix ms, rival ms) of the step and of every phase; None where a side has no such phase."""
    def median_of(side, phase):
        series = [r if phase is None else r["phases"].get(phase)
                  for one in rounds for r in one[side]]
        return statistics.median(r["median_ms"] for r in series) if None not in series else None

    phases = list(rounds[0]["subpix"][0]["phases"])
    phases += [p for p in rounds[0][rival][0]["phases"] if p not in phases]
    return [(phase or "step", median_of("subpix", phase), median_of(rival, phase))
            for phase in [None] + phases]


def page(result):
    s, settings = result["summary"], result["settings"]
    rounds = result["runs"]
    rival = s["rounds"][0]["rival"]
    lines = [f"# Training step, {settings['mode']}, {settings['backend']} against PyTorch", "",
             f"- date: {result['date']}", f"- commit: {result['commit']}",
             f"- machine: {machine.text(result['machine'])}",
             f"- Subpix: {rounds[0]['subpix'][0]['device']}",
             f"- PyTorch: {rounds[0]['contiguous'][0]['torch']}",
             f"- command: `{result['command']}`",
             f"- workload: batch {settings['batch']}, {settings['blocks']} blocks, "
             f"{settings['channels']} channels, {settings['crop']}x{settings['crop']} crops, fp32, "
             f"{settings['threads']} threads; median of {settings['steps']} steps after "
             f"{settings['warmup']}, {len(rounds)} rounds of ABBA", "",
             f"**Ratio {s['ratio']:.3f}** (rounds: {s['ratio_min']:.3f} to {s['ratio_max']:.3f}; below 1: "
             "Subpix takes less time)", "",
             f"| phase | Subpix ms | PyTorch {rival} ms | ratio |", "|---|---:|---:|---:|"]
    for name, ours, theirs in phase_rows(rounds, rival):
        cells = [f"{ms:.2f}" if ms is not None else "" for ms in (ours, theirs)]
        ratio = f"{ours / theirs:.2f}" if ours is not None and theirs else ""
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {ratio} |")
    lines += ["", "| round | Subpix ms | rival ms | rival | ratio |", "|---|---:|---:|---|---:|"]
    for number, one in enumerate(s["rounds"], 1):
        lines.append(f"| {number} | {one['subpix_ms']:.2f} | {one['rival_ms']:.2f} | {one['rival']} | "
                     f"{one['ratio']:.3f} |")
    lines += ["", "Subpix's loss phases contain the gradient with respect to the image; in PyTorch that "
              "part belongs to generator_backward."]
    peak = [max(r["memory"]["process_peak_bytes"] for one in rounds for r in one[side]) / 2**20
            for side in ("subpix", rival)]
    lines += ["", f"Peak memory of the process: Subpix {peak[0]:.0f} MiB, PyTorch {peak[1]:.0f} MiB "
              "(its library alone takes a good part).", ""]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", default="build", help="build folder with bin/step_bench")
    parser.add_argument("--python", default="/usr/bin/python3", help="a Python with torch")
    parser.add_argument("--backend", default="cpu")
    parser.add_argument("--mode", choices=["srresnet", "srgan"], default="srresnet")
    parser.add_argument("--rounds", type=int, default=3)
    for name, value in (("batch", 4), ("blocks", 16), ("channels", 64), ("crop", 96), ("threads", 2),
                        ("steps", 20), ("warmup", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--results", default=os.path.join("docs", "results"), help="folder to write to")
    parser.add_argument("--name", help="file name without ending (default: step-MODE-BACKEND)")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")

    bench = os.path.join(ROOT, args.build, "bin", "step_bench")
    if not os.access(bench, os.X_OK):
        fail(f"'{bench}' is missing; build the target step_bench first")
    settings = ["--mode", args.mode]
    for name in ("batch", "blocks", "channels", "crop", "threads", "steps", "warmup"):
        settings += [f"--{name}", str(getattr(args, name))]
    baseline = [args.python, os.path.join(ROOT, "tools", "pytorch_baseline.py")] + settings
    commands = {"subpix": [bench, "--backend", args.backend] + settings}
    for layout in LAYOUTS:
        commands[layout] = baseline + ["--layout", layout]

    rounds = []
    for number in range(1, args.rounds + 1):
        one = {side: [] for side in commands}
        for side in list(commands) + list(reversed(commands)):
            one[side].append(measure(commands[side]))
        sizes = {side: runs[0]["generator_parameters"] for side, runs in one.items()}
        if len(set(sizes.values())) != 1:
            fail(f"the sides train networks of different sizes: {sizes}")
        rounds.append(one)
        print(f"round {number}: " + ", ".join(
            f"{side} {statistics.mean(r['median_ms'] for r in runs):.2f} ms" for side, runs in one.items()))

    summary = summarise(rounds)
    result = {"tool": "compare_step", "date": machine.now(), "commit": machine.commit(),
              "machine": machine.describe(),
              "command": shlex.join(["tools/compare_step.py"] + sys.argv[1:]),
              "settings": {key: getattr(args, key) for key in
                           ("backend", "mode", "batch", "blocks", "channels", "crop", "threads", "steps",
                            "warmup", "rounds")},
              "summary": summary, "runs": rounds}
    folder = os.path.join(ROOT, args.results)
    os.makedirs(folder, exist_ok=True)
    name = os.path.join(folder, args.name or f"step-{args.mode}-{args.backend}")
    with open(name + ".json", "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    with open(name + ".md", "w", encoding="utf-8") as file:
        file.write(page(result))
    print(f"ratio {summary['ratio']:.3f} ({summary['ratio_min']:.3f} to {summary['ratio_max']:.3f}), "
          f"written to {os.path.relpath(name, ROOT)}.json and .md")


if __name__ == "__main__":
    main()
