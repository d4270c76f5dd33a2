//! Each operation of the CPU backend, at every instruction set of this machine, against the reference backend, on shapes
//! with tails everywhere: rows, columns and vocabularies that no tile divides.
//!
//! Bounds: inputs are of order 1, so a sum of n products differs by at most about n * eps * (its largest partial sum);
//! 2e-5 * sqrt(n) leaves room and still catches any wrong element.

mod common;
use common::assert_close;
use common::operations::*;
use dgemma::backend::cpu::Cpu;
use dgemma::backend::reference::Reference;
use dgemma::backend::{AttentionShape, Backend, ExpertWeights, HeadParams, KvLayer, KvType, Mask};
use dgemma::cpu_level::CpuLevel;
use dgemma::gguf::{Bytes, Tensor};
use dgemma::quant;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn cpus() -> Vec<(String, Cpu)> {
    let cpu = |level: CpuLevel| (format!("cpu {}", level.name()), Cpu::new(2, level).unwrap().exact(true));
    CpuLevel::available().into_iter().map(cpu).collect()
}

/// Runs `f` on the reference, then on each CPU level, and compares what it returns.
macro_rules! compare {
    ($what:expr, $bound:expr, |$b:ident| $body:expr) => {{
        let want: Vec<f32> = {
            let $b = &Reference;
            $body
        };
        for (name, cpu) in cpus() {
            let $b = &cpu;
            let got: Vec<f32> = $b.run(|| $body);
            assert_close(&format!("{}, {name}", $what), &got, &want, $bound);
        }
    }};
}

#[test]
fn matmul_and_embed_in_every_format() {
    for format in quant::FORMATS {
        for (n, k, rows) in [(70, 256, 33), (1, 512, 1), (64, 768, 7), (130, 2816, 3)] {
            let mut r = Numbers(1);
            let (weight, x) = (r.tensor(format, &[k, n]), r.vec(rows * k));
            // Decoded values differ in size between formats; scale the bound by the largest.
            let mut decoded = vec![0.0; n * k];
            (format.decode)(&weight.data, &mut decoded);
            let size = decoded.iter().fold(1.0f32, |m, x| m.max(x.abs()));
            compare!(format!("matmul {} {rows}x{n}x{k}", format.name), 2e-5 * (k as f32).sqrt() * size, |b| {
                let mut out = b.buffer(rows * n, "test").unwrap();
                b.matmul(&b.weight(weight.clone()).unwrap(), &upload(b, &x), rows, &mut out).unwrap();
                download(b, &out, rows * n)
            });
            let ids: Vec<u32> = (0..rows as u32).map(|i| (i * 31) % n as u32).collect();
            compare!(format!("embed {}", format.name), 0.0, |b| {
                let mut out = b.buffer(rows * k, "test").unwrap();
                b.embed(&b.weight(weight.clone()).unwrap(), &ids, 1.5, &mut out).unwrap();
                download(b, &out, rows * k)
            });
        }
    }
}

/// Products in integers. The first bound is what rounding x to 8 bits can do: half a step of x, at most 1.25 max |x| / 127 / 2,
/// times the sum of the weights' magnitudes. The second is against the plain code for the same integers, which differs in the
/// rounding of sums only. More than 64 rows, more rows of x than a kernel takes at once, and rows in any number.
#[test]
fn products_in_integers_in_every_format() {
    for format in quant::FORMATS.iter().filter(|f| f.codes.is_some()) {
        for (n, k, rows) in [(70, 256, 33), (1, 512, 1), (64, 768, 7), (130, 2816, 3), (17, 1280, 12)] {
            let mut r = Numbers(1);
            let (weight, x) = (r.tensor(format, &[k, n]), r.vec(rows * k));
            let mut decoded = vec![0.0; n * k];
            (format.decode)(&weight.data, &mut decoded);
            let product = |cpu: Cpu| {
                let mut out = cpu.buffer(rows * n, "test").unwrap();
                let (w, x) = (cpu.weight(weight.clone()).unwrap(), upload(&cpu, &x));
                cpu.run(|| cpu.matmul(&w, &x, rows, &mut out).unwrap());
                out
            };
            let exact = product(Cpu::new(1, CpuLevel::Scalar).unwrap().exact(true));
            let plain = product(Cpu::new(1, CpuLevel::Scalar).unwrap());
            assert_ne!(exact, plain, "{}: no integers were used", format.name);
            let magnitudes = decoded.chunks(k).map(|w| w.iter().map(|w| w.abs()).sum::<f32>());
            for (j, magnitude) in magnitudes.enumerate() {
                for i in 0..rows {
                    let bound = 1.25 / 127.0 / 2.0 * magnitude * 1.001 + 1e-6;
                    let (got, want) = (plain[i * n + j], exact[i * n + j]);
                    assert!((got - want).abs() <= bound, "{} {i},{j}: {got}, expected {want} +- {bound}", format.name);
                }
            }
            let size = decoded.iter().fold(1.0f32, |m, x| m.max(x.abs()));
            for level in CpuLevel::available() {
                for threads in [1, 2] {
                    let what = format!("integer matmul {} {rows}x{n}x{k}, {}", format.name, level.name());
                    let got = product(Cpu::new(threads, level).unwrap());
                    assert_close(&what, &got, &plain, 2e-5 * (k as f32).sqrt() * size);
                }
            }
        }
    }
}

