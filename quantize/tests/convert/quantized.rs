//! Quantized checkpoints: the smallest one quantized here, in the layouts of the published FP8 and NVFP4 checkpoints, and
//! converted. What must come out is computed from the codes by formulas of its own.

use crate::hf::{Hf, Scratch, Tensor, stderr};
use crate::mistakes::refused;
use dgemma::gguf::Gguf;
use safetensors::tensor::Dtype;
use serde_json::json;
use std::sync::LazyLock;

/// The value of an E4M3 code.
fn e4m3(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(code >> 3 & 15), f32::from(code & 7));
    let magnitude =
        if exponent == 0 { mantissa * 2f32.powi(-9) } else { (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7) };
    if code >= 128 { -magnitude } else { magnitude }
}

/// The value of an E2M1 code.
fn e2m1(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(code >> 1 & 3), f32::from(code & 1));
    let magnitude = if exponent == 0 { mantissa / 2.0 } else { (1.0 + mantissa / 2.0) * 2f32.powi(exponent - 1) };
    if code & 8 != 0 { -magnitude } else { magnitude }
}

/// The code whose value is nearest to `x`, of those that `value` knows.
fn nearest(codes: impl Iterator<Item = u8>, value: fn(u8) -> f32, x: f32) -> u8 {
    let distance = |code: &u8| (value(*code) - x).abs();
    codes.min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap()
}

