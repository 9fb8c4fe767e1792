#!/usr/bin/env python3
"""The parts of tools/gpu_check.sh that a shell cannot do well: results as JSON, ops in parallel, pictures.

Exit codes are those of the parts: 0 ok, 1 failed, 77 unavailable, 124 out of time, 2 wrong usage.
"""

import argparse
import concurrent.futures
import json
import math
import os
import random
import re
import shlex
import struct
import subprocess
import sys
import time
import zlib

import machine

FAILED, UNAVAILABLE, TIMEOUT = 1, 77, 124
TAIL = 60  # lines of a log that go into its JSON
# The only part whose absence is no failure: its tool does not come with the driver.
OPTIONAL = {"sanitizer", "cudnn"}
TEST = "every variant of every op matches the double reference"


def fail(message):
    sys.exit(f"gpu_check.py: {message}")


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def write(path, value):
    """In one piece: a run that is cut off leaves no half file."""
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")
    os.replace(path + ".part", path)


def tail(text):
    return [line[:300] for line in text.splitlines()[-TAIL:]]


# --- ops in parallel -----------------------------------------------------------------------------

def all_ops():
    """The names of kernels/api/kernels.h, the one list of ops."""
    with open(os.path.join(machine.ROOT, "kernels", "api", "kernels.h"), encoding="utf-8") as file:
        text = file.read()

    def members(macro):
        body = re.search(rf"#define {macro}\(X\)((?:.*\\\n)*.*\n)", text)
        return re.findall(r"X\((\w+), \w+\)", body.group(1)) if body else []

    typed, untyped = members("SUBPIX_TYPED_OPS"), members("SUBPIX_UNTYPED_OPS")
    if not typed or not untyped:
        fail("kernels/api/kernels.h lists no ops any more where this script looks for them")
    return [f"{op}/{kind}" for op in typed for kind in ("f32", "bf16")] + untyped


def run_op(op, options, deadline):
    command = [*shlex.split(options.before), options.program, TEST, "-c", op]
    begin = time.monotonic()
    left = deadline - begin
    if left <= 0:
        return {"op": op, "status": "timeout", "seconds": 0.0, "log": []}
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", timeout=left, check=False)
        status = {0: "ok", UNAVAILABLE: "unavailable"}.get(done.returncode, "failed")
        text = done.stdout
        if status == "failed":
            text += f"\nexit code {done.returncode}"
        # Catch says 0 where no section has this name.
        if status == "ok" and "No tests ran" in text:
            status = "failed"
    except subprocess.TimeoutExpired as error:
        status = "timeout"
        text = (error.stdout or b"").decode(errors="replace") if isinstance(error.stdout, bytes) else ""
    return {"op": op, "status": status, "seconds": round(time.monotonic() - begin, 2),
            "log": [] if status == "ok" else tail(text)}


def ops(options):
    names = all_ops() if options.ops == "all" else options.ops.split(",")
    unknown = set(names) - set(all_ops())
    if unknown:
        fail(f"there is no op '{sorted(unknown)[0]}' in kernels/api/kernels.h")
    # Convolutions first: they take longest.
    names.sort(key=lambda name: not name.startswith("conv2d"))
    deadline = time.monotonic() + options.limit
    jobs = max(1, min(len(names), os.cpu_count() or 1))
    results = []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for result in pool.map(lambda op: run_op(op, options, deadline), names):
            results.append(result)
            print(f"{result['op']:36} {result['status']:12} {result['seconds']:7.2f} s", flush=True)
    write(options.details, {"before": options.before, "jobs": jobs, "ops": results})
    for result in results:
        if result["status"] not in ("ok", "timeout"):
            print(f"\n== {result['op']}: {result['status']}")
            print("\n".join(result["log"][-12:]))
    statuses = [result["status"] for result in results]
    print(", ".join(f"{statuses.count(s)} {s}" for s in dict.fromkeys(statuses)))
    if "failed" in statuses:
        return FAILED
    if "timeout" in statuses:
        return TIMEOUT
    return UNAVAILABLE if "unavailable" in statuses else 0


def bits(options):
    """test_sim_against_cuda, a process for each family and type: the simulator's side takes the time."""
    def run(command):
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                              check=False)

    runs = [[options.program, f"{family} give the simulator's bits", "-c", kind]
            for family in ("convolutions", "dense layers", "batch norms") for kind in ("fp32", "bf16")]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        dones = list(pool.map(run, runs))
    for command, one in zip(runs, dones):
        print(f"== {command[1]}, {command[3]}: exit code {one.returncode}\n{one.stdout}")
    codes = {one.returncode for one in dones}
    return UNAVAILABLE if UNAVAILABLE in codes else int(codes != {0})


# --- training ------------------------------------------------------------------------------------

def write_png(path, side, rows):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
                   + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows), 1)) + chunk(b"IEND", b""))


