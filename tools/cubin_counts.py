#!/usr/bin/env python3
"""Counts the instructions of GPU kernels in objects that nvcc made: loads and stores by width, tensor-core
and asynchronous instructions, barriers.

    usage: tools/cubin_counts.py [--kernel TEXT] OBJECT...

The host object holds a "fatbin" with one cubin for each architecture, and a cubin is an ELF file with
one section .text.<kernel>. An instruction of sm_70 to sm_90 has 16 bytes; bits 0 to 8 say which it is, bits 9
to 11 the form of its operands, and bits 73 to 75 the width of an access. Counts are of instructions in the text,
not of executions: a loop counts once, unless it was unrolled.

Only the standard library is used; names are made readable by c++filt (binutils) if it is there. Exit code: 0, or
2 if an object cannot be read.
"""

import argparse
import collections
import re
import shutil
import struct
import subprocess
import sys

# Compared with `cuobjdump -sass` on every kernel: tests/cuda/check_cubins.py does so where it is installed.
OPCODES = {
    0x03C: "HMMA", 0x1F0: "HGMMA", 0x03B: "LDSM",
    0x1AE: "LDGSTS", 0x1B4: "UTMALDG", 0x1B5: "UTMASTG", 0x1BA: "UBLKCP",
    0x181: "LDG", 0x186: "STG", 0x184: "LDS", 0x188: "STS", 0x183: "LDL", 0x187: "STL",
    0x189: "SHFL", 0x11D: "BAR", 0x020: "FMUL", 0x021: "FADD", 0x023: "FFMA",
}
WITH_WIDTH = {"LDG", "STG", "LDS", "STS"}
WIDTHS = {0: "8", 1: "8", 2: "16", 3: "16", 4: "32", 5: "64", 6: "128"}
FATBIN_MAGIC = struct.pack("<I", 0xBA55ED50)
FATBIN_ELF = 2  # the kind of an entry; 1 is PTX


class BadObject(Exception):
    """The file is not what nvcc writes."""


def sections(elf):
    """(name, bytes) of each section of a 64-bit ELF file."""
    if elf[:5] != b"\x7fELF\x02":
        raise BadObject("no 64-bit ELF file")
    (offset,) = struct.unpack_from("<Q", elf, 40)
    size, count, names = struct.unpack_from("<HHH", elf, 58)
    headers = [struct.unpack_from("<IIQQQQ", elf, offset + i * size) for i in range(count)]
    table = headers[names][4]
    for name, kind, _, _, start, length in headers:
        end = elf.index(b"\0", table + name)
        yield elf[table + name:end].decode(), b"" if kind == 8 else elf[start:start + length]


def cubins(data):
    """(architecture, cubin) of each cubin in a host object, or of a cubin itself."""
    if len(data) > 20 and struct.unpack_from("<H", data, 18)[0] == 190:  # e_machine: CUDA
        return [(architecture(data), data)]
    found = []
    for name, fatbin in sections(data):
        if name != ".nv_fatbin":
            continue
        at = fatbin.find(FATBIN_MAGIC)
        while at >= 0:
            _, header, length = struct.unpack_from("<HHQ", fatbin, at + 4)
            entry, end = at + header, at + header + length
            while entry < end:
                kind, _, skip, size = struct.unpack_from("<HHIQ", fatbin, entry)
                if kind == FATBIN_ELF:
                    cubin = fatbin[entry + skip:entry + skip + size]
                    if cubin[:4] != b"\x7fELF":
                        raise BadObject("its cubins are compressed: compile with --no-compress")
                    found.append((architecture(cubin), cubin))
                entry += skip + size
            at = fatbin.find(FATBIN_MAGIC, end)
    return found


def architecture(cubin):
    """The number of sm_NN: one byte of e_flags; which one depends on the version of the ABI."""
    (flags,) = struct.unpack_from("<I", cubin, 48)
    return str(flags >> 8 & 0xFF if cubin[8] >= 8 else flags & 0xFF)


def count(text):
    """Instruction name (with the width of an access) -> how often it stands in a kernel's text."""
    counts = collections.Counter()
    for low, high in struct.iter_unpack("<QQ", text):
        name = OPCODES.get(low & 0x1FF)
        if name in WITH_WIDTH:
            name += "." + WIDTHS.get(high >> 9 & 7, "?")
        if name:
            counts[name] += 1
    return counts


def kernels(data):
    """architecture -> mangled name -> counts, for each kernel of an object."""
    found = {}
    for arch, cubin in cubins(data):
        for name, text in sections(cubin):
            if name.startswith(".text."):
                found.setdefault(arch, {})[name[len(".text."):]] = count(text)
    return found


def readable(mangled):
    """mangled name -> short readable one: no arguments, no namespaces of ours."""
    mangled = sorted(set(mangled))
    plain = mangled
    if shutil.which("c++filt") and mangled:
        done = subprocess.run(["c++filt"], input="\n".join(mangled), capture_output=True, text=True, check=True)
        plain = done.stdout.splitlines()
    return {m: shorten(p) for m, p in zip(mangled, plain)}


def shorten(name):
    """void subpix::kernels::cuda::(anonymous namespace)::f<subpix::kernels::bf16>(int) -> f<bf16>"""
    name = name.replace("(anonymous namespace)::", "")
    name = re.sub(r"\b(?:subpix|kernels|cuda|sim|test|gpu)::", "", name)
    name = re.sub(r"\((?:unsigned )?(?:int|long|bool|char|short)\)(?=-?\d)", "", name)  # (int)3
    name = re.sub(r"^(?:void|static) ", "", name)
    depth = 0
    for i, c in enumerate(name):  # cut the arguments, which follow the template's
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0:
            return name[:i].strip()
    return name


def main():
    parser = argparse.ArgumentParser(description="counts the instructions of GPU kernels in nvcc's objects")
    parser.add_argument("--kernel", default="", help="only kernels whose name contains this text")
    parser.add_argument("objects", nargs="+", metavar="OBJECT")
    args = parser.parse_args()
    for path in args.objects:
        try:
            with open(path, "rb") as f:
                found = kernels(f.read())
        except (OSError, BadObject, struct.error, IndexError, ValueError) as e:
            print(f"cubin_counts.py: {path}: {e}", file=sys.stderr)
            return 2
        names = readable(m for group in found.values() for m in group)
        for arch, group in sorted(found.items()):
            print(f"{path}, sm_{arch}:")
            for mangled, counts in sorted(group.items(), key=lambda item: names[item[0]]):
                if args.kernel in names[mangled]:
                    row = "  ".join(f"{k} {n}" for k, n in sorted(counts.items()))
                    print(f"  {names[mangled]}\n      {row}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
