#!/usr/bin/env python3
"""tools/bench_report.py on made-up results: every number carries its origin, nothing is blank or guessed, the page needs
nothing from elsewhere."""

import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, "..", ".."))
sys.path[:0] = [HERE, os.path.join(ROOT, "tools")]
import report_fixtures as fixtures  # noqa: E402
import report_kernels  # noqa: E402
import report_render  # noqa: E402

README = "# Fixture\n\n<!-- results -->\nold\n<!-- /results -->\n\nend\n"


class Nesting(html.parser.HTMLParser):
    """That elements close in order, and what the page would fetch."""

    VOID = {"meta", "br", "link", "img", "rect", "line", "circle", "polyline"}

    def __init__(self):
        super().__init__()
        self.open, self.faults, self.fetched = [], [], []

    def handle_starttag(self, tag, attributes):
        self.fetched += [v for k, v in attributes if k == "src" or (k == "href" and tag == "link")]
        if tag == "script":
            self.faults.append("a script")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)


class Report(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.tmp)
        self.results = os.path.join(self.tmp, "results")
        os.makedirs(self.results)
        self.readme = self.put("README.md", README, self.tmp)

    def put(self, name, content, folder=None):
        path = os.path.join(folder or self.results, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(content if isinstance(content, str) else json.dumps(content))
        return path

    def report(self, *options):
        return subprocess.run([sys.executable, os.path.join(ROOT, "tools", "bench_report.py"), "--results", self.results,
                               "--readme", self.readme, *options], capture_output=True, text=True)

    def made(self, name):
        with open(self.readme if name == "README.md" else os.path.join(self.results, name), encoding="utf-8") as file:
            return file.read()

    def everything(self):
        self.put("kernels-fixture.json", fixtures.kernel_bench())
        for name, ms in (("srresnet-16", 0.5), ("srgan-vgg54-16", 2.0)):
            self.put(f"bench-{name}-cuda.json", fixtures.step(name, ms=ms))
        self.put("step-srresnet-16-cuda.json", fixtures.compare())
        self.put("gpu_check.json", fixtures.check())
        done = self.report()
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_without_results_everything_is_not_measured_yet(self):
        self.assertEqual(self.report().returncode, 0)
        for name in ("kernels.md", "steps.md", "report.html", "README.md"):
            self.assertIn("not measured yet", self.made(name))
        self.assertTrue(self.made("README.md").endswith("\nend\n"))
        self.assertNotIn("old", self.made("README.md"))

    def test_every_number_carries_its_origin(self):
        self.everything()
        for name in ("kernels.md", "report.html"):
            for words in ("FIXTURE GPU", "2000-01-01T00:00:00Z", "f1f1f1f1f1f1", "kernel_bench --fixture"):
                self.assertIn(words, self.made(name))
        for words in ("step_bench --step srgan-vgg54-16", "tools/compare.py --step srresnet-16", "f1f1f1f1f1f1-dirty"):
            self.assertIn(words, self.made("steps.md"))
        self.assertIn("tools/compare.py --step srresnet-16", self.made("README.md"))
        self.assertIn("| conv2d_forward/bf16 | 5 |", self.made("README.md"))

    def test_no_cell_is_blank_where_a_number_belongs(self):
        self.everything()
        for name in ("kernels.md", "steps.md"):
            for line in self.made(name).splitlines():
                if line.startswith("|"):
                    self.assertNotRegex(line.split("|", 2)[2], r"\|\s+\|", f"{name}: {line}")
        kernels = self.made("kernels.md")
        self.assertIn("| tensor cores, TF32 | TFLOP/s | not measured yet |", kernels)
        self.assertIn("out of memory", kernels)
        self.assertRegex(kernels, r"d\.dense1, batch 16 \| split_k_mma \(default\) \| - \| - ")

    def test_losing_and_undecided_cases_stay_in_the_table(self):
        self.everything()
        kernels = self.made("kernels.md")
        self.assertRegex(kernels, r"g\.head 9x9.*\| 0\.800 ")
        self.assertIn("no claim", kernels)

    def test_rungs_have_the_worklog_s_idea(self):
        self.everything()
        kernels = self.made("kernels.md")
        self.assertIn("| halo_mma | a tile with its halo loaded once, taps are shifts of it |", kernels)
        self.assertIn("| packs | 16 bytes an access", kernels)

    def test_the_page_is_whole_and_alone(self):
        self.everything()
        page = Nesting()
        page.feed(self.made("report.html"))
        self.assertEqual((page.open, page.faults, page.fetched), ([], [], []))
        self.assertNotIn("url(", self.made("report.html"))
        self.assertGreaterEqual(self.made("report.html").count("<svg"), 4)
        ids = re.findall(r'<h\d id="([^"]+)"', self.made("report.html"))
        for target in re.findall(r'href="#([^"]+)"', self.made("report.html")):
            self.assertIn(target, ids)

    def test_simulated_results_tell_no_time(self):
        bench = fixtures.kernel_bench("simulator")
        bench["results"] = [fixtures.result("conv2d_forward", "halo_mma", "g.blocks", 1.0, 1e9, 1e6, status="simulated",
                                            counters={"mma": 288, "launches": 1})]
        self.put("sim.json", bench)
        self.assertEqual(self.report().returncode, 0)
        self.assertIn("mma 288, launches 1", self.made("kernels.md"))
        self.assertNotIn("cold us", self.made("kernels.md"))

    def test_several_backends_and_the_mutants_of_the_kernels(self):
        self.put("kernels-two.json", [fixtures.kernel_bench(), {**fixtures.kernel_bench(), "commit": "e2e2e2e2e2e2"}])
        self.put("mutation.json", {"verdicts": {}})
        self.put("cudnn-device.json", {"properties": 1})
        done = self.report()
        self.assertEqual(done.returncode, 0, done.stderr)
        for commit in ("f1f1f1f1f1f1", "e2e2e2e2e2e2"):
            self.assertIn(commit, self.made("kernels.md"))

    def test_check_sees_a_stale_page(self):
        self.everything()
        self.assertEqual(self.report("--check").returncode, 0)
        self.put("bench-srresnet-64-cuda.json", fixtures.step("srresnet-64"))
        done = self.report("--check")
        self.assertEqual(done.returncode, 1)
        self.assertIn("steps.md", done.stdout)

    def test_record_keeps_a_result_as_it_is(self):
        result = fixtures.step()
        done = self.report("--record", self.put("mine.json", result, self.tmp))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(self.made("bench-srresnet-16-cuda.json")), result)

    def test_record_of_a_quickstart_names_machine_and_commit(self):
        method = {k: 1.0 for k in ("psnr_y", "ssim_gauss", "ssim_daala", "fine_detail_db", "spectrum_distance_db")}
        self.put("report.json", {"photographs": ["made up"], "methods": [{"name": "fixture", **method}]}, self.tmp)
        self.assertEqual(self.report("--record", self.tmp).returncode, 0)
        self.assertTrue(json.loads(self.made("quickstart.json"))["machine"]["cores"])
        self.assertIn("| fixture | 1.00 |", self.made("README.md"))

    def test_bad_input_is_one_sentence(self):
        cases = [(self.put("a.json", "{", self.tmp), "is no JSON"), (self.put("b.json", {"x": 1}, self.tmp), "is no result"),
                 (os.path.join(self.tmp, "none.json"), "cannot be read"),
                 (self.put("c.json", {"schema": "subpix-kernel-bench-2"}, self.tmp), "subpix-kernel-bench-1")]
        for path, words in cases:
            done = self.report("--record", path)
            self.assertEqual(done.returncode, 2)
            self.assertIn(words, done.stderr)
            self.assertEqual(len(done.stderr.strip().split("\n")), 1)
        self.put("stray.json", {"x": 1})
        self.assertEqual(self.report().returncode, 2)


