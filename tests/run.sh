#!/usr/bin/env bash
# Installs what is missing, checks the sources, builds, and runs every test; cheapest first.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tests/run.sh [--long] [--jobs N]
  --long    also tests labelled long and the whole quickstart with its goals (about 15 minutes more)
  --jobs N  compile and test with N jobs (default: all processors)
Exit code: 0 if everything passed, 1 if not, 2 for wrong usage or missing packages.
TEXT
}

long=0
jobs=$(nproc)
while (($#)); do
  case "$1" in
    --long) long=1 ;;
    --jobs)
      jobs=${2:-}
      if ! [[ $jobs =~ ^[1-9][0-9]*$ ]]; then
        echo "run.sh: --jobs needs a number of at least 1, not '$jobs'" >&2
        exit 2
      fi
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *)
      echo "run.sh: unknown option '$1'; see tests/run.sh --help" >&2
      exit 2
      ;;
  esac
  shift
done

cd "$(dirname "$0")/.."
# Several tests compute at once: threads that spin while they wait would take the others' time.
export OMP_WAIT_POLICY=passive
started=$SECONDS
passed=0
failed=0
failures=()

# step NAME COMMAND...: runs a part that counts as one test; returns its verdict.
step() {
  local name=$1 begin=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  if "$@"; then
    passed=$((passed + 1))
    printf '== %s: passed (%d s)\n' "$name" $((SECONDS - begin))
    return 0
  fi
  failed=$((failed + 1))
  failures+=("$name")
  printf '== %s: FAILED (%d s)\n' "$name" $((SECONDS - begin))
  return 1
}

# attribute NAME FILE: a number from the first line of a JUnit report.
attribute() {
  sed -n "s/.*[[:space:]]$1=\"\([0-9]*\)\".*/\1/p" "$2" | head -n 1
}

# suite NAME FOLDER CTEST_OPTION...: runs CTest in a build folder; its tests count one by one.
suite() {
  local name=$1 folder=$2 report=$2/ctest.xml tests bad
  shift 2
  printf '\n== %s\n' "$name"
  rm -f "$report"
  ctest --test-dir "$folder" --output-on-failure --no-tests=error -j "$jobs" \
    --output-junit "$PWD/$report" "$@" || true
  tests=$(attribute tests "$report" 2> /dev/null || true)
  bad=$(attribute failures "$report" 2> /dev/null || true)
  if [[ -z $tests || -z $bad || $tests == 0 ]]; then
    failed=$((failed + 1))
    failures+=("$name (no result)")
    return
  fi
  passed=$((passed + tests - bad))
  failed=$((failed + bad))
  if ((bad > 0)); then
    failures+=("$name: $bad of $tests")
  fi
}

# With nvcc the kernels are compiled for the GPU they are tuned for; older ones are proven by tests/sim,
# whose kernels are compiled for sm_80 too: a second architecture of every kernel costs 40 % more.
cuda=(-DSUBPIX_CUDA=OFF)
nvcc=${CUDACXX:-$(command -v nvcc || true)}
if [[ -n $nvcc ]]; then
  cuda=(-DSUBPIX_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=90a)
fi

build() { # build FOLDER PRESET CMAKE_OPTION...
  local generator=() folder=$1 preset=$2
  shift 2
  # An existing folder keeps the generator it was made with.
  if [[ ! -f $folder/CMakeCache.txt ]] && command -v ninja > /dev/null; then
    generator=(-G Ninja)
  fi
  # The quickstart may have configured the same folder without tests.
  cmake --preset "$preset" "${generator[@]}" -DSUBPIX_TESTS=ON "$@" > "$folder/configure.log" 2>&1 || {
    cat "$folder/configure.log"
    return 1
  }
  cmake --build "$folder" -j "$jobs"
}

tools/install_deps.sh --tests
mkdir -p build build-asan
step "format" tools/format.sh --check || true
step "layers" tools/check_includes.py || true
step "pages of results" tools/bench_report.py --check || true
if command -v shellcheck > /dev/null; then
  step "shell scripts" shellcheck tools/*.sh tests/*.sh .ci/run || true
fi

without_long=(-LE long)
if ((long)); then
  without_long=()
fi
if [[ -z $nvcc ]]; then
  printf '\nnvcc is not in PATH: kernels are not compiled for GPUs, and the tests labelled cuda are left out\n'
fi
if step "build" build build default "${cuda[@]}"; then
  suite "tests" build "${without_long[@]}"
  step "mutants" tests/mutation/run.sh --jobs "$jobs" || true
  step "quickstart, smoke" tests/tools/test_quickstart.py || true
fi
if step "build with sanitizers" build build-asan asan; then
  # UBSan's and ASan's findings end the test that shows them.
  suite "tests with sanitizers" build-asan -LE long
fi
if ((long)); then
  step "quickstart" tools/quickstart.sh || true
fi

printf '\n'
for failure in "${failures[@]}"; do
  echo "failed: $failure"
done
[[ -n $nvcc ]] || echo "left out: the GPU build (no nvcc)"
echo "time: $((SECONDS - started)) s"
echo "$passed passed, $failed failed"
((failed == 0))
