#!/usr/bin/env python3
"""Whatever a user does wrong, a tool answers with one sentence on stderr and exit code 2.

usage: test_tool_errors.py FOLDER_WITH_PROGRAMS
"""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BIN = ""  # set from the command line

# (program, arguments, words that the sentence must contain); {tmp} is an empty folder.
PROGRAM_CASES = [
    ("kernel_bench", ["--bogus"], ["--bogus"]),
    ("kernel_bench", ["--set", "srgam"], ["'srgam'", "'srgan'"]),
    ("kernel_bench", ["--op", "conv2d_forwrd"], ["'conv2d_forwrd'", "'conv2d_forward'"]),
    ("kernel_bench", ["--layer", "G.block"], ["'G.block'", "'G.blocks'"]),
    ("kernel_bench", ["--backend", "reference", "--op", "add", "--variant", "referense"], ["'referense'", "'reference'"]),
    ("kernel_bench", ["--crop", "40"], ["--crop 40", "32"]),
    ("kernel_bench", ["--problem", "1,8,8,3,4,2,2"], ["r is 2"]),
    ("kernel_bench", ["--problem", "1,8,x"], ["--problem '1,8,x'"]),
    ("kernel_bench", ["--backend", "abacus"], ["abacus", "reference"]),
    ("kernel_bench", ["--resume"], ["--resume", "--json"]),
    ("kernel_bench", ["--backend", "reference", "--plan", "{tmp}/no.json"], ["no.json"]),
    ("kernel_tune", [], ["--out"]),
    ("kernel_tune", ["--backend", "reference", "--set", "edg", "--out", "{tmp}/p.json"], ["'edge'"]),
    ("srgan_upscale", ["--weights", "w", "--plan"], ["--plan"]),
    ("step_bench", ["--bogus"], ["--bogus"]),
    ("step_bench", ["--mode", "gan"], ["--mode", "srresnet"]),
    ("step_bench", ["--batch", "0"], ["--batch"]),
    ("step_bench", ["--steps", "many"], ["--steps"]),
    ("step_bench", ["--backend", "abacus"], ["abacus", "reference"]),
    ("step_bench", ["--crop", "50", "--steps", "1", "--blocks", "1"], ["--crop 50", "multiple"]),
    ("step_bench", ["--vgg", "{tmp}/no.safetensors", "--blocks", "1"], ["no.safetensors"]),
    ("step_bench", ["--blocks", "1", "--channels", "4", "--crop", "16", "--batch", "1", "--steps", "1",
                    "--warmup", "0", "--json", "{tmp}/missing/x.json"], ["missing/x.json"]),
    ("step_bench", ["--step", "srresnt-16"], ["srresnt-16", "'srresnet-16'"]),
    ("step_bench", ["--step", "srresnet-16", "--ceilings", "{tmp}/no.json"], ["--ceilings", "no.json"]),
    ("step_bench", ["--mode", "infer"], ["--width"]),
    ("step_bench", ["--mode", "infer", "--width", "8", "--height", "8", "--precision", "bf16"], ["--precision"]),
    ("step_bench", ["--backend", "reference", "--precision", "tf32"], ["tf32", "reference"]),
    ("step_bench", ["--step", "srgan-vgg54-16", "--vgg-layer", "conv9_9", "--blocks", "1"], ["conv9_9"]),
    ("step_bench", ["--save-start", "/dev/null/x", "--blocks", "1"], ["--save-start"]),
    ("quickstart_report", ["--bogus"], ["--bogus"]),
    ("quickstart_report", ["--run", "{tmp}/none"], ["none/eval/nearest.json"]),
    ("quickstart_report", ["--crop", "-3"], ["--crop"]),
    ("srgan_eval", ["--method", "magic", "--data", "{tmp}"], ["magic"]),
    ("srgan_eval", ["--method", "bicubic"], ["--data"]),
    ("srgan_eval", ["--method", "bicubic", "--data", "{tmp}/none"], ["none"]),
    ("srgan_eval", ["--method", "bicubic", "--data", "{tmp}"], ["{tmp}"]),
    ("srgan_eval", ["--weights", "{tmp}/no.safetensors", "--data", "{tmp}"], ["no.safetensors"]),
    ("srgan_upscale", [], ["--weights"]),
    ("srgan_upscale", ["--weights", "{tmp}/no.safetensors", "{tmp}/a.png", "{tmp}/b.png"], ["{tmp}"]),
    ("srgan_train", [], ["--config"]),
    ("srgan_train", ["--config", "{tmp}/no.json", "--out", "{tmp}/run"], ["no.json"]),
    ("srgan_train", ["--config", ROOT + "/train/configs/srresnet.json", "--set", "data.batsh=4", "--out",
                     "{tmp}/run"], ["data.batsh", "data.batch"]),
    ("srgan_train", ["--config", ROOT + "/train/configs/srresnet.json", "--set", "data.train=none/at/all",
                     "--out", "{tmp}/run"], ["none/at/all"]),
]

