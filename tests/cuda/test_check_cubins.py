#!/usr/bin/env python3
"""Tests of tools/cubin_counts.py and tests/cuda/check_cubins.py on objects and reports made up here."""

import contextlib
import io
import os
import struct
import sys
import tempfile
import unittest

import check_cubins
import cubin_counts  # check_cubins put tools into the path

NAME = "_ZN6subpix7kernels4cuda12_GLOBAL__N_110add_kernelINS0_4bf16ELi3EEEvPKT_"


def instruction(opcode, width=0):
    """16 bytes: the opcode (9 bits and a form of 3), and the width of an access."""
    return struct.pack("<QQ", 0x0FF0_0000_0000_0000 | opcode, 0x000F_E200_0000_0000 | width << 9)


def elf(sections, machine=190, flags=0x06005A04, abi=8):
    """A 64-bit ELF file of the given (name, bytes)."""
    names, body, headers = b"\0", b"", [struct.pack("<IIQQQQIIQQ", *[0] * 10)]
    for name, data in [*sections, (".shstrtab", None)]:
        at = len(names)
        names += name.encode() + b"\0"
        data = names if data is None else data
        headers.append(struct.pack("<IIQQQQIIQQ", at, 1, 0, 0, 64 + len(body), len(data), 0, 0, 1, 0))
        body += data
    ident = b"\x7fELF\x02\x01\x01\x41" + bytes([abi]) + bytes(7)
    head = ident + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 0, 64 + len(body), flags, 64, 0, 0, 64,
                               len(headers), len(headers) - 1)
    return head + body + b"".join(headers)


