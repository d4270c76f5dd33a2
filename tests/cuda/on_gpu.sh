#!/usr/bin/env bash
# What needs a GPU, in one run; not tried on one yet. Builds nothing; needs bash, a driver (580 or newer) and the files of a bundle:
#
#   tests/cuda/on_gpu.sh pack DIR     on a machine with a toolchain: builds the test and bench programs (with the kernels
#                                     of `cargo xtask cuda` inside) and gathers them with the test data in DIR
#   DIR/tests/cuda/on_gpu.sh run      on the machine with the GPU; tables go to DIR/results/
#
# compute-sanitizer is used where it is on the PATH. What did not run is listed at the end, and nothing is skipped in
# silence: DGEMMA_REQUIRE_CUDA=1 makes a test without a device a failure.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

executable() { # of a cargo JSON message stream: the last program called $1
    grep -o "\"name\":\"$1\".*\"executable\":\"[^\"]*\"" | tail -1 | sed 's/.*"executable":"//; s/"$//'
}

pack() {
    local to=${1:?usage: on_gpu.sh pack DIR}
    cd "$root"
    cargo xtask cuda
    mkdir -p "$to/bin" "$to/tests/cuda" "$to/examples"
    cp "$(cargo test --release --test cuda --no-run --message-format=json | executable cuda)" "$to/bin/cuda-tests"
    cargo build --release
    cp target/release/dgemma target/release/dgemma-quantize target/release/libdgemma.so "$to/bin/"
    cp -r tests/golden "$to/tests/"
    cp -r examples/tiny "$to/examples/"
    cp tests/cuda/on_gpu.sh "$to/tests/cuda/"
    # The programs look for their data where they were built: a note of that place, for `run`.
    pwd > "$to/built-in"
    du -sh "$to"
}

missing=()
table() { echo "== $1" | tee -a "$results"; }

run_all() {
    cd "$root"
    mkdir -p results
    local name built
    name=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -1 | tr ' /' '--')
    results=results/$name-$(date +%F).txt
    : > "$results"
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv | tee -a "$results"
    export DGEMMA_REQUIRE_CUDA=1
    # Test data at the path that the programs were built with.
    built=$(cat built-in)
    if [ ! -e "$built/tests/golden" ]; then
        mkdir -p "$built/tests" "$built/examples" "$built/target/tmp"
        ln -sfn "$root/tests/golden" "$built/tests/golden"
        ln -sfn "$root/examples/tiny" "$built/examples/tiny"
    fi
    table "kernels and models against the reference"
    bin/cuda-tests 2>&1 | tee -a "$results"
    if command -v compute-sanitizer > /dev/null; then
        for tool in memcheck racecheck; do
            table "compute-sanitizer $tool, small shapes"
            DGEMMA_STANDIN_CHECKED=1 compute-sanitizer --tool "$tool" --error-exitcode 1 \
                bin/cuda-tests formats:: operations:: --test-threads=1 2>&1 | tee -a "$results"
        done
    else
        missing+=("compute-sanitizer (not on the PATH)")
    fi
    # `dgemma bench` measures processors only so far: this times whole answers, loading apart, and no ceilings.
    for mix in q4_k_m q8_0 bf16; do
        table "a canvas of the 26B shapes, $mix"
        if ! bin/dgemma-quantize synth "results/26b-$mix.gguf" --shape 26b --type "$mix" 2>&1 | tee -a "$results"; then
            missing+=("a canvas of $mix (no room for the file?)")
            continue
        fi
        bin/dgemma generate -m "results/26b-$mix.gguf" --backend cuda "Once upon a time" 2>&1 | tail -1 |
            tee -a "$results" || missing+=("a canvas of $mix")
        rm -f "results/26b-$mix.gguf"
    done
    missing+=("bench against ceilings measured in the same run (not written yet)" "the reference implementation in bf16")
    table "not run"
    printf '%s\n' "${missing[@]}" | tee -a "$results"
}

case ${1:-} in
pack) pack "${2:-}" ;;
run) run_all ;;
*)
    echo "usage: on_gpu.sh pack DIR | run" >&2
    exit 2
    ;;
esac
