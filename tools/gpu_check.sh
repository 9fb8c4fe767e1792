#!/usr/bin/env bash
# Everything that only a GPU can confirm, in one run of less than nine minutes. See docs/gpu-check.md.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tools/gpu_check.sh OUT [--backend cuda|sim] [--parts LIST] [--data DIR] [--build DIR]
                          [--programs DIR] [--limit SECONDS]
  OUT              folder of the results: <part>.json and <part>.log, gpu_check.json, gpu_check.md
  --backend B      cuda (default), or sim: the same parts in short on the simulator, without timing
  --parts LIST     of build,device,kernels,bitwise,cudnn,sanitizer,bench,step,train; default: all
  --data DIR       pictures to train on; default .gpu/data if it is there, else drawn noise
  --build DIR      build folder, made if it is missing (default build-gpu)
  --programs DIR   use the programs of this folder instead of building them
  --limit SECONDS  no part may take longer (each has its own limit besides)
A part whose <part>.json says ok is not run again; remove the file, or take another OUT, to repeat it.
Exit code: 0 nothing failed (without compute-sanitizer or cuDNN their parts count as unavailable, not
as failed), 1 a part failed, ran out of time or found no device, 2 wrong usage.
TEXT
}

fail() {
  echo "gpu_check.sh: $1" >&2
  exit 2
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly sim_limit=600  # of a part under the simulator, on machines that do other things besides
all_parts=(build device kernels bitwise cudnn sanitizer bench step train)
# Seconds; their sum stays below nine minutes.
declare -A limits=([build]=190 [device]=10 [kernels]=75 [bitwise]=45 [cudnn]=45 [sanitizer]=40
  [bench]=60 [step]=40 [train]=30)

out=""
backend=cuda
parts=("${all_parts[@]}")
data=""
build=$root/build-gpu
programs=""
most=600
needs_value() {
  [[ -n ${2:-} ]] || fail "$1 needs a value"
}
while (($#)); do
  case "$1" in
    --backend)
      needs_value "$1" "${2:-}"
      [[ $2 == cuda || $2 == sim ]] || fail "--backend is cuda or sim, not '$2'"
      backend=$2
      shift
      ;;
    --parts)
      needs_value "$1" "${2:-}"
      IFS=, read -r -a parts <<< "$2"
      for part in "${parts[@]}"; do
        [[ -n $part && -n ${limits[$part]:-} ]] ||
          fail "--parts: there is no part '$part'; the parts are ${all_parts[*]}"
      done
      shift
      ;;
    --data)
      needs_value "$1" "${2:-}"
      [[ -d $2 ]] || fail "--data: there is no folder '$2'"
      data=$(cd "$2" && pwd)
      shift
      ;;
    --build)
      needs_value "$1" "${2:-}"
      mkdir -p "$2" 2> /dev/null || fail "--build: the folder '$2' cannot be made"
      build=$(cd "$2" && pwd)
      shift
      ;;
    --programs)
      needs_value "$1" "${2:-}"
      [[ -d $2 ]] || fail "--programs: there is no folder '$2'"
      programs=$(cd "$2" && pwd)
      shift
      ;;
    --limit)
      needs_value "$1" "${2:-}"
      [[ $2 =~ ^[1-9][0-9]{0,4}$ ]] || fail "--limit needs a whole number of seconds, not '$2'"
      most=$2
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    -*) fail "unknown option '$1'; see tools/gpu_check.sh --help" ;;
    *)
      [[ -z $out ]] || fail "one folder for the results is enough: '$out' and '$1' were given"
      out=$1
      ;;
  esac
  shift
done
[[ -n $out ]] || fail "where shall the results go? name a folder, see tools/gpu_check.sh --help"
mkdir -p "$out" 2> /dev/null || fail "the folder '$out' cannot be made"
[[ -w $out ]] || fail "the folder '$out' cannot be written to"
out=$(cd "$out" && pwd)
bin=${programs:-$build/bin}
if [[ $backend == sim ]]; then
  for part in "${all_parts[@]}"; do
    limits[$part]=$sim_limit
  done
fi
if [[ -z $data && -d $root/.gpu/data ]]; then
  data=$root/.gpu/data
fi
cd "$root"

# What a part says when it cannot run here; CTest's tests say it with the same code.
unavailable() {
  echo "unavailable: $1"
  exit 77
}
program() {
  [[ -x $bin/$1 ]] || unavailable "there is no program $bin/$1"
}
# ops PROGRAM SECONDS OPTION...: table tests of the ops, each in a process of its own, in parallel.
ops() {
  local name=$1 seconds=$2
  shift 2
  program "$name"
  # It ends before the limit of the part does, so that it can still say which ops are done.
  python3 tools/gpu_check.py ops --program "$bin/$name" --limit "$((seconds < most ? seconds : most * 3 / 4))" \
    --details "$out/$part.details.json" "$@"
}

