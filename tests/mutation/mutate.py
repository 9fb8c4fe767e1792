#!/usr/bin/env python3
"""Plants faults in the kernels and demands that their tests notice each.

mutants.py writes copies of the sources that contain all mutants at once; one is chosen by a variable
when the program starts. Each copy is compiled once a flavour, with the commands of an existing Ninja
build, and linked before the library, so that the build itself stays as it is.

A mutant runs under the tests that reach it, the quickest first, until one fails, crashes or takes too
long; what survives the flavour sim runs under check, which sees races. --all can be interrupted:
verdicts are kept in build/mutation and hold until the mutated file changes.

Exit code: 0 all caught (--all: at least 95 %), 1 not so, 2 wrong usage.
"""

import argparse
import collections
import concurrent.futures
import hashlib
import json
import os
import re
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, "..", ".."))
sys.path[:0] = [HERE, os.path.join(ROOT, "tools")]

import machine  # noqa: E402  (from tools)
import mutants as finder  # noqa: E402
from program import KERNELS, Problem, Program  # noqa: E402

# Their faults are the host's: the tests of the simulator and of the engine look for them.
LEFT_OUT = {"runtime.cu", "table.cu"}
TARGET = 0.95
RESULT = os.path.join(ROOT, "docs", "results", "mutation.json")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def source(name):
    return os.path.join(ROOT, KERNELS, name)


def all_files():
    return sorted(f for f in os.listdir(os.path.join(ROOT, KERNELS))
                  if f.endswith((".cu", ".cuh")) and f not in LEFT_OUT)