/// Every number of rows up to 300 with 47 weight rows, and up to 25 with weight rows around the borders of a panel (16), a
/// pair of them and a tile (64): the kernels take rows in groups of 6 or 4 and panels in pairs, and ask for memory ahead by
/// shares of both. Against the plain code for the same integers, which takes rows one by one.
#[test]
fn products_in_integers_of_any_number_of_rows() {
    let k = 256;
    for name in ["Q4_0", "Q8_0", "Q4_K", "Q6_K", "Q2_K"] {
        for n in [1, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65] {
            let mut r = Numbers(3);
            let weight = r.tensor(quant::by_name(name).unwrap(), &[k, n]);
            let x = r.vec(300 * k);
            let product = |cpu: &Cpu, rows: usize| {
                // What a product must not touch.
                let mut out = vec![7.0; (rows + 1) * n];
                let w = cpu.weight(weight.clone()).unwrap();
                cpu.run(|| cpu.matmul(&w, &x, rows, &mut out).unwrap());
                assert!(out[rows * n..].iter().all(|&x| x == 7.0), "{name}: wrote behind {rows} rows");
                out.truncate(rows * n);
                out
            };
            let plain = product(&Cpu::new(1, CpuLevel::Scalar).unwrap(), 300);
            for level in CpuLevel::available() {
                let cpu = Cpu::new(1, level).unwrap();
                let all = product(&cpu, 300);
                assert_close(&format!("{name} 300x{n}, {}", level.name()), &all, &plain, 1e-3);
                let most = if n == 47 { 300 } else { 2 * 12 + 2 };
                for rows in 1..most {
                    assert_eq!(product(&cpu, rows), all[..rows * n], "{name} {rows}x{n}, {}", level.name());
                }
            }
        }
    }
}

