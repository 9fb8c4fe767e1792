#!/usr/bin/env python3
"""Writes the VGG19 file that Subpix's perceptual loss reads, from PyTorch weights.

  convert_vgg19.py vgg19-dcbb9e9d.pth vgg19.safetensors     from a state dict that torch.save wrote
  convert_vgg19.py torchvision vgg19.safetensors            from an installed torchvision, which
                                                            downloads the weights unless it has them

Only the sixteen convolutions are kept, under torchvision's names. The metadata states what input
the weights were trained on; Subpix refuses to guess it. Two trainings of VGG19 are in use:
  torchvision  RGB, 0..1, minus 0.485,0.456,0.406, divided by 0.229,0.224,0.225 (the default)
  caffe        the original weights: BGR, 0..255, minus 103.939,116.779,123.68
Names and shapes do not tell them apart, so --family must be right. Needs torch.
"""

import argparse
import json
import os
import struct
import sys
import tempfile

CONVOLUTIONS = {  # N of features.N -> (inputs, outputs)
    0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256),
    14: (256, 256), 16: (256, 256), 19: (256, 512), 21: (512, 512), 23: (512, 512),
    25: (512, 512), 28: (512, 512), 30: (512, 512), 32: (512, 512), 34: (512, 512)}

FAMILIES = {
    "torchvision": {"channel_order": "RGB", "input_range": "0..1",
                    "input_mean": "0.485,0.456,0.406", "input_std": "0.229,0.224,0.225"},
    "caffe": {"channel_order": "BGR", "input_range": "0..255",
              "input_mean": "103.939,116.779,123.68", "input_std": "1,1,1"}}


class InputError(Exception):
    """Something the user can mend; one sentence."""


def import_torch():
    try:
        import torch
    except ImportError as error:
        raise InputError("this needs PyTorch; install python3-torch (Debian) or `pip install "
                         f"torch` ({error})") from error
    return torch


def from_torchvision():
    try:
        from torchvision import models
    except ImportError as error:
        raise InputError("torchvision is not installed; install it, or give the path of a state "
                         f"dict such as vgg19-dcbb9e9d.pth ({error})") from error
    try:
        if hasattr(models, "VGG19_Weights"):
            return models.vgg19(weights=models.VGG19_Weights.IMAGENET1K_V1).state_dict()
        return models.vgg19(pretrained=True).state_dict()  # before torchvision 0.13
    except OSError as error:
        raise InputError("torchvision could not get its weights; download vgg19-dcbb9e9d.pth on a "
                         f"machine with network and give its path ({error})") from error


def from_file(torch, path):
    if not os.path.isfile(path):
        raise InputError(f"there is no file {path}; give the path of a state dict, or the word "
                         "torchvision")
    try:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except TypeError:  # PyTorch before 1.13 would run whatever the pickle says
            raise InputError("this PyTorch cannot load weights without running code from the file; "
                             "use PyTorch 1.13 or later") from None
    except InputError:
        raise
    except Exception as error:  # torch.load reports damage in many ways
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise InputError(f"{path} is no state dict that torch.load reads: {reason}") from error
    if not isinstance(state, dict):
        raise InputError(f"{path} holds a {type(state).__name__}, not a state dict; save "
                         "model.state_dict()")
    return state


def pick(torch, state, source, family):
    """The convolutions as contiguous float32, in order."""
    # jcjohnson's conversion of the original weights numbers the classifier differently.
    if family == "torchvision" and "classifier.1.weight" in state \
            and "classifier.0.weight" not in state:
        raise InputError(f"{source} looks like the original weights under torchvision's names; "
                         "state --family caffe")
    tensors = {}
    for n, (c_in, c_out) in CONVOLUTIONS.items():
        for kind, shape in (("weight", (c_out, c_in, 3, 3)), ("bias", (c_out,))):
            name = f"features.{n}.{kind}"
            if name not in state:
                raise InputError(f"{source} is no VGG19: it has no tensor {name}"
                                 + (" (VGG with batch norm has other weights)"
                                    if "features.1.running_mean" in state else ""))
            value = state[name]
            if not torch.is_tensor(value) or tuple(value.shape) != shape:
                has = tuple(value.shape) if torch.is_tensor(value) else type(value).__name__
                raise InputError(f"{source} is no VGG19: {name} is {has}, not {shape}")
            if not torch.isfinite(value).all():
                raise InputError(f"{source} is damaged: {name} holds values that are not finite")
            tensors[name] = value.detach().to(torch.float32).contiguous()
    return tensors


def raw_bytes(tensor):
    """Little-endian data without a need for numpy."""
    flat = tensor.reshape(-1)
    try:
        return flat.numpy().astype("<f4").tobytes()
    except RuntimeError:  # PyTorch built without numpy
        return struct.pack(f"<{flat.numel()}f", *flat.tolist())


def write_safetensors(path, tensors, metadata):
    """8 bytes header length, JSON header padded to a multiple of 8, data; complete or not at all."""
    header, begin = {"__metadata__": metadata}, 0
    for name, value in tensors.items():
        end = begin + 4 * value.numel()
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    temporary = None
    try:
        folder = os.path.dirname(os.path.abspath(path))
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as out:
            temporary = out.name
            out.write(struct.pack("<Q", len(text)) + text)
            for value in tensors.values():
                out.write(raw_bytes(value))
            out.flush()
            os.fsync(out.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # a temporary file is private at first
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary:
            os.unlink(temporary)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="state dict file (.pth), or the word torchvision")
    parser.add_argument("output", help="safetensors file to write")
    parser.add_argument("--family", choices=sorted(FAMILIES), default="torchvision",
                        help="which training the weights are from (default: torchvision)")
    options = parser.parse_args()
    try:
        torch = import_torch()
        if options.source == "torchvision":
            if options.family != "torchvision":
                raise InputError("torchvision's own weights are of family torchvision")
            state, source = from_torchvision(), "torchvision"
        else:
            state, source = from_file(torch, options.source), options.source
        tensors = pick(torch, state, source, options.family)
        metadata = {"format": "pt", "network": "VGG19 features", "family": options.family,
                    **FAMILIES[options.family], "source": os.path.basename(source)}
        write_safetensors(options.output, tensors, metadata)
    except InputError as error:
        print(f"convert_vgg19.py: {error}", file=sys.stderr)
        return 2
    print(f"{options.output}: conv1_1 to conv5_4, family {options.family}, "
          f"{metadata['channel_order']} {metadata['input_range']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
