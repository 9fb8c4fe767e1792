#!/usr/bin/env python3
"""Plants one fault at a time in a kernel and demands that the table tests notice it.

A mutant lives in a private copy of kernels/cuda. Only the sources that see the mutated file are
compiled again, with the commands of an existing Ninja build, and linked before the library, so that
the build itself stays as it is. A mutant is caught when its program fails, does not compile, or
takes longer than the limit.

Exit code: 0 all caught (with --all: the run is complete), 1 survivors, 2 wrong usage.
"""

import argparse
import difflib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, "..", ".."))
KERNELS = os.path.join("kernels", "cuda")
TEST = "every variant of every op matches the double reference"
sys.path.insert(0, os.path.join(ROOT, "tools"))

import machine  # noqa: E402  (from tools)

# File -> ops whose cases run its kernels, the quickest first.
OPS = {
    "activation.cu": ["leaky_relu_forward/f32", "leaky_relu_backward/bf16", "prelu_forward/f32", "prelu_backward/f32"],
    "adam.cu": ["adam"],
    "batchnorm.cu": ["batchnorm_inference/f32", "batchnorm_forward/f32", "batchnorm_backward/f32"],
    "batchnorm_resident.cu": ["batchnorm_forward/f32", "batchnorm_backward/f32"],
    "block_reduce.cuh": ["reduce/f32", "mse_loss/f32"],
    "channel_map.cuh": ["prelu_forward/f32", "channel_affine/f32"],
    "channel_sums.cuh": ["prelu_backward/f32"],
    "convert.cu": ["cast_to_bf16", "cast_to_float"],
    "conv2d_direct.cu": ["conv2d_forward/f32", "conv2d_backward_data/f32", "conv2d_backward_filter/f32"],
    "dense.cu": ["dense_forward/f32", "dense_backward_data/f32", "dense_backward_filter/f32"],
    "dense_mma.cu": ["dense_forward/bf16", "dense_backward_data/bf16", "dense_backward_filter/bf16"],
    "elementwise.cu": ["add/f32", "axpby/f32", "scale/f32", "fill/f32"],
    "elementwise.cuh": ["add/f32", "axpby/f32"],
    "loss.cu": ["mse_loss/f32", "l1_loss/f32", "bce_with_logits/f32"],
    "map.cu": ["add/f32", "axpby/f32", "scale/f32", "fill/f32", "channel_affine/f32", "from_bytes/f32", "to_bytes/f32"],
    "pixel_shuffle.cu": ["pixel_shuffle_forward/f32", "pixel_shuffle_backward/bf16"],
    "pool.cu": ["max_pool_forward/f32", "max_pool_backward/bf16", "max_pool_backward/f32"],
    "random.cu": ["philox_uniform", "philox_normal"],
    "reduce.cu": ["reduce/f32", "reduce/bf16"],
    "total_variation.cu": ["total_variation/f32"],
}

# (what, pattern, replacement) for --all; each match on a line of code is one mutant.
RULES = [
    ("barrier or wait removed", r"^\s*(?:__syncthreads|gpu::cp_async_wait\w*(?:<[^>]*>)?|gpu::fence_proxy_async)\([^;]*\);", ""),
    ("bound weakened", r"(?<=\w) < (?=\w)", " <= "),
    ("early return weakened", r"(?<=\w) >= (?=\w)", " > "),
    ("lower bound dropped", r" && \w+ >= 0", ""),
    ("index shifted", r"\[(\w+)\]", r"[\1 + 1]"),
    ("sizes swapped", r"\bq\b", "p"),
    ("sizes swapped", r"\bh\b(?= \*| \+|\))", "w"),
    ("last partial tile dropped", r"gpu::cdiv\(([^,()]+), ([^()]+(?:\{[^}]*\})?)\)", r"((\1) / (\2))"),
    ("tail of the reduction skipped", r"\+= 32\b", "+= 64"),
    ("sign in an address", r"(?<=\w) \+ (?=\w+[\])])", " - "),
    ("rest branch removed", r"rest < count", "false"),
]


