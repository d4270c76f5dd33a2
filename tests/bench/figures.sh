#!/usr/bin/env bash
# Every figure that SPEED.md quotes for real shapes, as files of `dgemma bench --csv`:
#
#     tests/bench/figures.sh OUT [SCRATCH [PART...]]
#
# OUT is a folder under tests/bench/record; SCRATCH has room for one model (7 GB). PARTs: types threads avx2 routing long
# next; without any, all of them, which takes some ten minutes on two cores.
set -euo pipefail
out=$1 scratch=${2:-/tmp}; shift $(($# < 2 ? $# : 2))
parts=${*:-types threads avx2 routing long next}
cargo build --release --locked -p dgemma-cli
dgemma=target/release/dgemma day=$(date +%F)
mkdir -p "$out"

# bench NAME OPTION...: one file
bench() {
    local name=$1; shift
    echo "$name: dgemma bench $*" >&2
    ${MEASURE:-} "$dgemma" bench "$@" --csv | sed "s#$scratch/##" >"$out/$day-$name.csv"
}

# model SHAPE TYPE [OPTION...]: makes it, once, in place of the one before
model() {
    local name="$*"
    file=$scratch/dgemma-figures-${name//[ \/]/}.gguf
    [ -e "$file" ] && return
    rm -f "$scratch"/dgemma-figures-*.gguf
    "$dgemma" bench --shape "$@" --file "$file" --prefix 1 --steps 1 --generations 0 >/dev/null
}

for part in $parts; do
    case $part in
    types)
        for type in Q4_0 Q8_0 Q4_K_M; do
            model 26b-layers=6 --type $type
            for prefix in 64 1024; do bench "6-layers-$type-P$prefix" -m "$file" --prefix $prefix; done
        done ;;
    threads) model 26b-layers=6 --type Q4_0; bench 6-layers-Q4_0-P64-1-thread -m "$file" --threads 1 --generations 0 ;;
    avx2) model 26b-layers=6 --type Q4_0; bench 6-layers-Q4_0-P64-avx2 -m "$file" --level avx2 --generations 0 ;;
    next) model 26b-layers=6 --type Q4_0; bench 6-layers-Q4_0-P64-next-block -m "$file" --generations 0 --next-block ;;
    routing)
        model 26b-layers=6 --type Q4_0 --routing model
        bench 6-layers-Q4_0-P64-skewed -m "$file" --generations 0 ;;
    long)
        model 26b-layers=2 --type Q4_0
        for prefix in 1024 8192 32768 131072; do
            bench "2-layers-Q4_0-P$prefix" -m "$file" --kv f16 --prefix $prefix --steps 3 --generations 0
        done ;;
    esac
done
rm -f "$scratch"/dgemma-figures-*.gguf
