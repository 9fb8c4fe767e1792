"""The page about training steps and inference: what a step is made of, its floors, its times, PyTorch beside it. From
results of step_bench and compare.py and the committed figures. Used by bench_report.py."""

import json
import os
import statistics

import machine
import svg_chart
from report_render import MISSING, chart, heading, number, paragraph, table

STEPS = ("srresnet-16", "srresnet-64", "srgan-vgg54-16", "srgan-vgg54-64", "infer-480x320", "infer-1920x1080")


def short(commit):
    return commit[:12] + ("-dirty" if commit.endswith("-dirty") else "")


def compare_origin(result):
    host = machine.text(result["machine"]) if result.get("machine") else "see the devices"
    return f"{host}; {result['date']}; commit {short(result['commit'])}; `{result['command']}`"


def step_origin(result):
    host = f" on {result['processor']}" if result.get("processor") else ""
    commit = short(result["commit"]) if result.get("commit") else "not recorded"
    return (f"Device: {result['device']}{host}. Date: {result.get('date', 'not recorded')}. Commit: {commit}. "
            f"Command: `{result.get('command', 'not recorded')}`.")


def title_of(result):
    name = result.get("step") or f"{result['mode']}, batch {result['batch']}"
    if result.get("altered"):
        name += " (changed: " + ", ".join(result["altered"]) + ")"
    return name


def committed_figures():
    path = os.path.join(machine.ROOT, "tests", "baseline", "figures.json")
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def best_of(results, step):
    """The newest unaltered result of a reference step on the fastest kind of device."""
    mine = [r for r in results if r.get("step") == step and not r.get("altered") and "median_ms" in r]
    mine.sort(key=lambda r: (r["backend"] == "cuda", r.get("date", "")))
    return mine[-1] if mine else None


def floors(result):
    """(label, ms) of a step's computed floors, as far as the ceilings were known."""
    floor = result.get("floor") or {}
    named = (("overlapped_ms", "floor F0, computed"), ("layered_ms", "floor F1, computed"),
             ("waiting_ms", "floor F2, computed"))
    return [(label, floor[key]) for key, label in named if floor.get(key)]


def images(result):
    return result["batch"] * 1e3 / result["median_ms"] if result else None


def overview(results):
    """The reference steps: exact figures, floors and times."""
    figures = committed_figures()
    exact, timed = [], []
    for step in STEPS:
        f = figures.get(step, {})
        exact.append([step, f["floor_flops"] / 1e9 if "floor_flops" in f else None,
                      f["floor_least_bytes"] / 1e6 if f.get("floor_least_bytes") else None, f.get("floor_phases"),
                      f["least_bytes"] / 1e6 if f.get("least_bytes") else None, f.get("op_calls"), f.get("launches"),
                      f["tensor_peak_bytes"] / 2 ** 20 if f.get("tensor_peak_bytes") else None])
        gpu = best_of([r for r in results if r["backend"] == "cuda"], step)
        host = best_of([r for r in results if r["backend"] == "cpu"], step)
        floor = (gpu or {}).get("floor") or {}
        timed.append([step, *(floor.get(k) for k in ("overlapped_ms", "layered_ms", "waiting_ms")),
                      gpu["median_ms"] if gpu else None, images(gpu),
                      host["median_ms"] if host else None, images(host)])
    return [
        heading(2, "The reference steps"),
        paragraph("Exact figures of a step in bf16 (upscaling in fp32), counted by the simulator without executing the "
                  "kernels; they are the committed ones of `tests/baseline/figures.json`. GFLOP, bytes and phases of the "
                  "floors are computed from the layers' sizes alone."),
        table(["step", "GFLOP of convolutions", "MB of the floors", "dependent phases", "MB of all ops, at least",
               "op calls", "launches", "peak MiB of tensors"], exact),
        paragraph("Times. F0, F1, F2: floors, computed, from the device's measured ceilings: everything overlapped; one "
                  "layer after another; the same with a barrier for each dependent phase (`docs/benchmarking.md`)."),
        table(["step", "F0 ms", "F1 ms", "F2 ms", "GPU ms", "GPU images/s", "CPU ms", "CPU images/s"], timed)]


def step_blocks(result):
    blocks = [heading(3, f"{title_of(result)} on {result['backend']}"), paragraph(step_origin(result))]
    if "median_ms" not in result:
        return blocks + [paragraph(f"Times: {MISSING}.")]
    rows = [["step", result["median_ms"], result["p5_ms"], result["p95_ms"]]]
    rows += [[phase, p["median_ms"], p["p5_ms"], p["p95_ms"]] for phase, p in result["phases"].items()]
    blocks.append(table(["phase", "median ms", "5 %", "95 %"], rows))
    memory, counts = result["memory"], result.get("counts") or {}
    words = (f"{number(result['images_per_second'])} images/s; peak memory of tensors "
             f"{memory['tensor_peak_bytes'] / 2 ** 20:.0f} MiB, of the process {memory['process_peak_bytes'] / 2 ** 20:.0f} "
             "MiB.")
    if counts:
        words += f" {counts['op_calls']} op calls, at least {number(counts['least_bytes'] / 1e6)} MB moved."
    if (result.get("vgg") or {}).get("drawn"):
        words += f" VGG19: {len(result['vgg']['drawn'])} layers drawn from seed {result['vgg']['seed']}."
    return blocks + [paragraph(words)]


