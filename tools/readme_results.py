#!/usr/bin/env python3
"""Rewrites the results between the markers of README.md from the files in docs/results.

  readme_results.py                          rewrites README.md
  readme_results.py --check                  fails if README.md and the files differ
  readme_results.py --record runs/quickstart first keeps that run's report as docs/results/quickstart.json
"""

import argparse
import json
import os
import sys

import machine

RESULTS = os.path.join(machine.ROOT, "docs", "results")
README = os.path.join(machine.ROOT, "README.md")
BEGIN, END = "<!-- results -->", "<!-- /results -->"


def fail(sentence):
    print(f"readme_results.py: {sentence}", file=sys.stderr)
    sys.exit(2)


def load(name):
    path = os.path.join(RESULTS, name)
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def record(run):
    path = os.path.join(run, "report.json")
    if not os.path.exists(path):
        fail(f"'{path}' is missing; run tools/quickstart.sh first")
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    result = {"date": machine.now(), "commit": machine.commit(), "machine": machine.describe(),
              "command": "tools/quickstart.sh", **report}
    os.makedirs(RESULTS, exist_ok=True)
    with open(os.path.join(RESULTS, "quickstart.json"), "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.write("\n")


def origin(result):
    return f"{machine.text(result['machine'])}; {result['date']}; commit {result['commit'][:12]}; `{result['command']}`"


def quickstart_lines(result):
    lines = ["### The quickstart's small network",
             "", f"x4 on {len(result['photographs'])} photographs that no training step has seen.", "",
             "| | PSNR dB | SSIM | SSIM (paper's) | fine detail dB | spectrum distance dB |",
             "|---|---:|---:|---:|---:|---:|"]
    for m in result["methods"]:
        lines.append(f"| {m['name']} | {m['psnr_y']:.2f} | {m['ssim_gauss']:.4f} | {m['ssim_daala']:.4f} | "
                     f"{m['fine_detail_db']:+.2f} | {m['spectrum_distance_db']:.2f} |")
    return lines + ["", "Fine detail: power above the finest frequency of the small picture against the original's "
                    "(0: as much as there). Measured on: " + origin(result), ""]


def step_lines(results):
    lines = ["### A training step against PyTorch", "",
             "| step | threads | Subpix ms | PyTorch ms | ratio | spread |", "|---|---:|---:|---:|---:|---|"]
    for r in results:
        s, settings = r["summary"], r["settings"]
        middle = sorted(s["rounds"], key=lambda one: one["ratio"])[len(s["rounds"]) // 2]
        lines.append(f"| {settings['mode']}, {settings['backend']}, batch {settings['batch']}, "
                     f"{settings['blocks']} blocks, {settings['crop']}x{settings['crop']} | "
                     f"{settings['threads']} | {middle['subpix_ms']:.1f} | {middle['rival_ms']:.1f} "
                     f"({middle['rival']}) | {s['ratio']:.2f} | {s['ratio_min']:.2f} to {s['ratio_max']:.2f} |")
    return lines + ["", "Below 1: Subpix takes less time. Measured on: " + origin(results[0]), ""]


def results_text():
    lines = []
    quickstart = load("quickstart.json")
    if quickstart:
        lines += quickstart_lines(quickstart)
    names = sorted(os.listdir(RESULTS)) if os.path.isdir(RESULTS) else []
    steps = [load(n) for n in names if n.startswith("step-") and n.endswith(".json")]
    if steps:
        lines += step_lines(steps)
    return "\n".join([BEGIN, ""] + (lines or ["Nothing measured yet.", ""]) + [END])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--record", metavar="RUN", help="folder of a quickstart run")
    args = parser.parse_args()
    if args.record:
        record(args.record)
    with open(README, encoding="utf-8") as file:
        before = file.read()
    if before.count(BEGIN) != 1 or before.count(END) != 1:
        fail(f"README.md must hold {BEGIN} and {END} once each")
    head, rest = before.split(BEGIN)
    after = head + results_text() + rest.split(END)[1]
    if args.check:
        if after != before:
            print("README.md does not show what docs/results holds; run tools/readme_results.py")
            return 1
        return 0
    with open(README, "w", encoding="utf-8") as file:
        file.write(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
