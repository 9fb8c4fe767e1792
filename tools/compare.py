#!/usr/bin/env python3
"""Compares a step of tools/step_bench with PyTorch's in every form it offers, as a table (Markdown), a plot (SVG)
and everything measured (JSON).

  compare.py --step srresnet-16            measures both sides on this machine
  compare.py --join OURS.json THEIRS.json  joins what step_bench and pytorch_baseline.py wrote elsewhere

Both sides start from the same weights and data, which step_bench writes, and their losses over the first steps are
compared. Each round runs Subpix, then the forms of PyTorch, and then all in reverse order (ABBA), each in a process
of its own, so that a drift of the machine's clock hits all alike. The rival of a round is the quickest form. Ratio:
Subpix time / rival time, below 1 is better. A form that cannot run is a line with its reason.
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
import report_steps
import svg_chart

ROOT = machine.ROOT
SIZES = ("mode", "batch", "blocks", "channels", "crop", "scale", "vgg_layer", "width", "height")
# Note [Bound of the losses]: docs/benchmarking.md, "The same losses". Two draws of the disturbance and a factor
# for what more draws, and the several roundings of a layer, would show.
FACTOR = 8.0
FLOOR_UNITS = 16.0  # times the disturbance, for the first step


class Failed(Exception):
    pass


def fail(sentence):
    print(f"compare.py: {sentence}", file=sys.stderr)
    sys.exit(2)


def measure(command):
    """Runs a benchmark that takes --json FILE and returns what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "result.json")
        done = subprocess.run(command + ["--json", path], capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr or done.stdout).strip().split("\n")[-1] or f"exit code {done.returncode}"
            raise Failed(f"'{shlex.join(command)}' failed: {reason}")
        with open(path, encoding="utf-8") as file:
            return json.load(file)


def split_forms(result):
    """form -> its numbers with what the process told, and form -> why there are none."""
    common = {k: v for k, v in result.items() if k not in ("forms", "loss_series", "disturbed_series")}
    good = {f["form"]: {**common, **f} for f in result["forms"] if f["status"] == "measured"}
    bad = {f["form"]: {"status": f["status"], "reason": f["reason"]} for f in result["forms"]
           if f["status"] != "measured"}
    return good, bad


def summarise(rounds):
    """Ratios of the rounds; each side of a round is the mean of its medians."""
    ratios = []
    for one in rounds:
        means = {side: statistics.mean(r["median_ms"] for r in runs) for side, runs in one.items()}
        ours = means.pop("subpix")
        best = min(means, key=means.get)
        ratios.append({"subpix_ms": ours, "rival_ms": means[best], "rival": best, "ratio": ours / means[best]})
    values = [r["ratio"] for r in ratios]
    return {"ratio": statistics.median(values), "ratio_min": min(values), "ratio_max": max(values),
            "rounds": ratios}


def judge_losses(ours, theirs):
    """How far the loss series lie apart, against what a rounding's worth of disturbance does to PyTorch's own."""
    plain, disturbed, amplitude = theirs["loss_series"], theirs["disturbed_series"], theirs["disturbance"]
    steps = min(len(ours), len(plain))
    worst, allowed, first_bad = {}, {}, None
    for step in range(steps):
        for name, value in plain[step].items():
            size = abs(value) + 1e-30
            moved = max([abs(d[step][name] - value) / size for d in disturbed], default=0.0)
            allowed[name] = max(allowed.get(name, FLOOR_UNITS * amplitude), FACTOR * moved)
            apart = abs(ours[step][name] - value) / size
            if apart > worst.get(name, {"apart": -1.0})["apart"]:
                worst[name] = {"apart": apart, "allowed": allowed[name], "step": step}
            if apart > allowed[name] and first_bad is None:
                first_bad = {"loss": name, "step": step, "apart": apart, "allowed": allowed[name],
                             "subpix": ours[step][name], "pytorch": value}
    return {"steps": steps, "agree": first_bad is None, "first_bad": first_bad, "worst": worst,
            "disturbance": amplitude}


def same_sizes(ours, theirs):
    for key in SIZES + ("generator_parameters",):
        if (ours.get(key) or None) != (theirs.get(key) or None):
            fail(f"the sides are different steps: {key} is {ours.get(key)} in Subpix and {theirs.get(key)} in PyTorch")


# --- the page ------------------------------------------------------------------------------------------------------

def medians(rounds, side, phase=None):
    """Median over all runs of a side, of the step or a phase; None where it has no such phase."""
    series = [r if phase is None else r["phases"].get(phase) for one in rounds for r in one.get(side, [])]
    return statistics.median(r["median_ms"] for r in series) if series and None not in series else None


