#!/usr/bin/env bash
# From a fresh clone to a trained small SRGAN and a table of what it can do, in one command.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tools/quickstart.sh [--data DIR] [--out DIR] [--minutes N] [--smoke]
  --data DIR   train on the photographs (JPEG, PNG, BMP) of this folder; every fifth one is kept for
               the test. Folders DIR/train and DIR/test are taken as they are, if both are there.
               Default: the photographs of two Debian packages, fetched once (18 MB).
  --out DIR    folder of the run, made anew (default runs/quickstart)
  --minutes N  longest time for training (default 6); a slower machine does fewer steps
  --smoke      a few steps only, to see that all parts work; goals are not demanded
  --programs DIR  use the programs of this folder instead of building them
Exit code: 0 all goals reached, 1 not all, 2 something to mend (one sentence says what).
TEXT
}

fail() {
  echo "quickstart.sh: $1" >&2
  exit 2
}

data=""
out=""
programs=""
minutes=6
smoke=0
needs_value() {
  [[ -n ${2:-} ]] || fail "$1 needs a value"
}
while (($#)); do
  case "$1" in
    --data)
      needs_value "$1" "${2:-}"
      [[ -d $2 ]] || fail "--data: there is no folder '$2'"
      data=$(cd "$2" && pwd)
      shift
      ;;
    --out)
      needs_value "$1" "${2:-}"
      out=$2
      shift
      ;;
    --minutes)
      needs_value "$1" "${2:-}"
      [[ $2 =~ ^[1-9][0-9]{0,3}$ ]] || fail "--minutes needs a whole number from 1 to 9999, not '$2'"
      minutes=$2
      shift
      ;;
    --programs)
      needs_value "$1" "${2:-}"
      [[ -x $2/srgan_train ]] || fail "--programs: there is no program srgan_train in '$2'"
      programs=$(cd "$2" && pwd)
      shift
      ;;
    --smoke) smoke=1 ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) fail "unknown option '$1'; see tools/quickstart.sh --help" ;;
  esac
  shift
done
if [[ -z $out ]]; then
  out=runs/quickstart
  if ((smoke)); then out=runs/quickstart-smoke; fi
