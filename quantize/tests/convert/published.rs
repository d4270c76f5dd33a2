//! The published 26B model, as far as it is known without having it: numbers of tensors, elements and bytes.

use dgemma::gguf::writer::{Header, Plan};
use dgemma_quantize::types::Types;
use dgemma_quantize::{metadata, mix, plan, shapes};
use std::path::Path;

fn plans(target: &str) -> Vec<Plan> {
    let types = Types::of(mix::by_name(target).unwrap());
    plan::tensors(&shapes::named("26b").unwrap(), &types).unwrap().iter().map(|tensor| tensor.plan()).collect()
}

/// Mixes with the numbers of tensors per type, F32 left out, and the bytes of the data section. Those of Q4_K_M and Q8_0 are
/// known from published files and a load log; the others follow from llama.cpp's rules (in F32, only the 60
/// scalars are padded).
type Mix = (&'static str, &'static [(&'static str, usize)], u64);
const MIXES: [Mix; 21] = [
    ("BF16", &[("BF16", 269)], 50_525_009_792),
    ("F16", &[("F16", 269)], 50_525_009_792),
    ("Q8_0", &[("Q8_0", 269)], 26_863_006_592),
    ("Q6_K", &[("Q6_K", 208), ("Q8_0", 61)], 22_638_665_856),
    ("Q5_K_M", &[("Q5_1", 33), ("Q5_K", 194), ("Q6_K", 14), ("Q8_0", 28)], 19_129_718_656),
    ("Q5_K_S", &[("Q5_1", 61), ("Q5_K", 207), ("Q6_K", 1)], 17_983_561_600),
    ("Q5_1", &[("Q5_1", 268), ("Q6_K", 1)], 19_027_576_704),
    ("Q5_0", &[("Q5_0", 268), ("Q6_K", 1)], 17_496_247_168),
    ("Q4_K_M", &[("Q4_K", 194), ("Q5_0", 33), ("Q6_K", 14), ("Q8_0", 28)], 16_790_985_600),
    ("Q4_K_S", &[("Q4_K", 203), ("Q5_0", 55), ("Q5_1", 6), ("Q5_K", 4), ("Q6_K", 1)], 15_459_794_816),
    ("Q4_1", &[("Q4_1", 268), ("Q6_K", 1)], 15_964_917_632),
    ("Q4_0", &[("Q4_0", 268), ("Q6_K", 1)], 14_433_588_096),
    ("IQ4_NL", &[("IQ4_NL", 262), ("Q5_1", 6), ("Q6_K", 1)], 14_579_670_912),
    ("IQ4_XS", &[("IQ4_XS", 207), ("IQ4_NL", 55), ("Q5_1", 6), ("Q6_K", 1)], 14_057_663_360),
    ("MXFP4_MOE", &[("Q8_0", 209), ("MXFP4", 60)], 14_730_326_912),
    ("NVFP4", &[("NVFP4", 268), ("Q6_K", 1)], 14_433_588_096),
    ("Q3_K_L", &[("Q3_K", 152), ("Q5_1", 60), ("Q5_K", 55), ("Q4_0", 1), ("Q6_K", 1)], 13_817_134_720),
    (
        "Q3_K_M",
        &[("Q3_K", 152), ("Q5_0", 58), ("Q4_K", 53), ("Q5_K", 2), ("Q5_1", 2), ("Q4_0", 1), ("Q6_K", 1)],
        13_279_380_096,
    ),
    ("Q3_K_S", &[("Q3_K", 207), ("Q4_0", 61), ("Q6_K", 1)], 12_215_056_000),
    ("Q2_K", &[("Q2_K", 152), ("Q4_0", 61), ("Q3_K", 55), ("Q6_K", 1)], 10_574_175_616),
    ("F32", &[], 4 * 25_250_987_068 + 60 * 28),
];

#[test]
fn every_mix_is_known() {
    let mut known: Vec<&str> = MIXES.iter().map(|mix| mix.0).collect();
    let mut all: Vec<&str> = mix::MIXES.iter().map(|mix| mix.name).collect();
    known.sort();
    all.sort();
    assert_eq!(known, all);
}

/// With an importance matrix, Q4_0 and Q5_0 spend more on the first down projections, and IQ4 no longer does.
#[test]
fn mixes_with_an_importance_matrix() {
    let types = |mix: &str| {
        let types = Types { weighted: true, ..Types::of(mix::by_name(mix).unwrap()) };
        let planned = plan::tensors(&shapes::named("26b").unwrap(), &types).unwrap();
        move |name: &str| planned.iter().filter(|t| t.chosen.format.name == name).count()
    };
    let (q4, q5, nl, xs) = (types("Q4_0"), types("Q5_0"), types("IQ4_NL"), types("IQ4_XS"));
    assert_eq!((q4("Q4_0"), q4("Q4_1"), q4("Q6_K")), (262, 6, 1));
    assert_eq!((q5("Q5_0"), q5("Q5_1"), q5("Q6_K")), (262, 6, 1));
    assert_eq!((nl("IQ4_NL"), nl("Q6_K")), (268, 1));
    assert_eq!((xs("IQ4_XS"), xs("IQ4_NL"), xs("Q6_K")), (207, 61, 1));
    // Of the others, none looks at the matrix.
    let k = types("Q4_K_M");
    assert_eq!((k("Q4_K"), k("Q5_0"), k("Q8_0"), k("Q6_K")), (194, 33, 28, 14));
}

#[test]
fn tensors_and_bytes_are_those_of_the_published_files() {
    for (mix, types, data_bytes) in MIXES {
        let plans = plans(mix);
        let header = Header::new(Path::new("26b"), &[], &plans).unwrap();
        assert_eq!(header.file_bytes - header.bytes.len() as u64, data_bytes, "{mix}");
        assert_eq!(plans.len(), 692);
        assert_eq!(plans.iter().map(|p| p.shape.iter().product::<usize>()).sum::<usize>(), 25_250_987_068);
        let count = |name: &str| plans.iter().filter(|p| p.format.name == name).count();
        for (name, expected) in types {
            assert_eq!(count(name), *expected, "{mix}: {name}");
        }
        assert_eq!(count("F32"), 692 - types.iter().map(|(_, n)| n).sum::<usize>(), "{mix}");
        assert_eq!(metadata::size_label(&plans), "128x2.6B");
    }
}

#[test]
fn tensors_are_in_the_published_order() {
    let plans = plans("q8_0");
    let first: Vec<&str> = plans.iter().map(|p| p.name.as_str()).take(8).collect();
    let expected = [
        "output_norm",
        "rope_freqs",
        "self_cond_down",
        "self_cond_gate",
        "self_cond_pre_norm",
        "self_cond_up",
        "token_embd",
        "blk.0.attn_k",
    ];
    assert!(first.iter().zip(expected).all(|(name, stem)| *name == format!("{stem}.weight")), "{first:?}");
    let layer = |n: usize| plans.iter().filter(|p| p.name.starts_with(&format!("blk.{n}."))).count();
    assert_eq!((layer(0), layer(5)), (23, 22));
}

/// The table for readers is this one.
#[test]
fn the_readme_has_these_sizes() {
    let readme = include_str!("../../README.md");
    for (mix, _, bytes) in MIXES {
        let digits = bytes.to_string();
        let groups = digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap()).collect::<Vec<_>>();
        let row = format!("| {mix} | {} | ", groups.join(","));
        assert!(readme.contains(&row), "{row}");
    }
}