def phase_rows(rounds, rival):
    """(name, Subpix ms, rival ms) of the step and of every phase."""
    phases = list(rounds[0]["subpix"][0]["phases"])
    phases += [p for p in rounds[0].get(rival, [{"phases": {}}])[0]["phases"] if p not in phases]
    return [(phase or "step", medians(rounds, "subpix", phase), medians(rounds, rival, phase))
            for phase in [None] + phases]


def name_of(result):
    settings = result["settings"]
    return settings.get("step") or f"{settings['mode']}-{settings['batch']}"


def loss_lines(verdict):
    if not verdict:
        return ["Losses of the first steps: not measured yet."]
    lines = [f"Losses of the first {verdict['steps']} steps "
             + ("agree" if verdict["agree"] else "**do not agree**")
             + " within what a disturbance of the weights by a rounding "
             f"({verdict['disturbance']:.1e}) does to PyTorch's own.", "",
             "| loss | furthest apart | at step | allowed there |", "|---|---:|---:|---:|"]
    lines += [f"| {name} | {w['apart']:.2e} | {w['step']} | {w['allowed']:.2e} |"
              for name, w in verdict["worst"].items()]
    if not verdict["agree"]:
        bad = verdict["first_bad"]
        lines += ["", f"First beyond: {bad['loss']} at step {bad['step']}, {bad['subpix']:.6g} against "
                  f"{bad['pytorch']:.6g}."]
    return lines


def page(result):
    s, settings, rounds = result["summary"], result["settings"], result["runs"]
    ours = rounds[0]["subpix"][0]
    forms = [side for side in rounds[0] if side != "subpix"]
    other = rounds[0][forms[0]][0]
    rival = s["rounds"][0]["rival"]
    sizes = (f"{settings['width']}x{settings['height']} LR" if settings["mode"] == "infer"
             else f"{settings['crop']}x{settings['crop']} crops")
    lines = [f"# {name_of(result)}, {settings['backend']} against PyTorch", "",
             f"- date: {result['date']}", f"- commit: {result['commit']}",
             f"- machine: {machine.text(result['machine'])}" if result.get("machine") else "- machine: see the devices",
             f"- Subpix: {ours['device']}, {ours['precision']}",
             f"- PyTorch: {other['torch']} on {other.get('device', 'cpu')}, cuDNN {other.get('cudnn') or 'none'}, "
             f"{other['precision']}",
             f"- command: `{result['command']}`",
             f"- workload: batch {settings['batch']}, {settings['blocks']} blocks, {settings['channels']} channels, "
             f"{sizes}, {settings['threads']} threads; median of {settings['steps']} samples after "
             f"{settings['warmup']}, {len(rounds)} rounds"]
    if ours.get("vgg") and ours["vgg"]["drawn"]:
        lines.append(f"- VGG19: {len(ours['vgg']['drawn'])} layers drawn from seed {ours['vgg']['seed']} "
                     "(time does not depend on weights)")
    lines += ["", f"**Ratio {s['ratio']:.3f}** (rounds: {s['ratio_min']:.3f} to {s['ratio_max']:.3f}; below 1: "
              "Subpix takes less time)", "", f"![times]({name_of_file(result)}.svg)", "",
              "| | ms | images/s | tensors MiB | process MiB |", "|---|---:|---:|---:|---:|"]
    for side in ["subpix"] + forms:
        ms = medians(rounds, side)
        memory = [r["memory"] for one in rounds for r in one.get(side, [])]
        device = max(m.get("device_peak_bytes", m.get("tensor_peak_bytes", 0)) for m in memory) / 2 ** 20
        process = max(m["process_peak_bytes"] for m in memory) / 2 ** 20
        label = "Subpix" if side == "subpix" else f"PyTorch {side}"
        lines.append(f"| {label} | {ms:.2f} | {settings['batch'] * 1e3 / ms:.1f} | "
                     f"{f'{device:.0f}' if device else 'not told'} | {process:.0f} |")
    for form, why in (result.get("without") or {}).items():
        lines.append(f"| PyTorch {form} | {why['status']}: {why['reason']} | | | |")
    lines += [f"| {label} | {ms:.3f} | {settings['batch'] * 1e3 / ms:.1f} | | |" for label, ms in report_steps.floors(ours)]
    counts = ours.get("counts") or {}
    if counts:
        launches = f"{counts['launches']} launches, " if counts.get("launches") is not None else ""
        lines += ["", f"One step of Subpix: {counts['op_calls']} op calls, {launches}at least "
                  f"{counts['least_bytes'] / 1e6:.1f} MB moved."]
    kernels = {side: rounds[0][side][0].get("kernels") for side in forms}
    if any(kernels.values()):
        lines += ["", "Kernels that PyTorch launches in one step: " + ", ".join(
            f"{side} {count or 'not told'}" for side, count in kernels.items()) + "."]
    rows = phase_rows(rounds, rival)
    lines += ["", f"| phase | Subpix ms | PyTorch {rival} ms | ratio |", "|---|---:|---:|---:|"]
    for name, mine, theirs in rows:
        cells = [f"{ms:.2f}" if ms is not None else "part of another" for ms in (mine, theirs)]
        ratio = f"{mine / theirs:.2f}" if mine is not None and theirs else "-"
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {ratio} |")
    lines += ["", "| round | Subpix ms | rival ms | rival | ratio |", "|---|---:|---:|---|---:|"]
    for number, one in enumerate(s["rounds"], 1):
        lines.append(f"| {number} | {one['subpix_ms']:.2f} | {one['rival_ms']:.2f} | {one['rival']} | "
                     f"{one['ratio']:.3f} |")
    if settings["mode"] != "infer":
        lines += ["", "Subpix's loss phases contain the gradient with respect to the image; in PyTorch that "
                  "part belongs to generator_backward."]
        lines += [""] + loss_lines(result.get("losses"))
    return "\n".join(lines + [""])


