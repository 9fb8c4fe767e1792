#!/usr/bin/env python3
"""tools/figures.py on a made-up step_bench and repository: what counts as a difference, and that a baseline cannot
change without its line in the worklog."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

# Stands for step_bench: $LAUNCHES launches a step; without them it is a build without the simulator.
STAND_IN = '''#!{python}
import json, os, sys
arguments = sys.argv[1:]
launches = os.environ.get("LAUNCHES")
if not launches:
    sys.exit(print("step_bench: backend 'sim' is not part of this build; it has: auto, cpu", file=sys.stderr) or 2)
executed = "--count" not in arguments
with open(arguments[arguments.index("--json") + 1], "w") as file:
    json.dump({{"memory": {{"tensor_peak_bytes": 100}}, "floor": {{"flops": 8.0, "least_bytes": 4.0, "phases": 2}},
        "counts": {{
        "op_calls": 3, "least_bytes": 1e6, "executed": executed, "simulator": {{"launches": int(launches), "mma": 7}},
        "ops": {{"add/bf16": {{"calls": 3, "bytes": 1e6, "variants": {{"vec4": 3}}}}}}}}}}, file)
'''


class Figures(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.root)
        for folder in ("tools", "tests/baseline", "tests/cuda", "docs/kernels", "build/bin"):
            os.makedirs(os.path.join(self.root, folder))
        for name in ("figures.py", "machine.py", "cubin_counts.py"):
            shutil.copy(os.path.join(ROOT, "tools", name), os.path.join(self.root, "tools"))
        shutil.copy(os.path.join(ROOT, "tests", "cuda", "check_cubins.py"), os.path.join(self.root, "tests", "cuda"))
        for name in ("budgets.json", "instructions.json"):
            self.write("tests/cuda/" + name, '{"nvcc": "0", "architectures": [], "files": {}}')
        self.write("docs/kernels/CHANGES.md", "# Changes\n\n")
        self.write("build/bin/step_bench", STAND_IN.format(python=sys.executable))
        os.chmod(os.path.join(self.root, "build/bin/step_bench"), 0o755)

    def write(self, path, content):
        with open(os.path.join(self.root, path), "w", encoding="utf-8") as file:
            file.write(content)

    def read(self, path):
        with open(os.path.join(self.root, path), encoding="utf-8") as file:
            return file.read()

    def figures(self, *options, launches="50"):
        environment = {**os.environ, "LAUNCHES": launches}
        return subprocess.run([sys.executable, os.path.join(self.root, "tools", "figures.py"), "--build",
                               os.path.join(self.root, "build"), *options], capture_output=True, text=True,
                              env=environment)

    def accepted(self):
        done = self.figures("--accept", "A fusion takes two launches away.")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_an_accepted_state_passes_and_its_line_says_why(self):
        self.accepted()
        self.assertIn("A fusion takes two launches away.", self.read("docs/kernels/CHANGES.md"))
        done = self.figures()
        self.assertEqual(done.returncode, 0, done.stdout)
        figures = json.loads(self.read("tests/baseline/figures.json"))
        self.assertEqual(figures["srresnet-16"]["launches"], 50)
        self.assertEqual(figures["srresnet-16"]["add/bf16 vec4"], 3)
        # What a launch does is known only where it was executed.
        self.assertNotIn("mma", figures["srresnet-16"])
        self.assertEqual([f["mma"] for f in figures.values() if "mma" in f], [7, 7])

    def test_more_and_fewer_launches_are_differences(self):
        self.accepted()
        for launches in ("51", "49"):
            done = self.figures(launches=launches)
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"srresnet-16: launches 50 became {launches}", done.stdout)
            self.assertIn("--accept", done.stdout)

    def test_a_baseline_that_changed_without_a_line_is_a_difference(self):
        self.accepted()
        self.write("tests/cuda/budgets.json", '{"nvcc": "0", "architectures": [], "files": {"a.cu": {}}}')
        done = self.figures()
        self.assertEqual(done.returncode, 1)
        self.assertIn("which no line of docs/kernels/CHANGES.md names", done.stdout)
        self.accepted()
        self.assertEqual(self.figures().returncode, 0)
        self.assertEqual(self.read("docs/kernels/CHANGES.md").count("`"), 4)

    def test_accepting_needs_a_sentence(self):
        for why in ("", "faster", "one\nand two and three"):
            done = self.figures("--accept", why)
            self.assertEqual(done.returncode, 2)
            self.assertTrue(done.stderr.startswith("figures.py: --accept needs a sentence"), done.stderr)
        self.assertFalse(os.path.exists(os.path.join(self.root, "tests/baseline/figures.json")))

    def test_accepting_what_is_accepted_adds_no_line(self):
        self.accepted()
        before = self.read("docs/kernels/CHANGES.md")
        self.accepted()
        self.assertEqual(self.read("docs/kernels/CHANGES.md"), before)

    def test_without_the_simulator_only_the_worklog_is_checked(self):
        self.accepted()
        done = self.figures(launches="")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("no simulator", done.stdout)
        self.assertEqual(self.figures("--accept", "It has become much faster.", launches="").returncode, 2)

    def test_a_missing_build(self):
        shutil.rmtree(os.path.join(self.root, "build"))
        done = self.figures()
        self.assertEqual(done.returncode, 2)
        self.assertIn("step_bench", done.stderr)


if __name__ == "__main__":
    unittest.main()
