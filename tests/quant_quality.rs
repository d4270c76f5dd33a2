//! How much the encoders lose, as a table (`cargo test --release --test quant_quality -- --nocapture`), and the bounds
//! they have to keep: llama.cpp's own encodings of the same weights, plain rounding, and the best of all scales.
//!
//! Errors are relative: the root of sum(w (x - y)^2) / sum(w x^2), with w = 1 ("plain"), |x| ("middle"), x^2 ("weighted").

use dgemma::quant::{self, FORMATS, Format};
use safetensors::SafeTensors;

fn encode(format: &Format, x: &[f32]) -> Vec<f32> {
    let mut bytes = vec![0; x.len() / format.block * format.block_bytes];
    (format.encode)(x, None, &mut bytes);
    decode(format, &bytes)
}

fn decode(format: &Format, bytes: &[u8]) -> Vec<f32> {
    let mut y = vec![0.0; bytes.len() / format.block_bytes * format.block];
    (format.decode)(bytes, &mut y);
    y
}

/// Plain, middle and weighted error.
fn errors(x: &[f32], y: &[f32]) -> [f64; 3] {
    assert_eq!(x.len(), y.len());
    [0, 1, 2].map(|power| {
        let weighted = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
            let parts = x.iter().zip(y).map(|(&x, &y)| (f64::from(x), f64::from(y)));
            parts.map(|(x, y)| x.abs().powi(power) * of(x, y).powi(2)).sum()
        };
        (weighted(&|x, y| x - y) / weighted(&|x, _| x)).sqrt()
    })
}

fn heading() {
    println!("format  weights       bytes     plain    middle  weighted  ratios to");
}

fn row(format: &Format, weights: &str, ours: [f64; 3], against: Option<(&str, [f64; 3])>) {
    let size = format.block_bytes as f64 / format.block as f64;
    print!("{:7} {weights:12} {size:6.4}", format.name);
    ours.iter().for_each(|error| print!(" {error:9.6}"));
    if let Some((whom, theirs)) = against {
        print!("  {whom}");
        ours.iter().zip(theirs).for_each(|(ours, theirs)| print!(" {:6.4}", ours / theirs));
    }
    println!();
}

/// Protects files made here from being worse than those made elsewhere: 1 % is allowed, on each set of weights.
#[test]
fn no_worse_than_llama_cpp() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/quant_peer.safetensors");
    let file = std::fs::read(path).expect(path);
    let golden = SafeTensors::deserialize(&file).expect(path);
    let mut seen = vec![];
    heading();
    for (name, blocks) in golden.tensors() {
        let (set, kind) = name.split_once('.').unwrap();
        let Some(format) = quant::by_name(kind) else {
            assert_eq!(kind, "source");
            continue;
        };
        let x = decode(quant::by_name("BF16").unwrap(), golden.tensor(&format!("{set}.source")).unwrap().data());
        let (ours, theirs) = (errors(&x, &encode(format, &x)), errors(&x, &decode(format, blocks.data())));
        row(format, set, ours, Some(("llama.cpp", theirs)));
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!(*ours <= 1.01 * theirs, "{name}: {ours}, llama.cpp {theirs}");
        }
        seen.push(format.name);
    }
    for kind in ["Q4_K", "Q6_K", "Q5_0", "Q5_1", "Q8_0", "Q4_0"] {
        assert!(seen.contains(&kind), "no {kind} in {path}");
    }
}

/// Formats whose encoders search, each in its own way.
const SEARCHED: [&str; 7] = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"];

/// The same on rows of known distributions, for every format that is searched for, and with an importance matrix: there, what
/// counts is the error weighted by importance. Formats of a fixed rule are equal to the byte. The blocks are ggml's own
/// (`tests/golden/make_quant_ggml.py`).
#[test]
fn no_worse_than_ggml_on_known_distributions() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/quant_ggml.safetensors");
    let file = std::fs::read(path).expect(path);
    let golden = SafeTensors::deserialize(&file).expect(path);
    let values = |name: &str, format: &str| {
        decode(quant::by_name(format).unwrap(), golden.tensor(name).expect("a tensor of the file").data())
    };
    let importance = values("importance", "F32");
    let mut worse = Vec::new();
    heading();
    for (set, _) in DISTRIBUTIONS {
        let x = values(&format!("{set}.source"), "BF16");
        for kind in SEARCHED {
            let format = quant::by_name(kind).unwrap();
            let (ours, theirs) = (errors(&x, &encode(format, &x)), errors(&x, &values(&format!("{set}.{kind}"), kind)));
            row(format, set, ours, Some(("ggml", theirs)));
            worse.extend(ours.iter().zip(theirs).any(|(x, y)| *x > 1.01 * y).then(|| format!("{kind} of {set}")));
            let theirs = values(&format!("{set}.{kind}-weighted"), kind);
            let [ours, theirs] =
                [encode_weighted(format, &x, &importance), theirs].map(|y| importance_weighted(&x, &y, &importance));
            println!("{kind:7} {set:12} with importance: {ours:.6}  ggml {:.4}", ours / theirs);
            worse.extend((ours > 1.01 * theirs).then(|| format!("{kind} of {set} with importance")));
        }
        for kind in ["MXFP4", "NVFP4"] {
            let format = quant::by_name(kind).unwrap();
            let mut bytes = vec![0; x.len() / format.block * format.block_bytes];
            (format.encode)(&x, None, &mut bytes);
            assert!(bytes == golden.tensor(&format!("{set}.{kind}")).unwrap().data(), "{kind} of {set}");
        }
    }
    assert!(worse.is_empty(), "more than 1 % worse than ggml, see the table: {worse:?}");
}

