#!/usr/bin/env python3
"""Holds a build against committed figures that no clock can blur: launches, ops, bytes and memory of each reference
step, and what the simulator counts of small steps that it executes (tests/baseline/figures.json). Registers, shared
memory and instructions of each kernel are tests/cuda/check_cubins.py's figures; both belong to one baseline.

  figures.py --build build                   compares; every difference is a line
  figures.py --build build --accept "why"    writes the figures of this build, and the line of the worklog

Each state of the baseline has a serial, made from the files, and a line in docs/kernels/CHANGES.md that names it and
says why it came about: a baseline that was changed without one is a difference too. Exit code: 0 as committed, 1 a
difference, 2 wrong usage.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile

import machine

ROOT = machine.ROOT
FIGURES = os.path.join("tests", "baseline", "figures.json")
BASELINE = [FIGURES, os.path.join("tests", "cuda", "budgets.json"), os.path.join("tests", "cuda", "instructions.json")]
WORKLOG = os.path.join("docs", "kernels", "CHANGES.md")
STEPS = ("srresnet-16", "srresnet-64", "srgan-vgg54-16", "srgan-vgg54-64", "infer-480x320", "infer-1920x1080")
# Small enough to be executed by the simulator; bf16, 64 channels: the kernels that training runs.
EXECUTED = {
    "srresnet, 2 blocks, batch 2, crop 16": ["--mode", "srresnet", "--blocks", "2", "--crop", "16", "--batch", "2"],
    "infer 24x16, 2 blocks": ["--mode", "infer", "--blocks", "2", "--width", "24", "--height", "16"],
}


def fail(sentence):
    print(f"figures.py: {sentence}", file=sys.stderr)
    sys.exit(2)


def run(bench, arguments):
    """The JSON of one call of step_bench, or None where its build has no simulator."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "step.json")
        done = subprocess.run([bench, "--backend", "sim", *arguments, "--json", path], capture_output=True, text=True)
        if done.returncode == 2 and "backend 'sim'" in done.stderr:
            return None
        if done.returncode:
            fail(f"step_bench {' '.join(arguments)} failed: {(done.stderr or done.stdout).strip()}")
        with open(path, encoding="utf-8") as file:
            return json.load(file)


def figures_of(result):
    """What a change of the code alone can change, flat: name -> number."""
    counts = result["counts"]
    kept = {"op_calls": counts["op_calls"], "least_bytes": int(counts["least_bytes"]),
            "tensor_peak_bytes": result["memory"]["tensor_peak_bytes"],
            **{f"floor_{key}": int(result["floor"][key]) for key in ("flops", "least_bytes", "phases")}}
    simulator = counts["simulator"] if counts["executed"] else {"launches": counts["simulator"]["launches"]}
    kept.update(simulator)
    for op, entry in counts["ops"].items():
        for variant, calls in entry["variants"].items():
            kept[f"{op} {variant}"] = calls
    return kept


def measured(bench):
    """step -> figures, or None without a simulator."""
    found = {}
    for step in STEPS:
        result = run(bench, ["--step", step, "--count"])
        if result is None:
            return None
        found[step] = figures_of(result)
    for name, arguments in EXECUTED.items():
        found[name] = figures_of(run(bench, [*arguments, "--steps", "1", "--warmup", "0"]))
    return found


def differences(committed, now):
    found = []
    for step in sorted(set(committed) | set(now)):
        if step not in committed or step not in now:
            found.append(f"{step}: " + ("is not in the baseline" if step in now else "is measured no more"))
            continue
        for key in sorted(set(committed[step]) | set(now[step])):
            was, new = committed[step].get(key, 0), now[step].get(key, 0)
            if was != new:
                found.append(f"{step}: {key} {was} became {new}")
    return found


def serial(root=ROOT):
    """Twelve digits that stand for the baseline's state, whatever the line ends."""
    digest = hashlib.sha256()
    for path in BASELINE:
        with open(os.path.join(root, path), encoding="utf-8") as file:
            digest.update(f"{path}\n{json.dumps(json.load(file), sort_keys=True)}\n".encode())
    return digest.hexdigest()[:12]


def logged(root=ROOT):
    with open(os.path.join(root, WORKLOG), encoding="utf-8") as file:
        return f"`{serial(root)}`" in file.read()


def dump(path, steps):
    rows = []
    for step, figures in steps.items():
        lines = ",\n".join(f"    {json.dumps(k)}: {v}" for k, v in figures.items())
        rows.append(f"  {json.dumps(step)}: {{\n{lines}\n  }}")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write("{\n" + ",\n".join(rows) + "\n}\n")


def accept(args, now):
    if now is None:
        fail("this build has no simulator, so that no figures can be accepted from it; configure with SUBPIX_SIM=ON")
    check = os.path.join(ROOT, "tests", "cuda", "check_cubins.py")
    done = subprocess.run([sys.executable, check, "--build", args.build, "--accept"], capture_output=True, text=True)
    problems = [line for line in done.stdout.splitlines() if ".cu: " in line]
    if done.returncode == 2 or any("not compiled by nvcc" in line for line in problems):
        print("not all kernels were compiled by nvcc here: their figures stay as they are")
    elif done.returncode:
        print(done.stdout.strip())
        fail("the compiled kernels have differences that cannot be accepted, see above")
    dump(os.path.join(ROOT, FIGURES), now)
    if logged():
        print(f"nothing changed, the baseline's serial is {serial()}")
        return 0
    with open(os.path.join(ROOT, WORKLOG), "a", encoding="utf-8") as file:
        file.write(f"- {machine.now()[:10]} `{serial()}` {args.accept.strip()}\n")
    print(f"accepted as {serial()}, with a line in {WORKLOG}")
    return 0


def main():
    parser = argparse.ArgumentParser(description="compares a build with the committed figures")
    parser.add_argument("--build", required=True, metavar="FOLDER", help="build folder with bin/step_bench")
    parser.add_argument("--accept", metavar="WHY", help="write this build's figures; one sentence for the worklog")
    args = parser.parse_args()
    if args.accept is not None and (len(args.accept.split()) < 3 or "\n" in args.accept):
        fail("--accept needs a sentence that says why the figures changed; it goes into " + WORKLOG)
    bench = os.path.join(args.build, "bin", "step_bench")
    if not os.access(bench, os.X_OK):
        fail(f"'{bench}' is missing; build the target step_bench first")
    now = measured(bench)
    if args.accept is not None:
        return accept(args, now)
    found = []
    if now is None:
        print("the build has no simulator: figures of the steps are not compared")
    else:
        with open(os.path.join(ROOT, FIGURES), encoding="utf-8") as file:
            found = differences(json.load(file), now)
    hint = f'tools/figures.py --build {args.build} --accept "why"'
    if not logged():
        found.append(f"the baseline has serial {serial()}, which no line of {WORKLOG} names")
    for line in found:
        print(line)
    if found:
        print(f"if that is meant: {hint}, and look at the difference")
        return 1
    print(f"as committed, serial {serial()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
