"""The pages about kernels, from results of kernel_bench: ceilings, a ladder for each op with the idea of each rung,
rooflines, comparisons with the library. Used by bench_report.py."""

import glob
import os
import re

import machine
import svg_chart
from report_render import MISSING, cell, chart, heading, number, paragraph, table

CEILINGS = (("tensor_bf16_tflops", "tensor cores, bf16", "TFLOP/s"), ("tensor_tf32_tflops", "tensor cores, TF32", "TFLOP/s"),
            ("fp32_tflops", "fp32 units", "TFLOP/s"), ("copy_gbps", "device copy, reads and writes", "GB/s"),
            ("l2_gbps", "L2 to multiprocessors", "GB/s"), ("launch_gap_us", "between two kernels of a graph", "us"),
            ("grid_barrier_us", "barrier across the device", "us"))
# First letters of an op's name -> first letters of the pages that tell its rungs' ideas.
FAMILIES = (("prelu_shuffle", "fused"), ("max_pool_relu", "fused"), ("conv2d", "conv2d"), ("batchnorm", "batchnorm"),
            ("norm_", "fused"), ("prelu", "activation"), ("leaky_relu", "activation"), ("dense", "dense"),
            ("pixel_shuffle", "shape_pool"), ("max_pool", "shape_pool"), ("reduce", "reduce"), ("mse_loss", "loss"),
            ("l1_loss", "loss"), ("bce", "loss"), ("total_variation", "loss"), ("philox", "random"), ("adam", "adam"),
            ("", "elementwise"))
BARS_IN_A_CHART = 24


def worklog_rungs(folder):
    """(page, words of the first cell, idea) of every row of the worklogs' tables that have a column for the idea."""
    rungs = []
    for path in sorted(glob.glob(os.path.join(folder, "*.md"))):
        page, idea = os.path.splitext(os.path.basename(path))[0], None
        with open(path, encoding="utf-8") as file:
            for line in file:
                cells = [c.strip() for c in line.strip().strip("|").split("|")] if line.startswith("|") else []
                if not cells:
                    idea = None
                elif cells[0] in ("variant", "rung"):
                    idea = next((i for i, c in enumerate(cells) if c in ("idea", "the idea it adds")), None)
                elif idea is not None and idea < len(cells) and not set(cells[0]) <= set("-: "):
                    rungs.append((page, set(re.findall(r"\w+", cells[0])), cells[idea]))
    return rungs


def idea_of(op, variant, rungs):
    """What a rung adds, as its family's worklog says, or None."""
    name = op.split("/")[0]
    family = next(page for prefix, page in FAMILIES if name.startswith(prefix))
    best, score = None, 0
    for page, words, idea in rungs:
        if not page.startswith(family):
            continue
        plain = variant[:-len("_tf32")] if variant.endswith("_tf32") else variant
        if variant not in words and plain not in words:
            continue
        # A row that names the op, or its pass, is about it and not about a neighbour of the family.
        mine = 1 + (4 if name in words else 0) + sum(2 for w in words if len(w) > 3 and name.endswith("_" + w))
        if mine > score:
            best, score = idea, mine
    return best


def origin(bench):
    d = bench["device"]
    libraries = ", ".join(f"{k} {d[k]}" for k in ("driver", "cuda", "cudnn", "cublaslt", "onednn") if d.get(k))
    return (f"Device: {d['name']}{' (' + libraries + ')' if libraries else ''}. Date: {bench['date']}. "
            f"Commit: {bench['commit'][:12]}{'-dirty' if bench['commit'].endswith('-dirty') else ''}. "
            f"Command: `{bench['command']}`.")


def measured(entry):
    return bool(entry) and entry.get("status") == "measured" and entry.get("value") is not None


def ceiling_rows(bench):
    rows = []
    for key, words, unit in CEILINGS:
        c = bench["ceilings"].get(key)
        spread = f"{cell(float(c['low']))} to {cell(float(c['high']))}" if measured(c) and c.get("low") is not None else "-"
        rows.append([words, unit, float(c["value"]) if measured(c) else None, spread if measured(c) else "-"])
    return rows


