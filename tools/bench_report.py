#!/usr/bin/env python3
"""Makes the pages of docs/results and the results of README.md from the JSON files in docs/results.

  bench_report.py                   writes docs/results/kernels.md, steps.md, report.html and README.md's results
  bench_report.py --check           fails if one of them shows something else than the files
  bench_report.py --record PATH     first keeps a result there: a JSON of kernel_bench, step_bench or gpu_check, or
                                    the folder of a quickstart run

Every number is told with device, date, commit and command; what was not measured says so. Standard library only.
"""

import argparse
import json
import os
import sys

import machine
import report_kernels
import report_render
import report_steps

BEGIN, END = "<!-- results -->", "<!-- /results -->"
DEVICE = "cudnn-device.json"  # properties of a device, no result: cuDNN plans for it where it is not
SCHEMA = "subpix-kernel-bench-1"
GENERATED = "Made by `tools/bench_report.py` from the JSON files of `docs/results`; not to be edited."


def fail(sentence):
    print(f"bench_report.py: {sentence}", file=sys.stderr)
    sys.exit(2)


def load(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        fail(f"'{path}' cannot be read: {error.strerror}")
    except ValueError as error:
        fail(f"'{path}' is no JSON: {error}; measure again or remove the file")


def kind_of(result):
    """Which tool wrote a result, or None."""
    if not isinstance(result, dict):
        return None
    if str(result.get("schema", "")).startswith("subpix-kernel-bench"):
        return "kernels" if result["schema"] == SCHEMA else None
    return {"compare": "compares", "compare_step": "compares", "step_bench": "steps"}.get(
        result.get("tool"), "checks" if "parts" in result else "quickstart" if "methods" in result else
        "mutants" if "verdicts" in result else None)


def collect(folder):
    """kind -> results, in the order of their file names."""
    # Mutants have a page of their own, docs/mutation.md: no time is measured there.
    found = {"kernels": [], "compares": [], "steps": [], "checks": [], "quickstart": [], "mutants": []}
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if name.endswith(".json") and name != DEVICE:
            results = load(os.path.join(folder, name))
            # kernel_bench on several backends writes a list.
            for result in results if isinstance(results, list) else [results]:
                kind = kind_of(result)
                if not kind:
                    fail(f"'{os.path.join(folder, name)}' is no result of kernel_bench ({SCHEMA}), step_bench, "
                         "compare.py, gpu_check.sh or the quickstart; remove it or measure again")
                found[kind].append(result)
    return found


def record(path, folder):
    """Keeps a result under the name that it shall have."""
    if os.path.isdir(path):
        source = os.path.join(path, "report.json")
        if not os.path.exists(source):
            fail(f"'{source}' is missing; run tools/quickstart.sh first")
        result, name = {"command": "tools/quickstart.sh", **load(source)}, "quickstart.json"
    else:
        result = load(path)
        kind = kind_of(result[0] if isinstance(result, list) and result else result)
        if kind in (None, "quickstart", "mutants"):
            fail(f"'{path}' is no result of kernel_bench ({SCHEMA}), step_bench, compare.py or gpu_check.sh")
        name = os.path.basename(path)
        if kind == "steps":
            name = f"bench-{result.get('step') or result['mode'] + '-' + str(result['batch'])}-{result['backend']}.json"
    kept = result
    if name == "quickstart.json":  # made here just now; the other tools tell their own origin
        kept = {"date": machine.now(), "commit": machine.commit(), "machine": machine.describe(), **result}
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        json.dump(kept, file, indent=1)
        file.write("\n")
    print(f"kept as {os.path.join(folder, name)}")


def quickstart_lines(result):
    lines = ["### The quickstart's small network",
             "", f"x4 on {len(result['photographs'])} photographs that no training step has seen.", "",
             "| | PSNR dB | SSIM | SSIM (paper's) | fine detail dB | spectrum distance dB |",
             "|---|---:|---:|---:|---:|---:|"]
    for m in result["methods"]:
        lines.append(f"| {m['name']} | {m['psnr_y']:.2f} | {m['ssim_gauss']:.4f} | {m['ssim_daala']:.4f} | "
                     f"{m['fine_detail_db']:+.2f} | {m['spectrum_distance_db']:.2f} |")
    return lines + ["", "Fine detail: power above the finest frequency of the small picture against the original's "
                    "(0: as much as there). Measured on: " + report_steps.compare_origin(result), ""]


def readme_text(found):
    lines = [line for result in found["quickstart"] for line in quickstart_lines(result)]
    lines += report_steps.summary_lines(found["compares"]) + report_kernels.summary_lines(found["kernels"])
    lines += ["All of it: [docs/results/steps.md](docs/results/steps.md), "
              "[docs/results/kernels.md](docs/results/kernels.md), and one page with charts, "
              "`docs/results/report.html`.", ""]
    return "\n".join([BEGIN, ""] + lines + [END])


def pages(found):
    """File name -> text."""
    kernels = report_kernels.page(found["kernels"])
    steps = report_steps.page(found["steps"], found["compares"], found["checks"])
    note = report_render.paragraph(GENERATED)
    title = "Measurements of Subpix"

    def markdown(words, blocks):
        return report_render.markdown([report_render.heading(1, words), note] + blocks)

    return {"kernels.md": markdown("Kernels", kernels), "steps.md": markdown("Steps", steps),
            "report.html": report_render.html_page(title, [report_render.heading(1, title), note] + steps + kernels)}


def with_results(readme, text):
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        fail(f"README.md must hold {BEGIN} and {END} once each")
    head, rest = readme.split(BEGIN)
    return head + text + rest.split(END)[1]


def main():
    parser = argparse.ArgumentParser(description="makes the pages of results from the measured JSON files")
    parser.add_argument("--check", action="store_true", help="only compare, exit code 1 on a difference")
    parser.add_argument("--record", metavar="PATH", action="append", default=[], help="a result to keep first")
    parser.add_argument("--results", default=os.path.join(machine.ROOT, "docs", "results"),
                        help="folder of the JSON files and the pages")
    parser.add_argument("--readme", default=os.path.join(machine.ROOT, "README.md"))
    args = parser.parse_args()
    for path in args.record:
        record(path, args.results)
    if not os.path.isdir(args.results):
        fail(f"there is no folder '{args.results}'")
    found = collect(args.results)
    try:
        with open(args.readme, encoding="utf-8") as file:
            before = file.read()
    except OSError as error:
        fail(f"'{args.readme}' cannot be read: {error.strerror}")
    texts = {os.path.join(args.results, name): text for name, text in pages(found).items()}
    texts[args.readme] = with_results(before, readme_text(found))
    stale = []
    for path, text in texts.items():
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                if file.read() == text:
                    continue
        stale.append(path)
        if not args.check:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
    if args.check and stale:
        print(f"{', '.join(os.path.relpath(p, machine.ROOT) for p in stale)}: not what docs/results holds; run "
              "tools/bench_report.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