fi
[[ $out == /* ]] || out=$PWD/$out

cd "$(dirname "$0")/.."
bin=${programs:-build/bin}
photos=runs/photos
config=train/configs/quickstart.json
marker=made-by-quickstart
started=$SECONDS

say() {
  printf '\n[%2d:%02d] %s\n' $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60)) "$1"
}

# --- build ---------------------------------------------------------------------------------------

build_tools() {
  if [[ -n $programs ]]; then return; fi
  tools/install_deps.sh || exit 2
  # A folder that is configured already (with tests, another generator, ...) is used as it is.
  if [[ ! -f build/CMakeCache.txt ]]; then
    local generator=()
    if command -v ninja > /dev/null; then generator=(-G Ninja); fi
    mkdir -p build
    if ! cmake --preset cpu "${generator[@]}" > build/configure.log 2>&1; then
      cat build/configure.log >&2
      fail "CMake could not configure the build; its message stands above"
    fi
  fi
  cmake --build build -j "$(nproc)" --target srgan_train srgan_eval srgan_upscale quickstart_report ||
    fail "the build failed; the compiler's message stands above"
}

# --- photographs -----------------------------------------------------------------------------------

# Fetches one Debian package without installing it and unpacks it into a folder.
unpack_package() { # PACKAGE FOLDER
  local package=$1 folder=$2 options=(-qq)
  if ((EUID == 0)); then options+=(-o APT::Sandbox::User=root); fi
  if ! (cd "$folder" && apt-get "${options[@]}" download "$package") 2> "$folder/apt.log"; then
    # The machine's package lists may be absent or old: fetch lists of our own, which needs no root.
    local state=$folder/apt-state
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    options+=(-o "Dir::State::Lists=$state/lists" -o "Dir::Cache=$state/cache")
    if ! { apt-get "${options[@]}" update && cd "$folder" && apt-get "${options[@]}" download "$package"; } \
      2>> "$folder/apt.log"; then
      return 1
    fi
  fi
  dpkg-deb -x "$folder/$package"_*.deb "$folder/unpacked"
}

debian_photos() {
  local work
  command -v apt-get > /dev/null && command -v dpkg-deb > /dev/null || return 1
  work=$(mktemp -d)
  # shellcheck disable=SC2064  # the folder of now is meant
  trap "rm -rf '$work'" RETURN
  (unpack_package lomiri-wallpapers-16.04 "$work") || return 1
  (unpack_package palapeli-data "$work") || return 1
  rm -rf "$photos.new"
  mkdir -p "$photos.new/train" "$photos.new/test"
  cp "$work"/unpacked/usr/share/backgrounds/*.jpg "$photos.new/train/"
  # No photographs: a colour gradient and a pattern without structure.
  rm -f "$photos.new"/train/umang_* "$photos.new"/train/analogpattern_*
  cp "$work"/unpacked/usr/share/palapeli/collection/*.jpg "$photos.new/test/"
  cp "$work/unpacked/usr/share/doc/lomiri-wallpapers-16.04/copyright" "$photos.new/train/copyright"
  cp "$work/unpacked/usr/share/doc/palapeli-data/copyright" "$photos.new/test/copyright"
  mv "$photos.new" "$photos"
}

# Lists the pictures of a folder, each ended by a zero byte.
list_pictures() { # FOLDER
  find -L "$1" -type f \( -iname '*.jpg' -o -iname '*.jpeg' -o -iname '*.png' -o -iname '*.bmp' \) -print0
}

count_pictures() { # FOLDER
  list_pictures "$1" | tr -dc '\0' | wc -c
}

# Splits a folder of the user's: every fifth picture is kept for the test.
split_photos() {
  local number=0 file part
  (($(count_pictures "$data") >= 5)) ||
    fail "--data: '$data' holds fewer than 5 pictures (JPEG, PNG, BMP), too few to train and test"
  mkdir -p "$out/photos/train" "$out/photos/test"
  while IFS= read -r -d '' file; do
    number=$((number + 1))
    part=train
    if ((number % 5 == 0)); then part='test'; fi
    # A number in front keeps files of the same name in different subfolders apart.
    ln -s "$file" "$out/photos/$part/$number-${file##*/}"
  done < <(list_pictures "$data" | LC_ALL=C sort -z)
}

find_photos() { # sets train_photos, test_photos, shrink
  shrink=()
  if [[ -n $data ]]; then
    shrink=(--set data.shrink=1)
    if [[ -d $data/train && -d $data/test ]]; then
      train_photos=$data/train
      test_photos=$data/test
    else
      split_photos
      train_photos=$out/photos/train
      test_photos=$out/photos/test
    fi
    return
  fi
  if [[ ! -d $photos ]]; then
    debian_photos ||
      fail "the photographs could not be fetched from Debian (no network?); give some of your own with --data DIR"
  fi
  train_photos=$photos/train
  test_photos=$photos/test
}

# --- training --------------------------------------------------------------------------------------

train() { # FOLDER OPTION...
  local folder=$1
  shift
  "$bin/srgan_train" --config "$config" --set "data.train=[\"$train_photos\"]" --set 'data.val=[]' \
    "${shrink[@]}" --out "$folder" "$@"
}

# Last value of a number in a phase's log lines: log_value FOLDER PHASE KEY.
log_value() {
  sed -n "/\"type\":\"train\".*\"phase\":\"$2\"/s/.*\"$3\":\([0-9.e+-]*\).*/\1/p" "$1/log.jsonl" | tail -n 1
}

# The Nth number of a key in the configuration file: configured KEY N.
configured() {
  grep -oE "\"$1\": *[0-9]+" "$config" | grep -oE '[0-9]+' | sed -n "$2p"
}

