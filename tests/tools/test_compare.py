#!/usr/bin/env python3
"""tools/compare.py: with stand-ins for both sides, what it measures in which order and what it makes of it; with the
real ones on tiny networks, that both sides train alike.

usage: test_compare.py FOLDER_WITH_PROGRAMS
"""

import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "tools"))
import compare  # noqa: E402

BIN = ""  # set from the command line
TORCH = "/usr/bin/python3"
EAGER = "eager-contiguous,eager-channels_last"

# Stands for step_bench and for Python with pytorch_baseline.py: takes the next of the times listed for its side in
# $TIMES. A time may be a text: the reason of a form that cannot run.
STAND_IN = '''#!{python}
import json, os, sys
arguments = sys.argv[1:]
def option(name, otherwise=None):
    return arguments[arguments.index(name) + 1] if name in arguments else otherwise
side = option("--forms", "subpix")
sizes = {{"mode": "srresnet", "batch": 4, "blocks": 16, "channels": 64, "crop": 96, "scale": 4, "vgg_layer": None,
          "generator_parameters": 1 + (side == "eager-contiguous" and "UNEQUAL" in os.environ)}}
first = "--losses" in arguments
series = [{{"pixel": 1.0}}, {{"pixel": 0.5}}]
ms = 1.0
if not first:
    with open(os.environ["CALLS"], "a") as file:
        file.write(side + "\\n")
    with open(os.environ["CALLS"]) as file:
        number = file.read().split().count(side) - 1
    ms = json.loads(os.environ["TIMES"])[side][number]
if ms is None:
    sys.exit("stand-in: no more memory")
timed = {{"median_ms": ms, "phases": {{"generator_forward": {{"median_ms": ms / 4 if side != "compile" else 1}}}},
          "memory": {{"process_peak_bytes": 2 ** 30}}}} if not isinstance(ms, str) else {{}}
if side == "subpix":
    result = {{"tool": "step_bench", "device": "stand-in", "precision": "fp32", "backend": "cpu", "threads": 1,
              "steps": 1, "warmup": 0, **sizes, **timed}}
    result["phases"]["pixel_loss"] = {{"median_ms": 1.0}}
    if first:
        result["loss_series"] = series
else:
    form = ({{"form": side, "status": "unavailable", "reason": ms}} if isinstance(ms, str)
            else {{"form": side, "status": "measured", **timed, "generator_parameters": sizes["generator_parameters"]}})
    result = {{"tool": "pytorch_baseline", "torch": "0", "precision": "fp32", **sizes, "forms": [form]}}
    if first:
        result.update(loss_series=series, disturbed_series=[series, series], disturbance=1e-6)
with open(option("--json"), "w") as file:
    json.dump(result, file)
'''


