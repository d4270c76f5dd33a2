#!/usr/bin/env bash
# Everything that needs a GPU, from files that were built elsewhere; not tried on a GPU yet.
#
#   tests/cuda/on_gpu.sh pack DIR      on a machine with a toolchain: compiles the kernels, builds the programs and gathers
#                                      them, stripped, with the test data in DIR (and DIR.tar.gz)
#   DIR/tests/cuda/on_gpu.sh run [STAGE...]   on the machine with the GPU: bash, a driver (580 or newer), nothing else
#
# Stages, in the order of a run without names:
#   device     what the device is, every image loaded, the ceilings
#   kernels    every kernel in every format against the reference backend
#   models     golden passes and traces, repeated runs, failures of the driver
#   memcheck, racecheck   the kernels on small shapes under compute-sanitizer, where that is on the PATH
#   q4_k_m, q8_0, bf16    `dgemma bench` on a made-up model of the 26B shapes behind 1,024 tokens, against the ceilings of
#              the same run
#   long       the same in Q4_K_M behind 131,072 tokens
#   experts_on_host, half_on_host   in Q4_K_M with the experts of all layers, with half of the layers in host memory
#   context    the same in Q8_0 with room for 262,144 positions
#   reference  transformers in bf16 on the same shapes, where Python has PyTorch: tests/cuda/reference.py
# A whole run takes longer than ten minutes on most machines; any stages can be run by themselves.
#
# Results: DIR/results/<machine>/: <date>-<stage>.csv of the benches (as in tests/bench/record/), <stage>.txt of the others,
# stages.csv. A stage fails, or is not run for a reason that is printed; both are counted, and the exit status is 1 after a
# failure. DGEMMA_REQUIRE_CUDA=1 makes a test that finds no device a failure.
#
# Other numbers, for a try: SHAPE=26b LAYERS=30 PREFIX=1024 LONG=131072 CONTEXT=262144 STEPS=16 DEVICE=0
# MACHINE=<name of the GPU> SCRATCH=DIR/scratch (room for one model: 17, 28, 51 GB)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
stages=(device kernels models memcheck racecheck q4_k_m long experts_on_host half_on_host q8_0 context bf16 reference)
shape=${SHAPE:-26b} layers=${LAYERS:-30} prefix=${PREFIX:-1024} long=${LONG:-131072} context=${CONTEXT:-262144} steps=${STEPS:-16}
device=${DEVICE:-0} day=$(date +%F)
kernels=(attention:: formats:: operations:: pack:: sampler::) # tests of single kernels; the others take models
not_run=77 # what a stage exits with that could not run; its last line says why