# Trains a few steps and prints seconds for the configured ones, as whole number.
trial_seconds() {
  local trial=$out/trial seconds
  if ! train "$trial" --set phases.0.steps=40 --set phases.1.steps=20 --set log.every=20 > "$trial.log" 2>&1; then
    tail -n 1 "$trial.log" >&2 # the trainer's sentence
    exit 2
  fi
  seconds=$(awk -v pixel="$(configured steps 1)" -v adversarial="$(configured steps 2)" \
    -v batch="$(configured batch 1)" -v pixel_rate="$(log_value "$trial" pixel images_per_s)" \
    -v adversarial_rate="$(log_value "$trial" adversarial images_per_s)" \
    'BEGIN { printf "%d", 1 + batch * (pixel / pixel_rate + adversarial / adversarial_rate) }')
  rm -rf "$trial" "$trial.log"
  echo "$seconds"
}

# Finds out how this machine trains best, and scales the steps down if it would still take longer than
# --minutes. Sets steps.
plan_training() {
  local seconds sleeping limit=$((minutes * 60)) pixel adversarial
  # Threads that wait for each other by spinning win on an idle machine, and lose on a busy one.
  seconds=$(trial_seconds)
  sleeping=$(OMP_WAIT_POLICY=passive trial_seconds)
  if ((sleeping < seconds)); then
    seconds=$sleeping
    export OMP_WAIT_POLICY=passive
    echo "waiting threads sleep (OMP_WAIT_POLICY=passive): quicker here and now"
  fi
  steps=()
  if ((seconds > limit)); then
    pixel=$(($(configured steps 1) * limit / seconds))
    adversarial=$(($(configured steps 2) * limit / seconds))
    steps=(--set "phases.0.steps=$pixel" --set "phases.1.steps=$adversarial")
    echo "this machine would need $((seconds / 60)) minutes; to train for $minutes it does $pixel and" \
      "$adversarial steps instead of $(configured steps 1) and $(configured steps 2)"
    seconds=$limit
  fi
  echo "training will take about $((seconds / 60)) min $((seconds % 60)) s"
}

# --- evaluation --------------------------------------------------------------------------------------

evaluate() { # NAME OPTION...
  local name=$1
  shift
  "$bin/srgan_eval" "$@" --data "$test_photos" --json "$out/eval/$name.json" --save "$out/eval/$name" \
    > "$out/eval/$name.txt"
}

# --- all of it -----------------------------------------------------------------------------------------

# An earlier quickstart is replaced, but never a folder that is something else.
if [[ -e $out ]]; then
  [[ -f $out/$marker ]] || fail "'$out' exists and was not made by the quickstart; choose another folder with --out"
  rm -rf "$out"
fi
if ! mkdir -p "$out" || ! : > "$out/$marker"; then
  fail "cannot write to '$out'; choose another folder with --out"
fi

say "building"
build_tools

say "photographs"
find_photos
echo "training on $(count_pictures "$train_photos") photographs in $train_photos"
echo "testing on $(count_pictures "$test_photos") others in $test_photos"

say "training"
if ((smoke)); then
  train "$out" --set phases.0.steps=6 --set phases.1.steps=4 --set log.every=1
else
  plan_training
  train "$out" "${steps[@]}"
fi

say "evaluating"
mkdir -p "$out/eval"
evaluate nearest --method nearest
evaluate bicubic --method bicubic
evaluate pixel --weights "$out/generator_pixel.safetensors"
evaluate adversarial --weights "$out/generator.safetensors"

goals=()
if ((smoke)); then goals=(--no-goals); fi
code=0
"$bin/quickstart_report" --run "$out" "${goals[@]}" || code=$?
say "done; weights, log and pictures are in ${out#"$PWD"/}"
if ((code == 0)); then
  echo "try: $bin/srgan_upscale --weights ${out#"$PWD"/}/generator.safetensors YOUR.jpg LARGE.png"
fi
exit "$code"