/// Products in BF16 of 16-bit floats, where the processor has them. First against sums, in f64, of the same rounded numbers:
/// k products, added one by one in f32, are off by k * eps of their magnitudes at most. Then against f32: rounding to nearest
/// changes a number by 2^-9 of itself at most, x and, in F16, weights. Rows, columns and weight rows in any number, odd ones too;
/// neither threads nor the number of rows change a bit, and levels without BF16 products multiply in f32.
#[test]
fn products_in_16_bits() {
    let rounded = |x: f32| half::bf16::from_f32(x).to_f32();
    for (name, n, k, rows) in [
        ("BF16", 70, 256, 33),
        ("F16", 70, 256, 33),
        ("BF16", 130, 2816, 3),
        ("F16", 1, 512, 1),
        ("BF16", 17, 33, 12),
        ("F16", 49, 31, 9),
        ("BF16", 3, 1, 2),
    ] {
        let mut r = Numbers(1);
        let (weight, x) = (r.tensor(quant::by_name(name).unwrap(), &[k, n]), r.vec(rows * k));
        let mut decoded = vec![0.0; n * k];
        (weight.format.decode)(&weight.data, &mut decoded);
        let product = |cpu: &Cpu, first: usize, rows: usize| {
            // What a product must not touch.
            let mut out = vec![7.0; (rows + 1) * n];
            let (w, x) = (cpu.weight(weight.clone()).unwrap(), upload(cpu, &x[first * k..]));
            cpu.run(|| cpu.matmul(&w, &x, rows, &mut out).unwrap());
            assert!(out[rows * n..].iter().all(|&x| x == 7.0), "{name}: wrote behind {rows} rows");
            out.truncate(rows * n);
            out
        };
        for level in CpuLevel::available() {
            let what = format!("{name} {rows}x{n}x{k}, {}", level.name());
            let exact = product(&Cpu::new(1, level).unwrap().exact(true), 0, rows);
            let got = product(&Cpu::new(1, level).unwrap(), 0, rows);
            if level.bf16().is_none() {
                assert_eq!(got, exact, "{what}");
                continue;
            }
            for (i, x) in x.chunks(k).enumerate() {
                for (j, w) in decoded.chunks(k).enumerate() {
                    let pairs = || x.iter().zip(w).map(|(&x, &w)| (f64::from(x), f64::from(w)));
                    let same: f64 =
                        pairs().map(|(x, w)| f64::from(rounded(x as f32)) * f64::from(rounded(w as f32))).sum();
                    let size: f64 = pairs().map(|(x, w)| (x * w).abs()).sum::<f64>() * 1.01;
                    let (got, want) = (f64::from(got[i * n + j]), f64::from(exact[i * n + j]));
                    let bound = k as f64 * f64::from(f32::EPSILON) * size;
                    assert!((got - same).abs() <= bound, "{what} {i},{j}: {got}, expected {same} +- {bound}");
                    let bound = bound + size * if name == "F16" { 2.0 / 512.0 } else { 1.0 / 512.0 };
                    assert!((got - want).abs() <= bound, "{what} {i},{j}: {got}, expected {want} +- {bound}");
                }
            }
            assert!(k == 1 || got != exact, "{what}: nothing was rounded");
            assert_eq!(product(&Cpu::new(2, level).unwrap(), 0, rows), got, "{what}, two threads");
            for i in 0..rows {
                let cpu = Cpu::new(1, level).unwrap();
                assert_eq!(product(&cpu, i, 1), got[i * n..][..n], "{what}, row {i} alone");
                assert_eq!(product(&cpu, 0, i + 1), got[..(i + 1) * n], "{what}, {} rows", i + 1);
            }
        }
    }
}

/// Experts of a backend that is not exact, in pairs of formats that share what they ask of x or do not: each must be unpacked
/// as what it is. Outputs reach 0.29; the bound is three percent of that, which roundings to 8 bits keep.
#[test]
fn experts_with_rounded_activations() {
    let (rows, experts, top_k, ffn, hidden) = (40, 6, 3, 256, 256);
    for [gate, up, down] in [
        ["BF16", "BF16", "BF16"],
        ["F16", "BF16", "F32"],
        ["F32", "F16", "F16"],
        ["Q4_K", "Q5_K", "Q6_K"],
        ["Q8_0", "BF16", "Q4_0"],
    ] {
        let mut r = Numbers(7);
        let mut tensor = |name: &str, shape: [usize; 3]| {
            let mut values = r.vec(shape.iter().product());
            values.iter_mut().for_each(|x| *x *= 0.1);
            let format = quant::by_name(name).unwrap();
            let mut data = vec![0u8; values.len() / format.block * format.block_bytes];
            (format.encode)(&values, None, &mut data);
            let len = data.len();
            Tensor { name: "test".into(), shape: shape.to_vec(), format, data: Bytes::new(Arc::new(data), 0, len) }
        };
        let (gate_w, up_w) = (tensor(gate, [hidden, ffn, experts]), tensor(up, [hidden, ffn, experts]));
        let down_w = tensor(down, [ffn, hidden, experts]);
        let (logits, scale, x) = (r.vec(rows * experts), r.vec(experts), r.vec(rows * hidden));
        let run = |cpu: &Cpu, rows: usize| {
            let [gate, up, down] = [&gate_w, &up_w, &down_w].map(|t| cpu.weight(t.clone()).unwrap());
            let weights = ExpertWeights { gate: (&gate, 0), up: (&up, 0), down: &down, experts, ffn, hidden };
            let mut routes = cpu.routes(rows, top_k, ffn, hidden).unwrap();
            let mut out = cpu.buffer(rows * hidden, "test").unwrap();
            cpu.run(|| {
                cpu.route(&logits, &scale, rows, experts, top_k, &mut routes).unwrap();
                cpu.experts(weights, &x, rows, &mut routes, &mut out).unwrap();
            });
            out
        };
        let want = run(&Cpu::new(1, CpuLevel::Scalar).unwrap().exact(true), rows);
        for level in CpuLevel::available() {
            let what = format!("experts {gate} {up} {down}, {}", level.name());
            let got = run(&Cpu::new(1, level).unwrap(), rows);
            assert_close(&what, &got, &want, 0.01);
            assert_eq!(run(&Cpu::new(2, level).unwrap(), rows), got, "{what}, two threads");
            assert_eq!(run(&Cpu::new(1, level).unwrap(), 11), got[..11 * hidden], "{what}, fewer rows");
        }
    }
}

