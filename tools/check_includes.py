#!/usr/bin/env python3
"""Keeps the layers apart: who may include whom, and where a library may be named.

    train, tools -> models -> engine -> kernels/api        tests -> anything
    kernels/<backend> -> kernels/api and what it is built upon, never engine

Also: nothing strange at the top level, no overlong file, no document that names a missing file.

Only the standard library is used. Exit code: 0 clean, 1 violations (one line each), 2 wrong usage.
"""

import argparse
import os
import re
import subprocess
import sys

TOP_LEVEL = {"CMakeLists.txt", "CMakePresets.json", "README.md", "engine", "kernels", "models",
             "train", "tools", "tests", "docs", ".ci"}
MAX_LINES = 600
CODE = (".h", ".cpp", ".cu", ".cuh")
COUNTED = CODE + (".py", ".sh")

# Folder -> folders whose headers it may include; the longest matching folder counts.
MAY_INCLUDE = {
    "kernels/api": ["kernels/api"],
    "kernels/reference": ["kernels/api", "kernels/reference"],
    "kernels/cpu": ["kernels/api", "kernels/reference", "kernels/cpu"],
    "kernels/cuda": ["kernels/api", "kernels/cuda"],
    "kernels/sim": ["kernels/api", "kernels/cuda", "kernels/sim"],
    "kernels/cudnn": ["kernels/api", "kernels/cuda", "kernels/cudnn"],
    "engine": ["kernels/api", "engine"],
    "engine/nn": ["engine"],
    "models": ["engine", "models"],
    "train": ["kernels/api", "engine", "models", "train"],
    "tools": ["kernels/api", "engine", "models", "train", "tools"],
    "tests": ["kernels", "engine", "models", "train", "tools", "tests"],
}
# Single files that may include more: the one that names the backends' tables, the one include of
# kernel sources, which stands for the toolkit or for the simulator, and the one that asks the simulator
# what it counted.
EXTRA = {
    "engine/core/device.cpp": "kernels",
    "kernels/cuda/gpu/gpu.cuh": "kernels/sim",
    "tools/sim_counts.cpp": "kernels/sim",
}

# Header of a library (pattern) -> what may include it (patterns of paths).
LIBRARIES = [
    (r"stb/.*", [r"train/image\.cpp"]),
    (r"png\.h", [r"train/[a-z_]+\.cpp"]),
    (r"catch2/.*", [r"tests/support/catch\.h"]),
    (r"(oneapi/dnnl/)?dnnl.*", [r"kernels/cpu/.*"]),
    (r"omp\.h", [r"kernels/cpu/.*", r"tests/.*"]),
    (r"cudnn.*|cublas.*", [r"kernels/cudnn/.*"]),
    (r"cuda.*|mma\.h", [r"kernels/(cuda|sim|cudnn)/.*"]),
    (r"nlohmann/json_fwd.hpp", [r"tools/bench/report\.h"]),
    (r"nlohmann/.*", [r"(engine|models|train|tools|tests)/.*\.cpp"]),
    (r"CLI/.*", [r"tools/.*"]),
]
# A path in backquotes in a document: from the root, with an ending, nothing to be filled in.
DOC_PATH = re.compile(r"`((?:engine|kernels|models|train|tools|tests|docs|\.ci)/[\w./-]+\.\w+)`")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def listed_files(root):
    """Paths below root: what git tracks or would track; without git everything but build output."""
    if os.path.exists(os.path.join(root, ".git")):
        done = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard", "-z"],
                              capture_output=True, check=True)
        names = sorted({n for n in done.stdout.decode().split("\0") if n})
        return [n for n in names if os.path.isfile(os.path.join(root, n))]
    found = []
    for folder, folders, names in os.walk(root):
        inside = os.path.relpath(folder, root)
        if inside == ".":
            folders[:] = [f for f in folders if f != "runs" and not f.startswith("build")]
        folders[:] = [f for f in folders if f != "__pycache__"]
        found += [os.path.normpath(os.path.join(inside, n)) for n in names]
    return sorted(found)


