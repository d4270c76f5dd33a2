//! One test body, run over the registry: what every format must do, whichever it is. A new format needs no test of its
//! own, but a row in [`error_bound`], and its vectors in `tests/golden/make_quant.py`. How well the encoders that search
//! do it is the subject of `tests/quant_quality.rs`.

use super::*;
use safetensors::SafeTensors;
use std::cell::Cell;
use std::panic::catch_unwind;

thread_local! {
    /// What codecs on this thread run at, instead of the best level.
    pub(super) static FORCED: Cell<Option<CpuLevel>> = const { Cell::new(None) };
}

/// Reproducible noise: splitmix64.
struct Noise(u64);

impl Noise {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in -1 .. 1.
    fn value(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.bits() as u8).collect()
    }
}

/// The formats whose encoders search: no two implementations need agree on the bytes.
const SEARCHED: [&str; 7] = ["Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "IQ4_XS", "IQ4_NL"];

fn encoders() -> impl Iterator<Item = (&'static Format, Encode)> {
    FORMATS.iter().map(|&f| (f, f.encode))
}

fn decoded(format: &Format, src: &[u8]) -> Vec<f32> {
    let mut values = vec![7.0; src.len() / format.block_bytes * format.block];
    (format.decode)(src, &mut values);
    values
}

fn encoded(format: &Format, encode: Encode, src: &[f32]) -> Vec<u8> {
    let mut bytes = vec![7; src.len() / format.block * format.block_bytes];
    encode(src, None, &mut bytes);
    bytes
}

#[test]
fn names_and_ids_are_unique_and_lead_back() {
    for (i, &format) in FORMATS.iter().enumerate() {
        assert_eq!(by_id(format.id), Some(format));
        assert_eq!(by_name(&format.name.to_lowercase()), Some(format));
        assert!(FORMATS[..i].iter().all(|f| f.id != format.id && f.name != format.name));
        assert_eq!(format.row_bytes(3 * format.block), Some(3 * format.block_bytes));
        assert_eq!(
            format.row_bytes(usize::MAX / format.block * format.block).is_none(),
            format.block_bytes > format.block
        );
        assert_eq!(format.row_bytes(format.block + 1).is_some(), format.block == 1);
    }
}

/// Protects the meaning of every bit: blocks decode, and values encode, as in the Python package `gguf`.
#[test]
fn agrees_with_an_independent_implementation() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/quant.safetensors");
    let file = std::fs::read(path).expect(path);
    let golden = SafeTensors::deserialize(&file).expect(path);
    let bytes = |name: String| golden.tensor(&name).expect("a golden tensor").data().to_vec();
    for format in FORMATS {
        let got = decoded(format, &bytes(format!("{}.blocks", format.name)));
        let expected = decoded(&f32::F32, &bytes(format!("{}.values", format.name)));
        assert_eq!(got.len(), expected.len(), "{}", format.name);
        for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
            assert_eq!(got.to_bits(), expected.to_bits(), "{} value {i}: {got}, expected {expected}", format.name);
        }
    }
    let input = decoded(&f32::F32, &bytes("input".to_owned()));
    for (format, encode) in encoders() {
        let got = encoded(format, encode, &input);
        let Ok(expected) = golden.tensor(&format!("{}.encoded", format.name)) else {
            assert!(SEARCHED.contains(&format.name), "no golden encoding of {}", format.name);
            continue;
        };
        let expected = expected.data();
        let blocks = got.chunks(format.block_bytes).zip(expected.chunks(format.block_bytes));
        for (i, (got, expected)) in blocks.enumerate() {
            let input = &input[i * format.block..(i + 1) * format.block];
            assert_eq!(got, expected, "{} block {i} of {input:?}", format.name);
        }
    }
}

#[test]
fn encoding_loses_no_more_than_the_format_must() {
    let mut noise = Noise(1);
    for (format, encode) in encoders() {
        for exponent in -30..15 {
            let scale = 2f32.powi(exponent);
            let input: Vec<f32> = (0..20 * format.block).map(|_| noise.value() * scale).collect();
            let output = decoded(format, &encoded(format, encode, &input));
            for (input, output) in input.chunks(format.block).zip(output.chunks(format.block)) {
                for (&x, &y) in input.iter().zip(output) {
                    let bound = error_bound(format, input, x);
                    assert!((x - y).abs() <= bound, "{}: {x} became {y}, allowed {bound}", format.name);
                }
            }
        }
    }
}