fn nearest_e4m3(x: f32) -> u8 {
    static VALUES: LazyLock<[f32; 256]> = LazyLock::new(|| std::array::from_fn(|code| e4m3(code as u8)));
    let codes = (0..=255).filter(|code| code & 0x7f != 0x7f);
    nearest(codes, |code| VALUES[code as usize], x)
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(1e-6, |max, x| x.abs().max(max))
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// A matrix stored in parts: what is called `.weight_scale` and so on, and the values it stands for.
pub type Quantized = (Vec<(&'static str, Tensor)>, Vec<f32>);
pub type Quantize = fn(&[f32], [usize; 2]) -> Quantized;

/// One scale for each row, in F32.
fn fp8_per_row(values: &[f32], [rows, columns]: [usize; 2]) -> Quantized {
    let scales: Vec<f32> = values.chunks(columns).map(|row| largest(row) / 448.0).collect();
    let codes: Vec<u8> = values.iter().enumerate().map(|(i, x)| nearest_e4m3(x / scales[i / columns])).collect();
    let meant = codes.iter().enumerate().map(|(i, &code)| e4m3(code) * scales[i / columns]).collect();
    let codes = Tensor(Dtype::F8_E4M3, vec![rows, columns], codes);
    (vec![(".weight", codes), (".weight_scale", Tensor(Dtype::F32, vec![rows, 1], f32s(&scales)))], meant)
}

/// One scale for all, in BF16, and what runtimes want beside it.
fn fp8_per_tensor(values: &[f32], [rows, columns]: [usize; 2]) -> Quantized {
    let scale = f32::from_bits(((largest(values) / 400.0).to_bits() >> 16) << 16);
    let codes: Vec<u8> = values.iter().map(|x| nearest_e4m3(x / scale)).collect();
    let meant = codes.iter().map(|&code| e4m3(code) * scale).collect();
    let scale_bytes = scale.to_le_bytes()[2..].to_vec();
    let parts = vec![
        (".weight", Tensor(Dtype::F8_E4M3, vec![rows, columns], codes)),
        (".weight_scale", Tensor(Dtype::BF16, vec![], scale_bytes)),
        (".input_scale", Tensor(Dtype::F32, vec![], f32s(&[0.5]))),
    ];
    (parts, meant)
}

/// Codes and scales of NVFP4, and the values before the last step.
fn nvfp4(values: &[f32], columns: usize, global: f32) -> (Vec<u8>, Vec<u8>, Vec<f32>) {
    assert_eq!(columns % 16, 0);
    let (mut packed, mut scales, mut meant) = (Vec::new(), Vec::new(), Vec::new());
    for group in values.chunks(16) {
        let scale = nearest_e4m3(largest(group) / 6.0 / global);
        scales.push(scale);
        let codes: Vec<u8> = group
            .iter()
            .map(|x| nearest(0..16, e2m1, if e4m3(scale) > 0.0 { x / (e4m3(scale) * global) } else { 0.0 }))
            .collect();
        packed.extend(codes.chunks(2).map(|pair| pair[0] | pair[1] << 4));
        meant.extend(codes.iter().map(|&code| e2m1(code) * e4m3(scale)));
    }
    (packed, scales, meant)
}

/// As ModelOpt stores it.
pub fn nvfp4_with_factor(values: &[f32], [rows, columns]: [usize; 2]) -> Quantized {
    let global = largest(values) / 6.0 / 448.0;
    let (packed, scales, meant) = nvfp4(values, columns, global);
    let parts = vec![
        (".weight", Tensor(Dtype::U8, vec![rows, columns / 2], packed)),
        (".weight_scale", Tensor(Dtype::F8_E4M3, vec![rows, columns / 16], scales)),
        (".weight_scale_2", Tensor(Dtype::F32, vec![], f32s(&[global]))),
        (".input_scale", Tensor(Dtype::F32, vec![], f32s(&[0.5]))),
    ];
    (parts, meant.iter().map(|x| x * global).collect())
}

/// As llm-compressor stores it.
fn nvfp4_with_divisor(values: &[f32], [rows, columns]: [usize; 2]) -> Quantized {
    let divisor = 6.0 * 448.0 / largest(values);
    let (packed, scales, meant) = nvfp4(values, columns, 1.0 / divisor);
    let parts = vec![
        (".weight_packed", Tensor(Dtype::U8, vec![rows, columns / 2], packed)),
        (".weight_scale", Tensor(Dtype::F8_E4M3, vec![rows, columns / 16], scales)),
        (".weight_global_scale", Tensor(Dtype::F32, vec![1], f32s(&[divisor]))),
        (".input_global_scale", Tensor(Dtype::F32, vec![], f32s(&[0.5]))),
    ];
    (parts, meant.iter().map(|x| x / divisor).collect())
}

/// Everything but attention in one way, attention in another.
fn mixed(values: &[f32], shape: [usize; 2]) -> Quantized {
    if shape[0] == shape[1] { fp8_per_row(values, shape) } else { nvfp4_with_factor(values, shape) }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    assert_eq!(tensor.0, Dtype::F32);
    tensor.2.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

/// The smallest checkpoint with its layers' projections quantized, the experts one by one, as published ones are; and the
/// same with the values that these codes stand for, not quantized.
pub fn quantized(quantize: Quantize) -> (Hf, Hf) {
    let (mut hf, mut meant) = (Hf::micro(), Hf::micro());
    for (name, tensor) in Hf::micro().tensors {
        let decoder = name.starts_with("model.decoder.layers.");
        match tensor.1[..] {
            [rows, columns] if decoder && !name.contains("router") => {
                let base = name.strip_suffix(".weight").unwrap();
                let values = put(&mut hf, base, quantize(&values(&tensor), [rows, columns]));
                meant.tensors.insert(name, Tensor(Dtype::F32, tensor.1, f32s(&values)));
            }
            [experts, rows, columns] if decoder => {
                let (layer, stack) = name.split_once("experts.").unwrap();
                let parts: &[&str] = if stack == "gate_up_proj" { &["gate_proj", "up_proj"] } else { &["down_proj"] };
                let shape = [rows / parts.len(), columns];
                let mut all = Vec::new();
                let pieces = values(&tensor);
                let mut pieces = pieces.chunks(shape[0] * shape[1]);
                for expert in 0..experts {
                    for part in parts {
                        let base = format!("{layer}experts.{expert}.{part}");
                        all.extend(put(&mut hf, &base, quantize(pieces.next().unwrap(), shape)));
                    }
                }
                hf.tensors.remove(&name);
                meant.tensors.insert(name, Tensor(Dtype::F32, tensor.1, f32s(&all)));
            }
            _ => {}
        }
    }
    (hf, meant)
}

fn put(hf: &mut Hf, base: &str, (parts, meant): Quantized) -> Vec<f32> {
    hf.tensors.remove(&format!("{base}.weight"));
    hf.tensors.extend(parts.into_iter().map(|(suffix, tensor)| (format!("{base}{suffix}"), tensor)));
    meant
}

fn fp8() -> Hf {
    let mut hf = quantized(fp8_per_row).0;
    hf.config["quantization_config"] = json!({"quant_method": "compressed-tensors", "format": "float-quantized"});
    hf
}

fn modelopt() -> Hf {
    let mut hf = quantized(nvfp4_with_factor).0;
    hf.config["quantization_config"] = json!({"quant_method": "modelopt", "quant_algo": "NVFP4"});
    hf
}

#[track_caller]
fn same(name: &str, quantized: &Hf, meant: &Hf) {
    let (ours, theirs) = (Scratch::new(&format!("{name}-codes")), Scratch::new(&format!("{name}-values")));
    for target in ["f32", "q8_0", "q4_k_m"] {
        for (hf, scratch) in [(quantized, &ours), (meant, &theirs)] {
            let output = hf.convert(scratch, target);
            assert!(output.status.success(), "{}", stderr(&output));
            assert_eq!(stderr(&output), "");
        }
        let (ours, theirs) = (Gguf::open(&ours.out()).unwrap(), Gguf::open(&theirs.out()).unwrap());
        crate::good::assert_same_tensors(&ours, &theirs);
    }
}

#[test]
fn fp8_checkpoints_are_decoded_exactly() {
    let compressed = json!({"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"]});
    for (name, quantize) in [("fp8-row", fp8_per_row as Quantize), ("fp8-tensor", fp8_per_tensor)] {
        let (mut hf, meant) = quantized(quantize);
        hf.config["quantization_config"] = compressed.clone();
        same(name, &hf, &meant);
    }
}

#[test]
fn nvfp4_checkpoints_are_decoded_exactly() {
    let (mut hf, meant) = quantized(nvfp4_with_factor);
    // K/V caches have scales of their own in some exports.
    let kv = Tensor(Dtype::F32, vec![], f32s(&[1.0]));
    hf.tensors.insert("model.decoder.layers.0.self_attn.k_proj.k_scale".to_owned(), kv.clone());
    hf.tensors.insert("model.decoder.layers.0.self_attn.v_proj.v_scale".to_owned(), kv);
    let mut older = hf.clone();
    hf.config["quantization_config"] = json!({"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16});
    same("nvfp4-factor", &hf, &meant);
    let said = json!({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "group_size": 16}});
    older.files.insert("hf_quant_config.json".to_owned(), Some(said.to_string().into_bytes()));
    same("nvfp4-older", &older, &meant);

    let (mut hf, meant) = quantized(nvfp4_with_divisor);
    hf.config["quantization_config"] = json!({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"});
    same("nvfp4-divisor", &hf, &meant);

    let (mut hf, meant) = quantized(mixed);
    hf.config["quantization_config"] = json!({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"});
    same("nvfp4-mixed", &hf, &meant);
}

/// NVFP4 stays NVFP4. Where the number of the whole tensor is a power of two (and no scale gets too small), every value stays
/// what it is. Elsewhere, no tensor loses more than by way of its values, and some lose less.
#[test]
fn nvfp4_checkpoints_become_nvfp4() {
    fn power_of_two(values: &[f32], [rows, columns]: [usize; 2]) -> Quantized {
        let (packed, scales, meant) = nvfp4(values, columns, 4.0);
        let parts = vec![
            (".weight", Tensor(Dtype::U8, vec![rows, columns / 2], packed)),
            (".weight_scale", Tensor(Dtype::F8_E4M3, vec![rows, columns / 16], scales)),
            (".weight_scale_2", Tensor(Dtype::F32, vec![], f32s(&[4.0]))),
        ];
        (parts, meant.iter().map(|x| x * 4.0).collect())
    }
    for (name, quantize) in [("power", power_of_two as Quantize), ("any", nvfp4_with_factor)] {
        let (mut hf, meant) = quantized(quantize);
        hf.config["quantization_config"] = json!({"quant_method": "modelopt", "quant_algo": "NVFP4"});
        let [codes, values, exact] = ["codes", "values", "exact"].map(|of| Scratch::new(&format!("nvfp4-{name}-{of}")));
        for (hf, scratch, target) in [(&hf, &codes, "nvfp4"), (&meant, &values, "nvfp4"), (&meant, &exact, "f32")] {
            let output = hf.convert(scratch, target);
            assert!(output.status.success(), "{}", stderr(&output));
        }
        let [codes, values, exact] = [codes, values, exact].map(|scratch| Gguf::open(&scratch.out()).unwrap());
        let [mut ours, mut theirs, mut tensors] = [0.0, 0.0, 0.0];
        let stays = |name: &str| name.contains("attn_") || name.contains("ffn_gate") || name.contains("ffn_up");
        for info in codes.tensors().iter().filter(|t| t.format.name == "NVFP4" && stays(&t.name)) {
            let [codes, values, exact] = [&codes, &values, &exact].map(|file| {
                let tensor = file.require(&info.name).unwrap();
                let mut values = vec![0.0; tensor.shape.iter().product()];
                (tensor.format.decode)(&tensor.data, &mut values);
                values
            });
            let error = |of: &[f32]| -> f64 { of.iter().zip(&exact).map(|(x, y)| f64::from(x - y).powi(2)).sum() };
            match name {
                "power" => assert!(codes == exact, "{}", info.name),
                _ => assert!(error(&codes) <= 1.0001 * error(&values), "{}", info.name),
            }
            (ours, theirs, tensors) = (ours + error(&codes), theirs + error(&values), tensors + 1.0);
        }
        println!("{name}: {tensors} tensors, squared error {ours:.3e} by codes, {theirs:.3e} by values");
        assert!(tensors > 10.0 && (name == "power" || ours < theirs));
    }
}

/// A fine-tuned checkpoint may have the shared weights under the encoder's name, and their scales with them.
#[test]
fn quantized_weights_under_the_encoders_name() {
    let (mut hf, meant) = quantized(fp8_per_row);
    hf.config["quantization_config"] = json!({"quant_method": "compressed-tensors", "format": "float-quantized"});
    let tensors = std::mem::take(&mut hf.tensors).into_iter();
    hf.tensors = tensors
        .map(|(name, tensor)| match name.contains("_proj") {
            true => (name.replace("model.decoder.layers.", "model.encoder.language_model.layers."), tensor),
            false => (name, tensor),
        })
        .collect();
    same("fp8-encoder", &hf, &meant);
}

#[test]
fn experts_stored_one_by_one_need_not_be_quantized() {
    fn plain(values: &[f32], shape: [usize; 2]) -> Quantized {
        (vec![(".weight", Tensor(Dtype::F32, shape.to_vec(), f32s(values)))], values.to_vec())
    }
    let (hf, meant) = quantized(plain);
    same("experts", &hf, &meant);
}

const Q: &str = "model.decoder.layers.1.self_attn.q_proj";
const UP: &str = "model.decoder.layers.2.experts.3.up_proj";

/// The complaint about a changed copy of `hf`; `HF` stands for the checkpoint's directory.
#[track_caller]
fn wrong(hf: &Hf, change: impl FnOnce(&mut Hf), message: &str) {
    let mut changed = hf.clone();
    change(&mut changed);
    refused(|micro| *micro = changed, message);
}

fn at(tensor: &str, suffix: &str) -> String {
    format!("HF/model.safetensors: tensor `{tensor}{suffix}`: ")
}

#[test]
fn mistakes_in_fp8_checkpoints() {
    let hf = fp8();
    let tensor = |hf: &mut Hf, suffix: &str, change: fn(&mut Tensor)| {
        change(hf.tensors.get_mut(&format!("{Q}{suffix}")).unwrap());
    };
    for name in [Q, UP] {
        let scale = format!("{name}.weight_scale");
        let message = format!("{}is quantized, but its `{scale}` is missing", at(name, ".weight"));
        wrong(&hf, |hf| drop(hf.tensors.remove(&scale)), &message);
    }
    wrong(
        &hf,
        |hf| tensor(hf, ".weight_scale", |t| t.1 = vec![32, 2]),
        &(at(Q, ".weight_scale") + "has shape [32, 2], expected [1] or [64, 1]"),
    );
    wrong(
        &hf,
        |hf| tensor(hf, ".weight_scale", |t| t.0 = Dtype::I32),
        &(at(Q, ".weight_scale") + "is stored as I32, expected F32, F16 or BF16"),
    );
    wrong(
        &hf,
        |hf| tensor(hf, ".weight_scale", |t| t.2[8..12].copy_from_slice(&f32::NAN.to_le_bytes())),
        &(at(Q, ".weight_scale") + "element 2 is NaN"),
    );
    wrong(
        &hf,
        |hf| tensor(hf, ".weight", |t| t.0 = Dtype::F8_E5M2),
        &(at(Q, ".weight") + "is stored as F8_E5M2, expected F32, F16 or BF16"),
    );
    wrong(
        &hf,
        |hf| tensor(hf, ".weight", |t| t.1 = vec![32, 128]),
        &(at(Q, ".weight") + "has shape [32, 128], but config.json asks for [64, 64]"),
    );
    wrong(&hf, |hf| tensor(hf, ".weight", |t| t.2[70] = 0x7f), &(at(Q, ".weight") + "element 70 is NaN"));
    // In the file it is one of many in a stack; the message is about where it is here.
    wrong(
        &hf,
        |hf| hf.tensors.get_mut(&format!("{UP}.weight")).unwrap().2[9] = 0xff,
        &(at(UP, ".weight") + "element 9 is NaN"),
    );
    wrong(&hf, |hf| drop(hf.tensors.remove(&format!("{UP}.weight"))), &(at(UP, ".weight") + "is missing"));
    let extra = |name: &'static str| {
        move |hf: &mut Hf| drop(hf.tensors.insert(name.to_owned(), hf.tensors[&format!("{Q}.weight_scale")].clone()))
    };
    let more = "is not part of a DiffusionGemma with this config.json";
    wrong(&hf, extra("model.decoder.norm.weight_scale"), &(at("model.decoder.norm", ".weight_scale") + more));
    wrong(
        &hf,
        extra("model.decoder.layers.0.experts.6.up_proj.weight"),
        &(at("model.decoder.layers.0.experts.6.up_proj", ".weight") + more),
    );
}

#[test]
fn mistakes_in_nvfp4_checkpoints() {
    let hf = modelopt();
    for suffix in [".weight_scale", ".weight_scale_2"] {
        let scale = format!("{UP}{suffix}");
        let message = format!("{}is quantized, but its `{scale}` is missing", at(UP, ".weight"));
        wrong(&hf, |hf| drop(hf.tensors.remove(&scale)), &message);
    }
    let tensor = |suffix: &'static str, change: fn(&mut Tensor)| {
        move |hf: &mut Hf| change(hf.tensors.get_mut(&format!("{UP}{suffix}")).unwrap())
    };
    wrong(
        &hf,
        tensor(".weight_scale", |t| t.1 = vec![16, 8]),
        &(at(UP, ".weight_scale") + "has shape [16, 8], expected [32, 4]"),
    );
    wrong(
        &hf,
        tensor(".weight_scale", |t| t.0 = Dtype::U8),
        &(at(UP, ".weight_scale") + "is stored as U8, expected F8_E4M3"),
    );
    wrong(
        &hf,
        tensor(".weight_scale_2", |t| (t.1, t.2) = (vec![2], t.2.repeat(2))),
        &(at(UP, ".weight_scale_2") + "has shape [2], expected [] or [1]"),
    );
    wrong(
        &hf,
        tensor(".weight_scale_2", |t| t.2 = f32::INFINITY.to_le_bytes().to_vec()),
        &(at(UP, ".weight_scale_2") + "element 0 is inf"),
    );
    wrong(
        &hf,
        tensor(".weight", |t| t.1 = vec![64, 16]),
        &(at(UP, ".weight") + "has shape [64, 16], expected [32, 32]"),
    );
    // All codes of that group but 0 are NaN with it; so is 0.
    wrong(&hf, tensor(".weight_scale", |t| t.2[1] = 0x7f), &(at(UP, ".weight") + "element 16 is NaN"));
    wrong(
        &hf,
        |hf| drop(hf.config.as_object_mut().unwrap().remove("quantization_config")),
        &(at("model.decoder.layers.0.self_attn.k_proj", ".weight") + "is stored as U8, expected F32, F16 or BF16"),
    );
}

#[test]
fn unknown_ways_of_quantizing() {
    let hf = fp8();
    let config = |value| move |hf: &mut Hf| hf.config["quantization_config"] = value;
    let key = |message: &str| format!("HF/config.json: key `quantization_config.{message}");
    let methods = "is neither compressed-tensors nor modelopt, which alone are supported";
    wrong(&hf, config(json!({"quant_method": "gptq"})), &key(&format!("quant_method`: {methods}")));
    wrong(&hf, config(json!({"format": "float-quantized"})), &key("quant_method`: is missing"));
    wrong(
        &hf,
        config(json!({"quant_method": "compressed-tensors", "format": "int-quantized"})),
        &key("format`: is \"int-quantized\", expected one of float-quantized, nvfp4-pack-quantized, mixed-precision"),
    );
    wrong(
        &hf,
        config(json!({"quant_method": "modelopt", "quant_algo": "NVFP4_AWQ"})),
        &key("quant_algo`: is \"NVFP4_AWQ\", expected one of FP8, NVFP4, MIXED_PRECISION"),
    );
    wrong(
        &hf,
        config(json!({"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 32})),
        &key("group_size`: only groups of 16 are supported"),
    );
    let older = |hf: &mut Hf| {
        hf.config["quantization_config"] = json!(null);
        hf.files.insert("hf_quant_config.json".to_owned(), Some(b"{}".to_vec()));
    };
    wrong(&hf, older, "HF/hf_quant_config.json: key `quantization`: is missing");
}
