#!/usr/bin/env python3
"""The quickstart from end to end on small drawn pictures, and its report on planted faults.

usage: test_quickstart.py [FOLDER_WITH_PROGRAMS]    (without: the script builds them itself)
"""

import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BIN = None  # from the command line
SIDE = 176


def write_png(path, width, height, pixel):
    """pixel(x, y) gives (r, g, b)."""
    rows = b"".join(b"\0" + bytes(v for x in range(width) for v in pixel(x, y)) for y in range(height))

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1))
                   + chunk(b"IEND", b""))


def draw(path, seed):
    """Rectangles over a slope, with grain: edges, flat parts and fine detail."""
    dice = random.Random(seed)
    boxes = [(dice.randrange(SIDE), dice.randrange(SIDE), dice.randrange(5, 60), dice.randrange(5, 60),
              [dice.randrange(256) for _ in range(3)]) for _ in range(12)]

    def pixel(x, y):
        colour = [(x + seed * 20) % 256, (y + x // 2) % 256, 128]
        for left, top, width, height, paint in boxes:
            if left <= x < left + width and top <= y < top + height:
                colour = paint
        return [max(0, min(255, v + dice.randrange(-6, 7))) for v in colour]

    write_png(path, SIDE, SIDE, pixel)


def quickstart(*arguments):
    programs = ["--programs", BIN] if BIN else []
    return subprocess.run([os.path.join(ROOT, "tools", "quickstart.sh"), *programs, *arguments],
                          capture_output=True, text=True, stdin=subprocess.DEVNULL)


class Quickstart(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tmp = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.tmp)
        cls.data = os.path.join(cls.tmp, "data")
        os.makedirs(os.path.join(cls.data, "deeper"))
        for number in range(6):
            folder = os.path.join(cls.data, "deeper") if number > 3 else cls.data
            draw(os.path.join(folder, f"picture {number}.png"), number)
        cls.run_folder = os.path.join(cls.tmp, "run")
        cls.done = quickstart("--smoke", "--data", cls.data, "--out", cls.run_folder)

    def report(self, folder, *options):
        program = os.path.join(BIN or os.path.join(ROOT, "build", "bin"), "quickstart_report")
        return subprocess.run([program, "--run", folder, *options], capture_output=True, text=True)

    def copy_of_run(self):
        folder = os.path.join(self.tmp, "copy")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.run_folder, folder, symlinks=True)
        return folder

    def verdicts(self, folder):
        with open(os.path.join(folder, "report.json"), encoding="utf-8") as file:
            return {goal["goal"]: goal["pass"] for goal in json.load(file)["goals"]}

    def verdict(self, folder, words):
        found = [ok for goal, ok in self.verdicts(folder).items() if words in goal]
        self.assertEqual(len(found), 1, f"{words}: {self.verdicts(folder)}")
        return found[0]

    def rewrite_log(self, folder, change):
        path = os.path.join(folder, "log.jsonl")
        with open(path, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        for line in lines:
            if line["type"] == "train":
                change(line)
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def test_smoke_run_leaves_everything(self):
        self.assertEqual(self.done.returncode, 0, self.done.stdout + self.done.stderr)
        for words in ("nearest", "bicubic", "after pixel phase", "after adversarial phase", "PSNR"):
            self.assertIn(words, self.done.stdout)
        self.assertIn("training on 5 photographs", self.done.stdout)
        self.assertIn("testing on 1 others", self.done.stdout)
        for name in ("generator.safetensors", "generator_pixel.safetensors", "discriminator.safetensors",
                     "log.jsonl", "config.json", "report.json"):
            self.assertTrue(os.path.getsize(os.path.join(self.run_folder, name)) > 0, name)
        crops = os.listdir(os.path.join(self.run_folder, "crops"))
        self.assertEqual(len(crops), 1)
        with open(os.path.join(self.run_folder, "crops", crops[0]), "rb") as file:
            width, height = struct.unpack(">II", file.read(24)[16:])
        self.assertEqual((width, height), (4 * 160 + 3 * 4, 160))

    def test_every_loss_term_is_judged(self):
        goals = " ".join(self.verdicts(self.run_folder))
        for words in ("phase pixel: the gradient of the pixel loss", "phase adversarial: the gradient of the pixel",
                      "phase adversarial: the gradient of the adversarial loss", "mean D(real) - D(fake)",
                      "above bicubic", "spectrum of fine detail"):
            self.assertIn(words, goals)

    def test_scores_are_those_of_the_evaluation(self):
        with open(os.path.join(self.run_folder, "report.json"), encoding="utf-8") as file:
            methods = {m["name"]: m for m in json.load(file)["methods"]}
        with open(os.path.join(self.run_folder, "eval", "bicubic.json"), encoding="utf-8") as file:
            mean = json.load(file)["mean"]
        self.assertEqual(methods["bicubic"]["psnr_y"], mean["psnr_y"])
        self.assertLess(methods["bicubic"]["fine_detail_db"], -3.0)

    def test_a_few_steps_do_not_reach_the_goals(self):
        folder = self.copy_of_run()
        self.assertEqual(self.report(folder).returncode, 1)
        self.assertEqual(self.report(folder, "--no-goals").returncode, 0)
        self.assertFalse(self.verdict(folder, "above bicubic"))

    def test_planted_faults_fail(self):
        faults = [
            ("mean D(real)", lambda line: line.update(d_real=0.99, d_fake=0.01) if "d_real" in line else None),
            ("mean D(real)", lambda line: line.update(d_real=0.4, d_fake=0.5) if "d_real" in line else None),
            ("phase adversarial: the gradient of the adversarial loss",
             lambda line: line.update(grad_adversarial=0.0) if "grad_adversarial" in line else None),
            ("phase pixel: the gradient of the pixel loss",
             lambda line: line.update(grad_pixel=None) if line["phase_step"] == 3 else None),
        ]
        for words, change in faults:
            with self.subTest(words):
                folder = self.copy_of_run()
                self.rewrite_log(folder, change)
                done = self.report(folder)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertFalse(self.verdict(folder, words))
                self.assertIn("[FAIL]", done.stdout)

    def test_reached_goals_pass(self):
        folder = self.copy_of_run()
        self.rewrite_log(folder, lambda line: line.update(d_real=0.7, d_fake=0.4) if "d_real" in line else None)
        # Originals as the answer of the adversarial phase: the perfect spectrum.
        shutil.rmtree(os.path.join(folder, "eval", "adversarial", "SR"))
        shutil.copytree(os.path.join(folder, "eval", "nearest", "HR"),
                        os.path.join(folder, "eval", "adversarial", "SR"))
        path = os.path.join(folder, "eval", "pixel.json")
        with open(path, encoding="utf-8") as file:
            scores = json.load(file)
        scores["mean"]["psnr_y"] = 99.0
        with open(path, "w", encoding="utf-8") as file:
            json.dump(scores, file)
        done = self.report(folder)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertNotIn("[FAIL]", done.stdout)

    def test_a_run_replaces_only_a_run(self):
        folder = os.path.join(self.tmp, "precious")
        os.makedirs(folder)
        with open(os.path.join(folder, "thesis.txt"), "w", encoding="utf-8") as file:
            file.write("x")
        done = quickstart("--smoke", "--data", self.data, "--out", folder)
        self.assertEqual(done.returncode, 2)
        self.assertIn("was not made by the quickstart", done.stderr)
        self.assertEqual(os.listdir(folder), ["thesis.txt"])

    def test_too_few_pictures(self):
        folder = os.path.join(self.tmp, "few")
        os.makedirs(folder)
        draw(os.path.join(folder, "one.png"), 1)
        done = quickstart("--smoke", "--data", folder, "--out", os.path.join(self.tmp, "few-run"))
        self.assertEqual(done.returncode, 2)
        self.assertIn("holds fewer than 5 pictures", done.stderr)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        BIN = os.path.abspath(sys.argv.pop(1))
    unittest.main()
