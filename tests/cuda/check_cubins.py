#!/usr/bin/env python3
"""What nvcc made of the kernels, against committed figures: registers and shared memory (budgets.json) and
instruction counts (instructions.json). Needs a build with nvcc, but no GPU.

    usage: tests/cuda/check_cubins.py --build FOLDER [--accept]

Fails on any spill, stack frame or local-memory access; on more registers or static shared memory than committed;
on instruction counts that differ; and on kernels that came or went. --accept writes the figures of this build:
look at the difference before it is committed. Figures belong to the nvcc that they name; with another version, or
for an architecture that they do not list, only spills, stack and local memory are judged. A kernel in
"stack_allowed" of budgets.json (name: reason) may use stack and local memory.

With cuobjdump and nvdisasm at hand (in PATH, in the toolkit, or from PyPI: nvidia-cuda-cuobjdump,
nvidia-cuda-nvdisasm) the counts are also compared with NVIDIA's disassembly. Exit code: 0, 1, or 2 for wrong usage.
"""

import argparse
import collections
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tools"))
import cubin_counts  # noqa: E402

# Folder of sources -> folder of its objects, and whether budgets hold there: the simulator's test kernels are
# here for their instructions, as they contain every primitive.
PLACES = [
    ("kernels/cuda", "kernels/cuda/CMakeFiles/subpix_kernels_cuda.dir", True),
    ("tests/sim/kernels", "tests/sim/CMakeFiles/sim_test_kernels_cuda.dir/kernels", False),
]
WITHOUT_NVCC = {"tests/sim/kernels/bugs.cu"}  # planted defects are for the simulator alone
LOCAL = ("LDL", "STL")
ACCEPT = "if that is meant: tools/figures.py --build FOLDER --accept \"why\", and look at the difference"


class Kernel:
    """What is known of one kernel on one architecture."""

    def __init__(self):
        self.used = None  # {"registers": ..., "shared": ...}; None for functions that are not kernels
        self.stack = 0
        self.spills = 0
        self.counts = collections.Counter()


def parse_report(text):
    """(architecture, mangled name) -> Kernel, from the output of ptxas -v."""
    found = {}
    arch = entry = current = None
    for line in text.splitlines():
        if m := re.search(r"Compiling entry function '(\S+)' for 'sm_(\d+)\w*'", line):
            entry, arch = m.groups()
            current = found.setdefault((arch, entry), Kernel())
        elif m := re.search(r"Function properties for (\S+)", line):
            current = found.setdefault((arch, m[1]), Kernel())
        elif m := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            current.stack = int(m[1])
            current.spills = int(m[2]) + int(m[3])
        elif m := re.search(r"Used (\d+) registers", line):
            shared = re.search(r"(\d+) bytes smem", line)
            found[arch, entry].used = {"registers": int(m[1]), "shared": int(shared[1]) if shared else 0}
    return found


def read_object(path):
    """(architecture, readable name) -> Kernel, and architecture -> mangled name -> counts."""
    with open(path + ".ptxas", encoding="utf-8") as f:
        found = parse_report(f.read())
    with open(path, "rb") as f:
        counts = cubin_counts.kernels(f.read())
    for arch, group in counts.items():
        for mangled, c in group.items():
            found.setdefault((arch, mangled), Kernel()).counts = c
    names = cubin_counts.readable(mangled for _, mangled in found)
    result = {}
    for (arch, mangled), kernel in sorted(found.items()):
        name, n = names[mangled], 1
        while (arch, name) in result:  # overloads differ in their arguments alone
            n += 1
            name = f"{names[mangled]} ({n})"
        result[arch, name] = kernel
    return result, counts


def differences(where, committed, measured, exact):
    """Sentences about the figures that are worse than the committed ones (or, exact, that differ)."""
    found = []
    for key in sorted(set(committed) | set(measured)):
        was, now = committed.get(key, 0), measured.get(key, 0)
        if now > was or (exact and now != was):
            found.append(f"{where}: {key} {was} became {now}; {ACCEPT}")
    return found