def lines_of(name):
    """Fields between ' ~> ' of each line that is no comment."""
    path = os.path.join(HERE, name)
    for number, line in enumerate(read(path).splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            yield f"{name}:{number}", [field.strip() for field in line.split(" ~> ")]


def equivalent():
    """equivalent.txt: FILE ~> KIND ~> LINE ~> why nothing can notice it. A kind without #n means
    all mutants of this kind on lines of this text; '*' any kind."""
    known = {}
    for place, fields in lines_of("equivalent.txt"):
        if len(fields) != 4:
            raise Problem(f"{place}: four fields between ' ~> ' are needed, there are {len(fields)}")
        known[tuple(fields[:3])] = fields[3]
    return known


def explanation(mutant, known):
    nth = f"{mutant.kind} #{mutant.ordinal}"
    for kind in (nth, mutant.kind, "*"):
        if (mutant.file, kind, mutant.text) in known:
            return known[(mutant.file, kind, mutant.text)]
    return ""


def fixed():
    """fixed.txt: FILE[ SOURCE] ~> KIND ~> LINE ~> OP VARIANT; the mutants with their tests and the
    source to compile."""
    chosen = []
    for place, fields in lines_of("fixed.txt"):
        if len(fields) != 4:
            raise Problem(f"{place}: four fields between ' ~> ' are needed, there are {len(fields)}")
        names, kind, text, test = fields
        name, user = (names + " " + names).split(" ")[:2]
        if not os.path.exists(source(name)):
            raise Problem(f"{place}: there is no file '{name}'")
        key = f"{name} ~> {kind} ~> {text}"
        found = [m for m in finder.find(name, read(source(name))) if m.key() == key]
        if not found:
            raise Problem(f"{place}: there is no mutant '{kind}' on a line '{text}' of {name}")
        chosen.append((found[0], ("", *test.split(" ")), user))
    return chosen


def numbered(mutants):
    for number, mutant in enumerate(mutants, 1):
        mutant.id = number
    return mutants


class Progress:
    """Verdicts of earlier runs, kept by the mutant's key and its file's content. Without any of this
    build's own, those of a committed result are where it goes on."""

    def __init__(self, path, committed=None):
        self.path, self.known = path, {}
        self.digest, self.committed = {}, {}
        if os.path.exists(path):
            self.known = json.loads(read(path))
        elif committed and os.path.exists(committed):
            self.committed = json.loads(read(committed)).get("verdicts", {})

    def stamp(self, name):
        if name not in self.digest:
            self.digest[name] = hashlib.sha256(read(source(name)).encode()).hexdigest()[:16]
        return self.digest[name]

    def get(self, mutant):
        entry = self.known.get(mutant.key())
        if entry:
            return entry["verdict"] if entry["stamp"] == self.stamp(mutant.file) else None
        group = self.committed.get(mutant.file, {})
        if group.get("stamp") != self.stamp(mutant.file):
            return None
        return next((verdict for verdict, names in group.items()
                     if verdict != "stamp" and short(mutant) in names.split()), None)

    def packed(self, mutants):
        """What get() knows, small enough to be committed: {file: {"stamp", verdict: names}}."""
        groups = {}
        for mutant in mutants:
            verdict = self.get(mutant)
            if verdict:
                group = groups.setdefault(mutant.file, {"stamp": self.stamp(mutant.file)})
                word = "caught" if caught(verdict) else verdict
                group[word] = (group.get(word, "") + " " + short(mutant)).strip()
        return groups

    def put(self, mutant, verdict):
        self.known[mutant.key()] = {"verdict": verdict, "stamp": self.stamp(mutant.file)}

    def save(self):
        with open(self.path + ".new", "w", encoding="utf-8") as file:
            json.dump(self.known, file, indent=0)
        os.replace(self.path + ".new", self.path)


def short(mutant):
    return hashlib.sha256(mutant.key().encode()).hexdigest()[:10]


def caught(verdict):
    return verdict.startswith(("caught", "crashed", "out of time"))


def sift(program, mutants, options, progress):
    """Table tests, an op at a time; what no op notices goes to the other test cases."""
    place = "" if program.flavour == "sim" else f" in {program.flavour}"
    words = {"caught": "caught: ", "crashed": "crashed: ", "late": "out of time: "}
    by_id = {m.id: m for m in mutants}
    alive, reached = {i: options.seconds for i in by_id}, set()
    each = options.seconds / 4  # an op must not use up what others need

    def settle(number, what, where):
        progress.put(by_id[number], words[what] + where + place)
        alive.pop(number, None)

    ops = [op for op in program.ops() if re.search(options.tests, op)]
    # bf16 first: its problems are mostly those of f32, and more variants take them.
    for op in sorted(ops, key=lambda op: (op.startswith("conv2d"), "bf16" not in op)):
        begin = time.monotonic()
        before, here = len(alive), set()
        ready = {number: min(left, each) for number, left in alive.items()}
        for number, what, where in program.sieve(op, ready, options.jobs) if alive else []:
            if what == "reached" and number not in here:
                reached.add(number)
                here.add(number)
                alive[number] -= each
            elif what != "reached":
                settle(number, what, where)
        print(f"{program.flavour}: {op}: {before - len(alive)} caught, {len(alive)} left, "
              f"{time.monotonic() - begin:.0f} s", flush=True)
        progress.save()

    def by_others(number):
        for test in others:
            if number in found[test]:
                told = program.run(test, number)
                if told:
                    return told
        return ""

    others = [test for test in program.other_tests() if re.search(options.tests, test[0])]
    found = dict(zip(others, options.pool.map(program.record, others)))
    others.sort(key=lambda test: program.seconds[test])
    left = list(alive)
    for number, told in zip(left, options.pool.map(by_others, left)):
        if told:
            progress.put(by_id[number], told + place)
        elif number in reached or any(number in ids for ids in found.values()):
            progress.put(by_id[number], "survived")
        elif progress.get(by_id[number]) is None:
            progress.put(by_id[number], "not reached")
    progress.save()


def run_all(options, pool):
    options.pool = pool
    files = [options.file] if options.file else all_files()
    flat = numbered([m for name in files for m in finder.find(name, read(source(name)))])
    folder = os.path.join(options.build, "mutation", options.file or "all")
    os.makedirs(folder, exist_ok=True)
    progress = Progress(os.path.join(options.build, "mutation", "progress.json"), RESULT)

    def note(mutant):
        print(f"{mutant.file}:{mutant.line}: {mutant.kind}: does not compile: {mutant.text}", flush=True)
        progress.put(mutant, "does not compile")
        progress.save()

    for flavour in options.flavours:
        first = flavour == options.flavours[0]
        waiting = [m for m in flat if progress.get(m) is None or
                   (progress.get(m) in ("survived", "not reached") and (options.again or not first))]
        if not first:
            waiting = [m for m in waiting if progress.get(m) == "survived" and not explanation(m, options.equivalent)]
        waiting = [m for m in waiting if options.kind in m.kind]
        if waiting:
            # Later flavours contain only what is left: less to compile.
            program = Program(options.build, flavour, folder, pool)
            program.make([m for m in (flat if first else waiting) if progress.get(m) != "does not compile"], note)
            sift(program, [m for m in waiting if progress.get(m) != "does not compile"], options, progress)
    return report(options, flat, progress)


def report(options, mutants, progress):
    table = collections.defaultdict(collections.Counter)
    kinds = collections.defaultdict(collections.Counter)
    left, total = [], collections.Counter()
    for mutant in mutants:
        verdict = progress.get(mutant) or "not run"
        why = "" if caught(verdict) else explanation(mutant, options.equivalent)
        column = ("caught" if caught(verdict) else "explained" if why and verdict in ("survived", "not reached")
                  else verdict)
        for counter in (table[mutant.file], kinds[mutant.kind], total):
            counter[column] += 1
        if column in ("survived", "not reached"):
            left.append({"file": mutant.file, "line": mutant.line, "kind": mutant.kind, "text": mutant.text,
                         "verdict": verdict, "key": mutant.key()})
    judged = total["caught"] + total["survived"] + total["not reached"]
    score = total["caught"] / judged if judged else 1.0
    for entry in left:
        print(f"{entry['verdict']}: {entry['file']}:{entry['line']}: {entry['kind']}: {entry['text']}")
    # Survivors are known at the end: until then a share of the judged ones would only be those caught.
    whole = f"caught {100 * score:.1f} %" if not total["not run"] else "unfinished"
    print(", ".join(f"{n} {what}" for what, n in total.most_common()) + f"; {whole}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"date": machine.now(), "commit": machine.commit(),
                       "command": " ".join(["tests/mutation/run.sh", *sys.argv[1:]]),
                       "caught_of_unexplained": round(score, 4) if not total["not run"] else None, "total": dict(total),
                       "files": {name: dict(table[name]) for name in sorted(table)},
                       "kinds": {kind: dict(kinds[kind]) for kind in sorted(kinds)}, "survivors": left,
                       "verdicts": progress.packed(mutants)}, file, indent=1)
            file.write("\n")
    return 0 if score >= TARGET and not total["not run"] else 1


