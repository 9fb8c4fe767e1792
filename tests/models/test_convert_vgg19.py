#!/usr/bin/python3
"""tools/convert_vgg19.py on state dicts of random weights: what it writes and what it refuses."""

import contextlib
import importlib.util
import io
import json
import os
import struct
import tempfile
import unittest
from unittest import mock

import torch

TOOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/convert_vgg19.py")
SPEC = importlib.util.spec_from_file_location("convert_vgg19", TOOL)
convert_vgg19 = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(convert_vgg19)  # in this process: importing torch takes seconds
WIDTHS = [(0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256), (12, 256, 256),
          (14, 256, 256), (16, 256, 256), (19, 256, 512), (21, 512, 512), (23, 512, 512),
          (25, 512, 512), (28, 512, 512), (30, 512, 512), (32, 512, 512), (34, 512, 512)]


def vgg19(make=lambda *shape: torch.ones(1).expand(shape)):
    """By default constants that take one element each in a file."""
    state = {}
    for n, c_in, c_out in WIDTHS:
        state[f"features.{n}.weight"] = make(c_out, c_in, 3, 3)
        state[f"features.{n}.bias"] = make(c_out)
    return state


def read(path):
    with open(path, "rb") as file:
        return file.read()


class ConvertTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.output = os.path.join(self.folder.name, "vgg19.safetensors")

    def tearDown(self):
        self.folder.cleanup()

    def run_tool(self, state, *options):
        source = os.path.join(self.folder.name, "vgg19.pth")
        torch.save(state, source)
        return self.run_on(source, *options)

    def run_on(self, source, *options):
        """Exit code and stderr."""
        errors = io.StringIO()
        with mock.patch("sys.argv", ["convert_vgg19.py", source, self.output, *options]), \
                contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            code = convert_vgg19.main()
        return code, errors.getvalue()

    def refused(self, state, *options):
        code, errors = self.run_tool(state, *options)
        self.assertEqual(code, 2, errors)
        self.assertEqual(errors.count("\n"), 1, errors)
        self.assertEqual(os.listdir(self.folder.name), ["vgg19.pth"])
        return errors

    def test_writes_convolutions_and_input(self):
        generator = torch.Generator().manual_seed(1)
        state = vgg19(lambda *shape: torch.randn(*shape, generator=generator))
        state["classifier.0.weight"] = torch.zeros(2, 2)
        self.assertEqual(self.run_tool(state), (0, ""))
        raw = read(self.output)
        length = struct.unpack("<Q", raw[:8])[0]
        self.assertEqual(length % 8, 0)
        header = json.loads(raw[8:8 + length])
        metadata = header.pop("__metadata__")
        self.assertEqual(metadata["family"], "torchvision")
        self.assertEqual(metadata["channel_order"], "RGB")
        self.assertEqual(metadata["input_range"], "0..1")
        self.assertEqual(metadata["input_mean"], "0.485,0.456,0.406")
        self.assertEqual(metadata["input_std"], "0.229,0.224,0.225")
        self.assertEqual(len(header), 32)
        values = sum((info["data_offsets"][1] - info["data_offsets"][0]) // 4
                     for info in header.values())
        self.assertEqual(values, 20024384)
        for name, info in header.items():
            begin, end = info["data_offsets"]
            stored = torch.frombuffer(bytearray(raw[8 + length + begin:8 + length + end]),
                                      dtype=torch.float32).reshape(info["shape"])
            self.assertTrue(torch.equal(stored, state[name]), name)
        self.assertEqual(len(raw), 8 + length + 4 * values)

    def test_family(self):
        self.assertEqual(self.run_tool(vgg19(), "--family", "caffe"), (0, ""))
        raw = read(self.output)
        metadata = json.loads(raw[8:8 + struct.unpack("<Q", raw[:8])[0]])["__metadata__"]
        self.assertEqual(metadata["channel_order"], "BGR")
        self.assertEqual(metadata["input_mean"], "103.939,116.779,123.68")

    def test_refuses(self):
        state = vgg19()
        del state["features.34.bias"]
        self.assertIn("features.34.bias", self.refused(state))
        state = vgg19()
        state["features.5.weight"] = torch.zeros(64, 64, 3, 3)
        self.assertIn("features.5.weight", self.refused(state))
        state = vgg19()
        state["features.5.bias"] = torch.full((128,), float("nan"))
        self.assertIn("not finite", self.refused(state))
        state = vgg19()
        state["classifier.1.weight"] = torch.zeros(2, 2)
        self.assertIn("--family caffe", self.refused(state))
        self.assertIn("not a state dict", self.refused([torch.zeros(2)]))

    def test_refuses_what_is_no_file_of_pytorch(self):
        for content in (None, b"", b"nonsense"):
            source = os.path.join(self.folder.name, "broken.pth")
            if content is not None:
                with open(source, "wb") as file:
                    file.write(content)
            code, errors = self.run_on(source)
            self.assertEqual(code, 2, errors)
            self.assertEqual(errors.count("\n"), 1, errors)
            self.assertIn("broken.pth", errors)
            self.assertFalse(os.path.exists(self.output))

    def test_refuses_a_folder_that_is_not_there(self):
        self.output = os.path.join(self.folder.name, "none", "vgg19.safetensors")
        self.assertIn("cannot write", self.refused(vgg19()))


if __name__ == "__main__":
    unittest.main()