def judge(source, kernels, budgets, instructions, same_nvcc):
    """What is wrong with one source's kernels. budgets is None where none are kept."""
    found = []
    allowed = (budgets or {}).get("stack_allowed", {})
    for (arch, name), k in sorted(kernels.items()):
        if name in allowed:
            continue
        where = f"{source}: {name} on sm_{arch}"
        if k.stack or k.spills:
            found.append(f"{where}: {k.stack} bytes of stack, {k.spills} bytes of spills; none are allowed")
        elif any(k.counts[i] for i in LOCAL):
            found.append(f"{where}: reads or writes local memory ({k.counts['LDL']} LDL, {k.counts['STL']} STL)")
    if not same_nvcc:
        return found
    for file, figures, exact in ((budgets, lambda k: k.used, False), (instructions, lambda k: dict(k.counts), True)):
        if file is None:
            continue
        committed = file["files"].get(source, {})
        measured = {key: figures(k) for key, k in kernels.items() if figures(k) is not None}
        for arch, name in sorted(measured):
            if arch not in file["architectures"]:
                continue
            if arch not in committed.get(name, {}):
                found.append(f"{source}: {name} on sm_{arch} has no committed figures; {ACCEPT}")
                continue
            where = f"{source}: {name} on sm_{arch}"
            found += differences(where, committed[name][arch], measured[arch, name], exact)
        built = {arch for arch, _ in measured}
        for name, by_arch in sorted(committed.items()):
            gone = sorted(arch for arch in by_arch if arch in built and (arch, name) not in measured)
            if gone:
                found.append(f"{source}: {name} has committed figures but is gone; {ACCEPT}")
    return list(dict.fromkeys(found))


# The files: one line for each kernel, so that a difference reads as a table.

def load(path):
    empty = {"nvcc": "", "architectures": [], "files": {}}
    if not os.path.exists(path):
        return empty
    with open(path, encoding="utf-8") as f:
        return {**empty, **json.load(f)}


def dump(path, data):
    head = {k: v for k, v in data.items() if k != "files"}
    lines = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in head.items()]
    files = []
    for source, kernels in sorted(data["files"].items()):
        rows = [f"      {json.dumps(name)}: {json.dumps(v, sort_keys=True)}" for name, v in sorted(kernels.items())]
        files.append(f"    {json.dumps(source)}: {{\n" + ",\n".join(rows) + "\n    }")
    lines.append('  "files": {\n' + ",\n".join(files) + "\n  }")
    with open(path, "w", encoding="utf-8") as f:
        f.write("{\n" + ",\n".join(lines) + "\n}\n")


def common_architectures(objects):
    """Those that all kernels were compiled for; the simulator's test kernels may have more."""
    places = {}
    for source, (kernels, _, _) in objects.items():
        places.setdefault(os.path.dirname(source), set()).update(arch for arch, _ in kernels)
    return sorted(set.intersection(*places.values())) if places else []


def figures(objects, get, with_budget):
    """source -> kernel -> architecture -> figures, as the files hold them."""
    kept = common_architectures(objects)
    files = {}
    for source, (kernels, _, budget) in objects.items():
        if with_budget and not budget:
            continue
        for (arch, name), k in kernels.items():
            if get(k) is not None and arch in kept:
                files.setdefault(source, {}).setdefault(name, {})[arch] = get(k)
    return files


# NVIDIA's disassembly as a second opinion.

