//! The kernels that no tensor format enters. Bounds as in `tests/backends.rs`: inputs of order 1, sums in f32.

use super::device::*;
use crate::compare;
use dgemma::backend::{Backend, KvLayer, KvType};

#[test]
fn elementwise_operations_and_norms() {
    if !available("elementwise_operations_and_norms") {
        return;
    }
    let shapes: &[_] = if checked() { &[(3, 17)] } else { &[(1, 1), (3, 17), (300, 64), (5, 2816)] };
    for &(rows, dim) in shapes {
        let mut r = Numbers(2);
        let (x, y, w) = (r.vec(rows * dim), r.vec(rows * dim), r.vec(dim));
        let n = rows * dim;
        let cuda = &open(true);
        compare!("rms_norm", 1e-5, cuda, |b| {
            let mut out = b.buffer(n, "test").unwrap();
            b.rms_norm(&upload(b, &x), Some(&upload(b, &w)), rows, dim, 1e-6, &mut out).unwrap();
            b.rms_norm_in_place(&mut out, None, rows, dim, 1e-6).unwrap();
            b.rms_norm_add(&upload(b, &y), &upload(b, &w), rows, dim, 1e-6, &mut out).unwrap();
            download(b, &out, n)
        });
        compare!("gelu_mul, add, scale", 2e-6, cuda, |b| {
            let mut gate = upload(b, &x.iter().map(|x| x * 6.0).collect::<Vec<_>>());
            b.gelu_mul(&mut gate, &upload(b, &y), n).unwrap();
            b.add(&upload(b, &y), n, &mut gate).unwrap();
            b.scale(&mut gate, 0.5, n).unwrap();
            download(b, &gate, n)
        });
    }
}

/// Also far from the start: the reference rounds the angle to f32 and so do we; its sine is exact on both sides.
#[test]
fn rope_near_and_far() {
    if !available("rope_near_and_far") {
        return;
    }
    let mut r = Numbers(3);
    let (x, f) = (r.vec(9 * 3 * 32), r.vec(16));
    for start in [0, 700, 262_000] {
        compare!(format!("rope from {start}"), 1e-5, &open(true), |b| {
            let mut out = upload(b, &x);
            b.rope(&mut out, &upload(b, &f), 9, 3, 32, start).unwrap();
            download(b, &out, 9 * 3 * 32)
        });
    }
}

/// Every number that f16 and bf16 round differently in kind: normal, subnormal, tie, overflow.
#[test]
fn kv_types_round_as_on_the_host() {
    if !available("kv_types_round_as_on_the_host") {
        return;
    }
    let mut x =
        vec![0.0, -0.0, 1.0, 65504.0, 65519.9, 65520.0, -70000.0, 6e-8, 2.9e-8, 2.98e-8, 1e-6, 6.1e-5, 1.0009766];
    x.extend(
        (0..500).map(|i| (i as f32 * 0.7311).exp2() * if i % 2 == 0 { 1e-9 } else { -1.0 }).filter(|x| x.abs() < 1e30),
    );
    for kind in [KvType::F32, KvType::F16, KvType::Bf16] {
        let finite = |v: Vec<f32>| v.into_iter().map(|x| x.clamp(-1e38, 1e38)).collect::<Vec<_>>();
        compare!(format!("kv_round {kind:?}"), 0.0, &open(true), |b| {
            let mut out = upload(b, &x);
            b.kv_round(kind, &mut out, x.len()).unwrap();
            finite(download(b, &out, x.len()))
        });
    }
}

/// Rows move within the device.
#[test]
fn copies_stay_on_the_device() {
    if !available("copies_stay_on_the_device") {
        return;
    }
    let (x, y) = (Numbers(6).vec(40), Numbers(7).vec(40));
    compare!("copy", 0.0, &open(true), |b| {
        let (from, mut to) = (upload(b, &x), upload(b, &y));
        b.copy(&from, 3, 17, &mut to, 21).unwrap();
        download(b, &to, 40)
    });
}

/// What a cache gives back is what was stored, as numbers and as bytes.
#[test]
fn cached_rows_come_back() {
    if !available("cached_rows_come_back") {
        return;
    }
    let (kv_heads, dim, capacity, rows) = (2, 8, 5, 7); // more rows than slots: the last five stay
    let mut r = Numbers(8);
    let (k, v) = (r.vec(rows * kv_heads * dim), r.vec(rows * kv_heads * dim));
    for kind in [KvType::F32, KvType::F16, KvType::Bf16] {
        compare!(format!("cache of {kind:?}"), 0.0, &open(true), |b| {
            let len = kv_heads * capacity * dim;
            let empty = || b.kv_buffer(kind, len, "test").unwrap();
            let mut cache = KvLayer { k: empty(), v: empty(), capacity, kv_heads, head_dim: dim, kind };
            b.kv_append(&upload(b, &k), &upload(b, &v), rows, 3, &mut cache).unwrap();
            let mut bytes = vec![0; len * kind.bytes()];
            b.kv_copy_out(&cache.k, 0, &mut bytes).unwrap();
            b.kv_copy_in(&bytes, &mut cache.v, 0).unwrap();
            let mut out = vec![0.0; 2 * len];
            b.kv_read(&cache.k, 0, &mut out[..len]).unwrap();
            b.kv_read(&cache.v, 0, &mut out[len..]).unwrap();
            out
        });
    }
}