def breakdown(results):
    rows = [(f"{title_of(r)}, {r['backend']}", [(p, v["median_ms"]) for p, v in r["phases"].items()])
            for r in results if r.get("phases")]
    if not rows:
        return []
    return [chart(svg_chart.stacked("Where a step's time goes (waited for after each phase)", "ms", rows))]


def settings_of(result):
    s = result["settings"]
    return f"{s.get('step') or s['mode'] + ', batch ' + str(s['batch'])}, {s['backend']}"


def compare_blocks(result):
    s, runs = result["summary"], result["runs"]
    blocks = [heading(3, f"{settings_of(result)} against PyTorch"),
              paragraph("Measured on: " + compare_origin(result))]
    rows, bars = [], []
    for side in runs[0]:
        series = [r["median_ms"] for one in runs for r in one.get(side, [])]
        label = "Subpix" if side == "subpix" else f"PyTorch {side}"
        rows.append([label, statistics.median(series), f"{number(min(series))} to {number(max(series))}", "measured"])
        bars.append((label, statistics.median(series), min(series), max(series),
                     svg_chart.OURS if side == "subpix" else svg_chart.RIVAL, ""))
    for form, why in (result.get("without") or {}).items():
        rows.append([f"PyTorch {form}", "-", "-", f"{why['status']}: {why['reason']}"])
        bars.append((f"PyTorch {form}", None, None, None, "", why["status"]))
    blocks.append(chart(svg_chart.bars(f"{settings_of(result)}: ms a step", "ms, less is better", bars,
                                      floors(runs[0]["subpix"][0]))))
    blocks.append(table(["", "median ms", "over all runs", "status"], rows))
    words = (f"**Ratio {s['ratio']:.2f}** ({s['ratio_min']:.2f} to {s['ratio_max']:.2f} over the rounds; below 1: Subpix "
             "takes less time than PyTorch's quickest form).")
    verdict = result.get("losses")
    words += (f" Losses of the first {verdict['steps']} steps: " + ("agree." if verdict["agree"] else "**do not agree.**")
              if verdict else f" Losses over the first steps: {MISSING}.")
    return blocks + [paragraph(words)]


def check_blocks(check):
    blocks = [heading(2, f"GPU check, backend {check['backend']}"),
              paragraph(f"Date: {check['date']}. Commit: {short(check['commit'])}. Command: `tools/gpu_check.sh`."),
              table(["part", "status", "seconds"],
                    [[name, part["status"], float(part["seconds"])] for name, part in check["parts"].items()])]
    return blocks


def inside(compares):
    """Subpix's side of comparisons, as results of step_bench."""
    return [{**c["runs"][0]["subpix"][0], "median_ms": statistics.median(
                 r["median_ms"] for one in c["runs"] for r in one["subpix"])} for c in compares]


def page(results, compares, checks):
    blocks = overview(results + inside(compares))
    if results:
        blocks += [heading(2, "Steps in parts")] + breakdown(results)
        for result in results:
            blocks += step_blocks(result)
    blocks.append(heading(2, "Against PyTorch"))
    for result in compares:
        blocks += compare_blocks(result)
    if not any(r["settings"]["backend"] == "cuda" for r in compares):
        blocks.append(paragraph(f"On a GPU: {MISSING}."))
    for check in checks:
        blocks += check_blocks(check)
    if not checks:
        blocks += [heading(2, "GPU check"), paragraph(f"On a GPU: {MISSING}.")]
    return blocks


def summary_lines(compares):
    """For the README."""
    lines = ["### A step against PyTorch", "",
             "| step | threads | Subpix ms | PyTorch ms | ratio | spread |", "|---|---:|---:|---:|---:|---|"]
    for r in compares:
        s, settings = r["summary"], r["settings"]
        middle = sorted(s["rounds"], key=lambda one: one["ratio"])[len(s["rounds"]) // 2]
        size = "" if settings["mode"] == "infer" else f", {settings['blocks']} blocks, {settings['crop']}x{settings['crop']}"
        lines.append(f"| {settings_of(r)}{size} | {settings['threads']} | {middle['subpix_ms']:.1f} | "
                     f"{middle['rival_ms']:.1f} ({middle['rival']}) | {s['ratio']:.2f} | {s['ratio_min']:.2f} to "
                     f"{s['ratio_max']:.2f} |")
    if not any(r["settings"]["backend"] == "cuda" for r in compares):
        lines.append(f"| training and upscaling on a GPU | - | {MISSING} | {MISSING} | - | - |")
    lines += ["", "Below 1: Subpix takes less time."]
    for origin in dict.fromkeys(compare_origin(r) for r in compares):
        lines += ["", "Measured on: " + origin]
    return lines + [""]