def disassembler(build):
    """A PATH with cuobjdump and nvdisasm, or None."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    folders += glob.glob(os.path.join(sysconfig.get_paths()["purelib"], "nvidia", "*", "bin"))
    folders.append(os.path.dirname(compiler(build, "CMAKE_CUDA_COMPILER")))
    path = os.pathsep.join(folders)
    return path if all(shutil.which(t, path=path) for t in ("cuobjdump", "nvdisasm")) else None


def disassembled(text):
    """architecture -> mangled name -> counts, from cuobjdump -sass."""
    found, counts, arch = {}, None, None
    known = set(cubin_counts.OPCODES.values())
    for line in text.splitlines():
        if m := re.match(r"\s*code for sm_(\d+)", line):
            arch = m[1]
        elif m := re.match(r"\s*Function : (\S+)", line):
            counts = found.setdefault(arch, {}).setdefault(m[1], collections.Counter())
        elif m := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_]+)(\S*)[^;]*;", line):
            name, rest = m.groups()
            if name in cubin_counts.WITH_WIDTH:
                width = re.search(r"\.[US]?(8|16|64|128)\b", rest)
                name += "." + (width[1] if width else "32")
            if name.split(".")[0] in known:
                counts[name] += 1
    return found


def compare_with_disassembly(build, objects):
    path = disassembler(build)
    if not path:
        print("cuobjdump and nvdisasm are not here: counts not compared with NVIDIA's disassembly")
        return []
    found = []
    for source, (object_path, counts) in objects.items():
        done = subprocess.run([shutil.which("cuobjdump", path=path), "-sass", object_path], capture_output=True,
                              text=True, check=True, env={**os.environ, "PATH": path})
        other = disassembled(done.stdout)
        for arch, group in counts.items():
            for name, c in group.items():
                if c != other.get(arch, {}).get(name):
                    found.append(f"{source}: {name} on sm_{arch}: counted {dict(c)}, but cuobjdump shows "
                                 f"{dict(other.get(arch, {}).get(name, {}))}")
    print(f"NVIDIA's disassembly of {len(objects)} objects compared")
    return found


def compiler(build, variable):
    """A variable of the CUDA compiler that CMake found, or ''."""
    for path in glob.glob(os.path.join(build, "CMakeFiles", "*", "CMakeCUDACompiler.cmake")):
        with open(path, encoding="utf-8") as f:
            if m := re.search(rf'set\({variable} "([^"]*)"\)', f.read()):
                return m[1]
    return ""


def main():
    parser = argparse.ArgumentParser(description="checks registers and instructions of the compiled kernels")
    parser.add_argument("--build", required=True, metavar="FOLDER", help="a build folder configured with nvcc")
    parser.add_argument("--accept", action="store_true", help="write the figures of this build")
    args = parser.parse_args()
    nvcc = compiler(args.build, "CMAKE_CUDA_COMPILER_VERSION")
    if not nvcc:
        print(f"check_cubins.py: {args.build} was not configured with nvcc (SUBPIX_CUDA)", file=sys.stderr)
        return 2

    found, objects, counts = [], {}, {}
    for folder, object_folder, budget in PLACES:
        for source in sorted(glob.glob(os.path.join(ROOT, folder, "*.cu"))):
            source = os.path.relpath(source, ROOT)
            path = os.path.join(args.build, object_folder, os.path.basename(source) + ".o")
            if source in WITHOUT_NVCC:
                continue
            try:
                kernels, by_arch = read_object(path)
            except (OSError, cubin_counts.BadObject) as e:
                found.append(f"{source}: not compiled by nvcc, or unreadable: {e}")
                continue
            objects[source] = kernels, path, budget
            counts[source] = path, by_arch

    paths = [os.path.join(HERE, name) for name in ("budgets.json", "instructions.json")]
    built = common_architectures(objects)
    if args.accept and not found:
        allowed = load(paths[0]).get("stack_allowed", {})
        head = {"nvcc": nvcc, "architectures": built}
        dump(paths[0], {**head, "stack_allowed": allowed, "files": figures(objects, lambda k: k.used, True)})
        dump(paths[1], {**head, "files": figures(objects, lambda k: dict(k.counts), False)})
    found += [f"{path} is missing; {ACCEPT}" for path in paths if not os.path.exists(path)]
    budgets, instructions = map(load, paths)
    same = budgets["nvcc"] == instructions["nvcc"] == nvcc
    if not same:
        print(f"figures of nvcc {budgets['nvcc'] or '(none)'}, this is {nvcc}: only spills, stack and local "
              "memory are judged")
    for source, (kernels, _, budget) in objects.items():
        found += judge(source, kernels, budgets if budget else None, instructions, same)
    if same:
        found += [f"{source}: has committed figures but is gone; {ACCEPT}"
                  for source in sorted(set(budgets["files"]) | set(instructions["files"]))
                  if not os.path.exists(os.path.join(ROOT, source))]
    found += compare_with_disassembly(args.build, counts)
    for line in found:
        print(line)
    number = sum(k.used is not None for kernels, _, _ in objects.values() for k in kernels.values())
    print(f"{number} compiled kernels of {len(objects)} files (figures for sm_{', sm_'.join(built)}): {len(found)} problems")
    return 1 if found or not number else 0


if __name__ == "__main__":
    sys.exit(main())