#[test]
fn elementwise_operations_and_norms() {
    for (rows, dim) in [(1, 1), (3, 17), (300, 64), (40, 1000)] {
        let mut r = Numbers(2);
        let (x, y, w) = (r.vec(rows * dim), r.vec(rows * dim), r.vec(dim));
        let n = rows * dim;
        compare!("rms_norm", 1e-5, |b| {
            let mut out = b.buffer(n, "test").unwrap();
            b.rms_norm(&upload(b, &x), Some(&upload(b, &w)), rows, dim, 1e-6, &mut out).unwrap();
            b.rms_norm_in_place(&mut out, None, rows, dim, 1e-6).unwrap();
            b.rms_norm_add(&upload(b, &y), &upload(b, &w), rows, dim, 1e-6, &mut out).unwrap();
            download(b, &out, n)
        });
        compare!("gelu_mul, add, scale", 2e-6, |b| {
            let mut gate = upload(b, &x.iter().map(|x| x * 6.0).collect::<Vec<_>>());
            b.gelu_mul(&mut gate, &upload(b, &y), n).unwrap();
            b.add(&upload(b, &y), n, &mut gate).unwrap();
            b.scale(&mut gate, 0.5, n).unwrap();
            download(b, &gate, n)
        });
    }
    let mut r = Numbers(3);
    let (x, f) = (r.vec(9 * 3 * 32), r.vec(16));
    compare!("rope", 1e-5, |b| {
        let mut out = upload(b, &x);
        b.rope(&mut out, &upload(b, &f), 9, 3, 32, 700).unwrap();
        download(b, &out, 9 * 3 * 32)
    });
}

#[test]
fn attention_under_every_mask() {
    let (heads, kv_heads, dim) = (6, 2, 24);
    for mask in [Mask::Causal, Mask::Canvas] {
        for (rows, start, window) in
            [(1, 0, None), (40, 0, Some(8)), (37, 150, None), (70, 90, Some(33)), (5, 3, Some(1)), (130, 1, Some(64))]
        {
            let mut r = Numbers(4);
            // Behind rows of others, whose values must not matter.
            let first_row = rows % 3;
            let all = first_row + rows;
            let (q, k, v) = (r.vec(all * heads * dim), r.vec(all * kv_heads * dim), r.vec(all * kv_heads * dim));
            // The cache is filled through kv_append, in two pieces, with a ring that wraps.
            let capacity = window.map_or(start.max(1), |w| w - 1 + 50);
            let (old_k, old_v) = (r.vec(start * kv_heads * dim), r.vec(start * kv_heads * dim));
            let shape = AttentionShape { first_row, rows, start, heads, kv_heads, head_dim: dim, window, mask };
            for kind in [KvType::F32, KvType::F16, KvType::Bf16] {
                compare!(
                    format!("attention {mask:?} {kind:?} rows {rows} start {start} window {window:?}"),
                    1e-5,
                    |b| {
                        let empty = || b.kv_buffer(kind, kv_heads * capacity * dim, "test").unwrap();
                        let mut cache = KvLayer { k: empty(), v: empty(), capacity, kv_heads, head_dim: dim, kind };
                        for (from, to) in [(0, start / 3), (start / 3, start)] {
                            let part = from * kv_heads * dim..to * kv_heads * dim;
                            b.kv_append(
                                &upload(b, &old_k[part.clone()]),
                                &upload(b, &old_v[part]),
                                to - from,
                                from,
                                &mut cache,
                            )
                            .unwrap();
                        }
                        let mut out = b.buffer(all * heads * dim, "test").unwrap();
                        b.attention(&upload(b, &q), &upload(b, &k), &upload(b, &v), &cache, &shape, &mut out).unwrap();
                        // Rows before stay zeros.
                        download(b, &out, all * heads * dim)
                    }
                );
            }
        }
    }
}