SCRIPT_CASES = [
    (["tools/install_deps.sh", "--bogus"], ["--bogus"]),
    (["tools/format.sh", "--bogus"], ["--bogus"]),
    (["tools/quickstart.sh", "--bogus"], ["--bogus"]),
    (["tools/quickstart.sh", "--data"], ["--data"]),
    (["tools/quickstart.sh", "--data", "{tmp}/none"], ["{tmp}/none"]),
    (["tools/quickstart.sh", "--minutes", "soon"], ["--minutes"]),
    (["tests/run.sh", "--bogus"], ["--bogus"]),
    (["tests/run.sh", "--jobs", "none"], ["--jobs"]),
    ([sys.executable, "tools/compare.py", "--build", "{tmp}"], ["step_bench"]),
    ([sys.executable, "tools/compare.py", "--join", "{tmp}/a.json", "{tmp}/b.json"], ["a.json"]),
    ([sys.executable, "tools/bench_report.py", "--results", "{tmp}/none"], ["{tmp}/none"]),
    ([sys.executable, "tools/bench_report.py", "--record", "{tmp}/none.json"], ["none.json"]),
    ([sys.executable, "tools/figures.py", "--build", "{tmp}"], ["step_bench"]),
    ([sys.executable, "tools/figures.py", "--build", "{tmp}", "--accept", "faster"], ["--accept"]),
]


class ToolErrors(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.tmp)

    def expect_sentence(self, command, words):
        command = [part.replace("{tmp}", self.tmp) for part in command]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120,
                              stdin=subprocess.DEVNULL)
        told = done.stderr.strip()
        self.assertEqual(done.returncode, 2, f"{command}: {told}")
        self.assertEqual(len(told.split("\n")), 1, f"{command} says more than one line: {told}")
        name = os.path.basename(command[1] if command[0] == sys.executable else command[0])
        self.assertTrue(told.startswith(name + ": "), told)
        self.assertNotIn("internal error", told)
        for word in words:
            self.assertIn(word.replace("{tmp}", self.tmp), told)

    def test_programs(self):
        for program, arguments, words in PROGRAM_CASES:
            with self.subTest(program=program, arguments=arguments):
                self.expect_sentence([os.path.join(BIN, program)] + arguments, words)

    def test_scripts(self):
        for command, words in SCRIPT_CASES:
            with self.subTest(command=command):
                self.expect_sentence(command, words)

    def test_help_and_version_succeed(self):
        for program in sorted({case[0] for case in PROGRAM_CASES}):
            for option in ("--help", "--version"):
                with self.subTest(program=program, option=option):
                    done = subprocess.run([os.path.join(BIN, program), option], capture_output=True,
                                          text=True, timeout=60)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    self.assertIn(program, done.stdout)
                    self.assertEqual(done.stderr, "")

    def test_a_failing_tool_leaves_nothing_behind(self):
        self.expect_sentence([os.path.join(BIN, "srgan_train"), "--config", "{tmp}/no.json", "--out",
                              "{tmp}/run"], ["no.json"])
        self.assertEqual(os.listdir(self.tmp), [])


if __name__ == "__main__":
    if len(sys.argv) != 2 or not os.path.isdir(sys.argv[1]):
        print("usage: test_tool_errors.py FOLDER_WITH_PROGRAMS", file=sys.stderr)
        sys.exit(2)
    BIN = os.path.abspath(sys.argv[1])
    unittest.main(argv=sys.argv[:1])