def layer_of(path):
    parts = path.split("/")
    for length in range(len(parts) - 1, 0, -1):
        folder = "/".join(parts[:length])
        if folder in MAY_INCLUDE:
            return folder
    return None


def inside(path, folder):
    return path.startswith(folder + "/")


def check_quoted(path, line, target, files):
    """An include in quotes: a file of ours, written from the root, of a layer at or below."""
    where = f"{path}:{line}"
    if target.startswith("."):
        return f'{where}: "{target}" is relative; write the path from the repository root'
    if target not in files:
        return f'{where}: "{target}" is no file of the repository (libraries stand in <>)'
    layer = layer_of(path)
    if layer is None:
        return f"{where}: {path} lies in no known layer; add its folder to MAY_INCLUDE"
    if path in EXTRA and inside(target, EXTRA[path]):
        return None
    if not any(inside(target, allowed) for allowed in MAY_INCLUDE[layer]):
        allowed = ", ".join(MAY_INCLUDE[layer])
        return f'{where}: {layer} must not include "{target}" (it may include: {allowed})'
    return None


def check_library(path, line, target):
    """An include in angle brackets: some libraries belong to one place."""
    for pattern, places in LIBRARIES:
        if re.fullmatch(pattern, target):
            if not any(re.fullmatch(place, path) for place in places):
                return f"{path}:{line}: <{target}> belongs in {' or '.join(places)}"
            return None
    if layer_of(target) is not None:
        return f'{path}:{line}: <{target}> is a file of ours; write it in quotes'
    return None


def check_document(path, text, files):
    """Every file that a document names must exist, or the reader is sent astray."""
    return [f"{path}:{number}: names `{target}`, which does not exist"
            for number, line in enumerate(text, 1) for target in DOC_PATH.findall(line)
            if target not in files]


def find_cycle(graph):
    """A list of files that include each other in a ring, or None."""
    state = {}

    def visit(node, trail):
        state[node] = "open"
        for following in graph.get(node, []):
            if state.get(following) == "open":
                return trail[trail.index(following):] + [following]
            if following not in state:
                ring = visit(following, trail + [following])
                if ring:
                    return ring
        state[node] = "done"
        return None

    for start in sorted(graph):
        if start not in state:
            ring = visit(start, [start])
            if ring:
                return ring
    return None


def check(root):
    listed = listed_files(root)
    files = set(listed)
    problems = []
    for top in sorted({path.split("/")[0] for path in listed}):
        if top not in TOP_LEVEL and not top.startswith("."):
            problems.append(f"{top}: does not belong at the top level ({', '.join(sorted(TOP_LEVEL))})")

    graph = {}
    for path in listed:
        if not path.endswith(COUNTED + (".md",)):
            continue
        with open(os.path.join(root, path), encoding="utf-8") as file:
            lines = file.read().split("\n")
        if lines and lines[-1] == "":
            lines.pop()
        if path.endswith(".md"):
            problems += check_document(path, lines, files)
            continue
        if len(lines) > MAX_LINES:
            problems.append(f"{path}: {len(lines)} lines, more than {MAX_LINES}; split it")
        if not path.endswith(CODE):
            continue
        if path.endswith((".h", ".cuh")) and "#pragma once" not in lines:
            problems.append(f"{path}: has no #pragma once")
        for number, text in enumerate(lines, 1):
            match = INCLUDE.match(text)
            if not match:
                continue
            bracket, target = match.groups()
            if bracket == '"':
                problem = check_quoted(path, number, target, files)
                graph.setdefault(path, []).append(target)
            else:
                problem = check_library(path, number, target)
            if problem:
                problems.append(problem)
    ring = find_cycle(graph)
    if ring:
        problems.append("include cycle: " + " -> ".join(ring))
    return len(listed), problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    parser.add_argument("--root", default=default, help="repository to check")
    root = parser.parse_args().root
    if not os.path.isdir(root):
        print(f"check_includes.py: no folder '{root}'", file=sys.stderr)
        return 2
    count, problems = check(root)
    for problem in problems:
        print(problem)
    print(f"layers: {count} files, {len(problems)} problem{'' if len(problems) == 1 else 's'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
