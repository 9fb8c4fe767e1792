#!/usr/bin/env bash
# Installs what Subpix needs from Debian's packages. Asks for root only if something is missing.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tools/install_deps.sh [--tests] [--dry-run]
  --tests    also what the tests and the formatter need
  --dry-run  only say what is missing
Exit code: 0 all there (or installed), 2 something is missing and could not be installed.
TEXT
}

tests=0
dry_run=0
for argument in "$@"; do
  case "$argument" in
    --tests) tests=1 ;;
    --dry-run) dry_run=1 ;;
    -h | --help)
      usage
      exit 0
      ;;
    *)
      echo "install_deps.sh: unknown option '$argument'; see tools/install_deps.sh --help" >&2
      exit 2
      ;;
  esac
done

packages=(build-essential cmake ninja-build nlohmann-json3-dev libstb-dev libcli11-dev libdnnl-dev libpng-dev)
if ((tests)); then
  packages+=(catch2 clang-format python3 gdb binutils)
fi

if ! command -v dpkg-query > /dev/null; then
  echo "install_deps.sh: this is no Debian system, so nothing is installed; needed are a C++20 compiler," \
    "CMake 3.25, nlohmann-json, stb, CLI11, libpng, oneDNN and, for the tests, Catch2 2.13, clang-format," \
    "Python 3, gdb and binutils"
  exit 0
fi

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2> /dev/null || true)
  [[ $state == installed ]] || missing+=("$package")
done

if ((${#missing[@]} == 0)); then
  echo "dependencies: all ${#packages[@]} packages are installed"
  exit 0
fi
if ((dry_run)); then
  echo "dependencies: missing ${missing[*]}"
  exit 2
fi
if ((EUID != 0)); then
  echo "install_deps.sh: missing packages; run as root: apt-get install -y --no-install-recommends ${missing[*]}" >&2
  exit 2
fi

echo "dependencies: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Old package lists name files that the mirror no longer has, so the lists are refreshed first.
apt-get update -qq || echo "install_deps.sh: apt-get update failed; trying with the lists at hand" >&2
if ! apt-get install -y -qq --no-install-recommends "${missing[@]}"; then
  echo "install_deps.sh: apt-get could not install ${missing[*]}; its message stands above" >&2
  exit 2
fi