class Compare(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.tmp)
        self.bench = os.path.join(self.tmp, "bin", "step_bench")
        os.makedirs(os.path.dirname(self.bench))
        with open(self.bench, "w", encoding="utf-8") as file:
            file.write(STAND_IN.format(python=sys.executable))
        os.chmod(self.bench, 0o755)
        self.calls = os.path.join(self.tmp, "calls")

    def compare(self, times, *options, forms=EAGER, **extra):
        environment = {**os.environ, "CALLS": self.calls, "TIMES": json.dumps(times), **extra}
        done = subprocess.run(
            [sys.executable, os.path.join(ROOT, "tools", "compare.py"), "--build", self.tmp, "--python",
             self.bench, "--results", self.tmp, "--name", "out", "--forms", forms, *options],
            capture_output=True, text=True, env=environment)
        if done.returncode:
            return done, None
        with open(os.path.join(self.tmp, "out.json"), encoding="utf-8") as file:
            return done, json.load(file)

    def page(self):
        with open(os.path.join(self.tmp, "out.md"), encoding="utf-8") as file:
            return file.read()

    def test_rounds_are_abba_and_the_quickest_form_is_the_rival(self):
        # Two rounds; the machine drifts within each, which the mirrored order takes out of the ratio.
        done, result = self.compare({"subpix": [80, 120, 100, 100], "eager-contiguous": [150, 150, 90, 110],
                                     "eager-channels_last": [110, 90, 125, 125]}, "--rounds", "2")
        self.assertEqual(done.returncode, 0, done.stderr)
        one_round = ["subpix", "eager-contiguous", "eager-channels_last"]
        with open(self.calls, encoding="utf-8") as file:
            self.assertEqual(file.read().split(), (one_round + one_round[::-1]) * 2)
        rounds = result["summary"]["rounds"]
        self.assertEqual([r["rival"] for r in rounds], ["eager-channels_last", "eager-contiguous"])
        self.assertEqual([r["ratio"] for r in rounds], [1.0, 1.0])
        self.assertEqual(result["summary"]["ratio"], 1.0)
        self.assertTrue(result["losses"]["agree"])

    def test_median_and_spread_of_the_ratio(self):
        _, result = self.compare({"subpix": [80, 80, 90, 90, 130, 130], "eager-contiguous": [100] * 6,
                                  "eager-channels_last": [200] * 6}, "--rounds", "3")
        summary = result["summary"]
        self.assertAlmostEqual(summary["ratio"], 0.9)
        self.assertAlmostEqual(summary["ratio_min"], 0.8)
        self.assertAlmostEqual(summary["ratio_max"], 1.3)

    def test_page_names_what_a_claim_of_speed_needs(self):
        self.compare({"subpix": [80, 80], "eager-contiguous": [100, 100], "eager-channels_last": [200, 200]}, "--rounds",
                     "1")
        page = self.page()
        for words in ("date: ", "commit: ", "machine: ", "command: ", "**Ratio 0.800**", "![times](out.svg)",
                      "| generator_forward | 20.00 | 25.00 | 0.80 |", "| pixel_loss | 1.00 | part of another | - |",
                      "Losses of the first 2 steps agree"):
            self.assertIn(words, page)
        xml.dom.minidom.parse(os.path.join(self.tmp, "out.svg"))

    def test_a_form_that_cannot_run_is_a_line_and_the_others_go_on(self):
        done, result = self.compare({"subpix": [80] * 4, "eager-contiguous": [100] * 4, "compile": ["came with 2.0"],
                                     "eager-channels_last": [200, None]},
                                    "--rounds", "2", forms=EAGER + ",compile")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(result["without"]["compile"], {"status": "unavailable", "reason": "came with 2.0"})
        self.assertIn("no more memory", result["without"]["eager-channels_last"]["reason"])
        self.assertEqual(set(result["runs"][0]), {"subpix", "eager-contiguous"})
        self.assertIn("| PyTorch compile | unavailable: came with 2.0 |", self.page())

    def test_without_any_form_there_is_no_result(self):
        done, _ = self.compare({"subpix": [80] * 2, "eager-contiguous": [None], "eager-channels_last": [None]},
                               "--losses", "0")
        self.assertEqual(done.returncode, 2)
        self.assertIn("no form of PyTorch could run", done.stderr)
        self.assertEqual(len(done.stderr.strip().split("\n")), 1)

    def test_a_failing_step_bench_is_reported(self):
        done, _ = self.compare({"subpix": [None], "eager-contiguous": [1], "eager-channels_last": [1]})
        self.assertEqual(done.returncode, 2)
        self.assertIn("stand-in: no more memory", done.stderr)

    def test_unequal_networks_are_not_compared(self):
        done, _ = self.compare({"subpix": [80, 80], "eager-contiguous": [100, 100], "eager-channels_last": [200, 200]},
                               "--rounds", "1", UNEQUAL="1")
        self.assertEqual(done.returncode, 2)
        self.assertIn("generator_parameters is 1 in Subpix and 2 in PyTorch", done.stderr)

    def test_join(self):
        environment = {**os.environ, "CALLS": self.calls, "TIMES": json.dumps({"subpix": [80], EAGER[:16]: [100]})}
        paths = [os.path.join(self.tmp, name) for name in ("ours.json", "theirs.json")]
        for path, extra in zip(paths, ([], ["--forms", "eager-contiguous"])):
            subprocess.run([self.bench, *extra, "--json", path], check=True, env=environment)
        command = [sys.executable, os.path.join(ROOT, "tools", "compare.py"), "--results", self.tmp, "--name", "out"]
        done = subprocess.run(command + ["--join", *paths[::-1]], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("**Ratio 0.800**", self.page())
        self.assertIn("Losses of the first steps: not measured yet.", self.page())
        done = subprocess.run(command + ["--join", paths[0], paths[0]], capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)


class Losses(unittest.TestCase):
    plain = [{"pixel": 1.0 / (1 + step)} for step in range(10)]

    def theirs(self, relative):
        moved = [[{"pixel": v["pixel"] * (1 + relative * step)} for step, v in enumerate(self.plain)]]
        return {"loss_series": self.plain, "disturbed_series": moved, "disturbance": 1e-6}

    def ours(self, relative, step):
        series = copy.deepcopy(self.plain)
        series[step]["pixel"] *= 1 + relative
        return series

    def test_equal_series_agree(self):
        self.assertTrue(compare.judge_losses(self.plain, self.theirs(1e-5))["agree"])

    def test_a_difference_of_the_disturbance_s_size_is_allowed_and_a_larger_one_is_not(self):
        theirs = self.theirs(1e-5)
        self.assertTrue(compare.judge_losses(self.ours(2e-4, 5), theirs)["agree"])
        verdict = compare.judge_losses(self.ours(5e-4, 5), theirs)
        self.assertFalse(verdict["agree"])
        self.assertEqual(verdict["first_bad"]["step"], 5)

    def test_the_first_step_is_held_to_the_rounding_itself(self):
        self.assertTrue(compare.judge_losses(self.ours(1e-5, 0), self.theirs(1e-3))["agree"])
        self.assertFalse(compare.judge_losses(self.ours(1e-4, 0), self.theirs(1e-3))["agree"])


def has_torch():
    return subprocess.run([TORCH, "-c", "import torch"], capture_output=True).returncode == 0


class BothSides(unittest.TestCase):
    """The real programs on tiny networks. Without PyTorch nothing can be compared."""

    SIZES = ["--blocks", "1", "--channels", "8", "--crop", "16", "--batch", "4"]

    def setUp(self):
        if not has_torch():
            self.skipTest("needs python3-torch")
        self.tmp = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.tmp)

    def run_json(self, command):
        path = os.path.join(self.tmp, "one.json")
        # One thread: many small ops on two threads of a busy machine wait for each other all the time.
        done = subprocess.run(command + ["--threads", "1", "--steps", "1", "--warmup", "0", "--json", path],
                              capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(path, encoding="utf-8") as file:
            return json.load(file)

    def both(self, step, losses, precision="fp32"):
        start = os.path.join(self.tmp, "start")
        shared = step + self.SIZES + ["--precision", precision, "--losses", str(losses)]
        ours = self.run_json([os.path.join(BIN, "step_bench"), "--backend", "auto", "--save-start", start] + shared)
        theirs = self.run_json([TORCH, os.path.join(ROOT, "tools", "pytorch_baseline.py"), "--start", start,
                                "--forms", "eager-contiguous"] + shared)
        self.assertEqual(theirs["forms"][0]["status"], "measured", theirs["forms"])
        return ours, theirs

    def test_srresnet_trains_alike(self):
        ours, theirs = self.both(["--mode", "srresnet"], 20)
        verdict = compare.judge_losses(ours["loss_series"], theirs)
        self.assertTrue(verdict["agree"], verdict)
        self.assertLess(theirs["loss_series"][19]["pixel"], theirs["loss_series"][0]["pixel"])

    def test_srgan_trains_alike_and_a_wrong_weight_shows(self):
        ours, theirs = self.both(["--step", "srgan-vgg54-16", "--vgg-layer", "VGG22"], 4)
        verdict = compare.judge_losses(ours["loss_series"], theirs)
        self.assertTrue(verdict["agree"], verdict)
        self.assertEqual(set(ours["loss_series"][0]), {"vgg", "adversarial", "discriminator"})
        # The same series a step late stands for a fault of the size of one update.
        self.assertFalse(compare.judge_losses(ours["loss_series"][1:], theirs)["agree"])


if __name__ == "__main__":
    if len(sys.argv) != 2 or not os.path.isdir(sys.argv[1]):
        print("usage: test_compare.py FOLDER_WITH_PROGRAMS", file=sys.stderr)
        sys.exit(2)
    BIN = os.path.abspath(sys.argv[1])
    unittest.main(argv=sys.argv[:1])