/// Attention of a backend that is not exact. Where it multiplies BF16 numbers, a score of 48 products of at most 1 is off by
/// independent roundings of up to 2^-8 each, sqrt(48) * 2^-8 = 0.03 if all were as large as can be; probabilities move by as
/// much of themselves, and results, means of values around zero, by a part of that. 0.01 is twice the largest seen.
#[test]
fn attention_in_16_bits() {
    let (heads, kv_heads, dim) = (6, 2, 48);
    for (mask, rows, start, window) in
        [(Mask::Canvas, 70, 90, Some(33)), (Mask::Causal, 150, 200, Some(64)), (Mask::Canvas, 1, 0, None)]
    {
        let mut r = Numbers(9);
        let (q, k, v) = (r.vec(rows * heads * dim), r.vec(rows * kv_heads * dim), r.vec(rows * kv_heads * dim));
        let capacity = window.map_or(start.max(1), |w| w - 1 + 50);
        let old = r.vec(start * kv_heads * dim);
        let shape = AttentionShape { first_row: 0, rows, start, heads, kv_heads, head_dim: dim, window, mask };
        let run = |b: &Cpu| {
            let empty = || b.kv_buffer(KvType::F16, kv_heads * capacity * dim, "test").unwrap();
            let mut cache = KvLayer { k: empty(), v: empty(), capacity, kv_heads, head_dim: dim, kind: KvType::F16 };
            b.kv_append(&upload(b, &old), &upload(b, &old), start, 0, &mut cache).unwrap();
            let mut out = b.buffer(rows * heads * dim, "test").unwrap();
            b.attention(&upload(b, &q), &upload(b, &k), &upload(b, &v), &cache, &shape, &mut out).unwrap();
            out
        };
        for level in CpuLevel::available() {
            let want = run(&Cpu::new(1, level).unwrap().exact(true));
            let got = [1, 2].map(|threads| run(&Cpu::new(threads, level).unwrap()));
            assert!(got[0] == got[1], "{}: threads change results", level.name());
            assert_close(&format!("attention {mask:?} in 16 bits, {}", level.name()), &got[0], &want, 1e-2);
            assert!((got[0] != want) == level.bf16().is_some(), "{}: BF16 or not", level.name());
        }
    }
}

#[test]
fn experts_fused_and_split() {
    for (rows, experts, top_k, ffn, hidden) in [(1, 4, 2, 32, 32), (50, 8, 3, 70, 33), (200, 5, 5, 32, 64)] {
        let mut r = Numbers(5);
        let format = quant::by_name("F32").unwrap();
        let (logits, scale, x) = (r.vec(rows * experts), r.vec(experts), r.vec(rows * hidden));
        let fused = r.tensor(format, &[hidden, 2 * ffn, experts]);
        let (gate, up) = (r.tensor(format, &[hidden, ffn, experts]), r.tensor(format, &[hidden, ffn, experts]));
        let down = r.tensor(format, &[ffn, hidden, experts]);
        for split in [false, true] {
            // Outputs reach 30, five sums of 64 products of them: 1e-4 is 30 ulp.
            compare!(format!("experts rows {rows} split {split}"), 1e-4, |b| {
                let load = |t: &Tensor| b.weight(t.clone()).unwrap();
                let (fused, gate, up, down) = (load(&fused), load(&gate), load(&up), load(&down));
                let (gate, up) = if split { ((&gate, 0), (&up, 0)) } else { ((&fused, 0), (&fused, ffn)) };
                let weights = ExpertWeights { gate, up, down: &down, experts, ffn, hidden };
                let mut routes = b.routes(rows, top_k, ffn, hidden).unwrap();
                let mut out = b.buffer(rows * hidden, "test").unwrap();
                b.route(&upload(b, &logits), &upload(b, &scale), rows, experts, top_k, &mut routes).unwrap();
                b.experts(weights, &upload(b, &x), rows, &mut routes, &mut out).unwrap();
                download(b, &out, rows * hidden)
            });
        }
    }
}

