#!/usr/bin/env python3
"""Times the same step as tools/step_bench in PyTorch, in each form that PyTorch offers.

Forms on the CPU: eager with contiguous tensors, eager with channels_last, torch.compile (max-autotune,
channels_last). On CUDA all are channels_last with cuDNN's benchmark over all algorithms and fused Adam: eager; the
whole step captured in a CUDA graph; torch.compile max-autotune; the same without its own graphs; that one captured
by hand. A form that cannot run is a line with its reason, and the others go on. A step runs from zero_grad to the
end of Adam's step, on data that lies on the device. Debian's python3-torch (1.13) will do for the CPU, without
torch.compile.
"""

import argparse
import contextlib
import datetime
import json
import os
import resource
import sys
import time

try:
    import torch
    from torch.nn import functional
except ImportError:
    print("pytorch_baseline.py: this Python has no torch; install python3-torch and use "
          "/usr/bin/python3", file=sys.stderr)
    sys.exit(2)

import pytorch_networks as networks

LEARNING_RATE = 1e-4
# The named steps of tools/step_bench.
STEPS = {"srresnet-16": {"mode": "srresnet", "batch": 16}, "srresnet-64": {"mode": "srresnet", "batch": 64},
         "srgan-vgg54-16": {"mode": "srgan", "batch": 16, "vgg_layer": "VGG54"},
         "srgan-vgg54-64": {"mode": "srgan", "batch": 64, "vgg_layer": "VGG54"},
         "infer-480x320": {"mode": "infer", "batch": 1, "width": 480, "height": 320},
         "infer-1920x1080": {"mode": "infer", "batch": 1, "width": 1920, "height": 1080}}
FORMS = {"cpu": ["eager-contiguous", "eager-channels_last", "compile"],
         "cuda": ["eager", "graph", "compile", "compile-no-cudagraphs", "compile-graph"]}
# What a rounding does: a relative change of every weight by so much is a disturbance of the kind that each layer's
# own rounding is. fp32 sums up to 5184 products in some order, whose error grows with the root of their number.
DISTURBANCE = {"fp32": 72 * 2.0 ** -24, "tf32": 2.0 ** -11, "fp16": 2.0 ** -11, "bf16": 2.0 ** -9}
MARGIN = 40  # LR pixels that the network looks at around a strip


class Unavailable(Exception):
    """A form that this PyTorch or this machine does not have."""


