//! Attention against `backend/reference`: the f32 kernel, and the one on tensor cores.
//!
//! Bound of the f32 kernel: inputs of order 1, sums in f32. Of the other, with numbers rounded by up to `eps` of themselves
//! (2^-12 in f16, 2^-9 in bf16) and inputs uniform in -1..1: the two factors of a score's product, 1/3 on average, are off by
//! 0.58 eps each, so a score by eps * 0.27 sqrt(dim) on average, and what is summed of the values by no more than that; five
//! times that. Terms and values are off by eps more each. Values are exact where the cache is not f32.

use super::device::*;
use crate::compare;
use dgemma::backend::cuda::Cuda;
use dgemma::backend::{AttentionShape, Backend, KvLayer, KvType, Mask};

/// (rows, start, window).
type Case = (usize, usize, Option<usize>);
/// (query heads, K/V heads, width of a head).
type Heads = (usize, usize, usize);

fn attention<B: Backend>(b: &B, mask: Mask, heads: Heads, case: Case, kind: KvType) -> Vec<f32> {
    let ((heads, kv_heads, dim), (rows, start, window)) = (heads, case);
    let mut r = Numbers(4);
    // Behind rows of others, whose values must not matter and whose results stay zeros.
    let (first_row, all) = (rows % 3, rows % 3 + rows);
    let (q, k, v) = (r.vec(all * heads * dim), r.vec(all * kv_heads * dim), r.vec(all * kv_heads * dim));
    // The cache is filled through kv_append, in two pieces, with a ring that wraps.
    let capacity = window.map_or(start.max(1), |w| w - 1 + 50);
    let (old_k, old_v) = (r.vec(start * kv_heads * dim), r.vec(start * kv_heads * dim));
    let empty = || b.kv_buffer(kind, kv_heads * capacity * dim, "test").unwrap();
    let mut cache = KvLayer { k: empty(), v: empty(), capacity, kv_heads, head_dim: dim, kind };
    for (from, to) in [(0, start / 3), (start / 3, start)] {
        let part = from * kv_heads * dim..to * kv_heads * dim;
        b.kv_append(&upload(b, &old_k[part.clone()]), &upload(b, &old_v[part]), to - from, from, &mut cache).unwrap();
    }
    let shape = AttentionShape { first_row, rows, start, heads, kv_heads, head_dim: dim, window, mask };
    let mut out = b.buffer(all * heads * dim, "test").unwrap();
    b.attention(&upload(b, &q), &upload(b, &k), &upload(b, &v), &cache, &shape, &mut out).unwrap();
    download(b, &out, all * heads * dim)
}

fn check(cuda: &Cuda, bound: f32, mask: Mask, heads: Heads, case: Case, kind: KvType) {
    let what = format!("attention {mask:?} {kind:?} {heads:?} {case:?}");
    compare!(what, bound, cuda, |b| attention(b, mask, heads, case, kind));
}

/// The bound of the kernel on tensor cores, see above.
fn rounded(kind: KvType, dim: usize) -> f32 {
    let eps = if kind == KvType::Bf16 { 1.0 / 512.0 } else { 1.0 / 4096.0 };
    eps * (1.4 * (dim as f32).sqrt() + 2.0)
}

const MASKS: [Mask; 2] = [Mask::Causal, Mask::Canvas];
const KINDS: [KvType; 3] = [KvType::F32, KvType::F16, KvType::Bf16];
const CASES: [Case; 5] = [(5, 3, Some(1)), (1, 0, None), (40, 0, Some(8)), (37, 150, None), (70, 90, Some(33))];

#[test]
fn attention_under_every_mask() {
    if !available("attention_under_every_mask") {
        return;
    }
    for (mask, kind) in MASKS.into_iter().flat_map(|mask| KINDS.map(|kind| (mask, kind))) {
        for &case in if checked() { &CASES[..1] } else { &CASES } {
            check(&open(true), 2e-5, mask, (6, 2, 24), case, kind);
            check(&open(false), rounded(kind, 24), mask, (6, 2, 24), case, kind);
        }
    }
}