def run_fixed(options, pool):
    chosen = fixed()
    numbered([mutant for mutant, _, _ in chosen])
    folder = os.path.join(options.build, "mutation", "fixed")
    os.makedirs(folder, exist_ok=True)
    program = Program(options.build, options.flavours[0], folder, pool)
    program.make([mutant for mutant, _, _ in chosen], users=sorted({user for _, _, user in chosen}))
    tests = sorted({test for _, test, _ in chosen})
    reached = dict(zip(tests, pool.map(program.record, tests)))

    def verdict(entry):
        mutant, test, _ = entry
        return (program.run(test, mutant.id) or "survived") if mutant.id in reached[test] else "not reached"

    verdicts = list(pool.map(verdict, chosen))
    for (mutant, _, _), told in zip(chosen, verdicts):
        print(f"{mutant.file}:{mutant.line}: {mutant.kind}: {told}")
    good = sum(map(caught, verdicts))
    print(f"{good} of {len(chosen)} caught")
    return 0 if good == len(chosen) else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=os.path.join(ROOT, "build"), help="Ninja build folder (default build)")
    parser.add_argument("--flavours", default="sim,check", help="which simulators, in order (default sim,check)")
    parser.add_argument("--all", action="store_true", help="all mutants instead of those of fixed.txt")
    parser.add_argument("--file", help="all mutants of one file of kernels/cuda")
    parser.add_argument("--kind", default="", help="with --all, --file: mutants whose kind contains this")
    parser.add_argument("--tests", default="", help="with --all, --file: only tests whose name matches")
    parser.add_argument("--seconds", type=float, default=60,
                        help="with --all, --file: of table tests that a mutant must pass in a flavour to survive (default 60)")
    parser.add_argument("--again", action="store_true", help="with --all, --file: survivors of earlier runs too")
    parser.add_argument("--list", action="store_true", help="name the mutants, run nothing")
    parser.add_argument("--summary", action="store_true", help="with --all, --file: what is known, run nothing")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", help="file to write (--all: docs/results/mutation.json)")
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    options.flavours = options.flavours.split(",")
    try:
        if options.file and options.file not in all_files():
            raise Problem(f"--file: '{options.file}' is none of {', '.join(all_files())}")
        options.equivalent = equivalent()
        if options.list:
            names = [options.file] if options.file else all_files() if options.all else []
            for mutant in [m for n in names for m in finder.find(n, read(source(n)))] or [m for m, _, _ in fixed()]:
                print(f"{mutant.line}: {mutant.key()}")
            return 0
        if options.all and not options.json and not options.file:
            options.json = RESULT
        if options.summary:
            options.flavours = []
        with concurrent.futures.ThreadPoolExecutor(max(1, options.jobs)) as pool:
            return run_all(options, pool) if options.all or options.file else run_fixed(options, pool)
    except Problem as problem:
        print(f"mutate.py: {problem}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
