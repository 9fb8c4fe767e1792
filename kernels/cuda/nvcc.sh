#!/bin/sh
# Runs an nvcc command line and fails where ptxas had to give up something: wgmma it serialised or repaired
# (C7508, C7510, C7515, C7519: messages, not warnings, so no flag makes them errors), registers spilled to
# local memory. The ptxas report (registers, stack, shared memory) stays beside the object as OBJECT.ptxas.
# usage: nvcc.sh nvcc ... -o OBJECT ...
object=
previous=
for argument; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
report=$object.ptxas
"$@" > "$report" 2>&1
status=$?
grep -v '^ptxas info    : \(Compiling\|Function\|Used\|Compile time\|0 bytes\|Overriding\)\|bytes stack frame\|(C7519)' "$report" >&2
if grep -q '(C75[01][0-9])' "$report"; then
  grep -m 3 '(C75[01][0-9])' "$report" >&2
  echo "error: ptxas changed the wgmma of this file: the accumulators are touched between fence and wait" >&2
  status=1
fi
if grep -q '[1-9][0-9]* bytes spill' "$report"; then
  grep -B 1 -m 1 '[1-9][0-9]* bytes spill' "$report" >&2
  echo "error: registers are spilled to local memory" >&2
  status=1
fi
[ $status -ne 0 ] && rm -f "$object"
exit $status