pack() {
    local to=${1:?usage: on_gpu.sh pack DIR} programs
    mkdir -p "$to"
    to=$(cd "$to" && pwd)
    cd "$root"
    cargo xtask cuda
    # The same build as that of the tests, programs included: name, kind, whether it is a test, file.
    programs=$(cargo test --release --locked --workspace --no-run --message-format=json | python3 -c '
import json, sys
for line in sys.stdin:
    m = json.loads(line) if line.startswith("{") else {}
    if m.get("executable"):
        print(m["target"]["name"], m["target"]["kind"][0], m["profile"]["test"], m["executable"])')
    rm -rf "${to:?}/bin" "$to/tests" "$to/examples"
    mkdir -p "$to/bin" "$to/tests/cuda" "$to/examples"
    program() { # NAME KIND IS_TEST TO
        local file
        file=$(awk -v name="$1" -v kind="$2" -v test="$3" '$1 == name && $2 == kind && $3 == test { print $4 }' <<< "$programs")
        [ -n "$file" ] || { echo "cargo made no $2 called $1" >&2; return 1; }
        cp "$file" "$to/bin/$4"
        strip "$to/bin/$4"
    }
    program cuda test True cuda-tests
    program dgemma cdylib True library-tests
    program dgemma bin False dgemma
    cp -r tests/golden "$to/tests/"
    cp -r examples/tiny "$to/examples/"
    cp tests/cuda/on_gpu.sh tests/cuda/reference.py "$to/tests/cuda/"
    # The programs look for their data where they were built: a note of that place, for `run`.
    pwd > "$to/built-in"
    tar -C "$(dirname "$to")" -czf "$to.tar.gz" "$(basename "$to")"
    du -sm "$to" "$to.tar.gz"
}

# Test data at the path that the programs were built with.
place_data() {
    local built
    built=$(cat "$root/built-in")
    mkdir -p "$built/target/tmp"
    [ -e "$built/tests/golden" ] && return
    mkdir -p "$built/tests" "$built/examples"
    ln -sfn "$root/tests/golden" "$built/tests/golden"
    ln -sfn "$root/examples/tiny" "$built/examples/tiny"
}

cannot_run() {
    echo "not run: $1"
    exit "$not_run"
}

stage_device() {
    if command -v nvidia-smi > /dev/null; then
        nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv
    else
        echo "no nvidia-smi on the PATH"
    fi
    "$root/bin/library-tests" backend::cuda --nocapture --test-threads=1
}

stage_kernels() { "$root/bin/cuda-tests" "${kernels[@]}"; }
stage_models() { "$root/bin/cuda-tests" "${kernels[@]/#/--skip=}"; }
stage_memcheck() { sanitize memcheck; }
stage_racecheck() { sanitize racecheck; }

sanitize() {
    command -v compute-sanitizer > /dev/null || cannot_run "compute-sanitizer is not on the PATH"
    # Small shapes, as under the checkers of the stand-in driver.
    DGEMMA_STANDIN_CHECKED=1 compute-sanitizer --tool "$1" --error-exitcode 1 \
        "$root/bin/cuda-tests" "${kernels[@]}" --test-threads=1
}

stage_q4_k_m() { bench q4_k_m Q4_K_M --prefix "$prefix" --next-block; }
stage_q8_0() { bench q8_0 Q8_0 --prefix "$prefix" --next-block; }
stage_bf16() { bench bf16 BF16 --prefix "$prefix" --next-block; }
stage_long() { bench long Q4_K_M --prefix "$long" --generations 0; }
stage_experts_on_host() { bench experts_on_host Q4_K_M --prefix "$prefix" --n-cpu-experts "$layers"; }
stage_half_on_host() { bench half_on_host Q4_K_M --prefix "$prefix" --n-gpu-layers $((layers / 2)); }
stage_context() { bench context Q8_0 --prefix "$prefix" --context "$context" --generations 0; }

bench() { # STAGE TYPE OPTION...
    local csv="$results/$day-$1.csv" type=$2
    local file="$scratch/$shape-$type.gguf" other
    shift 2
    for other in "$scratch"/*.gguf; do # room for one
        [ "$other" = "$file" ] || rm -f "$other"
    done
    "$root/bin/dgemma" bench --backend cuda --device "$device" --shape "$shape" --type "$type" --file "$file" \
        --steps "$steps" "$@" --csv > "$csv.part"
    mv "$csv.part" "$csv"
    grep -E '^(run\.(device|n_)|ceilings|load|memory|gaps|prefill\.tokens_per|generation\.first|(first_step|step)\.(ms|floor|times))' "$csv"
}

stage_reference() {
    python3 -c 'import torch, transformers' 2> /dev/null || cannot_run "this python3 has no torch and transformers"
    python3 "$root/tests/cuda/reference.py" --shape "$shape" --prefix "$prefix" --steps "$steps" \
        --csv "$results/$day-reference.csv"
}

run_stages() {
    local machine failed=0 skipped=0 stage status clock outcome
    for stage in "$@"; do
        declare -F "stage_$stage" > /dev/null || { echo "no stage $stage; there are: ${stages[*]}" >&2; exit 2; }
    done
    export DGEMMA_REQUIRE_CUDA=1
    machine=${MACHINE:-$(nvidia-smi --query-gpu=name --format=csv,noheader -i "$device" | tr ' /' '--')}
    results=$root/results/$machine scratch=${SCRATCH:-$root/scratch}
    mkdir -p "$results" "$scratch"
    place_data
    for stage in "$@"; do
        echo "== $stage"
        clock=$SECONDS
        set +e # in an `if` or behind `||`, a failure in the middle of a stage would not end it
        (set -e; "stage_$stage") 2>&1 | tee "$results/$stage.txt"
        status=${PIPESTATUS[0]}
        set -e
        case $status in
        0) outcome=ok ;;
        "$not_run") outcome="not run" skipped=$((skipped + 1)) ;;
        *) outcome="FAILED ($status)" failed=$((failed + 1)) ;;
        esac
        echo "$stage,$outcome,$((SECONDS - clock)) s" | tee -a "$results/stages.csv"
    done
    rm -f "$scratch"/*.gguf
    echo "== $# stages: $(($# - failed - skipped)) ok, $failed failed, $skipped not run"
    [ "$failed" -eq 0 ]
}

case ${1:-} in
pack) pack "${2:-}" ;;
run)
    shift
    if [ $# -eq 0 ]; then set -- "${stages[@]}"; fi
    run_stages "$@"
    ;;
*)
    echo "usage: on_gpu.sh pack DIR | run [STAGE...]" >&2
    exit 2
    ;;
esac