def plot(result):
    rounds = result["runs"]
    rows = []
    for side in rounds[0]:
        runs = [r["median_ms"] for one in rounds for r in one.get(side, [])]
        mine = side == "subpix"
        rows.append(("Subpix" if mine else f"PyTorch {side}", statistics.median(runs), min(runs), max(runs),
                     svg_chart.OURS if mine else svg_chart.RIVAL, ""))
    for form, why in (result.get("without") or {}).items():
        rows.append((f"PyTorch {form}", None, None, None, "", why["status"]))
    title = f"{name_of(result)} on {rounds[0]['subpix'][0]['device']}"
    return svg_chart.bars(title, "ms a step, less is better", rows, report_steps.floors(rounds[0]["subpix"][0]))


def name_of_file(result):
    return f"step-{name_of(result)}-{result['settings']['backend']}"


# --- measuring -----------------------------------------------------------------------------------------------------

def commands(args, start):
    """The two programs with the step's options: (step_bench, pytorch_baseline)."""
    shared = ["--step", args.step] if args.step else ["--mode", args.mode or "srresnet"]
    for name in ("batch", "blocks", "channels", "crop", "scale", "width", "height"):
        if getattr(args, name) is not None:
            shared += [f"--{name}", str(getattr(args, name))]
    bench = [os.path.join(ROOT, args.build, "bin", "step_bench"), "--backend", args.backend] + shared
    device = "cuda" if args.backend == "cuda" else "cpu"
    baseline = [args.python, os.path.join(ROOT, "tools", "pytorch_baseline.py"), "--device", device, "--start",
                start] + shared
    if args.vgg_layer:
        bench += ["--vgg-layer", args.vgg_layer]
        baseline += ["--vgg-layer", args.vgg_layer]
    if args.vgg:
        bench += ["--vgg", args.vgg]
    if args.tile is not None:
        bench += ["--tile", str(args.tile)]
    if args.ceilings:
        bench += ["--ceilings", args.ceilings]
    if args.precision:
        bench += ["--precision", args.precision]
        baseline += ["--precision", args.precision]
    for side in (bench, baseline):
        side += ["--threads", str(args.threads)]
    return bench, baseline


def compare(args, start):
    bench, baseline = commands(args, start)
    timing = ["--steps", str(args.steps), "--warmup", str(args.warmup)]
    once = ["--steps", "1", "--warmup", "0"]
    losses = 0 if (args.step or args.mode or "").startswith("infer") else args.losses
    first = measure(bench + once + ["--save-start", start, "--losses", str(losses)])
    forms = args.forms.split(",") if args.forms else default_forms(args)
    verdict, without = None, {}
    if losses:
        theirs = measure(baseline + once + ["--losses", str(losses), "--forms", forms[0]])
        verdict = judge_losses(first["loss_series"], theirs)
        print("losses of {} steps {}".format(verdict["steps"], "agree" if verdict["agree"] else "do NOT agree"),
              flush=True)

    def run(side):
        if side == "subpix":
            return measure(bench + timing)
        try:
            good, bad = split_forms(measure(baseline + timing + ["--forms", side]))
        except Failed as error:
            good, bad = {}, {side: {"status": "failed", "reason": str(error)}}
        without.update(bad)
        return good.get(side)

    rounds = []
    for number in range(1, args.rounds + 1):
        sides = ["subpix"] + [f for f in forms if f not in without]
        one = {side: [] for side in sides}
        for side in sides + sides[::-1]:
            got = None if side in without else run(side)
            if got:
                one[side].append(got)
        one = {side: runs for side, runs in one.items() if runs and side not in without}
        if len(one) < 2:
            fail("no form of PyTorch could run: " + "; ".join(f"{f}: {w['reason']}" for f, w in without.items()))
        for side, runs in one.items():
            if side != "subpix":
                same_sizes(one["subpix"][0], runs[0])
        rounds.append(one)
        print(f"round {number}: " + ", ".join(
            f"{side} {statistics.mean(r['median_ms'] for r in runs):.2f} ms" for side, runs in one.items()), flush=True)
    rounds = [{s: runs for s, runs in one.items() if s not in without} for one in rounds]
    return rounds, without, verdict