class Training:
    """Networks, data and optimisers of a training step in one form."""

    def __init__(self, args, form, disturbance_seed=0):
        self.args, self.form = args, form
        contiguous = form == "eager-contiguous"
        layout = torch.contiguous_format if contiguous else torch.channels_last
        torch.manual_seed(1)
        self.lr, self.hr = (x.to(args.device).contiguous(memory_format=layout) for x in pictures(args))
        self.generator = networks.Generator(args.blocks, args.channels, args.scale)
        self.discriminator = networks.Discriminator(args.crop) if args.mode == "srgan" else None
        self.vgg = None
        if args.vgg_layer:
            given = networks.read_safetensors(os.path.join(args.start, "vgg.safetensors")) if args.start else ()
            self.vgg = networks.Vgg(args.vgg_layer, *given)
        for name in ("generator", "discriminator"):
            net = getattr(self, name)
            if net and args.start:
                tensors, _ = networks.read_safetensors(os.path.join(args.start, name + ".safetensors"))
                missing, unexpected = net.load_state_dict(tensors, strict=False)
                bad = unexpected + [m for m in missing if not m.endswith("num_batches_tracked")]
                if bad:
                    raise ValueError(f"{args.start}/{name}.safetensors does not fit the network: {bad[0]}")
        if disturbance_seed:
            self.disturb(disturbance_seed)
        for name in ("generator", "discriminator", "vgg"):
            if getattr(self, name):
                setattr(self, name, getattr(self, name).to(args.device, memory_format=layout))
        fused = {"fused": True, "capturable": True} if args.device == "cuda" else {}
        self.adam = torch.optim.Adam(self.generator.parameters(), LEARNING_RATE, **fused)
        if self.discriminator:
            self.discriminator_adam = torch.optim.Adam(self.discriminator.parameters(), LEARNING_RATE, **fused)
        # Kept apart: the optimisers and requires_grad_ want the modules, the step runs what was made of them.
        self.run_generator, self.run_discriminator, self.run_vgg = self.generator, self.discriminator, self.vgg
        if form.startswith("compile"):
            mode = "max-autotune" if form == "compile" else "max-autotune-no-cudagraphs"
            for name in ("generator", "discriminator", "vgg"):
                if getattr(self, name):
                    setattr(self, "run_" + name, compiled(getattr(self, name), mode))
        self.losses = {}
        self.replay = None

    def disturb(self, seed):
        random = torch.Generator().manual_seed(seed)
        amplitude = DISTURBANCE[self.args.precision]
        with torch.no_grad():
            for net in filter(None, (self.generator, self.discriminator)):
                for weight in net.parameters():
                    weight *= 1 + amplitude * (2 * torch.rand(weight.shape, generator=random) - 1)

    def autocast(self):
        if self.args.precision in ("fp32", "tf32"):
            return contextlib.nullcontext()
        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}[self.args.precision]
        return torch.autocast(self.args.device, dtype=kind)

    def step(self, cut=lambda phase: None):
        """One step; the losses stay tensors, so that nothing waits for the device."""
        self.adam.zero_grad(set_to_none=True)
        with self.autocast():
            sr = self.run_generator(self.lr)
        cut("generator_forward")
        if self.discriminator:
            self.train_discriminator(sr.detach(), cut)
        with self.autocast():
            if self.vgg:
                content = self.losses["vgg"] = networks.vgg_loss(self.run_vgg, sr, self.hr)
                cut("vgg_loss")
            else:
                content = self.losses["pixel"] = functional.mse_loss(sr, self.hr)
                cut("pixel_loss")
            loss = content
            if self.discriminator:
                self.discriminator.requires_grad_(False)
                self.losses["adversarial"] = networks.labelled(self.run_discriminator(sr), 1.0)
                loss = loss + networks.ADVERSARIAL_WEIGHT * self.losses["adversarial"]
                cut("adversarial_loss")
        loss.backward()
        cut("generator_backward")
        self.adam.step()
        cut("generator_optimiser")

    def train_discriminator(self, sr, cut):
        self.discriminator.requires_grad_(True)
        self.discriminator_adam.zero_grad(set_to_none=True)
        with self.autocast():
            loss = (networks.labelled(self.run_discriminator(self.hr), 1.0)
                    + networks.labelled(self.run_discriminator(sr), 0.0))
        self.losses["discriminator"] = loss
        loss.backward()
        cut("discriminator_gradients")
        self.discriminator_adam.step()
        cut("discriminator_optimiser")

    def prepare(self):
        """What has to happen before the first timed step: captures the step where the form says so."""
        if self.form not in ("graph", "compile-graph"):
            return
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(5):
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        self.adam.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step()
        self.replay = graph.replay

    def run(self):
        if self.replay:
            self.replay()
            return
        if self.form == "compile" and self.args.device == "cuda":
            torch.compiler.cudagraph_mark_step_begin()
        self.step()

    def loss_values(self):
        return {name: value.item() for name, value in self.losses.items()}

    def parameters(self):
        return sum(p.numel() for p in self.generator.parameters())


class Inference:
    """The generator on one picture, batch norm folded."""

    def __init__(self, args, form):
        self.args, self.form = args, form
        layout = torch.contiguous_format if form == "eager-contiguous" else torch.channels_last
        torch.manual_seed(1)
        self.lr = pictures(args)[0].to(args.device).contiguous(memory_format=layout)
        generator = networks.Generator(args.blocks, args.channels, args.scale)
        self.count = sum(p.numel() for p in generator.parameters())
        if args.start:
            tensors, _ = networks.read_safetensors(os.path.join(args.start, "generator.safetensors"))
            generator.load_state_dict(tensors, strict=False)
        self.generator = generator.fold().to(args.device, memory_format=layout)
        if form.startswith("compile"):
            self.generator = compiled(self.generator, "max-autotune" if form == "compile" else
                                      "max-autotune-no-cudagraphs")
        self.replay = None

    def upscale(self):
        args = self.args
        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(args.precision)
        with torch.no_grad(), torch.autocast(args.device, dtype=kind) if kind else contextlib.nullcontext():
            rows, height = args.strip_rows or args.height, args.height
            parts = []
            for top in range(0, height, rows):
                begin, bottom = max(0, top - MARGIN), min(height, top + rows)
                part = self.generator(self.lr[:, :, begin:min(height, bottom + MARGIN)])
                parts.append(part[:, :, args.scale * (top - begin):args.scale * (bottom - begin)])
        return parts

    def prepare(self):
        if self.form in ("graph", "compile-graph"):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    self.upscale()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.result = self.upscale()
            self.replay = graph.replay

    def run(self):
        if self.replay:
            self.replay()
        else:
            self.upscale()

    def step(self, cut):
        self.run()
        cut("network")

    def loss_values(self):
        return {}

    def parameters(self):
        return self.count


def compiled(module, mode):
    if not hasattr(torch, "compile"):
        raise Unavailable(f"PyTorch {torch.__version__} has no torch.compile, it came with 2.0")
    return torch.compile(module, mode=mode)


