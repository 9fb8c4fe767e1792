#!/usr/bin/env python3
"""Plants violations in a small tree and demands that tools/check_includes.py names each of them."""

import os
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
LINT = os.path.join(ROOT, "tools", "check_includes.py")

CLEAN = {
    "CMakeLists.txt": "",
    "kernels/api/op.h": "#pragma once\n",
    "kernels/cpu/table.h": '#pragma once\n#include "kernels/api/op.h"\n',
    "kernels/cpu/conv2d.cpp": '#include <dnnl.hpp>\n#include "kernels/cpu/table.h"\n',
    "engine/core/tensor.h": '#pragma once\n#include "kernels/api/op.h"\n',
    "engine/core/device.cpp": '#include "kernels/cpu/table.h"\n',
    "kernels/sim/sim.cuh": "#pragma once\n",
    "kernels/cuda/gpu/gpu.cuh": '#pragma once\n#include "kernels/sim/sim.cuh"\n',
    "docs/guide.md": "see `engine/core/tensor.h`, `docs/kernels/<op>.md` and `build/bin/srgan_train`\n",
    "engine/nn/layers.h": '#pragma once\n#include "engine/core/tensor.h"\n',
    "models/srgan/generator.h": '#pragma once\n#include "engine/nn/layers.h"\n',
    "train/image.cpp": "#include <stb/stb_image.h>\n",
    "tools/srgan_train.cpp": '#include <CLI/CLI.hpp>\n#include "models/srgan/generator.h"\n',
    "tests/support/catch.h": "#pragma once\n#include <catch2/catch.hpp>\n",
    "tests/engine/test_tensor.cpp": '#include "tests/support/catch.h"\n#include "kernels/cpu/table.h"\n',
}

# (what it is, files planted over the clean tree, words that the report must contain)
VIOLATIONS = [
    ("upward include", {"engine/core/shape.h": '#pragma once\n#include "models/srgan/generator.h"\n'},
     ["engine/core/shape.h:2", "engine must not include"]),
    ("kernels include the engine", {"kernels/cpu/norm.cpp": '#include "engine/core/tensor.h"\n'},
     ["kernels/cpu/norm.cpp:1", "kernels/cpu must not include"]),
    ("api includes a backend", {"kernels/api/bad.h": '#pragma once\n#include "kernels/cpu/table.h"\n'},
     ["kernels/api/bad.h:2", "kernels/api must not include"]),
    ("a second file names a backend", {"engine/core/tensor.cpp": '#include "kernels/cpu/table.h"\n'},
     ["engine/core/tensor.cpp:1", "engine must not include"]),
    ("a layer of nn calls kernels", {"engine/nn/bad.cpp": '#include "kernels/api/op.h"\n'},
     ["engine/nn/bad.cpp:1", "engine/nn must not include"]),
    ("a kernel includes the simulator", {"kernels/cuda/add.cu": '#include "kernels/sim/sim.cuh"\n'},
     ["kernels/cuda/add.cu:1", "kernels/cuda must not include"]),
    ("models call kernels", {"models/vgg/vgg19.cpp": '#include "kernels/api/op.h"\n'},
     ["models/vgg/vgg19.cpp:1", "models must not include"]),
    ("a library in the wrong place", {"engine/ops/conv.cpp": "#include <dnnl.hpp>\n"},
     ["engine/ops/conv.cpp:1", "<dnnl.hpp> belongs in"]),
    ("stb twice", {"train/data.cpp": "#include <stb/stb_image.h>\n"},
     ["train/data.cpp:1", "belongs in train/image"]),
    ("json in a header", {"train/config.h": "#pragma once\n#include <nlohmann/json.hpp>\n"},
     ["train/config.h:2", "belongs in"]),
    ("Catch2 beside its header", {"tests/models/test_g.cpp": "#include <catch2/catch.hpp>\n"},
     ["tests/models/test_g.cpp:1", "belongs in"]),
    ("relative path", {"train/a.cpp": '#include "../engine/core/tensor.h"\n'},
     ["train/a.cpp:1", "is relative"]),
    ("path from the folder", {"train/b.cpp": '#include "image.h"\n'},
     ["train/b.cpp:1", "is no file of the repository"]),
    ("our file in brackets", {"train/c.cpp": "#include <engine/core/tensor.h>\n"},
     ["train/c.cpp:1", "write it in quotes"]),
    ("cycle", {"models/a.h": '#pragma once\n#include "models/b.h"\n',
               "models/b.h": '#pragma once\n#include "models/a.h"\n'},
     ["include cycle: models/a.h -> models/b.h -> models/a.h"]),
    ("file too long", {"train/long.cpp": "\n" * 601}, ["train/long.cpp: 601 lines"]),
    ("no guard", {"train/bare.h": "int x;\n"}, ["train/bare.h: has no #pragma once"]),
    ("stray file at the top", {"notes.txt": ""}, ["notes.txt: does not belong at the top level"]),
    ("stray folder at the top", {"scratch/a.cpp": ""}, ["scratch: does not belong at the top level"]),
    ("a document names a missing file", {"docs/a.md": "# A\nsee `engine/core/gone.h` and `engine/core/tensor.h`\n"},
     ["docs/a.md:2: names `engine/core/gone.h`"]),
    ("unknown layer", {"kernels/metal/table.cpp": '#include "kernels/api/op.h"\n'},
     ["kernels/metal/table.cpp lies in no known layer"]),
]


def run_on(files):
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            full = os.path.join(root, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as file:
                file.write(text)
        done = subprocess.run([sys.executable, LINT, "--root", root], capture_output=True, text=True)
        return done.returncode, done.stdout


class CheckIncludes(unittest.TestCase):
    def test_clean_tree_passes(self):
        code, text = run_on(CLEAN)
        self.assertEqual(code, 0, text)
        self.assertIn("0 problems", text)

    def test_each_violation_is_named_and_is_the_only_one(self):
        for what, planted, words in VIOLATIONS:
            with self.subTest(what):
                code, text = run_on({**CLEAN, **planted})
                self.assertEqual(code, 1, text)
                for word in words:
                    self.assertIn(word, text)
                self.assertIn("1 problem\n", text)

    def test_600_lines_are_allowed(self):
        code, text = run_on({**CLEAN, "train/long.cpp": "\n" * 600})
        self.assertEqual(code, 0, text)

    def test_missing_root_is_wrong_usage(self):
        done = subprocess.run([sys.executable, LINT, "--root", "/nowhere/at/all"], capture_output=True,
                              text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("no folder '/nowhere/at/all'", done.stderr)


if __name__ == "__main__":
    unittest.main()