/// Row by row, as the weights are per column.
fn encode_weighted(format: &Format, x: &[f32], importance: &[f32]) -> Vec<f32> {
    let rows = x.chunks(importance.len()).flat_map(|x| {
        let mut bytes = vec![0; x.len() / format.block * format.block_bytes];
        (format.encode)(x, Some(importance), &mut bytes);
        decode(format, &bytes)
    });
    rows.collect()
}

/// The root of sum(importance (x - y)^2) / sum(importance x^2).
fn importance_weighted(x: &[f32], y: &[f32], importance: &[f32]) -> f64 {
    let sum = |of: &dyn Fn(f32, f32) -> f32| -> f64 {
        let all = x.iter().zip(y).zip(importance.iter().cycle());
        all.map(|((&x, &y), &w)| f64::from(w) * f64::from(of(x, y)).powi(2)).sum()
    };
    (sum(&|x, y| x - y) / sum(&|x, _| x)).sqrt()
}

/// Reproducible random numbers: splitmix64.
struct Noise(u64);

impl Noise {
    /// Uniform in 0 .. 1, never 0.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    fn gaussian(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    fn laplacian(&mut self) -> f64 {
        -self.uniform().ln() * if self.uniform() < 0.5 { 1.0 } else { -1.0 }
    }

    /// Student's t with three degrees of freedom: tails so heavy that the fourth moment is infinite.
    fn student(&mut self) -> f64 {
        let chi: f64 = (0..3).map(|_| self.gaussian().powi(2)).sum();
        self.gaussian() / (chi / 3.0).sqrt()
    }

    fn rows(&mut self, of: fn(&mut Self) -> f64) -> Vec<f32> {
        (0..128 * 256).map(|_| (0.02 * of(self)) as f32).collect()
    }
}

