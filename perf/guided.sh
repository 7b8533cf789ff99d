#!/usr/bin/env bash
# Builds a tracemill that the compiler has laid out by what it saw run: first one that counts, then,
# under the load of router and sampler, the counts, then one that is guided by them. For those who
# build releases; half an hour on two CPUs.
#
#   perf/guided.sh [DIR]     leaves DIR/tracemill and the load tool beside it, for `--programs DIR`;
#                            default target/guided
#
#   LLVM_PROFDATA            merges the counts; default: that of the toolchain
#                            (`rustup component add llvm-tools`)
#
# Needs CPUs 0 and 1 while it counts, and Python 3.9.
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
merge=${LLVM_PROFDATA:-$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata}
command -v "$merge" >/dev/null ||
    { echo "perf/guided.sh: no $merge: rustup component add llvm-tools" >&2; exit 1; }
target=${CARGO_TARGET_DIR:-target}
out=${1:-$target/guided}
# Always the same place, so that only what has changed is built again.
counts=$(realpath -m "$target/guided-counts")
rm -rf "$counts"

# With a target named, the flags are for tracemill and not for what runs while it is built.
build() {
    RUSTFLAGS=$1 cargo build --release --locked --bin tracemill --target "$host" --target-dir "$2"
    cp "$2/$host/release/tracemill" "$out/"
}

mkdir -p "$out"
cargo build --release --locked --workspace --bins
cp "$target/release/tracemill-load" "$out/"
build "-Cprofile-generate=$counts/raw" "$target/guided-counting"
for table in saturation kinds cores; do
    perf/sampler.sh "$table" --rehearse --programs "$out" --out "$counts/sampler-$table"
done
for table in saturation low-rate one-span; do
    "$out/tracemill-load" compare "$table" --pairs 1 --program "$out/tracemill" --out "$counts/$table"
done
"$merge" merge -o "$counts/merged" "$counts/raw"
build "-Cprofile-use=$counts/merged" "$target/guided-build"
echo "$out/tracemill"
