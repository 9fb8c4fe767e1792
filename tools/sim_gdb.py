"""gdb commands for kernels under the simulator (docs/simulator.md):

    sim-threads     the threads of the running blocks, grouped by what they wait for
    sim-bt N        the backtrace of thread N of that list, also of one that waits

usage: gdb -x tools/sim_gdb.py PROGRAM
"""

import gdb

# What subpix_sim_switch pushes, from the saved stack pointer upwards; the return address follows.
SAVED = ("r15", "r14", "r13", "r12", "rbx", "rbp")
STATES = ("ready", "waiting", "finished")


def value(expression):
    return gdb.parse_and_eval(expression)


def gang():
    """The global subpix::sim::gang; in quotes, because gdb may not know the namespace yet."""
    g = value("'subpix::sim::gang'")
    if int(g["launch"]) == 0:
        raise gdb.GdbError("no kernel has run yet")
    return g


def thread_count():
    return int(gang()["thread_count"])


def thread(number):
    """The subpix::sim::Thread with that number in the gang."""
    owners = gang()["threads"]["_M_impl"]["_M_start"]
    pointer_type = gdb.lookup_type("subpix::sim::Thread").pointer()
    # A unique_ptr is one pointer.
    return (owners + number).dereference().address.cast(pointer_type.pointer()).dereference()


def running():
    pointer = value("'subpix::sim::current'")
    return int(pointer) if pointer else 0


def describe(t):
    if int(t) == running():
        return "running"
    state = STATES[int(t["state"])]
    if state != "waiting":
        return state
    where = t["waiting_at"]
    name = where["file"].string().rsplit("/", 1)[-1]
    return "waiting in %s at %s:%d" % (t["waiting_in"].string(), name, int(where["line"]))


def ranges(numbers):
    """[0, 1, 2, 5] as 0-2,5."""
    parts = []
    for n in numbers:
        if parts and parts[-1][1] == n - 1:
            parts[-1][1] = n
        else:
            parts.append([n, n])
    return ",".join(str(a) if a == b else "%d-%d" % (a, b) for a, b in parts)


class SimThreads(gdb.Command):
    """Threads of the running blocks by what they wait for."""

    def __init__(self):
        super().__init__("sim-threads", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        groups = {}
        for i in range(thread_count()):
            groups.setdefault(describe(thread(i)), []).append(i)
        for what, numbers in groups.items():
            print("%5d %s: %s" % (len(numbers), what, ranges(numbers)))


class SimBacktrace(gdb.Command):
    """sim-bt N: backtrace of thread N of sim-threads."""

    def __init__(self):
        super().__init__("sim-bt", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        if not argument.strip().isdigit() or int(argument) >= thread_count():
            raise gdb.GdbError("usage: sim-bt N, with N below %d" % thread_count())
        t = thread(int(argument))
        index, block = t["index"], t["block_index"]
        print("thread (%d,%d,%d) of block (%d,%d,%d), %s" % (
            index["x"], index["y"], index["z"], block["x"], block["y"], block["z"], describe(t)))
        if int(t) == running():
            gdb.execute("backtrace")
            return
        if STATES[int(t["state"])] == "finished":
            return
        stack = int(t["fiber"]["stack_pointer"])
        word = gdb.lookup_type("unsigned long").pointer()
        saved = gdb.Value(stack).cast(word)
        # gdb unwinds from registers, so they are lent for the length of one backtrace.
        names = SAVED + ("rip", "rsp")
        before = {name: int(value("(unsigned long)$" + name)) for name in names}
        gdb.execute("select-frame 0", to_string=True)
        try:
            for i, name in enumerate(SAVED + ("rip",)):
                gdb.execute("set $%s = %d" % (name, int(saved[i])))
            gdb.execute("set $rsp = %d" % (stack + 8 * (len(SAVED) + 1)))
            gdb.execute("backtrace")
        finally:
            for name, old in before.items():
                gdb.execute("set $%s = %d" % (name, old))


SimThreads()
SimBacktrace()
