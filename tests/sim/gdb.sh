#!/bin/sh
# Stops a kernel in the middle and asks tools/sim_gdb.py about its threads.
# usage: gdb.sh SOURCE_FOLDER PROGRAM
line=$(grep -n "block_sum total" "$1/tests/sim/kernels/threads.cu" | cut -d: -f1)
out=$(gdb -batch -nx -ex "set breakpoint pending on" -ex "set confirm off" \
  -ex "handle SIGSTOP nostop noprint nopass" -x "$1/tools/sim_gdb.py" \
  -ex "break threads.cu:$line" -ex run -ex sim-threads -ex "sim-bt 40" -ex "sim-bt 0" -ex kill \
  --args "$2" "a block reduction is right under every schedule" 2>&1)
fail() {
  echo "gdb.sh: $1 in:"
  echo "$out"
  exit 1
}
# The first warp reads the sums: thread 0 runs, the others wait for it or are ready behind the barrier.
echo "$out" | grep -q "1 running: 0$" || fail "no running thread 0"
echo "$out" | grep -Eq "[0-9]+ (ready|waiting in __syncthreads at threads.cu:[0-9]+): " || fail "no others"
echo "$out" | grep -q "thread (40,0,0) of block (0,0,0)" || fail "no thread 40"
echo "$out" | grep -q "block_sum_kernel" || fail "no kernel frame"
[ "$(echo "$out" | grep -c "thread_main")" -ge 2 ] || fail "no two backtraces"
echo "sim-threads and sim-bt work"