part_build() {
  local targets=(kernel_bench step_bench srgan_train)
  if [[ $backend == sim ]]; then
    targets+=(test_kernels_sim_sim)
  else
    targets+=(test_kernels_cuda test_sim_against_cuda)
  fi
  if [[ -n $programs ]]; then
    for target in "${targets[@]}"; do
      program "$target"
      echo "found: $bin/$target"
    done
    return
  fi
  local options=(-DSUBPIX_CPU=OFF -DSUBPIX_TESTS=ON)
  if [[ $backend == sim ]]; then
    options+=(-DSUBPIX_CUDA=OFF -DSUBPIX_SIM=ON)
  else
    command -v nvidia-smi > /dev/null || unavailable "nvidia-smi is not in PATH: no NVIDIA driver"
    local capability
    capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d '. ')
    [[ $capability =~ ^[0-9]+$ ]] || unavailable "nvidia-smi names no compute capability"
    # Hopper's own instructions belong to 90a.
    [[ $capability == 90 ]] && capability=90a
    echo "compute capability: $capability"
    options+=(-DSUBPIX_CUDA=ON "-DCMAKE_CUDA_ARCHITECTURES=$capability" -DSUBPIX_SIM=AUTO)
  fi
  if [[ ! -f $build/CMakeCache.txt ]] && command -v ninja > /dev/null; then
    options+=(-G Ninja)
  fi
  cmake -S "$root" -B "$build" "${options[@]}"
  # Where there is no cuDNN its part says so.
  if grep -q '^SUBPIX_CUDNN_BUILT:INTERNAL=ON' "$build/CMakeCache.txt"; then
    targets+=(test_kernels_cudnn cudnn_device)
  fi
  cmake --build "$build" -j "$(nproc)" --target "${targets[@]}"
}

part_device() {
  if [[ $backend == sim ]]; then
    python3 -c 'import sys; sys.path.insert(0, "tools"); import machine; print(machine.text(machine.describe()))'
    return
  fi
  command -v nvidia-smi > /dev/null || unavailable "nvidia-smi is not in PATH: no NVIDIA driver"
  nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total,clocks.max.sm,clocks.max.memory,clocks.sm,clocks.mem,power.limit,temperature.gpu \
    --format=csv || unavailable "nvidia-smi finds no device"
  "${CUDACXX:-nvcc}" --version || echo "nvcc: not in PATH"
  nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv || true
}

part_kernels() {
  if [[ $backend == sim ]]; then
    ops test_kernels_sim_sim "$((limits[kernels] - 5))" --ops fill/f32,add/bf16
  else
    ops test_kernels_cuda "$((limits[kernels] - 5))" --ops all
  fi
}

part_bitwise() {
  program test_sim_against_cuda
  python3 tools/gpu_check.py bits --program "$bin/test_sim_against_cuda"
}

part_cudnn() {
  program cudnn_device
  # From this file plans are made where there is no device: keep it as docs/results/cudnn-device.json.
  "$bin/cudnn_device" "$out/cudnn-device.json"
  echo "device properties: $out/cudnn-device.json"
  local op list=conv2d_wide_forward
  for op in conv2d_forward conv2d_backward_data conv2d_backward_filter conv2d_activation_forward \
    dense_forward dense_backward_data dense_backward_filter; do
    list+=,$op/f32,$op/bf16
  done
  ops test_kernels_cudnn "$((limits[cudnn] - 5))" --ops "$list"
}

part_sanitizer() {
  if [[ $backend == sim ]]; then
    # The flavour `check` is the simulator's racecheck and memcheck.
    ops test_kernels_sim_check "$((limits[sanitizer] - 5))" --ops fill/f32
    return
  fi
  command -v compute-sanitizer > /dev/null || unavailable "compute-sanitizer is not in PATH"
  local half=$(((limits[sanitizer] - 10) / 2))
  local worst=0 rc tool list
  for tool in memcheck racecheck; do
    list=prelu_forward/f32,pixel_shuffle_forward/bf16,max_pool_forward/f32,reduce/f32,dense_forward/bf16
    [[ $tool == memcheck ]] || list=reduce/f32,batchnorm_forward/f32,dense_forward/f32
    echo "== $tool"
    rc=0
    ops test_kernels_cuda "$half" --ops "$list" --before "compute-sanitizer --error-exitcode 9 --tool $tool" ||
      rc=$?
    mv "$out/$part.details.json" "$out/$part.$tool.json" 2> /dev/null || true
    ((rc > worst)) && worst=$rc
  done
  python3 tools/gpu_check.py join --out "$out/$part.details.json" "$out/$part.memcheck.json" \
    "$out/$part.racecheck.json"
  return "$worst"
}