class Parts(unittest.TestCase):
    def test_numbers(self):
        told = [report_render.number(v) for v in (0, 1234.6, 99.96, 10.0, 1.234, 0.5, 0.0123)]
        self.assertEqual(told, ["0", "1235", "100.0", "10.0", "1.23", "0.500", "0.0123"])

    def test_a_ratio_told_the_other_way_round_is_turned(self):
        result = fixtures.result("conv2d_forward", "halo_mma", "x", 10.0, 1e9, 1e6)
        rival = {**fixtures.rival(20.0, 10.0), "ratio": 0.5, "ratio_low": 0.4, "ratio_high": 0.625}
        value, low, high = report_kernels.speedup(result, rival)
        self.assertEqual((value, low, high), (2.0, 1.6, 2.5))

    def test_every_variant_of_the_ladder_page_has_an_idea(self):
        rungs = report_kernels.worklog_rungs(os.path.join(ROOT, "docs", "kernels"))
        for op, variant in (("conv2d_forward/bf16", "implicit_gemm_mma"), ("conv2d_forward/f32", "implicit_gemm_mma_tf32"),
                            ("conv2d_backward_filter/bf16", "split_pixels_mma"), ("dense_forward/bf16", "split_k_mma"),
                            ("adam", "list_vec4"), ("prelu_backward/bf16", "direct")):
            self.assertTrue(report_kernels.idea_of(op, variant, rungs), (op, variant))
        self.assertIn("one pass", report_kernels.idea_of("prelu_backward/bf16", "direct", rungs))
        self.assertIsNone(report_kernels.idea_of("conv2d_forward/bf16", "no_such", rungs))


if __name__ == "__main__":
    unittest.main()