def fail(message):
    print(f"mutate.py: {message}", file=sys.stderr)
    sys.exit(2)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def source(name):
    return os.path.join(ROOT, KERNELS, name)


class Mutant:
    def __init__(self, name, line, what, text, ops):
        self.name, self.line, self.what, self.text, self.ops = name, line, what, text, ops

    def diff(self):
        return "".join(difflib.unified_diff(read(source(self.name)).splitlines(True), self.text.splitlines(True),
                                            self.name, self.name, n=0)).splitlines()[2:]


def fixed():
    """fixed.txt: FILE ~> OLD ~> NEW ~> OPS, OLD once in the file."""
    mutants = []
    path = os.path.join(HERE, "fixed.txt")
    for number, line in enumerate(read(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split(" ~> ")
        if len(fields) != 4:
            fail(f"{path}:{number}: four fields between ' ~> ' are needed, there are {len(fields)}")
        name, old, new, ops = (field.strip() for field in fields)
        text = read(source(name))
        if text.count(old) != 1:
            fail(f"{path}:{number}: '{old}' stands {text.count(old)} times in {name}, it must stand once")
        at = text[:text.index(old)].count("\n") + 1
        mutants.append(Mutant(name, at, "fixed", text.replace(old, new), ops.split(",")))
    return mutants


def equivalent():
    """equivalent.txt: FILE ~> the changed line as it then reads ~> why nothing can notice it."""
    known = set()
    for line in read(os.path.join(HERE, "equivalent.txt")).splitlines():
        if line.strip() and not line.startswith("#"):
            name, changed, _ = line.split(" ~> ")
            known.add((name.strip(), changed.strip()))
    return known


def generated(names):
    mutants, known = [], equivalent()
    for name in names:
        lines = read(source(name)).splitlines(True)
        for number, line in enumerate(lines):
            code = line.split("//")[0]
            if code.lstrip().startswith("#") or "static_assert" in code or "template <" in code:
                continue
            for what, pattern, replacement in RULES:
                for match in re.finditer(pattern, code):
                    changed = code[:match.start()] + match.expand(replacement) + code[match.end():]
                    if (name, changed.strip()) in known:
                        continue
                    text = "".join(lines[:number] + [changed.rstrip("\n") + "\n"] + lines[number + 1:])
                    mutants.append(Mutant(name, number + 1, what, text, OPS[name]))
    return mutants


class Builder:
    """Compiles and links a mutant as the build folder does."""

    def __init__(self, build, flavour, folder):
        self.build, self.folder = build, folder
        self.program = f"test_kernels_sim_{flavour}"
        if not os.path.exists(os.path.join(build, "build.ninja")):
            fail(f"'{build}' is no Ninja build; configure one with cmake -G Ninja")
        self.run(["ninja", "-C", build, self.program], 1800)
        commands = subprocess.run(["ninja", "-C", build, "-t", "commands", f"bin/{self.program}"], text=True,
                                  capture_output=True, check=True).stdout.splitlines()
        self.library = f"kernels/cuda/libsubpix_kernels_{flavour}.a"
        self.link = [line for line in commands if f"-o bin/{self.program} " in line][-1]
        self.compile = {}
        for line in commands:
            found = re.search(rf"-o (kernels/cuda/CMakeFiles/subpix_kernels_{flavour}\.dir/\S*?/(\w+)\.cpp\.o) ", line)
            if found:
                self.compile[found.group(2) + ".cu"] = (line, found.group(1))

    @staticmethod
    def run(command, limit):
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                              timeout=limit)
        if done.returncode:
            fail(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}")

    def users(self, name):
        """The sources that see a file: itself, or whoever includes the header, however far away."""
        if name.endswith(".cu"):
            return [name]
        seen, wave = set(), {name}
        while wave:
            seen |= wave
            files = [f for f in os.listdir(os.path.join(ROOT, KERNELS)) if f.endswith((".cu", ".cuh"))]
            wave = {f for f in files if any(f'"kernels/cuda/{s}"' in read(source(f)) for s in seen)} - seen
        return sorted(f for f in seen if f.endswith(".cu"))

    def make(self, mutant):
        """The program with the mutant, or None if it does not compile."""
        copy = os.path.join(self.folder, KERNELS)
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(os.path.join(ROOT, KERNELS), copy)
        with open(os.path.join(copy, mutant.name), "w", encoding="utf-8") as file:
            file.write(mutant.text)
        objects = []
        for user in self.users(mutant.name):
            line, output = self.compile[user]
            made = os.path.join(self.folder, user + ".o")
            # The copy is found before the sources.
            line = line.replace(output, made).replace(" -c ", " -w -c ", 1)
            line = re.sub(r" -I", f" -I{self.folder} -I", line, count=1)
            if subprocess.run(line, shell=True, cwd=self.build, capture_output=True, check=False).returncode:
                return None
            objects.append(made)
        program = os.path.join(self.folder, self.program)
        line = self.link.replace(f"-o bin/{self.program} ", f"-o {program} ")
        line = line.replace(self.library, " ".join(objects) + " " + self.library, 1)
        done = subprocess.run(line, shell=True, cwd=self.build, text=True, capture_output=True, check=False)
        if done.returncode:
            fail(f"linking failed:\n{done.stderr[-2000:]}")
        return program


def verdict(builder, mutant, limit):
    program = builder.make(mutant)
    if program is None:
        return "does not compile"
    for op in mutant.ops:
        try:
            done = subprocess.run([program, TEST, "-c", op, "-a"], capture_output=True, text=True, errors="replace",
                                  timeout=limit, check=False)
        except subprocess.TimeoutExpired:
            return f"out of time in {op}"
        if done.returncode:
            return f"caught by {op}"
        if "No tests ran" in done.stdout:
            fail(f"there is no op '{op}'")
    return "survived"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=os.path.join(ROOT, "build"), help="Ninja build folder (default build)")
    parser.add_argument("--flavour", default="sim", choices=("sim", "check", "asan"))
    parser.add_argument("--all", action="store_true", help="generated mutants instead of fixed.txt")
    parser.add_argument("--file", help="with --all: one file of kernels/cuda")
    parser.add_argument("--limit", type=int, help="with --all: this many, chosen by the seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60, help="limit of one op's test")
    parser.add_argument("--json", help="file to write")
    options = parser.parse_args()
    if options.file and options.file not in OPS:
        fail(f"--file: no ops are known for '{options.file}'; known: {', '.join(sorted(OPS))}")
    if options.all:
        mutants = generated([options.file] if options.file else sorted(OPS))
        random.Random(options.seed).shuffle(mutants)
        mutants = mutants[:options.limit]
    else:
        mutants = fixed()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        builder = Builder(os.path.abspath(options.build), options.flavour, folder)
        for mutant in mutants:
            begin = time.monotonic()
            told = verdict(builder, mutant, options.seconds)
            seconds = time.monotonic() - begin
            results.append({"file": mutant.name, "line": mutant.line, "what": mutant.what, "verdict": told,
                            "diff": mutant.diff(), "seconds": round(seconds, 1)})
            print(f"{mutant.name}:{mutant.line}: {mutant.what}: {told} ({seconds:.0f} s)", flush=True)
    survivors = [r for r in results if r["verdict"] == "survived"]
    for survivor in survivors:
        print(f"\nsurvived: {survivor['file']}:{survivor['line']}: {survivor['what']}")
        print("\n".join(survivor["diff"]))
    print(f"{len(results) - len(survivors)} of {len(results)} caught")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"date": machine.now(), "commit": machine.commit(),
                       "command": " ".join(["tests/mutation/run.sh", *sys.argv[1:]]), "caught": len(results) - len(survivors),
                       "of": len(results), "mutants": results}, file, indent=1)
            file.write("\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