#[test]
fn zeros_stay_zeros() {
    for format in FORMATS {
        assert!(decoded(format, &vec![0; 3 * format.block_bytes]).iter().all(|&x| x == 0.0), "{}", format.name);
    }
    for (format, encode) in encoders() {
        let zeros = vec![0.0; 3 * format.block];
        assert_eq!(decoded(format, &encoded(format, encode, &zeros)), zeros, "{}", format.name);
    }
}

/// Whatever bytes a file has: decoding them does not panic, and a block's neighbours do not matter.
#[test]
fn any_bytes_decode_block_by_block() {
    let mut noise = Noise(2);
    for format in FORMATS {
        let src = noise.bytes(500 * format.block_bytes);
        let whole = decoded(format, &src);
        let single = src.chunks(format.block_bytes).flat_map(|block| decoded(format, block));
        assert!(whole.iter().zip(single).all(|(a, b)| a.to_bits() == b.to_bits()), "{}", format.name);
    }
}

#[test]
fn values_that_are_not_finite_never_panic_and_floats_keep_them() {
    for (format, encode) in encoders() {
        for odd in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN] {
            for at in 0..format.block {
                let mut input = vec![1.0; format.block];
                input[at] = odd;
                let output = decoded(format, &encoded(format, encode, &input));
                if format.block == 1 {
                    let same = output[at] == odd || (odd.is_nan() && output[at].is_nan());
                    let overflow = odd.is_finite() && output[at] == odd.signum() * f32::INFINITY;
                    assert!(same || overflow, "{}: {odd} became {}", format.name, output[at]);
                } else if !odd.is_nan() && format.name != "NVFP4" {
                    // NVFP4 cuts off whatever is too large.
                    let finite = output.iter().all(|x| x.is_finite());
                    assert!(!finite, "{}: {odd} vanished in {output:?}", format.name);
                }
            }
        }
    }
}

#[test]
fn lengths_that_do_not_match_panic() {
    for &format in FORMATS {
        let (block, bytes) = (format.block, format.block_bytes);
        for (src, dst) in [(bytes, 2 * block), (2 * bytes, block), (bytes + 1, block), (bytes, 0), (bytes - 1, block)] {
            assert!(catch_unwind(|| (format.decode)(&vec![0; src], &mut vec![0.0; dst])).is_err(), "{}", format.name);
            assert!(
                catch_unwind(|| (format.encode)(&vec![0.0; dst], None, &mut vec![0; src])).is_err(),
                "{}",
                format.name
            );
        }
        (format.decode)(&[], &mut []);
    }
}

/// All 65536 of them, against the crate `half`; and rounding of what lies between two neighbours.
#[test]
fn half_precision_widens_exactly_and_rounds_to_even() {
    for bits in 0..=u16::MAX {
        for (format, expected) in
            [(&f16::F16, ::half::f16::from_bits(bits).to_f32()), (&bf16::BF16, ::half::bf16::from_bits(bits).to_f32())]
        {
            let got = decoded(format, &bits.to_le_bytes())[0];
            assert!(got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan(), "{bits:#06x}");
            let next = decoded(format, &(bits ^ 1).to_le_bytes())[0];
            for x in [got, (got + next) / 2.0, got * 1.0001] {
                let got = match format.name {
                    "F16" => f16::from_f32(x),
                    _ => bf16::from_f32(x),
                };
                let expected = match format.name {
                    "F16" => ::half::f16::from_f32(x).to_bits(),
                    _ => ::half::bf16::from_f32(x).to_bits(),
                };
                assert_eq!(got, expected, "{} of {x}", format.name);
            }
        }
    }
}

/// Protects reproducible files: all instruction sets decode and encode to the same bits.
#[test]
fn every_level_computes_the_same() {
    let mut noise = Noise(3);
    for format in FORMATS {
        let input = mixed(&mut noise, 37 * format.block);
        let importance: Vec<f32> = input.iter().map(|_| noise.value().abs()).collect();
        let blocks = noise.bytes(37 * format.block_bytes);
        let at = |level| {
            FORCED.set(Some(level));
            let mut weighted = vec![0; 37 * format.block_bytes];
            (format.encode)(&input, Some(&importance), &mut weighted);
            let values: Vec<u32> = decoded(format, &blocks).iter().map(|x| x.to_bits()).collect();
            let all = (values, encoded(format, format.encode, &input), weighted);
            FORCED.set(None);
            all
        };
        let expected = at(CpuLevel::Scalar);
        for level in CpuLevel::available() {
            assert!(at(level) == expected, "{} at {}", format.name, level.name());
        }
    }
}