def pictures(options):
    """Blocks of noise at three sizes: something to learn at every scale, and no two crops alike."""
    os.makedirs(options.out, exist_ok=True)
    side = 96
    for number in range(8):
        dice = random.Random(number)
        layers = [(size, dice.randbytes(3 * (side // size) ** 2)) for size in (24, 8, 2)]
        rows = []
        for y in range(side):
            row = bytearray()
            for x in range(side):
                at = [(3 * ((y // size) * (side // size) + x // size), noise) for size, noise in layers]
                row += bytes(sum(w * noise[i + c] for w, (i, noise) in zip((4, 3, 1), at)) // 8 for c in range(3))
            rows.append(bytes(row))
        write_png(os.path.join(options.out, f"noise{number}.png"), side, rows)
    return 0


def numbers(value, path=""):
    """(path, number) of every number in a line of the log."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path, value


def losses(options):
    """All numbers of the log must be finite; first and last lines go into the result."""
    with open(options.log, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file if line.strip()]
    if not lines:
        print(f"{options.log} is empty")
        return FAILED
    write(options.details, {"lines": len(lines), "first": lines[0], "last": lines[-1]})
    for line in lines:
        for path, value in numbers(line):
            if not math.isfinite(value):
                print(f"{path} is {value} in {json.dumps(line)}")
                return FAILED
        # The trainer writes what is not finite as null.
        for key, value in line.items():
            if "loss" in key and value is None:
                print(f"{key} is not finite in {json.dumps(line)}")
                return FAILED
    print(f"{len(lines)} lines of the log, all numbers finite; last: {json.dumps(lines[-1])}")
    return 0


# --- results -------------------------------------------------------------------------------------

def part_file(options, part, kind="json"):
    return os.path.join(options.out, f"{part}.{kind}")


def join(options):
    write(options.out, {os.path.splitext(os.path.basename(path))[0]: read(path) for path in options.files})
    return 0


def settled(options):
    result = read(part_file(options, options.part)) or {}
    return 0 if result.get("status") == "ok" and result.get("backend") == options.backend else FAILED


def result(options):
    with open(part_file(options, options.part, "log"), encoding="utf-8", errors="replace") as file:
        lines = tail(file.read())
    value = {"part": options.part, "backend": options.backend, "status": options.status,
             "seconds": options.seconds, "date": machine.now(), "log": lines,
             "commit": machine.output_of("git", "rev-parse", "HEAD")}
    details = read(part_file(options, options.part, "details.json"))
    if details is not None:
        value["details"] = details
    write(part_file(options, options.part), value)
    print(f"{options.part:10} {options.status:12} {options.seconds:7.1f} s", flush=True)
    return 0


def told(value):
    """One line about a part, for the table."""
    details = value.get("details") or {}
    status, lines = value["status"], value["log"]
    if value["part"] == "step" and status == "ok":
        return "; ".join(f"{name[5:]} {mode['median_ms']:.2f} ms a step" for name, mode in details.items())
    if value["part"] == "bench" and details:
        results = [r for bench in details.values() for r in bench.get("results", [])]
        wrong = [f"{r['op']} {r['problem']}" for r in results if r["status"] == "wrong"]
        return f"{len(results)} calls, {len(wrong)} wrong" + "".join(": " + wrong[0] for _ in wrong[:1])
    bad = [op["op"] for group in (details, *(d for d in details.values() if isinstance(d, dict)))
           for op in group.get("ops", []) if op["status"] != "ok"]
    if bad:
        return f"{len(bad)} not ok: " + ", ".join(bad[:6]) + (" ..." if len(bad) > 6 else "")
    if value["part"] == "device" and status == "ok" and len(lines) > 1 and value["backend"] == "cuda":
        return lines[1]
    return lines[-1] if lines else ""


def summary(options):
    results = [read(part_file(options, part)) for part in options.parts.split(",")]
    results = [value for value in results if value]
    commit = machine.commit()
    write(os.path.join(options.out, "gpu_check.json"),
          {"backend": options.backend, "date": machine.now(), "commit": commit,
           "host": machine.describe(), "seconds": round(sum(v["seconds"] for v in results), 1),
           "parts": {value["part"]: value for value in results}})
    text = [f"# GPU check, backend {options.backend}", "",
            f"{machine.now()}, commit {commit}", "",
            "| part | status | seconds | |", "|---|---|---|---|"]
    for value in results:
        line = told(value).replace("|", "\\|")
        text.append(f"| {value['part']} | {value['status']} | {value['seconds']:.1f} | {line} |")
    for value in results:
        if value["status"] in ("failed", "timeout"):
            text += ["", f"## {value['part']}: end of the log", "", "```", *value["log"][-20:], "```"]
    with open(os.path.join(options.out, "gpu_check.md"), "w", encoding="utf-8") as file:
        file.write("\n".join(text) + "\n")
    print(f"results: {os.path.join(options.out, 'gpu_check.md')}")
    good = {"ok", "skipped"}
    return 0 if all(v["status"] in good or (v["status"] == "unavailable" and v["part"] in OPTIONAL)
                    for v in results) else FAILED


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)

    def command(run, *options):
        sub = commands.add_parser(run.__name__)
        for name in options:
            kind = float if name in ("limit", "seconds") else str
            sub.add_argument(f"--{name}", required=True, type=kind)
        sub.set_defaults(run=run)
        return sub

    command(ops, "program", "limit", "ops", "details").add_argument("--before", default="")
    command(bits, "program")
    command(pictures, "out")
    command(losses, "log", "details")
    command(join, "out").add_argument("files", nargs="+")
    command(settled, "out", "part", "backend")
    command(result, "out", "part", "status", "seconds", "backend")
    command(summary, "out", "parts", "backend")
    options = parser.parse_args()
    return options.run(options)


if __name__ == "__main__":
    sys.exit(main())
