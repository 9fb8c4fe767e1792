"""What a measurement must name: the machine, the date and the commit. Used by the other scripts."""

import datetime
import os
import platform
import subprocess

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))


def output_of(*command):
    """What a command prints, or nothing if it fails or is missing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def fields_of(path, separator):
    """First value of each name in a file of "name SEPARATOR value" lines."""
    fields = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            name, found, value = line.partition(separator)
            if found:
                fields.setdefault(name.strip(), value.strip().strip('"'))
    return fields


def describe():
    cpu = fields_of("/proc/cpuinfo", ":")
    flags = set(cpu.get("flags", "").split())
    identity = " ".join(f"{label} {cpu[name]}" for label, name in
                        (("family", "cpu family"), ("model", "model"), ("stepping", "stepping"))
                        if name in cpu)
    return {"cpu": cpu.get("model name", platform.processor()), "cpu_identity": identity,
            "cores": len(os.sched_getaffinity(0)),
            "simd": "avx512" if "avx512f" in flags else "avx2" if "avx2" in flags else "sse2",
            "memory_mib": int(fields_of("/proc/meminfo", ":")["MemTotal"].split()[0]) // 1024,
            "system": fields_of("/etc/os-release", "=").get("PRETTY_NAME", "")}


def text(host):
    return (f"{host['cpu']} ({host['cpu_identity']}), {host['cores']} cores, {host['simd']}, "
            f"{host['memory_mib']} MiB, {host['system']}")


def commit():
    head = output_of("git", "rev-parse", "HEAD") or "none"
    return head + ("-dirty" if output_of("git", "status", "--porcelain") else "")


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