#[test]
fn head_logits_and_soft_embedding() {
    let format = quant::by_name("Q8_0").unwrap();
    for (vocab, hidden, rows, sharpness) in [(1, 32, 2, 1.0), (63, 32, 5, 1.0), (1003, 64, 33, 0.1), (1600, 96, 4, 8.0)]
    {
        let mut r = Numbers(6);
        let (table, other) = (r.tensor(format, &[hidden, vocab]), r.tensor(format, &[hidden, vocab]));
        let x: Vec<f32> = r.vec(rows * hidden).iter().map(|x| x * sharpness).collect();
        // Draws at the ends of the range and in between.
        let uniforms: Vec<f32> = (0..rows).map(|i| (i as f32 + 0.003) / rows as f32).collect();
        // With bans that cover a whole tile of tokens, whatever its size up to 600.
        let banned = (0..vocab as u32 * 5 / 8).map(|t| (t, f32::NEG_INFINITY));
        let bias: Vec<(u32, f32)> = banned.chain((vocab > 1).then_some((vocab as u32 - 1, 1.5))).collect();
        for (softcap, bias) in [(None, &bias[..]), (Some(30.0), &[]), (Some(30.0), &bias)] {
            let params = HeadParams {
                temperature: 0.7,
                softcap,
                bias,
                uniforms: &uniforms,
                likely: &[],
                soft_scale: 8.0,
                cancel: &AtomicBool::new(false),
            };
            for other in [None, Some(&other)] {
                // Ids are compared exactly: a difference of one id is far above the bound.
                compare!(format!("head of {vocab} tokens, cap {softcap:?}, {} biases", bias.len()), 2e-3, |b| head(
                    b, &table, other, &x, rows, &params
                ));
            }
            compare!("logits", 1e-3, |b| {
                let mut out = vec![0.0; rows * vocab];
                b.logits(&b.weight(table.clone()).unwrap(), &upload(b, &x), rows, softcap, &mut out).unwrap();
                out
            });
        }
        let given: Vec<f32> = r.vec(rows * vocab).iter().map(|x| x * 10.0).collect();
        compare!("soft_embedding", 1e-4, |b| {
            let mut out = b.buffer(rows * hidden, "test").unwrap();
            b.soft_embedding(&b.weight(table.clone()).unwrap(), &given, rows, 8.0, &mut out).unwrap();
            download(b, &out, rows * hidden)
        });
    }
}

/// The soft embedding of a backend that is not exact, for rows from flat to sharp. Bound: what is left out, 1e-6 of the
/// largest embedding twice (its own part, and that it is missing from no sum), and two roundings to BF16, 2^-9 each, of all
/// the rest. The last case has more rows than go together.
#[test]
fn soft_embedding_over_the_tokens_that_matter() {
    let format = quant::by_name("F32").unwrap();
    let best = CpuLevel::best();
    for (vocab, hidden, rows, levels) in [
        (1, 32, 1, CpuLevel::available()),
        (3000, 160, 40, CpuLevel::available()),
        (513, 33, 7, CpuLevel::available()),
        (262_144, 16, 104, vec![best]),
    ] {
        let mut r = Numbers(8);
        let table = r.tensor(format, &[hidden, vocab]);
        let mut x = r.vec(rows * hidden);
        for (i, x) in x.chunks_mut(hidden).enumerate() {
            let sharpness = 0.1 * 1000f32.powf(i as f32 / rows as f32);
            x.iter_mut().for_each(|x| *x *= sharpness);
        }
        let params = HeadParams {
            temperature: 0.7,
            softcap: Some(30.0),
            bias: &[],
            uniforms: &vec![0.5; rows],
            likely: &[],
            soft_scale: 8.0,
            cancel: &AtomicBool::new(false),
        };
        let want = head(&Cpu::new(2, best).unwrap().exact(true), &table, None, &x, rows, &params);
        let bound = 8.0 * (2e-6 + 2.0 / 512.0) * 1.01;
        for level in levels {
            let got: Vec<Vec<f32>> =
                [1, 2].map(|threads| head(&Cpu::new(threads, level).unwrap(), &table, None, &x, rows, &params)).into();
            assert!(got[0] == got[1], "{}: threads change results", level.name());
            assert_close(&format!("soft embedding of {vocab} tokens, {}", level.name()), &got[0], &want, bound);
            // Right or wrong about what is likely: within the same bound.
            let right: Vec<u32> = want[..rows].iter().map(|&id| id as u32).collect();
            let wrong: Vec<u32> = (0..rows).map(|i| (i * 7919 % vocab) as u32).collect();
            for likely in [&right, &wrong] {
                let params = HeadParams { likely, ..params };
                let got = head(&Cpu::new(2, level).unwrap(), &table, None, &x, rows, &params);
                assert_close(&format!("with likely tokens, {vocab}, {}", level.name()), &got, &want, bound);
            }
        }
        let params = HeadParams { soft_scale: 0.0, ..params };
        let none = head(&Cpu::new(2, best).unwrap(), &table, None, &x, rows, &params);
        assert!(none[4 * rows..].iter().all(|&x| x == 0.0), "made a soft embedding that nobody wants");
        assert_eq!(none[..4 * rows], want[..4 * rows]);
    }
}