def pictures(args):
    """LR in [0, 1] and HR in [-1, 1], N,C,H,W; HR is None for inference."""
    if args.start:
        data, _ = networks.read_safetensors(os.path.join(args.start, "data.safetensors"))
        lr = data["lr"].permute(0, 3, 1, 2).float() / 255
        return lr, data["hr"].permute(0, 3, 1, 2).float() * (2 / 255) - 1 if "hr" in data else None
    if args.mode == "infer":
        return torch.rand(1, 3, args.height, args.width), None
    small = args.crop // args.scale
    return (torch.rand(args.batch, 3, small, small), torch.rand(args.batch, 3, args.crop, args.crop) * 2 - 1)


def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def quantile(values, q):
    """Linear between neighbours, as in tools/statistics.cpp."""
    values = sorted(values)
    position = q * (len(values) - 1)
    below = int(position)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (position - below)


def spread(values):
    return {"median_ms": round(quantile(values, 0.5), 4), "min_ms": round(min(values), 4),
            "p5_ms": round(quantile(values, 0.05), 4), "p95_ms": round(quantile(values, 0.95), 4)}


def divided(workload, args, keep):
    """Times of one step's phases, each waited for."""
    times = {}
    wait(args.device)
    last = time.perf_counter()

    def cut(phase):
        nonlocal last
        wait(args.device)
        now = time.perf_counter()
        times[phase] = times.get(phase, 0.0) + (now - last) * 1e3
        last = now

    workload.step(cut)
    if keep is not None:
        for phase, ms in times.items():
            keep.setdefault(phase, []).append(ms)
    return sum(times.values())


def count_kernels(workload):
    """Kernels on the device in one step, as PyTorch's profiler sees them; None where it cannot look."""
    try:
        from torch.profiler import ProfilerActivity, profile
        with profile(activities=[ProfilerActivity.CUDA]) as watched:
            workload.run()
            torch.cuda.synchronize()
        names = [e.name for e in watched.events() if e.device_type == torch.autograd.DeviceType.CUDA]
        return sum(not name.startswith(("Memcpy", "Memset")) for name in names) or None
    except Exception:  # a count beside the time: without the profiler's library the time still stands
        return None


