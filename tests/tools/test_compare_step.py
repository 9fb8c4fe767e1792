#!/usr/bin/env python3
"""tools/compare_step.py with stand-ins for the two benchmarks whose times are known."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

# Notes its call in $CALLS, and takes the next of the times listed for its side in $TIMES.
STAND_IN = '''#!{python}
import json, os, sys
arguments = sys.argv[1:]
layout = arguments[arguments.index("--layout") + 1] if "--layout" in arguments else "subpix"
with open(os.environ["CALLS"], "a") as file:
    file.write(layout + "\\n")
with open(os.environ["CALLS"]) as file:
    number = file.read().split().count(layout) - 1
ms = json.loads(os.environ["TIMES"])[layout][number]
if ms is None:
    sys.exit("stand-in: no more memory")
parameters = 1 + (layout == "contiguous" and "UNEQUAL" in os.environ)
result = {{"median_ms": ms, "generator_parameters": parameters, "device": "stand-in", "torch": "0", "layout": layout,
           "phases": {{"generator_forward": {{"median_ms": ms / 4}}}},
           "memory": {{"process_peak_bytes": 2 ** 30}}}}
if layout == "subpix":
    result["phases"]["pixel_loss"] = {{"median_ms": 1.0}}
with open(arguments[arguments.index("--json") + 1], "w") as file:
    json.dump(result, file)
'''


class CompareStep(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.tmp)
        self.bench = os.path.join(self.tmp, "bin", "step_bench")
        os.makedirs(os.path.dirname(self.bench))
        with open(self.bench, "w", encoding="utf-8") as file:
            file.write(STAND_IN.format(python=sys.executable))
        os.chmod(self.bench, 0o755)
        self.calls = os.path.join(self.tmp, "calls")

    def compare(self, times, *options, **extra):
        environment = {**os.environ, "CALLS": self.calls, "TIMES": json.dumps(times), **extra}
        done = subprocess.run(
            [sys.executable, os.path.join(ROOT, "tools", "compare_step.py"), "--build", self.tmp, "--python",
             self.bench, "--results", self.tmp, "--name", "out", *options],
            capture_output=True, text=True, env=environment)
        if done.returncode:
            return done, None
        with open(os.path.join(self.tmp, "out.json"), encoding="utf-8") as file:
            return done, json.load(file)

    def test_rounds_are_abba_and_the_quicker_layout_is_the_rival(self):
        # Two rounds; the machine drifts within each, which the mirrored order takes out of the ratio.
        done, result = self.compare({"subpix": [80, 120, 100, 100], "contiguous": [150, 150, 90, 110],
                                     "channels_last": [110, 90, 125, 125]}, "--rounds", "2")
        self.assertEqual(done.returncode, 0, done.stderr)
        one_round = ["subpix", "contiguous", "channels_last", "channels_last", "contiguous", "subpix"]
        with open(self.calls, encoding="utf-8") as file:
            self.assertEqual(file.read().split(), one_round * 2)
        rounds = result["summary"]["rounds"]
        self.assertEqual([r["rival"] for r in rounds], ["channels_last", "contiguous"])
        self.assertEqual([r["ratio"] for r in rounds], [1.0, 1.0])
        self.assertEqual(result["summary"]["ratio"], 1.0)

    def test_median_and_spread_of_the_ratio(self):
        _, result = self.compare({"subpix": [80, 80, 90, 90, 130, 130], "contiguous": [100] * 6,
                                  "channels_last": [200] * 6}, "--rounds", "3")
        summary = result["summary"]
        self.assertAlmostEqual(summary["ratio"], 0.9)
        self.assertAlmostEqual(summary["ratio_min"], 0.8)
        self.assertAlmostEqual(summary["ratio_max"], 1.3)

    def test_page_names_what_a_claim_of_speed_needs(self):
        self.compare({"subpix": [80, 80], "contiguous": [100, 100], "channels_last": [200, 200]}, "--rounds",
                     "1")
        with open(os.path.join(self.tmp, "out.md"), encoding="utf-8") as file:
            page = file.read()
        for words in ("date: ", "commit: ", "machine: ", "command: ", "**Ratio 0.800**",
                      "| generator_forward | 20.00 | 25.00 | 0.80 |", "| pixel_loss | 1.00 |  |  |"):
            self.assertIn(words, page)

    def test_a_failing_side_is_reported(self):
        done, _ = self.compare({"subpix": [80, 80], "contiguous": [None], "channels_last": [200, 200]})
        self.assertEqual(done.returncode, 2)
        self.assertIn("stand-in: no more memory", done.stderr)

    def test_unequal_networks_are_not_compared(self):
        done, _ = self.compare({"subpix": [80, 80], "contiguous": [100, 100], "channels_last": [200, 200]},
                               "--rounds", "1", UNEQUAL="1")
        self.assertEqual(done.returncode, 2)
        self.assertIn("networks of different sizes", done.stderr)


if __name__ == "__main__":
    unittest.main()