type Distribution = (&'static str, fn(&mut Noise) -> f64);
const DISTRIBUTIONS: [Distribution; 3] =
    [("gaussian", Noise::gaussian), ("laplacian", Noise::laplacian), ("student-3", Noise::student)];

/// What the values of IQ4 codes are; `dgemma` keeps them to itself.
const IQ4: [f32; 16] = [-127., -104., -83., -65., -49., -35., -22., -10., 1., 13., 25., 38., 53., 69., 89., 113.];

fn on_iq4(x: f32) -> f32 {
    IQ4.into_iter().min_by(|a, b| (x - a).abs().total_cmp(&(x - b).abs())).unwrap()
}

/// Encoding without a search: each sub-block of `sub` values gets the scale that makes its largest value the last code,
/// scales become integers 0 ..= `scales` times one number, values are rounded.
fn rounded(x: &[f32], sub: usize, scales: f32, low: f32, on_grid: impl Fn(f32) -> f32) -> Vec<f32> {
    let ideal: Vec<f32> =
        x.chunks(sub).map(|x| x.iter().fold(0f32, |m, &x| if x.abs() > m.abs() { x } else { m }) / low).collect();
    let unit = ideal.iter().fold(0f32, |m, s| m.max(s.abs())) / scales;
    let stored = |s: f32| if scales > 0.0 { (s / unit).round() * unit } else { s };
    let parts = x.chunks(sub).zip(&ideal).flat_map(|(x, &s)| x.iter().map(move |&x| (x, stored(s))));
    parts.map(|(x, s)| if s == 0.0 { 0.0 } else { s * on_grid(x / s) }).collect()
}

/// The same with minimums: min and max of a sub-block become the first and the last code.
fn rounded_with_min(x: &[f32], sub: usize, scales: f32, top: f32) -> Vec<f32> {
    let ends = |x: &[f32]| x.iter().fold((0f32, f32::MIN), |(low, high), &x| (low.min(x), high.max(x)));
    let ideal: Vec<(f32, f32)> = x.chunks(sub).map(|x| ((ends(x).1 - ends(x).0) / top, -ends(x).0)).collect();
    let unit = |of: fn(&(f32, f32)) -> f32| ideal.iter().fold(0f32, |m, line| m.max(of(line))) / scales;
    let (d, dmin) = (unit(|line| line.0), unit(|line| line.1));
    let line = |(s, m): (f32, f32)| ((s / d).round() * d, (m / dmin).round() * dmin);
    let parts = x.chunks(sub).zip(&ideal).flat_map(|(x, &ideal)| x.iter().map(move |&x| (x, line(ideal))));
    parts.map(|(x, (s, m))| if s == 0.0 { -m } else { s * ((x + m) / s).round().clamp(0.0, top) - m }).collect()
}

/// A row of 256 in `format`, without a search; `None` where a fixed rule is all there is.
fn naive(format: &Format, x: &[f32]) -> Option<Vec<f32>> {
    let integers = |low: f32, high: f32| move |x: f32| x.round().clamp(low, high);
    Some(match format.name {
        "Q6_K" => rounded(x, 16, 127.0, -32.0, integers(-32.0, 31.0)),
        "Q3_K" => rounded(x, 16, 31.0, -4.0, integers(-4.0, 3.0)),
        "IQ4_XS" => rounded(x, 32, 31.0, -127.0, on_iq4),
        "IQ4_NL" => rounded(x, 32, 0.0, -127.0, on_iq4),
        "Q5_K" => rounded_with_min(x, 32, 63.0, 31.0),
        "Q4_K" => rounded_with_min(x, 32, 63.0, 15.0),
        "Q2_K" => rounded_with_min(x, 16, 15.0, 3.0),
        _ => return None,
    })
}

/// The part of the error of rounding that a search may leave.
const MARGINS: [(&str, f64); 7] = [
    ("Q6_K", 0.98),
    ("Q5_K", 0.94),
    ("Q4_K", 0.95),
    ("IQ4_XS", 0.98),
    ("IQ4_NL", 0.98),
    ("Q3_K", 0.98),
    ("Q2_K", 0.95),
];

/// Protects the worth of the searches.
#[test]
fn better_than_rounding() {
    let mut noise = Noise(7);
    heading();
    for (distribution, draw) in DISTRIBUTIONS {
        let x = noise.rows(draw);
        for format in FORMATS {
            let ours = errors(&x, &encode(format, &x));
            let naive: Option<Vec<_>> = x.chunks(256).map(|x| naive(format, x)).collect();
            let Some(naive) = naive else {
                row(format, distribution, ours, None);
                continue;
            };
            let naive = errors(&x, &naive.concat());
            row(format, distribution, ours, Some(("rounding", naive)));
            // What the searches minimize lies between plain and middle. Where rounding keeps the largest value of a
            // block and little else, it wins the weighted error on heavy tails.
            for (ours, naive) in ours.iter().zip(naive).take(2) {
                let bound = MARGINS.iter().find(|(name, _)| *name == format.name).unwrap().1;
                assert!(*ours <= bound * naive, "{} of {distribution}: {ours}, rounding {naive}", format.name);
            }
        }
    }
}

/// Protects the choice of candidates: no scale in a fine grid leaves a much smaller error than the one found.
#[test]
fn as_good_as_trying_every_scale() {
    let format = quant::by_name("IQ4_NL").unwrap();
    let mut noise = Noise(8);
    for (distribution, draw) in DISTRIBUTIONS {
        let x = noise.rows(draw);
        let (mut found, mut best) = (0f64, 0f64);
        for x in x.chunks(32).take(200) {
            let rms = (x.iter().map(|x| x * x).sum::<f32>() / 32.0).sqrt();
            let error = |y: &dyn Fn(usize) -> f32| -> f64 {
                (0..32).map(|i| f64::from((0.25 * rms + x[i].abs()) * (x[i] - y(i)).powi(2))).sum()
            };
            let ours = encode(format, x);
            found += error(&|i| ours[i]);
            let largest = x.iter().fold(0f32, |m, x| m.max(x.abs()));
            let scales = (0..400).flat_map(|i| [-1.0, 1.0].map(|sign| sign * largest / (60.0 + 0.25 * i as f32)));
            best += scales.map(|s| error(&|i| s * on_iq4(x[i] / s))).fold(f64::INFINITY, f64::min);
        }
        println!("IQ4_NL  {distribution:12} error {:.4} of the best of 800 scales", found / best);
        assert!(found <= 1.02 * best, "{distribution}: {found}, best {best}");
    }
}