def time_form(form, args):
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    workload = Inference(args, form) if args.mode == "infer" else Training(args, form)
    workload.prepare()
    group = args.group or (10 if args.device == "cuda" else 1)
    samples, phases = [], {}
    eager = form.startswith("eager")
    if args.device == "cpu" and eager:
        # A divided step is an undivided one, and one series tells both.
        for number in range(args.warmup + args.steps):
            ms = divided(workload, args, phases if number >= args.warmup else None)
            if number >= args.warmup:
                samples.append(ms)
    else:
        for _ in range(args.warmup):
            workload.run()
        for _ in range(args.steps):
            wait(args.device)
            begin = time.perf_counter()
            for _ in range(group):
                workload.run()
            wait(args.device)
            samples.append((time.perf_counter() - begin) * 1e3 / group)
        if eager:
            for _ in range(args.steps):
                divided(workload, args, phases)
    kernels = count_kernels(workload) if args.device == "cuda" else None
    losses = workload.loss_values()
    for name, value in losses.items():
        if not abs(value) < float("inf"):
            raise ArithmeticError(f"the {name} loss became {value}; the timing is void")
    result = {"form": form, "status": "measured", "generator_parameters": workload.parameters(), **spread(samples)}
    result["images_per_second"] = args.batch * 1e3 / result["median_ms"]
    result["phases"] = {phase: spread(values) for phase, values in phases.items()}
    result["memory"] = {"process_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if args.device == "cuda":
        result["memory"]["device_peak_bytes"] = torch.cuda.max_memory_allocated()
        result["kernels"] = kernels
    result["losses"] = losses
    result["step_ms"] = [round(ms, 4) for ms in samples]
    return result


def guarded(form, args):
    """The result of a form, or why there is none."""
    try:
        return time_form(form, args)
    except Unavailable as error:
        return {"form": form, "status": "unavailable", "reason": str(error)}
    except Exception as error:  # whatever PyTorch raises: the other forms are to go on
        reason = (str(error).strip() or repr(error)).split("\n")[0]
        return {"form": form, "status": "failed", "reason": f"{type(error).__name__}: {reason}"[:300]}
    finally:
        if args.device == "cuda":
            torch.cuda.empty_cache()


def loss_series(args, seed):
    """Losses of the first steps, before each update, in the first eager form."""
    training = Training(args, next(f for f in FORMS[args.device] if f.startswith("eager")), seed)
    series = []
    for _ in range(args.losses):
        training.step()
        series.append(training.loss_values())
    return series


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--step", help="a reference step of step_bench: " + ", ".join(STEPS))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--forms", help="of " + "; ".join(f"{d}: {','.join(f)}" for d, f in FORMS.items()))
    parser.add_argument("--precision", choices=sorted(DISTURBANCE), help="default: fp32 on cpu, bf16 on cuda")
    parser.add_argument("--mode", choices=["srresnet", "srgan", "infer"])
    for name, value in (("batch", 4), ("blocks", 16), ("channels", 64), ("crop", 96), ("scale", 4), ("width", 0),
                        ("height", 0)):
        parser.add_argument(f"--{name}", type=int, help=f"default {value}" if value else None)
    parser.add_argument("--vgg-layer", help="content loss on this layer of VGG19 instead of on pixels")
    parser.add_argument("--start", help="folder that step_bench --save-start wrote: weights and data")
    parser.add_argument("--losses", type=int, default=0, help="first so many steps whose losses are told")
    parser.add_argument("--disturbed", type=int, default=2, help="runs of these steps from disturbed weights")
    parser.add_argument("--strip-rows", type=int, help="inference in strips of so many LR rows; 0: whole")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--group", type=int, default=0, help="steps a sample; 0: 10 on cuda, else 1")
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--json", help="file to write")
    args = parser.parse_args()
    if args.step and args.step not in STEPS:
        parser.error(f"there is no step '{args.step}'; the steps are {', '.join(STEPS)}")
    defaults = {"mode": "srresnet", "batch": 4, "blocks": 16, "channels": 64, "crop": 96, "scale": 4, "width": 0,
                "height": 0, "vgg_layer": None, **STEPS.get(args.step, {}),
                "precision": "bf16" if args.device == "cuda" else "fp32"}
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.mode == "infer":
        args.batch = 1
    if args.strip_rows is None:
        # Whole pictures where the memory is there for them.
        args.strip_rows = 120 if args.device == "cpu" and args.width * args.height > 480 * 320 else 0
    forms = args.forms.split(",") if args.forms else FORMS[args.device]
    for form in forms:
        if form not in FORMS[args.device]:
            parser.error(f"there is no form '{form}' on {args.device}; the forms are {', '.join(FORMS[args.device])}")
    args.forms = forms
    if min(args.batch, args.blocks, args.channels, args.threads, args.steps) < 1 or args.warmup < 0:
        parser.error("sizes, threads and steps must be at least 1")
    if args.mode == "infer" and min(args.width, args.height) < 1:
        parser.error("--mode infer needs --width and --height of the LR picture")
    if args.crop % args.scale or args.scale not in (2, 4):
        parser.error(f"--crop {args.crop} is no multiple of --scale {args.scale}, which is 2 or 4")
    if args.start and not os.path.exists(os.path.join(args.start, "data.safetensors")):
        parser.error(f"--start: '{args.start}' holds no data.safetensors; step_bench --save-start writes it")
    if args.losses and args.mode == "infer":
        parser.error("--losses belongs to training steps")
    return args


def main():
    args = parse()
    torch.set_num_threads(args.threads)
    if args.device == "cuda":
        if not torch.cuda.is_available():
            print("pytorch_baseline.py: PyTorch finds no CUDA device; use --device cpu", file=sys.stderr)
            sys.exit(2)
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.benchmark_limit = 0
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.precision != "fp32"
    result = {"tool": "pytorch_baseline", "torch": torch.__version__, "cuda": torch.version.cuda,
              "cudnn": torch.backends.cudnn.version(),
              "device": torch.cuda.get_device_name() if args.device == "cuda" else "cpu",
              "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
              "command": " ".join([os.path.basename(sys.argv[0])] + sys.argv[1:]), "step": args.step}
    for key in ("mode", "precision", "threads", "batch", "blocks", "channels", "crop", "scale", "vgg_layer", "warmup",
                "steps"):
        result[key] = getattr(args, key)
    if args.mode == "infer":
        result.update(width=args.width, height=args.height, strip_rows=args.strip_rows)
    if args.losses:
        result["loss_series"] = loss_series(args, 0)
        result["disturbance"] = DISTURBANCE[args.precision]
        result["disturbed_series"] = [loss_series(args, seed) for seed in range(1, args.disturbed + 1)]
    result["forms"] = []
    for form in args.forms:
        one = guarded(form, args)
        result["forms"].append(one)
        if one["status"] == "measured":
            print(f"torch {torch.__version__} {form}, {args.mode}: median {one['median_ms']:.3f} ms, "
                  f"min {one['min_ms']:.3f} ms, {one['images_per_second']:.2f} images/s", flush=True)
        else:
            print(f"torch {torch.__version__} {form}: {one['status']}: {one['reason']}", flush=True)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
