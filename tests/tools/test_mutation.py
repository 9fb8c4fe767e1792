#!/usr/bin/env python3
"""tests/mutation: finds the mutants of a small source, leaves it alone while none is chosen, and
changes what each promises when it is. No kernel is compiled."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
MUTATION = os.path.join(ROOT, "tests", "mutation")
sys.path.insert(0, MUTATION)

import mutants  # noqa: E402  (from tests/mutation)
import mutate  # noqa: E402

SOURCE = """#include <cstdio>
namespace gpu {
int cdiv(int a, int b) { return (a + b - 1) / b; }
}
static int barriers = 0;
void __syncthreads() { ++barriers; }
struct Size { int h, w; };
template <int N, bool B = (N < 3)>
int run(const int* x, int count, Size d) {
  constexpr int kEach = N < 4 ? 2 : 1;  // count < 3 && x
  int sum = 0;
  for (int i = 0; i < count; i += kEach) sum += x[i];
  if (count > 100) return -1;
  if (sum > 2 && count < 3)
    __syncthreads();
  const int tiles = gpu::cdiv(count, 4);
  return sum + 1000 * tiles + 10000 * (d.h * 2 + d.w) + 100000 * (count < 5 ? 1 : 0);
}
int main() {
  const int x[] = {1, 2, 4, 8, 16, 32, 64, 128};
  const int all = run<2>(x, 5, {3, 4});
  std::printf("%d %d\\n", all, barriers);
}
"""
FIRST = f"{21 + 1000 * 2 + 10000 * 10} 0"  # 1 + 4 + 16; two tiles; 3 * 2 + 4; no barrier
# Kind, line, what the program prints.
EFFECTS = [
    ("index shifted", 12, f"{42 + 1000 * 2 + 10000 * 10} 0"),
    ("last round skipped", 12, f"{5 + 1000 * 2 + 10000 * 10} 0"),
    ("early exit removed", 13, FIRST),
    ("branch skipped", 14, FIRST),
    ("check removed", 14, f"{21 + 1000 * 2 + 10000 * 10} 1"),
    ("barrier deleted", 15, FIRST),
    ("last partial tile dropped", 16, f"{21 + 1000 + 10000 * 10} 0"),
    ("directions swapped", 17, f"{21 + 1000 * 2 + 10000 * 12} 0"),
    ("sign of an offset", 17, f"{21 + 1000 * 2 + 10000 * 2} 0"),
    ("bound off by one", 17, f"{21 + 1000 * 2 + 10000 * 10 + 100000} 0"),
    ("check removed", 17, f"{21 + 1000 * 2 + 10000 * 10 + 100000} 0"),
]


def all_mutants(text=SOURCE):
    return mutate.numbered(mutants.find("source.cu", text))


class Mutants(unittest.TestCase):
    def test_constants_comments_and_templates_stay(self):
        for mutant in all_mutants():
            self.assertNotIn(mutant.line, (8, 10), mutant.key())

    def test_lines_stay_where_they_are(self):
        changed = mutants.apply(SOURCE, all_mutants())
        self.assertEqual(changed.count("\n"), SOURCE.count("\n"))
        for number in (8, 10):
            self.assertEqual(changed.splitlines()[number - 1], SOURCE.splitlines()[number - 1])

    def test_keys_are_unique_and_do_not_depend_on_lines(self):
        keys = [m.key() for m in all_mutants()]
        self.assertEqual(len(keys), len(set(keys)))
        self.assertEqual(keys, [m.key() for m in all_mutants("// a new line\n" + SOURCE)])

    def test_each_does_what_its_kind_says_and_none_without_being_chosen(self):
        found = all_mutants()
        with tempfile.TemporaryDirectory() as folder:
            path, program = os.path.join(folder, "source.cpp"), os.path.join(folder, "program")
            with open(path, "w", encoding="utf-8") as file:
                file.write(mutants.apply(SOURCE, found))
            subprocess.run(["g++", "-std=c++20", "-w", "-I" + ROOT, "-include", os.path.join(MUTATION, "mutant.h"), path,
                            os.path.join(MUTATION, "mutant.cpp"), "-o", program], check=True)

            def output(number, **more):
                return subprocess.run([program], env={**os.environ, "SUBPIX_MUTANT": str(number), **more}, text=True,
                                      capture_output=True, check=True).stdout.strip()

            self.assertEqual(output(0), FIRST)
            for kind, line, expected in EFFECTS:
                with self.subTest(f"{kind} in line {line}"):
                    ids = [m.id for m in found if m.kind == kind and m.line == line]
                    self.assertTrue(ids)
                    self.assertIn(expected, [output(i) for i in ids])
            reached = os.path.join(folder, "reached.txt")
            self.assertEqual(output(-1, SUBPIX_MUTANT_REACHED=reached), FIRST)
            with open(reached, encoding="utf-8") as file:
                ids = set(map(int, file.read().split()))
            never = {m.line for m in found if m.id not in ids}
            self.assertIn(15, never)     # the barrier is behind a condition that fails
            self.assertNotIn(12, never)


class Lists(unittest.TestCase):
    """The committed lists fit the sources: a moved or reworded line must not silently lose its entry."""

    def test_fixed_mutants_exist(self):
        self.assertGreaterEqual(len(mutate.fixed()), 12)

    def test_explained_mutants_exist(self):
        keys = set()
        for name in mutate.all_files():
            for m in mutants.find(name, mutate.read(mutate.source(name))):
                keys |= {(name, kind, m.text) for kind in (m.kind, f"{m.kind} #{m.ordinal}", "*")}
        for entry in mutate.equivalent():
            self.assertIn(entry, keys)

    def test_wrong_usage(self):
        done = subprocess.run([sys.executable, os.path.join(MUTATION, "mutate.py"), "--file", "nothing.cu"],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("nothing.cu", done.stderr)

    def test_committed_verdicts_are_gone_on_from(self):
        with tempfile.TemporaryDirectory() as folder:
            name = mutate.all_files()[0]
            found = mutate.finder.find(name, mutate.read(mutate.source(name)))[:3]
            first = mutate.Progress(os.path.join(folder, "a.json"))
            first.put(found[0], "caught: add/f32 in check")
            first.put(found[1], "survived")
            result = os.path.join(folder, "result.json")
            with open(result, "w", encoding="utf-8") as file:
                json.dump({"verdicts": first.packed(found)}, file)
            second = mutate.Progress(os.path.join(folder, "b.json"), result)
            self.assertEqual([second.get(m) for m in found], ["caught", "survived", None])
            second.put(found[1], "caught: add/f32")
            self.assertEqual(second.get(found[1]), "caught: add/f32")
            # Of a file that has changed since nothing is known.
            second.committed[name]["stamp"] = "another"
            self.assertIsNone(second.get(found[0]))


if __name__ == "__main__":
    unittest.main()
