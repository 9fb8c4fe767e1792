"""Made-up results for the tests of bench_report.py. No number in this file was measured."""

DEVICE = "FIXTURE GPU, made up"


def ceiling(value):
    if value is None:
        return {"value": None, "low": None, "high": None, "status": "not measured"}
    return {"value": value, "low": value * 0.98, "high": value * 1.02, "status": "measured"}


def timing(us):
    return {"median_us": us, "p5_us": us * 0.97, "p95_us": us * 1.06, "runs": 25}


def rival(us, ours, kind="same", claim=True):
    ratio = us / ours
    return {"backend": "cudnn", "variant": "engine 7", "kind": kind, "median_us": us, "p5_us": us * 0.98,
            "p95_us": us * 1.03, "ratio": ratio, "ratio_low": ratio * 0.95, "ratio_high": ratio * 1.05, "claim": claim,
            "note": ""}


def result(op, variant, layer, us, flops, nbytes, default=True, status="measured", rivals=(), **extra):
    good = status == "measured"
    return {"op": f"{op}/bf16", "dtype": "bf16", "set": "srresnet", "layer": layer, "batch": 16,
            "problem": f"key of {layer}", "backend": "cuda", "variant": variant, "default": default, "status": status,
            "note": "", "flops": flops, "bytes": nbytes, "predicted_us": us * 0.6, "cold": timing(us) if good else None,
            "warm": timing(us * 0.8) if good else None, "tflops": flops / us / 1e6 if good else None,
            "gbps": nbytes / us / 1e3 if good else None, "bound": "compute" if flops / nbytes > 180 else "memory",
            "percent_of_ceiling": 42.0 if good else None, "counters": None, "rivals": list(rivals), **extra}


def kernel_bench(kind="gpu"):
    layers = (("g.head 9x9", 0.29e9, 1.3e6), ("g.blocks 3x3", 0.68e9, 2.4e6), ("g.up1", 2.7e9, 6.2e6),
              ("g.up2", 10.9e9, 23.9e6), ("g.tail 9x9", 4.6e9, 19.8e6))
    results = []
    for i, (layer, flops, nbytes) in enumerate(layers):
        for op in ("conv2d_forward", "conv2d_backward_data"):
            us = 3.0 + flops / 3e8
            results.append(result(op, "halo_mma", layer, us, flops, nbytes,
                                  rivals=[rival(us * (0.8 + 0.4 * i), us, claim=i != 2)]))
            results.append(result(op, "tiled_shared", layer, us * 9, flops, nbytes, default=False))
            results.append(result(op, "direct", layer, us * 90, flops, nbytes, default=False,
                                  status="unsupported" if i == 4 else "measured"))
    results.append(result("prelu_forward", "packs", "g.blocks", 2.0, 1.2e6, 2.4e6,
                          counters={"launches": 1, "barriers": 0, "mma": None}))
    results.append(result("dense_forward", "split_k_mma", "d.dense1", 12.0, 0.6e9, 38.4e6, status="out of memory"))
    return {"schema": "subpix-kernel-bench-1",
            "device": {"name": DEVICE, "kind": kind, "compute_capability": "9.0", "sms": 100, "memory_bytes": 1, "l2_bytes": 1,
                       "driver": "0.0", "cuda": "0.0", "cudnn": "0.0", "cublaslt": None, "onednn": None, "threads": None,
                       "processor": None},
            "date": "2000-01-01T00:00:00Z", "commit": "f1f1f1f1f1f1f1f1", "command": "kernel_bench --fixture",
            "ceilings": {"tensor_bf16_tflops": ceiling(700.0), "tensor_tf32_tflops": ceiling(None), "fp32_tflops":
                         ceiling(50.0), "copy_gbps": ceiling(4000.0), "l2_gbps": ceiling(None), "launch_gap_us":
                         ceiling(1.5), "grid_barrier_us": ceiling(1.25)},
            "results": results}


def spread(ms):
    return {"median_ms": ms, "min_ms": ms * 0.97, "p5_ms": ms * 0.98, "p95_ms": ms * 1.05}


def step(name="srresnet-16", backend="cuda", ms=0.5):
    parts = {"generator_forward": 0.3, "pixel_loss": 0.02, "generator_backward": 0.6, "generator_optimiser": 0.08}
    if "vgg" in name:
        parts = {"generator_forward": 0.1, "discriminator_gradients": 0.3, "discriminator_optimiser": 0.05, "vgg_loss":
                 0.3, "adversarial_loss": 0.1, "generator_backward": 0.13, "generator_optimiser": 0.02}
    return {"tool": "step_bench", "step": name, "altered": [], "backend": backend, "device": DEVICE,
            "date": "2000-01-01 00:00 UTC", "commit": "f1f1f1f1f1f1f1f1", "command": f"step_bench --step {name}",
            "mode": "srgan" if "vgg" in name else "srresnet", "precision": "bf16", "threads": 1, "batch": 16, "blocks": 16,
            "channels": 64, "crop": 96, "scale": 4, "vgg_layer": "VGG54" if "vgg" in name else None, "warmup": 1,
            "steps": 2, "generator_parameters": 5, **spread(ms), "images_per_second": 16e3 / ms,
            "phases": {part: spread(share * ms) for part, share in parts.items()},
            "memory": {"tensor_peak_bytes": 2 ** 29, "tensor_reserved_bytes": 2 ** 30, "workspace_bytes": 2 ** 20,
                       "process_peak_bytes": 2 ** 31},
            "counts": {"op_calls": 11, "least_bytes": 5e8, "launches": None, "executed": True, "simulator": None, "ops": {}},
            "floor": {"kind": "floor, computed", "flops": 1e11, "least_bytes": 4e8, "phases": 76, "ceilings": {},
                      "overlapped_ms": ms * 0.4, "layered_ms": ms * 0.5, "waiting_ms": ms * 0.7}}


def compare(name="srresnet-16", backend="cuda"):
    def form(ms):
        return {**step(name, backend, ms), "tool": "pytorch_baseline", "torch": "0.0"}

    one = {"subpix": [step(name, backend, 0.5), step(name, backend, 0.52)], "eager": [form(4.0), form(4.2)],
           "graph": [form(2.0), form(2.1)], "compile-graph": [form(1.5), form(1.6)]}
    return {"tool": "compare", "date": "2000-01-01 00:00 UTC", "commit": "f1f1f1f1f1f1f1f1-dirty", "machine": None,
            "command": f"tools/compare.py --step {name}",
            "settings": {**{k: one["subpix"][0].get(k) for k in ("step", "backend", "precision", "threads", "steps",
                                                                "warmup", "mode", "batch", "blocks", "channels", "crop",
                                                                "scale")}, "rounds": 1},
            "summary": {"ratio": 0.33, "ratio_min": 0.32, "ratio_max": 0.34,
                        "rounds": [{"subpix_ms": 0.51, "rival_ms": 1.55, "rival": "compile-graph", "ratio": 0.33}]},
            "losses": {"steps": 100, "agree": True, "first_bad": None, "worst": {}, "disturbance": 2e-3},
            "without": {"compile": {"status": "failed", "reason": "RuntimeError: made up"}}, "runs": [one]}


def check():
    return {"backend": "cuda", "date": "2000-01-01 00:00 UTC", "commit": "f1f1f1f1f1f1f1f1", "host": {}, "seconds": 12.0,
            "parts": {"build": {"part": "build", "status": "ok", "seconds": 10.0},
                      "kernels": {"part": "kernels", "status": "failed", "seconds": 2.0}}}