# What the limit cuts off goes on in the next run: the results so far are kept, and not measured again.
part_bench() {
  program kernel_bench
  local rc=0 results=$out/bench-kernels.json call
  call=("$bin/kernel_bench" --backend "$backend" --against cudnn --dtype bf16 --seconds 0.1 --json "$results" --resume)
  # Most of a step first.
  "${call[@]}" --op conv2d_norm_forward,conv2d_norm_backward_data,conv2d_backward_filter_group,conv2d_wide_forward || rc=$?
  "${call[@]}" || rc=$?
  python3 tools/gpu_check.py join --out "$out/$part.details.json" "$results"
  return "$rc"
}

part_step() {
  program step_bench
  local step files=()
  for step in srresnet-16 srgan-vgg54-16 srresnet-64 srgan-vgg54-64; do
    files+=("$out/step_$step.json")
    "$bin/step_bench" --backend "$backend" --step "$step" --steps 20 --warmup 5 --json "${files[-1]}"
  done
  python3 tools/gpu_check.py join --out "$out/$part.details.json" "${files[@]}"
}

part_train() {
  program srgan_train
  local pictures=$data run=$out/train steps=200
  local options=(--set precision=bf16)
  if [[ $backend == sim ]]; then
    steps=3
    options=(--set model.blocks=1 --set model.channels=4 --set data.crop=16 --set data.batch=1
      --set discriminator.channels=2 --set discriminator.dense=4)
  fi
  if [[ -z $pictures ]]; then
    pictures=$out/pictures
    python3 tools/gpu_check.py pictures --out "$pictures"
  fi
  rm -rf "$run"
  "$bin/srgan_train" --config train/configs/quickstart.json --backend "$backend" --out "$run" \
    --set "data.train=$pictures" --set data.shrink=1 --set phases.0.steps="$((steps / 2 + 1))" \
    --set phases.1.steps="$((steps - steps / 2 - 1))" --set phases.0.schedule.warmup=1 --set log.every=20 \
    --set checkpoint.every=0 "${options[@]}"
  python3 tools/gpu_check.py losses --log "$run/log.jsonl" --details "$out/$part.details.json"
}

# --- the parts one after the other ---------------------------------------------------------------

# Without an answer for this part of this backend; prints its sentence.
skipped() {
  if [[ $backend == sim && ($1 == step || $1 == bench) ]]; then
    echo "the simulator says nothing about time"
  elif [[ $backend == sim && $1 == cudnn ]]; then
    echo "cuDNN needs a device"
  elif [[ $backend == sim && $1 == bitwise ]]; then
    echo "needs both the simulator and a device"
  else
    return 1
  fi
}

result() { # result PART STATUS SECONDS
  python3 tools/gpu_check.py result --out "$out" --part "$1" --status "$2" --seconds "$3" --backend "$backend"
}

export out backend data build programs bin root most
export -f unavailable program ops
for name in "${all_parts[@]}"; do
  export -f "part_$name"
done

for name in "${parts[@]}"; do
  if python3 tools/gpu_check.py settled --out "$out" --part "$name" --backend "$backend"; then
    printf '%-10s ok before\n' "$name"
    continue
  fi
  rm -f "$out/$name.json" "$out/$name.details.json"
  if skipped "$name" > "$out/$name.log"; then
    result "$name" skipped 0
    continue
  fi
  limit=${limits[$name]}
  ((limit < most)) || limit=$most
  begin=${EPOCHREALTIME/[.,]/}
  rc=0
  # A shell of its own, so that the limit reaches everything the part started.
  part=$name timeout -k 5 "$limit" bash -c \
    "set -euo pipefail; $(declare -p limits); part_$name" > "$out/$name.log" 2>&1 < /dev/null || rc=$?
  case $rc in
    0) status=ok ;;
    77) status=unavailable ;;
    124 | 137) status=timeout ;;
    *) status=failed ;;
  esac
  milliseconds=$(((${EPOCHREALTIME/[.,]/} - begin) / 1000))
  result "$name" "$status" "$((milliseconds / 1000)).$(printf %03d $((milliseconds % 1000)))"
done
python3 tools/gpu_check.py summary --out "$out" --parts "$(IFS=,; echo "${parts[*]}")" --backend "$backend"