/// The real head widths; a long prefix, so that the walk over it is split.
#[test]
fn attention_with_wide_heads_and_splits() {
    if !available_unchecked("attention_with_wide_heads_and_splits") {
        return;
    }
    for (heads, dim) in [((2, 1), 256), ((4, 1), 512), ((3, 3), 68)] {
        let heads = (heads.0, heads.1, dim);
        check(&open(true), 2e-5, Mask::Canvas, heads, (9, 600, None), KvType::F16);
        check(&open(true), 2e-5, Mask::Causal, heads, (3, 1100, Some(700)), KvType::F32);
    }
}

/// Each kernel of `attention_tiles.cu`: the widths of heads, and on devices with more shared memory the larger tiles.
#[test]
fn attention_tiles_of_every_size() {
    if !available("attention_tiles_of_every_size") {
        return;
    }
    let sizes: [(usize, usize); 5] = [(101_376, 128), (101_376, 256), (101_376, 512), (166_912, 512), (232_448, 512)];
    for (shared, dim) in sizes {
        if !set_shared(shared) {
            continue; // a GPU has what it has
        }
        let cuda = &open(false);
        for (mask, kind) in MASKS.into_iter().flat_map(|mask| KINDS.map(|kind| (mask, kind))) {
            check(cuda, rounded(kind, dim), mask, (4, 2, dim), (3, 40, Some(30)), kind);
        }
        if !checked() {
            check(cuda, rounded(KvType::F16, dim), Mask::Canvas, (4, 2, dim), (20, 700, None), KvType::F16);
            check(cuda, rounded(KvType::Bf16, dim), Mask::Causal, (4, 2, dim), (40, 400, None), KvType::Bf16);
        }
        set_shared(0);
    }
}

/// Heads that do not fill a kernel's width, a group of heads that is no power of two, and rows that share blocks.
#[test]
fn attention_tiles_of_odd_shapes() {
    if !available_unchecked("attention_tiles_of_odd_shapes") {
        return;
    }
    for (heads, case) in [
        ((5, 1, 8), (31, 64, Some(64))),
        ((6, 2, 136), (23, 33, None)),
        ((8, 1, 264), (9, 95, Some(40))),
        ((3, 3, 16), (130, 1, None)),
    ] {
        for mask in MASKS {
            check(&open(false), rounded(KvType::F16, heads.2), mask, heads, case, KvType::F16);
            check(&open(false), rounded(KvType::Bf16, heads.2), mask, heads, case, KvType::Bf16);
        }
    }
}

/// A causal row alone has the bits that it has among others: masked terms and tiles of others leave no trace.
#[test]
fn attention_of_a_row_does_not_depend_on_others() {
    if !available_unchecked("attention_of_a_row_does_not_depend_on_others") {
        return;
    }
    let (rows, heads, dim) = (40, 2, 32);
    let mut r = Numbers(6);
    let (q, k, v) = (r.vec(rows * heads * dim), r.vec(rows * dim), r.vec(rows * dim));
    let cuda = open(false);
    let attend = |start: usize, end: usize, cache: &KvLayer<_>| {
        let part = |x: &[f32], width: usize| upload(&cuda, &x[start * width..end * width]);
        let shape = AttentionShape {
            first_row: 0,
            rows: end - start,
            start,
            heads,
            kv_heads: 1,
            head_dim: dim,
            window: Some(20),
            mask: Mask::Causal,
        };
        let mut out = cuda.buffer((end - start) * heads * dim, "test").unwrap();
        let q = part(&q, heads * dim);
        cuda.attention(&q, &part(&k, dim), &part(&v, dim), cache, &shape, &mut out).unwrap();
        download(&cuda, &out, (end - start) * heads * dim)
    };
    for kind in KINDS {
        // Fresh rows are rounded first, as the forward pass does it, so that they equal what the cache gives back.
        let empty = || cuda.kv_buffer(kind, 64 * dim, "test").unwrap();
        let mut cache = KvLayer { k: empty(), v: empty(), capacity: 64, kv_heads: 1, head_dim: dim, kind };
        let all = attend(0, rows, &cache);
        for row in 0..rows {
            let one = attend(row, row + 1, &cache);
            assert_eq!(all[row * heads * dim..][..heads * dim], one, "{kind:?}: row {row}");
            let (k, v) = (&k[row * dim..][..dim], &v[row * dim..][..dim]);
            cuda.kv_append(&upload(&cuda, k), &upload(&cuda, v), 1, row, &mut cache).unwrap();
        }
    }
}
