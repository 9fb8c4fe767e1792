"""A test program whose kernels contain mutants: compiled, linked and run."""

import collections
import os
import re
import resource
import shutil
import subprocess
import time

import mutants as finder

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, "..", ".."))
KERNELS = os.path.join("kernels", "cuda")
TABLE_TEST = "every variant of every op matches the double reference"
NO_KERNEL_RUNS = {TABLE_TEST, "the table checks notice every kind of fault"}


class Problem(Exception):
    """Wrong usage, or a build that does not work."""


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def limits():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Program:
    """test_kernels_sim_<flavour> with mutated kernels. A test is (name, op, variant): a case of the
    table test if the name is empty."""

    def __init__(self, build, flavour, folder, pool):
        self.build, self.flavour, self.pool = build, flavour, pool
        self.folder = os.path.join(folder, flavour)
        self.target = f"test_kernels_sim_{flavour}"
        self.path = os.path.join(self.folder, self.target)
        if not os.path.exists(os.path.join(build, "build.ninja")):
            raise Problem(f"'{build}' is no Ninja build; configure one with cmake -G Ninja")
        done = subprocess.run(["ninja", "-C", build, self.target], text=True, capture_output=True, check=False)
        if done.returncode:
            raise Problem(f"ninja {self.target} failed:\n{done.stdout[-2000:]}")
        commands = subprocess.run(["ninja", "-C", build, "-t", "commands", f"bin/{self.target}"], text=True,
                                  capture_output=True, check=True).stdout.splitlines()
        self.library = f"kernels/cuda/libsubpix_kernels_{flavour}.a"
        self.link = [line for line in commands if f"-o bin/{self.target} " in line][-1]
        self.compile = {}
        for line in commands:
            found = re.search(rf"-o (kernels/cuda/CMakeFiles/subpix_kernels_{flavour}\.dir/\S*?/(\w+)\.cpp\.o) ", line)
            if found:
                self.compile[found.group(2) + ".cu"] = (line, found.group(1))
        self.seconds = {}  # of each test without a mutant

    # --- building --------------------------------------------------------------------------------

    def users(self, names):
        """The sources that see the files: themselves, and whoever includes them, however far away."""
        files = {f: read(os.path.join(ROOT, KERNELS, f)) for f in os.listdir(os.path.join(ROOT, KERNELS))
                 if f.endswith((".cu", ".cuh"))}
        seen, wave = set(), set(names)
        while wave:
            seen |= wave
            wave = {f for f, text in files.items() if any(f'"{KERNELS}/{s}"' in text for s in wave)} - seen
        return sorted(f for f in seen if f.endswith(".cu"))

    def make(self, mutants, note=lambda mutant: None, users=None):
        """Builds the program; notes the mutants that do not compile and are not in it. With `users`
        these sources alone are compiled, and all must."""
        copy = os.path.join(self.folder, KERNELS)
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(os.path.join(ROOT, KERNELS), copy)
        by_file = collections.defaultdict(list)
        for mutant in mutants:
            by_file[mutant.file].append(mutant)
        users = users or self.users(by_file)
        broken, waiting = [], users
        for name in by_file:
            self.write(name, by_file[name])
        while waiting:
            found = list(self.pool.map(self.compile_one, waiting))
            errors = [error for of_user in found for error in of_user]
            more = self.blamed(errors, by_file, broken)
            if errors and not more:
                raise Problem("compiling failed:\n" + "\n".join(f"{f}:{n}:{c}: {text}" for f, n, c, text in errors[:5]))
            broken += more
            for mutant in more:
                note(mutant)
            changed = {mutant.file for mutant in more}
            for name in changed:
                self.write(name, [m for m in by_file[name] if m not in broken])
            # A source that sees a changed header is compiled again only if it must be: the mutant
            # that is gone was no harm there.
            waiting = [user for user, own in zip(waiting, found) if own]
        chooser = os.path.join(self.folder, "mutant.o")
        self.check(f"{self.compiler()} -std=c++20 -O1 -I{ROOT} -c {HERE}/mutant.cpp -o {chooser}")
        objects = " ".join([self.object(user) for user in users] + [chooser])
        line = self.link.replace(f"-o bin/{self.target} ", f"-o {self.path} ")
        self.check(line.replace(self.library, objects + " " + self.library, 1))

    def compiler(self):
        return re.search(r"\S*(?:g\+\+|c\+\+)\S*", next(iter(self.compile.values()))[0]).group()

    def check(self, line):
        done = subprocess.run(line, shell=True, cwd=self.build, text=True, capture_output=True, check=False)
        if done.returncode:
            raise Problem(f"this failed: {line}\n{done.stderr[-2000:]}")

    def object(self, user):
        return os.path.join(self.folder, user + ".o")

    def write(self, name, mutants):
        path = os.path.join(self.folder, KERNELS, name)
        text = finder.apply(read(os.path.join(ROOT, KERNELS, name)), mutants)
        if not os.path.exists(path) or read(path) != text:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)

    def command(self, user):
        line, output = self.compile[user]
        line = line.replace(output, self.object(user))
        # The copy is found before the sources. Inlining as for speed would take minutes.
        line = re.sub(r" -I", f" -include {HERE}/mutant.h -I{self.folder} -I", line, count=1)
        return line.replace(" -O2", " -O1").replace(" -c ", " -w -fno-aggressive-loop-optimizations -c ", 1)

    def compile_one(self, user):
        """The errors: (file, line, column, text) of each."""
        done = subprocess.run(self.command(user), shell=True, cwd=self.build, text=True, capture_output=True, check=False)
        found = re.findall(r"([\w.]+\.cuh?):(\d+):(\d+): error: (.*)", done.stderr)
        if done.returncode and not found:
            raise Problem(f"compiling {user} failed:\n{done.stderr[-2000:]}")
        return [(name, int(number), int(column), text) for name, number, column, text in found]

    def blamed(self, errors, by_file, broken):
        """Of the mutants on a line with an error, the one whose text stands nearest to it. Errors
        just behind another are its consequences."""
        found, last = {}, {}
        for name, number, column, _ in errors:
            if 0 <= number - last.get(name, -100) < 20:
                continue
            path = os.path.join(self.folder, KERNELS, name)
            if not os.path.exists(path):
                continue
            line = read(path).splitlines()[number - 1]
            ids = [(abs(m.start() - column), int(m.group(1))) for m in re.finditer(r"MUTANT\w*\((\d+)\)", line)]
            if ids:
                found[min(ids)[1]] = name
                last[name] = number
        return [m for name in set(found.values()) for m in by_file[name] if m.id in found and m not in broken]

    # --- running ---------------------------------------------------------------------------------

    def ops(self):
        listed = subprocess.run([self.path, "the variants of every op"], capture_output=True, text=True, check=True)
        return list(dict.fromkeys(re.findall(r"^variant (\S+) \S+$", listed.stdout, re.M)))

    def other_tests(self):
        """The test cases that are no tables."""
        names = subprocess.run([self.path, "--list-test-names-only"], capture_output=True, text=True, check=False)
        return [(name, "", "") for name in names.stdout.splitlines() if name.strip() and name not in NO_KERNEL_RUNS]

    def start(self, test, mutant, limit, **more):
        name, op, variant = test
        # A comma separates names for Catch.
        command = [self.path, (name or TABLE_TEST).replace(",", "\\,"), "-a"] + (["-c", op] if op else [])
        environment = {**os.environ, "SUBPIX_MUTANT": str(mutant), "SUBPIX_TEST_STOP": "1", **more}
        if variant:
            environment["SUBPIX_TEST_VARIANT"] = variant
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=limit, check=False,
                              env=environment, cwd=self.folder, preexec_fn=limits)

    def record(self, test):
        """The mutants that a test reaches, which must pass without one."""
        path = os.path.join(self.folder, "reached_" + re.sub(r"\W+", "_", " ".join(test)) + ".txt")
        begin = time.monotonic()
        done = self.start(test, -1, 1800, SUBPIX_MUTANT_REACHED=path)
        self.seconds[test] = time.monotonic() - begin
        if done.returncode or "No tests ran" in done.stdout:
            raise Problem(f"without a mutant '{' '.join(test)}' does not pass:\n{done.stdout[-2000:]}{done.stderr[-500:]}")
        return set(map(int, read(path).split())) if os.path.exists(path) else set()

    def sieve(self, op, budgets, jobs):
        """Runs a table's cases for all these mutants at once, see mutant.cpp: what happened as
        (id, reached, caught, crashed or late, op and variant)."""
        alive, told = os.path.join(self.folder, "alive.txt"), os.path.join(self.folder, "told.txt")
        with open(alive, "w", encoding="utf-8") as file:
            file.writelines(f"{i} {1000 * seconds}\n" for i, seconds in budgets.items())
        done = self.start(("", op, ""), 0, 36000, SUBPIX_MUTANTS=alive, SUBPIX_MUTANT_VERDICTS=told,
                          SUBPIX_MUTANT_JOBS=str(jobs))
        if done.returncode or "No tests ran" in done.stdout:
            raise Problem(f"without a mutant '{op}' does not pass:\n{done.stdout[-2000:]}{done.stderr[-500:]}")
        return [(int(i), what, where) for i, what, where in re.findall(r"^(\d+) (\w+) (.*)$", read(told), re.M)]

    def run(self, test, mutant):
        """What a test says about a mutant; nothing if it passes."""
        name = " ".join(filter(None, test))
        try:
            done = self.start(test, mutant, 10 + 5 * self.seconds[test])
        except subprocess.TimeoutExpired:
            return f"out of time: {name}"
        if done.returncode < 0 or done.returncode > 128:
            return f"crashed: {name}"
        return f"caught: {name}" if done.returncode else ""