def times(entry):
    if not entry:
        return None
    return f"{number(entry['median_us'])} ({number(entry['p5_us'])} to {number(entry['p95_us'])})"


def layer_of(result):
    return f"{result['layer']}, batch {result['batch']}" if result.get("layer") else result["problem"]


def usable(result):
    return result["status"] in ("measured", "noisy") and result.get("cold") or result["status"] == "measured" and \
        result.get("warm")


def time_us(result):
    """The cold median; where only the warm one was taken, that."""
    return (result.get("cold") or result.get("warm"))["median_us"]


def speedup(result, rival):
    """(times that the rival takes longer, low, high): above 1 the kernel is quicker."""
    value = rival["median_us"] / time_us(result)
    low, high = rival.get("ratio_low"), rival.get("ratio_high")
    if low is None or high is None:
        return value, None, None
    if rival.get("ratio") and abs(rival["ratio"] - value) > abs(1 / rival["ratio"] - value):
        low, high = 1 / high, 1 / low  # told the other way round
    return value, low, high


def best_rival(result):
    """The quickest rival that does the same work."""
    rivals = [r for r in result.get("rivals") or [] if r.get("median_us") and r["kind"] in ("same", "fused", "sequence")]
    return min(rivals, key=lambda r: r["median_us"], default=None)


def rival_words(result):
    rival = best_rival(result)
    if not rival:
        return MISSING if usable(result) else "-", "-"
    value, low, high = speedup(result, rival)
    words = f"{number(value)}" + (f" ({number(low)} to {number(high)})" if low is not None else "")
    told = f"{rival['backend']} {rival['variant']}, {rival['kind']}: {number(rival['median_us'])} us"
    return told, words + ("" if rival.get("claim", True) else ", no claim")


def result_row(result):
    good = usable(result)
    told, ratio = rival_words(result)
    status = result["status"] + (f": {result['note']}" if result.get("note") else "")
    percent = result.get("percent_of_ceiling")
    rate = (f"{number(result['tflops'])} TFLOP/s" if result.get("bound") == "compute" and result.get("tflops")
            else f"{number(result['gbps'])} GB/s" if result.get("gbps") else MISSING) if good else "-"
    return [layer_of(result), result["variant"] + (" (default)" if result.get("default") else ""),
            times(result.get("cold")) if good else "-", times(result.get("warm")) if good else "-",
            number(result["predicted_us"]) if result.get("predicted_us") else "-", rate,
            f"{percent:.0f} %" if percent is not None else "-", told, ratio, status]


HEADER = ["layer or problem", "variant", "cold us", "warm us", "roofline us", "rate", "of ceiling", "quickest rival",
          "rival / ours", "status"]


def ladder(op, results, rungs):
    """The rungs of an op, as the results name them, each with its idea and its first problem's time."""
    variants = list(dict.fromkeys(r["variant"] for r in results if not r.get("is_rival")))
    problem = results[0]["problem"]
    rows = []
    for variant in variants:
        one = next((r for r in results if r["variant"] == variant and r["problem"] == problem), None)
        good = one and usable(one)
        rows.append([variant, idea_of(op, variant, rungs) or "told in no worklog",
                     time_us(one) if good else (None if not one or one["status"] in ("measured", "noisy", "simulated")
                                                else one["status"])])
    return table(["rung", "idea", f"us, {layer_of(results[0])}"], rows)


def counter_rows(results):
    rows = []
    for r in results:
        if r.get("counters"):
            told = ", ".join(f"{k} {v:g}" for k, v in r["counters"].items() if v is not None)
            rows.append([layer_of(r), r["variant"], told])
    return rows