def fatbin(entries):
    """A fatbin of (kind, bytes)."""
    body = b"".join(struct.pack("<HHIQ", kind, 0x101, 64, len(data)) + bytes(48) + data for kind, data in entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


TEXT = (instruction(0x981, 6) * 3 + instruction(0x981, 2) + instruction(0x986, 4) + instruction(0x223) +
        instruction(0x423) + instruction(0xDF0) + instruction(0x23C) + instruction(0x83B) + instruction(0xFAE) +
        instruction(0x388, 5) + instruction(0xB1D) + instruction(0x31D) + instruction(0x918) * 4)
COUNTS = {"LDG.128": 3, "LDG.16": 1, "STG.32": 1, "FFMA": 2, "HGMMA": 1, "HMMA": 1, "LDSM": 1, "LDGSTS": 1,
          "STS.64": 1, "BAR": 2}


def host_object(text90=TEXT, text80=TEXT):
    cubin90 = elf([(".text." + NAME, text90), (".nv.info", b"x")])
    cubin80 = elf([(".text." + NAME, text80)], flags=0x500550, abi=7)
    fat = fatbin([(1, b".version 8.0"), (2, cubin80)]) + bytes(8) + fatbin([(2, cubin90)])
    return elf([(".text", b"host code"), (".nv_fatbin", fat)], machine=62)


def report(registers=40, stack=0, spills=0, name=NAME, arch="90a", smem=0):
    shared = f", {smem} bytes smem" if smem else ""
    return (f"ptxas info    : Compiling entry function '{name}' for 'sm_{arch}'\n"
            f"ptxas info    : Function properties for {name}\n"
            f"    {stack} bytes stack frame, {spills} bytes spill stores, {spills} bytes spill loads\n"
            f"ptxas info    : Used {registers} registers, used 1 barriers{shared}, 392 bytes cmem[0]\n")


class Reader(unittest.TestCase):
    def test_instructions_and_widths_are_counted_for_each_architecture(self):
        found = cubin_counts.kernels(host_object(text80=TEXT + instruction(0x983, 4)))
        self.assertEqual(found, {"90": {NAME: COUNTS}, "80": {NAME: {**COUNTS, "LDL": 1}}})

    def test_a_cubin_alone_is_read_too(self):
        self.assertEqual(list(cubin_counts.kernels(elf([(".text.f", TEXT)]))), ["90"])

    def test_an_object_without_kernels_has_none(self):
        self.assertEqual(cubin_counts.kernels(elf([(".text", b"host")], machine=62)), {})

    def test_compressed_cubins_and_other_files_are_refused(self):
        packed = elf([(".nv_fatbin", fatbin([(2, b"\x28\xb5\x2f\xfd compressed")]))], machine=62)
        with self.assertRaisesRegex(cubin_counts.BadObject, "--no-compress"):
            cubin_counts.kernels(packed)
        with self.assertRaisesRegex(cubin_counts.BadObject, "no 64-bit ELF"):
            cubin_counts.kernels(b"#!/bin/sh\necho this is a script\n")

    def test_names_are_short(self):
        self.assertEqual(cubin_counts.readable([NAME])[NAME], "add_kernel<bf16, 3>")
        self.assertEqual(cubin_counts.shorten("void a<(int)3, void (*)(int)>(float (*)(int))"), "a<3, void (*)(int)>")


class Judge(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "add.cu.o")
        self.json = os.path.join(folder.name, "figures.json")

    def kernels(self, text=TEXT, **figures):
        with open(self.path, "wb") as f:
            f.write(host_object(text, text))
        with open(self.path + ".ptxas", "w", encoding="utf-8") as f:
            f.write(report(arch="80") + report(**figures))
        return check_cubins.read_object(self.path)[0]

    def files(self):
        """The committed figures, through the file."""
        objects = {"add.cu": (self.kernels(), self.path, True)}
        result = []
        for get in (lambda k: k.used, lambda k: dict(k.counts)):
            data = {"nvcc": "13.0", "architectures": ["80", "90"], "files": check_cubins.figures(objects, get, True)}
            check_cubins.dump(self.json, data)
            result.append(check_cubins.load(self.json))
            self.assertEqual(result[-1], data)
        return result

    def judge(self, kernels, same=True, **extra):
        budgets, instructions = self.files()
        return check_cubins.judge("add.cu", kernels, {**budgets, **extra}, instructions, same)

    def test_what_was_accepted_passes(self):
        self.assertEqual(self.judge(self.kernels()), [])

    def test_fewer_registers_pass_and_more_do_not(self):
        self.assertEqual(self.judge(self.kernels(registers=39)), [])
        found = self.judge(self.kernels(registers=41))
        self.assertEqual(len(found), 1)
        self.assertIn("add_kernel<bf16, 3> on sm_90: registers 40 became 41", found[0])
        self.assertIn("--accept", found[0])
        self.assertIn("shared 0 became 16", self.judge(self.kernels(smem=16))[0])

    def test_stack_and_spills_fail_under_any_nvcc_and_even_if_accepted(self):
        for figures in ({"stack": 8}, {"spills": 4}):
            for same in (True, False):
                self.assertIn("none are allowed", self.judge(self.kernels(**figures), same)[0])
        allowed = {"add_kernel<bf16, 3>": "an array indexed at run time, in the fallback"}
        self.assertEqual(self.judge(self.kernels(stack=8), stack_allowed=allowed), [])

    def test_local_memory_in_the_instructions_fails(self):
        for opcode in (0x983, 0x387):
            self.assertIn("local memory", self.judge(self.kernels(TEXT + instruction(opcode, 4)), False)[0])

    def test_changed_counts_fail_in_both_directions(self):
        self.assertIn("HMMA 1 became 2", self.judge(self.kernels(TEXT + instruction(0x23C)))[0])
        self.assertIn("BAR 2 became 1", self.judge(self.kernels(TEXT.replace(instruction(0x31D), b"")))[0])

    def test_another_nvcc_is_not_held_to_the_figures(self):
        self.assertEqual(self.judge(self.kernels(TEXT + instruction(0x23C), registers=99), same=False), [])

    def test_new_and_gone_kernels_are_named(self):
        budgets, instructions = self.files()
        kernels = self.kernels()
        kernels["90", "new_kernel"] = kernels.pop(("90", "add_kernel<bf16, 3>"))
        found = check_cubins.judge("add.cu", kernels, budgets, instructions, True)
        self.assertTrue(any("new_kernel on sm_90 has no committed figures" in f for f in found), found)
        self.assertTrue(any("add_kernel<bf16, 3> has committed figures but is gone" in f for f in found), found)

    def test_an_architecture_that_was_not_built_is_not_missed(self):
        kernels = {key: k for key, k in self.kernels().items() if key[0] == "90"}
        self.assertEqual(self.judge(kernels), [])

    def test_figures_are_kept_for_architectures_that_all_kernels_have(self):
        both = self.kernels()
        one = {key: k for key, k in both.items() if key[0] == "90"}
        objects = {"kernels/cuda/a.cu": (one, "", True), "tests/sim/kernels/b.cu": (both, "", False)}
        self.assertEqual(check_cubins.common_architectures(objects), ["90"])
        files = check_cubins.figures(objects, lambda k: k.used, False)
        self.assertEqual(files["tests/sim/kernels/b.cu"]["add_kernel<bf16, 3>"].keys(), {"90"})
        files = check_cubins.figures(objects, lambda k: k.used, True)
        self.assertEqual(files.keys(), {"kernels/cuda/a.cu"})

    def test_overloads_keep_their_own_figures(self):
        other = NAME.replace("PKT_", "Pf")
        with open(self.path, "wb") as f:
            f.write(elf([(".nv_fatbin", fatbin([(2, elf([(".text." + NAME, TEXT), (".text." + other, TEXT)]))]))],
                        machine=62))
        with open(self.path + ".ptxas", "w", encoding="utf-8") as f:
            f.write(report() + report(name=other, registers=50))
        kernels = check_cubins.read_object(self.path)[0]
        self.assertEqual(sorted(k.used["registers"] for k in kernels.values()), [40, 50])

    def test_a_build_without_nvcc_is_refused(self):
        sys.argv = ["check_cubins.py", "--build", os.path.dirname(self.path)]
        with contextlib.redirect_stderr(io.StringIO()) as errors:
            self.assertEqual(check_cubins.main(), 2)
        self.assertIn("not configured with nvcc", errors.getvalue())


class Disassembly(unittest.TestCase):
    def test_cuobjdumps_text_is_counted_the_same_way(self):
        text = """
\tcode for sm_90a
\t\tFunction : f
        /*0000*/                   LDC R1, c[0x0][0x28] ;     /* 0x00000a00ff017b82 */
        /*0010*/              @!P0 LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;  /* 0x0 */
        /*0020*/                   LDG.E.U16 R4, desc[UR4][R2.64] ;  /* 0x0 */
        /*0030*/                   STG.E desc[UR4][R2.64], R4 ;  /* 0x0 */
        /*0040*/              @UP0 HGMMA.64x64x16.F32.BF16 R24, gdesc[UR8] ;  /* 0x0 */
        /*0050*/                   LDS.U8 R4, [R2] ;  /* 0x0 */
"""
        self.assertEqual(check_cubins.disassembled(text),
                         {"90": {"f": {"LDG.128": 1, "LDG.16": 1, "STG.32": 1, "HGMMA": 1, "LDS.8": 1}}})


if __name__ == "__main__":
    unittest.main()
