#!/usr/bin/env python3
"""tools/gpu_check.sh on the simulator in short, and with stand-ins for what needs a GPU.

usage: test_gpu_check.py FOLDER_WITH_PROGRAMS
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
SCRIPT = os.path.join(ROOT, "tools", "gpu_check.sh")
BIN = None  # from the command line


class GpuCheck(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.tmp)
        self.out = os.path.join(self.tmp, "out")
        self.bin = os.path.join(self.tmp, "bin")
        os.makedirs(self.bin)

    def check(self, *options):
        return subprocess.run([SCRIPT, *options], capture_output=True, text=True, cwd=self.tmp, timeout=1400,
                              env={**os.environ, "PATH": self.bin + os.pathsep + os.environ["PATH"]}, check=False)

    def stand_in(self, name, text):
        path = os.path.join(self.bin, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\n" + text)
        os.chmod(path, 0o755)

    def result(self, part):
        with open(os.path.join(self.out, part + ".json"), encoding="utf-8") as file:
            return json.load(file)

    def test_wrong_usage_is_one_sentence_and_two(self):
        for options, word in (([], "--help"), (["a", "b"], "'b'"), (["--bogus"], "--bogus"),
                              (["a", "--backend", "cpu"], "'cpu'"), (["a", "--parts", "kernels,magic"], "'magic'"),
                              (["a", "--parts", "build,,step"], "no part ''"), (["a", "--limit", "soon"], "'soon'"),
                              (["a", "--limit"], "--limit needs a value"), (["a", "--data", "/no/such"], "/no/such"),
                              (["a", "--programs", "/no/such"], "/no/such"), (["/proc/no"], "/proc/no")):
            with self.subTest(options=options):
                done = self.check(*options)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                self.assertIn(word, done.stderr)

    def test_simulator_in_short(self):
        parts = "build,device,kernels,bitwise,bench,step,train"
        done = self.check(self.out, "--backend", "sim", "--programs", BIN, "--parts", parts)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        summary = self.result("gpu_check")
        self.assertEqual({name: part["status"] for name, part in summary["parts"].items()},
                         {"build": "ok", "device": "ok", "kernels": "ok", "bitwise": "skipped", "bench": "skipped", "step": "skipped",
                          "train": "ok"})
        self.assertEqual([op["status"] for op in self.result("kernels")["details"]["ops"]], ["ok"] * 2)
        self.assertGreater(self.result("train")["details"]["lines"], 0)
        with open(os.path.join(self.out, "gpu_check.md"), encoding="utf-8") as file:
            self.assertIn("| train | ok |", file.read())
        # What was ok is not run again.
        date = self.result("train")["date"]
        again = self.check(self.out, "--backend", "sim", "--programs", BIN, "--parts", parts)
        self.assertEqual(again.returncode, 0, again.stdout + again.stderr)
        self.assertIn("train      ok before", again.stdout)
        self.assertEqual(self.result("train")["date"], date)

    def test_a_failure_stops_nothing(self):
        # Says yes to all ops but two: one is wrong, and one runs into the limit.
        self.stand_in("test_kernels_cuda",
                      'case "$3" in add/f32) echo "cuda add/f32: wrong"; exit 1;; fill/f32) exec sleep 60;; esac\n')
        self.stand_in("test_sim_against_cuda", "echo 'no CUDA device: none'\nexit 77\n")
        self.stand_in("step_bench", 'while [ "$1" != --json ]; do shift; done\n'
                                    'echo \'{"median_ms": 12.5}\' > "$2"\n')
        self.stand_in("kernel_bench", 'while [ "$1" != --json ]; do shift; done\n'
                                      'echo \'{"results": [{"op": "add", "problem": "count3", "status": "wrong"}]}\' > "$2"\n'
                                      'exit 1\n')
        parts = "kernels,bitwise,bench,step,train"
        done = self.check(self.out, "--programs", self.bin, "--parts", parts, "--limit", "20")
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertEqual({part: self.result(part)["status"] for part in parts.split(",")},
                         {"kernels": "failed", "bitwise": "unavailable", "bench": "failed", "step": "ok",
                          "train": "unavailable"})
        ops = {op["op"]: op for op in self.result("kernels")["details"]["ops"]}
        self.assertEqual(ops["add/f32"]["status"], "failed")
        self.assertIn("cuda add/f32: wrong", ops["add/f32"]["log"])
        self.assertEqual(ops["fill/f32"]["status"], "timeout")
        self.assertEqual(ops["conv2d_forward/bf16"]["status"], "ok")
        self.assertEqual(self.result("step")["details"]["step_srgan-vgg54-16"]["median_ms"], 12.5)
        with open(os.path.join(self.out, "gpu_check.md"), encoding="utf-8") as file:
            text = file.read()
        self.assertIn("2 not ok", text)
        self.assertIn("1 calls, 1 wrong: add count3", text)
        self.assertIn("srresnet-16 12.50 ms a step", text)

    def test_cudnn_leaves_the_properties_of_the_device(self):
        self.stand_in("cudnn_device", 'echo "{}" > "$1"\n')
        self.stand_in("test_kernels_cudnn", 'case "$3" in conv2d_forward/bf16) echo "cudnn: wrong"; exit 1;; esac\n')
        done = self.check(self.out, "--programs", self.bin, "--parts", "cudnn")
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        ops = {op["op"]: op["status"] for op in self.result("cudnn")["details"]["ops"]}
        self.assertEqual([op for op, status in ops.items() if status != "ok"], ["conv2d_forward/bf16"])
        self.assertIn("conv2d_wide_forward", ops)
        with open(os.path.join(self.out, "cudnn-device.json"), encoding="utf-8") as file:
            self.assertEqual(file.read(), "{}\n")

    def test_without_cudnn_nothing_fails(self):
        done = self.check(self.out, "--programs", self.bin, "--parts", "cudnn")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(self.result("cudnn")["status"], "unavailable")

    def test_a_part_out_of_time(self):
        self.stand_in("test_sim_against_cuda", "echo begun\nexec sleep 60\n")
        done = self.check(self.out, "--programs", self.bin, "--parts", "bitwise", "--limit", "1")
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertEqual(self.result("bitwise")["status"], "timeout")

    def test_without_a_driver(self):
        if shutil.which("nvidia-smi"):
            self.skipTest("this machine has a driver")
        done = self.check(self.out, "--parts", "device,build", "--build", os.path.join(self.tmp, "build"))
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        for part in ("device", "build"):
            self.assertEqual(self.result(part)["status"], "unavailable")
            self.assertIn("nvidia-smi", self.result(part)["log"][0])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: test_gpu_check.py FOLDER_WITH_PROGRAMS")
    BIN = os.path.abspath(sys.argv.pop(1))
    unittest.main()
