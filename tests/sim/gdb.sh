#!/bin/sh
# Stops one thread of a kernel and asks tools/sim_gdb.py about the others.
# usage: gdb.sh SOURCE_FOLDER PROGRAM
if ! command -v gdb > /dev/null; then
  echo "gdb.sh: gdb is missing; run tools/install_deps.sh --tests"
  exit 1
fi
line=$(grep -n "block_sum write" "$1/tests/sim/kernels/threads.cu" | cut -d: -f1)
out=$(gdb -batch -nx -ex "set confirm off" -ex "handle SIGSTOP nostop noprint nopass" \
  -x "$1/tools/sim_gdb.py" -ex "break threads.cu:$line if 'subpix::sim::current'->index.x == 64" \
  -ex run -ex sim-threads -ex "sim-bt 40" -ex "sim-bt 64" -ex "sim-bt 999" \
  --args "$2" "a block reduction is right under every schedule" 2>&1)
fail() {
  echo "gdb.sh: $1 in:"
  echo "$out"
  exit 1
}
# Two warps have reached the barrier behind the line, later ones have not.
echo "$out" | grep -q "^    1 running: 64$" || fail "thread 64 does not run"
echo "$out" | grep -q "waiting in __syncthreads at threads.cu:$((line + 1)): 0-63" || fail "no waiting warps"
echo "$out" | grep -Eq "^ +[0-9]+ ready: " || fail "no ready threads"
echo "$out" | grep -q "thread (40,0,0) of block (0,0,0), waiting in __syncthreads" || fail "no thread 40"
echo "$out" | grep -q "block_barrier.*barrier.cpp" || fail "no backtrace of a waiting thread"
echo "$out" | grep -q "thread (64,0,0) of block (0,0,0), running" || fail "no thread 64"
[ "$(echo "$out" | grep -c "thread_main")" -ge 2 ] || fail "no two backtraces"
echo "$out" | grep -q "with N below 256" || fail "no refusal of thread 999"
echo "sim-threads and sim-bt work"
