#!/usr/bin/env python3
"""What step_bench writes: times and phases, counts, floors, and starting weights that VGG19's missing layers join.

usage: test_step_bench.py FOLDER_WITH_PROGRAMS
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

BIN = ""  # set from the command line
TINY = ["--blocks", "1", "--channels", "8", "--crop", "16", "--batch", "2"]
ONCE = ["--steps", "2", "--warmup", "1", "--threads", "1"]


class StepBench(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.tmp)

    def bench(self, *options):
        path = os.path.join(self.tmp, "step.json")
        done = subprocess.run([os.path.join(BIN, "step_bench"), *options, "--json", path], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(path, encoding="utf-8") as file:
            return json.load(file)

    def has(self, backend):
        done = subprocess.run([os.path.join(BIN, "step_bench"), "--backend", "none"], capture_output=True, text=True)
        return backend in done.stderr

    def test_a_step_of_one_s_own(self):
        r = self.bench("--backend", "reference", *TINY, *ONCE)
        self.assertEqual((r["step"], r["altered"], r["graph"], r["precision"]), (None, [], False, "fp32"))
        self.assertEqual(len(r["step_ms"]), 2)
        self.assertRegex(r["date"], r"^\d{4}-\d\d-\d\d \d\d:\d\d UTC$")
        self.assertRegex(r["commit"], r"^([0-9a-f]{40}(-dirty)?|unknown)$")
        self.assertTrue(r["command"].startswith("step_bench --backend reference --blocks 1"))
        self.assertEqual(list(r["phases"]), ["generator_forward", "pixel_loss", "generator_backward",
                                             "generator_optimiser"])
        self.assertIsNone(r["counts"]["launches"])
        self.assertEqual(r["counts"]["op_calls"], sum(op["calls"] for op in r["counts"]["ops"].values()))
        self.assertEqual(r["counts"]["ops"]["adam"]["calls"], 1)
        self.assertGreater(r["counts"]["least_bytes"], r["floor"]["least_bytes"] / 2)
        self.assertIsNone(r["floor"]["layered_ms"])

    def test_a_reference_step_that_is_changed_says_so(self):
        ceilings = os.path.join(self.tmp, "ceilings.json")
        with open(ceilings, "w", encoding="utf-8") as file:  # made up
            json.dump({"ceilings": {"fp32_tflops": {"value": 1.0, "status": "measured"},
                                    "copy_gbps": {"value": 10.0, "status": "measured"},
                                    "grid_barrier_us": {"value": None, "status": "not measured"}}}, file)
        start = os.path.join(self.tmp, "start")
        r = self.bench("--precision", "fp32", "--step", "srgan-vgg54-16", "--vgg-layer", "conv2_1", *TINY, *ONCE, "--losses",
                       "2", "--save-start", start, "--ceilings", ceilings)
        self.assertEqual(r["step"], "srgan-vgg54-16")
        self.assertEqual(r["altered"], ["batch", "blocks", "channels", "crop", "vgg-layer"])
        self.assertEqual(r["vgg"]["drawn"], ["conv1_1", "conv1_2", "conv2_1"])
        self.assertEqual([sorted(step) for step in r["loss_series"]], [["adversarial", "discriminator", "vgg"]] * 2)
        self.assertEqual(sorted(os.listdir(start)), ["data.safetensors", "discriminator.safetensors",
                                                     "generator.safetensors", "vgg.safetensors"])
        floor = r["floor"]
        self.assertGreaterEqual(floor["layered_ms"], floor["overlapped_ms"])
        self.assertAlmostEqual(floor["overlapped_ms"], max(floor["flops"] / 1e12, floor["least_bytes"] / 1e10) * 1e3,
                               places=3)
        self.assertIsNone(floor["waiting_ms"])

    def test_upscaling(self):
        r = self.bench("--backend", "reference", "--mode", "infer", "--width", "12", "--height", "10", "--blocks", "1",
                       "--channels", "8", *ONCE)
        self.assertEqual(list(r["phases"]), ["network"])
        self.assertNotIn("losses", r)

    def test_counting_under_the_simulator(self):
        if not self.has("sim"):
            self.skipTest("needs the simulator")
        # Executed or not, a step is made of the same launches.
        sizes = ["--backend", "sim", "--blocks", "1", "--channels", "32", "--crop", "16", "--batch", "2"]
        counted, run = self.bench(*sizes, "--count"), self.bench(*sizes, "--steps", "1", "--warmup", "0")
        self.assertFalse(counted["counts"]["executed"])
        self.assertNotIn("median_ms", counted)
        self.assertTrue(run["graph"])
        for key in ("launches", "op_calls", "least_bytes", "ops"):
            self.assertEqual(counted["counts"][key], run["counts"][key])
        self.assertEqual(counted["memory"]["tensor_peak_bytes"], run["memory"]["tensor_peak_bytes"])
        self.assertEqual(counted["counts"]["simulator"]["mma"], 0)
        self.assertGreater(run["counts"]["simulator"]["mma"], 0)

    def test_the_list_names_what_step_takes(self):
        done = subprocess.run([os.path.join(BIN, "step_bench"), "--list"], capture_output=True, text=True, check=True)
        names = [line.split()[0] for line in done.stdout.splitlines()]
        self.assertEqual(len(names), 6)
        self.assertIn("srgan-vgg54-64", names)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not os.path.isdir(sys.argv[1]):
        print("usage: test_step_bench.py FOLDER_WITH_PROGRAMS", file=sys.stderr)
        sys.exit(2)
    BIN = os.path.abspath(sys.argv[1])
    unittest.main(argv=sys.argv[:1])
