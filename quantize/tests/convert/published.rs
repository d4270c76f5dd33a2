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
const MIXES: [Mix; 13] = [
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
    ("F32", &[], 4 * 25_250_987_068 + 60 * 28),
];

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
