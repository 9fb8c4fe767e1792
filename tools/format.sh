#!/usr/bin/env bash
# Formats the C++ sources in place by .clang-format; --check only reports and fails on a difference.
set -euo pipefail

check=0
case "${1:-}" in
  "") ;;
  --check) check=1 ;;
  -h | --help)
    echo "usage: tools/format.sh [--check]"
    exit 0
    ;;
  *)
    echo "format.sh: unknown option '$1'; usage: tools/format.sh [--check]" >&2
    exit 2
    ;;
esac

cd "$(dirname "$0")/.."
if ! command -v clang-format > /dev/null; then
  echo "format.sh: clang-format is missing; run tools/install_deps.sh --tests" >&2
  exit 2
fi
# Versions differ in small things; the sources are kept by Debian 12's.
version=$(clang-format --version | grep -oE '[0-9]+' | head -n 1)
if [[ $version != 14 ]]; then
  echo "format.sh: clang-format $version found; the sources are formatted with 14 and may differ" >&2
fi

files=()
while IFS= read -r -d '' file; do
  files+=("$file")
done < <(find engine kernels models train tools tests -type f \
  \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) -print0 | sort -z)

if ((check)); then
  if ! clang-format --dry-run --Werror "${files[@]}"; then
    echo "format: differences found; run tools/format.sh" >&2
    exit 1
  fi
  echo "format: ${#files[@]} files are formatted"
else
  clang-format -i "${files[@]}"
  echo "format: ${#files[@]} files"
fi