/// `n` values of many magnitudes, some of them zero.
fn mixed(noise: &mut Noise, n: usize) -> Vec<f32> {
    let mut scale = 1.0;
    let mut value = |i: usize| {
        if i.is_multiple_of(32) {
            scale = 2f32.powi((noise.bits() % 24) as i32 - 16);
        }
        if noise.bits().is_multiple_of(9) { 0.0 } else { scale * noise.value() * noise.value() }
    };
    (0..n).map(&mut value).collect()
}

/// Blocks do not depend on their neighbours, nor on how many are encoded in one call.
#[test]
fn values_encode_block_by_block() {
    let mut noise = Noise(4);
    for (format, encode) in encoders() {
        let input = mixed(&mut noise, 37 * format.block);
        let importance: Vec<f32> = input.iter().map(|_| noise.value().abs()).collect();
        for importance in [None, Some(importance)] {
            let mut whole = vec![0; 37 * format.block_bytes];
            encode(&input, importance.as_deref(), &mut whole);
            for (i, expected) in whole.chunks(format.block_bytes).enumerate() {
                let range = i * format.block..(i + 1) * format.block;
                let mut single = vec![0; format.block_bytes];
                encode(&input[range.clone()], importance.as_deref().map(|w| &w[range]), &mut single);
                assert_eq!(single, expected, "{} block {i}", format.name);
            }
        }
    }
}

/// Protects the use of importance: over many blocks, errors weighted with it get smaller where a format can choose.
#[test]
fn importance_is_heeded() {
    let mut noise = Noise(5);
    for (format, encode) in encoders() {
        let n = 64 * 256;
        let input: Vec<f32> = (0..n).map(|_| noise.value() + noise.value() + noise.value()).collect();
        // A few inputs matter a hundred times more than others, as in real models.
        let importance: Vec<f32> = (0..n).map(|_| 100f32.powf(noise.value())).collect();
        let error = |importance_given: Option<&[f32]>| {
            let mut bytes = vec![0; n / format.block * format.block_bytes];
            encode(&input, importance_given, &mut bytes);
            let output = decoded(format, &bytes);
            let errors = input.iter().zip(&output).zip(&importance).map(|((x, y), w)| f64::from(w * (x - y) * (x - y)));
            errors.sum::<f64>()
        };
        let (without, with) = (error(None), error(Some(&importance)));
        let chooses = SEARCHED.contains(&format.name) || ["Q4_0", "Q4_1", "Q5_0", "Q5_1"].contains(&format.name);
        assert!(if chooses { with < 0.95 * without } else { with == without }, "{}: {with}, {without}", format.name);
    }
}

/// Importance that says nothing, or nonsense, still gives valid blocks; with zeros everywhere, those without importance.
#[test]
fn odd_importance_is_survived() {
    let mut noise = Noise(6);
    for (format, encode) in encoders() {
        let input: Vec<f32> = (0..8 * format.block).map(|_| noise.value()).collect();
        for odd in [0.0, 1e-42, 1e38, f32::INFINITY, f32::NAN, -1.0] {
            let mut bytes = vec![0; 8 * format.block_bytes];
            encode(&input, Some(&vec![odd; input.len()]), &mut bytes);
            for (input, output) in input.chunks(format.block).zip(decoded(format, &bytes).chunks(format.block)) {
                for (&x, &y) in input.iter().zip(output) {
                    // A search gives up the exact ends of the range: one step more at most.
                    let bound = 3.0 * error_bound(format, input, x);
                    assert!((x - y).abs() <= bound, "{} with {odd}: {x} became {y}", format.name);
                }
            }
        }
    }
}

/// Protects products in integers: codes, scales and minimums say the same as the decoder.
#[test]
fn codes_mean_what_the_decoder_says() {
    let mut noise = Noise(9);
    for format in FORMATS {
        let Some(codes) = &format.codes else {
            assert_eq!(format.block, 1, "{}", format.name);
            continue;
        };
        let blocks = 40;
        let src: Vec<u8> = (0..blocks).flat_map(|_| noise.bytes(format.block_bytes)).collect();
        let (n, groups) = (blocks * format.block, blocks * format.block / codes.group);
        let (mut all, mut scales, mut mins) = (vec![0; n], vec![f32::NAN; groups], vec![0.0; groups]);
        (codes.unpack)(&src, &mut all, &mut scales, &mut mins);
        for (i, expected) in decoded(format, &src).into_iter().enumerate() {
            let (code, group) = (f32::from(all[i]), i / codes.group);
            let got = match codes.offset {
                Some(offset) => scales[group] * (code - f32::from(offset)),
                None => scales[group] * code - mins[group],
            };
            assert!(
                got == expected || got.is_nan() && expected.is_nan(),
                "{} {i}: {got}, expected {expected}",
                format.name
            );
            assert!(all[i] <= codes.largest);
        }
        assert!(codes.largest <= 63 || codes.offset == Some(128));
        assert!([16, 32].contains(&codes.group) && format.block.is_multiple_of(codes.group));
    }
}