def rooflines(bench):
    blocks = []
    for dtype, ceiling in (("bf16", "tensor_bf16_tflops"), ("f32", "fp32_tflops")):
        points = [(f"{r['op']} {r['variant']}, {layer_of(r)}", r["flops"] / r["bytes"],
                   r["flops"] / time_us(r) / 1e6, svg_chart.OURS if r.get("default") else svg_chart.RIVAL)
                  for r in bench["results"] if usable(r) and r["dtype"] == dtype and r["flops"] and r["bytes"]]
        if not points:
            continue
        compute, copy = bench["ceilings"].get(ceiling), bench["ceilings"].get("copy_gbps")
        blocks.append(chart(svg_chart.roofline(
            f"Roofline, {dtype}, {bench['device']['name']}", "A point for each kernel and problem; blue: the default "
            "variant. The red lines are measured ceilings.", points,
            compute["value"] if measured(compute) else None, copy["value"] if measured(copy) else None)))
    return blocks


def rival_charts(bench):
    rows = []
    for r in bench["results"]:
        rival = best_rival(r)
        if r.get("default") and usable(r) and rival:
            value, low, high = speedup(r, rival)
            rows.append((f"{r['op']} {layer_of(r)}"[:54], value, low, high,
                         svg_chart.OURS if value >= 1 else svg_chart.RIVAL, f"{rival['backend']} {rival['kind']}"))
    blocks = []
    for begin in range(0, len(rows), BARS_IN_A_CHART):
        blocks.append(chart(svg_chart.bars(
            f"Library's time / ours, {bench['device']['name']}", "above 1: our kernel is quicker",
            rows[begin:begin + BARS_IN_A_CHART], [("equal", 1.0)])))
    return blocks


def blocks_of(bench, rungs):
    device = bench["device"]
    blocks = [heading(2, f"Kernels on {device['name']}"), paragraph(origin(bench)),
              heading(3, f"Ceilings of {device['name']}"),
              table(["what", "unit", "value", "spread"], ceiling_rows(bench))]
    if not bench["results"]:
        return blocks + [paragraph(f"Kernels: {MISSING}.")]
    if device["kind"] == "simulator":
        blocks.append(paragraph("The simulator counts, but says nothing about time."))
    blocks += rooflines(bench) + rival_charts(bench)
    groups = {}
    for r in bench["results"]:
        groups.setdefault((r["op"], r["dtype"]), []).append(r)
    for (op, dtype), results in sorted(groups.items()):
        title = op if op.endswith("/" + dtype) else f"{op}, {dtype}"
        blocks += [heading(3, f"{title} on {device['name']}"), ladder(op, results, rungs)]
        if device["kind"] != "simulator":
            blocks.append(table(HEADER, [result_row(r) for r in results]))
        counters = counter_rows(results)
        if counters:
            blocks.append(table(["layer or problem", "variant", "counted"], counters))
    return blocks


def page(benches):
    """All blocks about kernels."""
    rungs = worklog_rungs(os.path.join(machine.ROOT, "docs", "kernels"))
    blocks = []
    for bench in benches:
        blocks += blocks_of(bench, rungs)
    if not any(b["device"]["kind"] == "gpu" for b in benches):
        blocks += [heading(2, "Kernels on a GPU"),
                   paragraph(f"Times, ceilings and comparisons with cuDNN: {MISSING}. `docs/kernels` holds bounds and "
                             "predictions.")]
    return blocks


def summary_lines(benches):
    """For the README: each default kernel against the quickest rival, by op."""
    lines = ["### Kernels against the libraries", ""]
    gpus = [b for b in benches if b["device"]["kind"] == "gpu"]
    if not gpus:
        return lines + [f"On a GPU: {MISSING}.", ""]
    for bench in gpus:
        lines += ["| op | problems | library's time / ours, median | lowest | highest |", "|---|---:|---:|---:|---:|"]
        groups = {}
        for r in bench["results"]:
            rival = best_rival(r)
            if r.get("default") and usable(r) and rival:
                groups.setdefault(r["op"], []).append(speedup(r, rival)[0])
        for op, values in sorted(groups.items()):
            values.sort()
            lines.append(f"| {op} | {len(values)} | {number(values[len(values) // 2])} | {number(values[0])} | "
                         f"{number(values[-1])} |")
        if not groups:
            lines.append(f"| all | 0 | {MISSING} | | |")
        lines += ["", "Above 1: our kernel takes less time. " + origin(bench), ""]
    return lines