def default_forms(args):
    return {"cuda": ["eager", "graph", "compile", "compile-no-cudagraphs", "compile-graph"]}.get(
        args.backend, ["eager-contiguous", "eager-channels_last", "compile"])


def join(paths):
    loaded = []
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                loaded.append(json.load(file))
        except (OSError, ValueError) as error:
            fail(f"--join: '{path}' is no result: {error}")
    ours = next((r for r in loaded if r.get("tool") == "step_bench"), None)
    theirs = next((r for r in loaded if r.get("tool") == "pytorch_baseline"), None)
    if not ours or not theirs or "median_ms" not in ours or "forms" not in theirs:
        fail("--join needs one timed result of step_bench and one of pytorch_baseline.py")
    good, without = split_forms(theirs)
    if not good:
        fail("no form of PyTorch could run: " + "; ".join(f"{f}: {w['reason']}" for f, w in without.items()))
    for one in good.values():
        same_sizes(ours, one)
    verdict = (judge_losses(ours["loss_series"], theirs) if "loss_series" in ours and "loss_series" in theirs
               else None)
    return [{"subpix": [ours], **{form: [one] for form, one in good.items()}}], without, verdict


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--join", nargs=2, metavar=("OURS", "THEIRS"), help="results measured elsewhere")
    parser.add_argument("--build", default="build", help="build folder with bin/step_bench")
    parser.add_argument("--python", default="/usr/bin/python3", help="a Python with torch")
    parser.add_argument("--backend", default="cpu")
    parser.add_argument("--step", help="a reference step of step_bench")
    parser.add_argument("--mode", choices=["srresnet", "srgan", "infer"], help="instead of --step (srresnet)")
    for name in ("batch", "blocks", "channels", "crop", "scale", "width", "height"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--tile", type=int, help="of Subpix's upscaling: LR pixels; 0: whole picture, -1: auto")
    parser.add_argument("--vgg", help="VGG19 weights")
    parser.add_argument("--vgg-layer")
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16"])
    parser.add_argument("--forms", help="forms of PyTorch, by commas; default: all")
    parser.add_argument("--ceilings", help="JSON of kernel_bench, for the floors")
    for name, value in (("rounds", 3), ("threads", os.cpu_count()), ("steps", 20), ("warmup", 5), ("losses", 100)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--results", default=os.path.join("docs", "results"), help="folder to write to")
    parser.add_argument("--name", help="file name without ending (default: step-STEP-BACKEND)")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    if args.join:
        rounds, without, verdict = join(args.join)
    else:
        bench = os.path.join(ROOT, args.build, "bin", "step_bench")
        if not os.access(bench, os.X_OK):
            fail(f"'{bench}' is missing; build the target step_bench first")
        with tempfile.TemporaryDirectory() as start:
            try:
                rounds, without, verdict = compare(args, start)
            except Failed as error:
                fail(str(error))
    ours = rounds[0]["subpix"][0]
    summary = summarise(rounds)
    result = {"tool": "compare", "date": machine.now(), "commit": machine.commit(),
              "machine": None if args.join else machine.describe(),
              "command": shlex.join(["tools/compare.py"] + sys.argv[1:]),
              "settings": {**{key: ours.get(key) for key in ("step", "backend", "precision", "threads", "steps",
                                                             "warmup") + SIZES}, "rounds": len(rounds)},
              "summary": summary, "losses": verdict, "without": without, "runs": rounds}
    folder = os.path.join(ROOT, args.results)
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, args.name or name_of_file(result))
    if args.name:
        result["name"] = args.name
    with open(path + ".json", "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    for ending, content in ((".md", page(result).replace(f"({name_of_file(result)}.svg)",
                                                         f"({os.path.basename(path)}.svg)")),
                            (".svg", plot(result))):
        with open(path + ending, "w", encoding="utf-8") as file:
            file.write(content)
    print(f"ratio {summary['ratio']:.3f} ({summary['ratio_min']:.3f} to {summary['ratio_max']:.3f}), "
          f"written to {os.path.relpath(path, ROOT)}.json, .md and .svg")


if __name__ == "__main__":
    main()