/// Protects the faster way to take sixteen rows apart, at every level: it gives what [`Codes::unpack`] gives row by row,
/// bit for bit, in the order that `panel.rs` describes. Random bytes, so that every bit of a block matters.
#[test]
fn panels_agree_with_codes() {
    let mut noise = Noise(11);
    for (format, codes) in FORMATS.iter().filter_map(|format| Some((format, format.codes.as_ref()?))) {
        let (columns, groups) = (3 * format.block.max(32), 32 / codes.group);
        let row_bytes = columns / format.block * format.block_bytes;
        let src = noise.bytes(16 * row_bytes);
        let (mut all, mut scales, mut mins) = (Vec::new(), Vec::new(), Vec::new());
        for row in src.chunks(row_bytes) {
            let (mut a, mut s) = (vec![7; columns], vec![7.0; columns / codes.group]);
            let mut m = s.clone();
            (codes.unpack)(row, &mut a, &mut s, &mut m);
            all.push(a);
            scales.push(s);
            mins.push(m);
        }
        let brackets = if codes.offset.is_some() { vec![&scales] } else { vec![&scales, &mins] };
        let record = 8 + groups * brackets.len();
        for level in CpuLevel::available() {
            let mut lines = vec![panel::Line([7; 16]); columns / 32 * record];
            let mut steps = vec![panel::Line([7; 16]); columns / codes.group * 4];
            (codes.panel)(level, &src, &mut lines, &mut steps);
            for (i, (steps, group)) in steps.chunks(4).zip(scales_of(&lines, record, groups)).enumerate() {
                for (step, factor) in steps.iter().zip(panel::STEPS) {
                    for (got, scale) in step.floats().into_iter().zip(group.floats()) {
                        let want = scale * factor;
                        let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
                        assert!(same, "{} {} scale {i}: {got}, expected {want}", format.name, level.name());
                    }
                }
            }
            for (block, lines) in lines.chunks(record).enumerate() {
                for r in 0..16 {
                    let got: Vec<u8> = lines[..8].iter().flat_map(|line| line.bytes()[r]).collect();
                    assert_eq!(got, all[r][block * 32..][..32], "{} {} {block} {r}", format.name, level.name());
                    let expected = brackets.iter().flat_map(|of| &of[r][block * groups..][..groups]);
                    for (line, &expected) in lines[8..].iter().zip(expected) {
                        let got = line.floats()[r];
                        let same = got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan();
                        assert!(same, "{} {} {block} {r}: {got}, expected {expected}", format.name, level.name());
                    }
                }
            }
        }
    }
}

/// The lines of scales in records of `record` lines.
fn scales_of(lines: &[panel::Line], record: usize, groups: usize) -> impl Iterator<Item = &panel::Line> {
    lines.chunks(record).flat_map(move |record| &record[8..8 + groups])
}

/// Protects products in BF16: what is put in order is what decoding and rounding give, for any number of rows and columns.
#[test]
fn pairs_are_rounded_values() {
    let Some(token) = CpuLevel::best().bf16() else {
        return eprintln!("no BF16 dot products on this machine: not tested");
    };
    let mut noise = Noise(12);
    for (format, unpack) in FORMATS.iter().filter_map(|format| Some((format, format.pairs?))) {
        for columns in [1, 2, 31, 32, 33, 64, 200] {
            let src = noise.bytes(16 * columns * format.block_bytes);
            for rows in [1, 7, 16] {
                let src = &src[..rows * columns * format.block_bytes];
                let values = decoded(format, src);
                let mut lines = vec![panel::Line([7; 16]); columns.div_ceil(2)];
                unpack(token, src, rows, &mut lines);
                for (i, line) in lines.iter().enumerate() {
                    for r in 0..rows {
                        let value = |j: usize| if j < columns { values[r * columns + j] } else { 0.0 };
                        for (j, got) in [(2 * i, line.0[r] as u16), (2 * i + 1, (line.0[r] >> 16) as u16)] {
                            let same = got == bf16::from_f32(value(j));
                            let nan = value(j).is_nan() && decoded(&bf16::BF16, &got.to_le_bytes())[0].is_nan();
                            assert!(
                                same || nan,
                                "{} {rows}x{columns} at {r}, {j}: {got:#06x} of {}",
                                format.name,
                                value(j)
                            );
                        }
                    }
                }
            }
        }
    }
}
