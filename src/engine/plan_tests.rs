//! Plans for the published 26B model on devices of all sizes.

use super::*;
use crate::model::LayerShape;
use crate::quant;

const GB: usize = 1_000_000_000;
/// Of an H100.
const ROUNDING: Rounding = Rounding { exact: false, bf16: true };

/// `google/diffusiongemma-26B-A4B-it`.
fn config() -> Config {
    let layer = |n: usize| match n % 6 {
        5 => LayerShape { window: None, kv_heads: 2, head_dim: 512 },
        _ => LayerShape { window: Some(1024), kv_heads: 8, head_dim: 256 },
    };
    Config {
        vocab: 262_144,
        hidden: 2816,
        heads: 16,
        ffn: 2112,
        experts: 128,
        top_k: 8,
        expert_ffn: 704,
        eps: 1e-6,
        softcap: Some(30.0),
        canvas: 256,
        context_length: 262_144,
        rope_base_sliding: 1e4,
        rope_base_full: 1e6,
        layers: (0..30).map(layer).collect(),
    }
}

/// llama.cpp's "use more bits": a share of `n` tensors.
fn more_bits(i: usize, n: usize) -> bool {
    i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2
}

/// The format of a matrix in the mix `mix`.
fn format<'a>(mix: &'a str, name: &str, layer: Option<usize>) -> &'a str {
    let i = layer.unwrap_or(0);
    match (mix, name) {
        (_, "ffn_gate_inp") => "F32",
        ("Q4_K_M", "token_embd") => "Q6_K",
        ("Q4_K_M", "attn_v") if more_bits(i - i / 6, 25) => "Q6_K",
        ("Q4_K_M", "ffn_down" | "ffn_down_exps") if more_bits(i, 30) => "Q8_0",
        ("Q4_K_M", "ffn_down" | "ffn_down_exps" | "self_cond_down") => "Q5_0",
        ("Q4_K_M", _) => "Q4_K",
        (mix, _) => mix,
    }
}

fn table(mix: &str) -> Vec<Matrix> {
    let c = config();
    let matrix = |name: &str, layer: Option<usize>, shape: [usize; 3]| {
        let experts = name.ends_with("_exps");
        let format = quant::by_name(format(mix, name, layer)).unwrap();
        let name = layer.map_or(format!("{name}.weight"), |i| format!("blk.{i}.{name}.weight"));
        Matrix { name, layer, experts, shape, format }
    };
    let mut all = Vec::new();
    for (i, l) in c.layers.iter().enumerate() {
        let mut add = |name: &str, shape| all.push(matrix(name, Some(i), shape));
        add("attn_q", [c.hidden, c.heads * l.head_dim, 1]);
        add("attn_k", [c.hidden, l.kv_heads * l.head_dim, 1]);
        if l.window.is_some() {
            add("attn_v", [c.hidden, l.kv_heads * l.head_dim, 1]);
        }
        add("attn_output", [c.heads * l.head_dim, c.hidden, 1]);
        add("ffn_gate", [c.hidden, c.ffn, 1]);
        add("ffn_up", [c.hidden, c.ffn, 1]);
        add("ffn_down", [c.ffn, c.hidden, 1]);
        add("ffn_gate_inp", [c.hidden, c.experts, 1]);
        add("ffn_gate_up_exps", [c.hidden, 2 * c.expert_ffn, c.experts]);
        add("ffn_down_exps", [c.expert_ffn, c.hidden, c.experts]);
    }
    all.push(matrix("token_embd", None, [c.hidden, c.vocab, 1]));
    all.push(matrix("self_cond_gate", None, [c.hidden, c.ffn, 1]));
    all.push(matrix("self_cond_up", None, [c.hidden, c.ffn, 1]));
    all.push(matrix("self_cond_down", None, [c.ffn, c.hidden, 1]));
    all
}

fn needs(mix: &str) -> Needs {
    Needs::new(&config(), table(mix), Limits { processors: 132, shared: 227 << 10, rounding: ROUNDING }).unwrap()
}

/// A device of `gb` GB, 0.5 of which its driver has already, in a machine with 64 GB free.
fn room(gb: usize) -> Room {
    let (total, host_free) = (gb * GB, 64 * GB);
    Room {
        device: "test".into(),
        free: total - GB / 2,
        total,
        processors: 132,
        shared: 227 << 10,
        rounding: ROUNDING,
        host_free,
    }
}

fn params(n_gpu_layers: Option<usize>, n_cpu_experts: usize, size: usize) -> PlanParams {
    let context = ContextParams { size, ..Default::default() };
    PlanParams { n_gpu_layers, n_cpu_experts, context, exact: false }
}

fn refusal(mix: &str, gb: usize, params: &PlanParams) -> String {
    match needs(mix).fitting(params, &room(gb)) {
        Err(Error::TooLittleMemory(text)) => text,
        other => panic!("{mix} on {gb} GB: {:?}", other.map(|plan| plan.to_string())),
    }
}

/// The table above is the published one: bytes of all tensors in published files, norms and routers in F32 included.
#[test]
fn the_table_is_that_of_the_published_files() {
    for (mix, want) in [("Q4_K_M", 16_790_985_600), ("Q8_0", 26_863_006_592), ("BF16", 50_525_009_792)] {
        let of = |m: &Matrix| m.format.row_bytes(m.shape[0]).unwrap() * m.shape[1] * m.shape[2];
        let matrices: usize = table(mix).iter().map(of).sum();
        // Beside the matrices: the vectors, where two scalars of each layer stand for what is not in the file (rotary
        // frequencies of sliding layers: 128).
        let vectors = 4 * (vector_numbers(&config()) + 2 * 30 - 128);
        assert!(matrices + vectors <= want && want - matrices - vectors < 32 * 700, "{mix}: {}", matrices + vectors);
    }
}

/// What a device needs, in GB: weights on it, the plan as a whole without the reserve.
#[test]
fn plans_of_the_published_model() {
    for (mix, weights, device) in [("Q4_K_M", 17.06, 17.74), ("Q8_0", 26.86, 27.55), ("BF16", 50.53, 51.20)] {
        let plan =
            needs(mix).plan(None, 0, &params(None, 0, 0).context.sizes(&config(), KvType::F16).unwrap(), 141 * GB);
        let near = |bytes: usize, want: f64| (gb(bytes) - want).abs() < 0.05;
        assert!(near(plan.weights, weights), "{mix}: weights {:.3}", gb(plan.weights));
        assert!(near(plan.device(), device), "{mix}: {:.3}", gb(plan.device()));
        assert_eq!((plan.slots, plan.host_weights, plan.n_gpu_layers, plan.n_cpu_experts), (0, 0, 30, 0));
    }
}

/// Issue: 262,144 tokens of context fit beside Q8_0 weights on an H200, also with exact keys and values.
#[test]
fn the_longest_context_fits_beside_q8_0_on_141_gb() {
    let mut params = params(None, 0, 262_144);
    params.context.kv = Some(KvType::F32);
    let plan = needs("Q8_0").fitting(&params, &room(141)).unwrap();
    assert!(plan.kv > 10 * GB && plan.device() < 45 * GB, "{plan}");
}

/// What fits where, as the error says it, and that it is so: one layer more does not fit.
#[test]
fn devices_that_are_too_small_get_advice_that_holds() {
    for (mix, gb, whole) in [
        ("Q4_K_M", 8, false),
        ("Q4_K_M", 16, false),
        ("Q4_K_M", 24, true),
        ("Q8_0", 8, false),
        ("Q8_0", 16, false),
        ("Q8_0", 24, false),
        ("Q8_0", 80, true),
        ("BF16", 8, false),
        ("BF16", 16, false),
        ("BF16", 24, false),
        ("BF16", 80, true),
        ("BF16", 141, true),
    ] {
        let fits = |gpu, cpu, size| needs(mix).fitting(&params(gpu, cpu, size), &room(gb)).is_ok();
        assert_eq!(fits(None, 0, 0), whole, "{mix} on {gb} GB");
        if whole {
            continue;
        }
        let text = refusal(mix, gb, &params(None, 0, 0));
        let number = |of: &str| text.split(of).nth(1)?.split([',', ' ']).next()?.parse::<usize>().ok();
        let layers = number("n_gpu_layers ");
        let experts = number("n_cpu_experts ");
        println!("{mix} on {gb} GB: {text}");
        assert!(layers.is_some() || text.contains("nothing of it would fit"), "{text}");
        if let Some(n) = layers {
            assert!(fits(Some(n), 0, 0) && !fits(Some(n + 1), 0, 0), "{mix} on {gb} GB: {text}");
        }
        if let Some(n) = experts {
            assert!(fits(None, n, 0) && !fits(None, n - 1, 0), "{mix} on {gb} GB: {text}");
        }
    }
}

/// A context that alone is too much is what the advice names.
#[test]
fn a_smaller_context_is_part_of_the_advice() {
    let exact = |size| PlanParams { exact: true, ..params(None, 0, size) }; // keys and values in F32
    let text = refusal("Q4_K_M", 24, &exact(262_144));
    let n = text.split("a context of ").nth(1).unwrap().split(' ').next().unwrap().parse::<usize>().unwrap();
    assert!(n > 8192 && n % 256 == 0, "{text}");
    let needs = needs("Q4_K_M");
    assert!(needs.fitting(&exact(n), &room(24)).is_ok());
    assert!(needs.fitting(&exact(n + 256), &room(24)).is_err());
}

#[test]
fn too_little_host_memory_is_told_apart() {
    let room = Room { host_free: 10 * GB, ..room(24) };
    let Err(error) = needs("BF16").fitting(&params(Some(4), 0, 0), &room) else { panic!("fits") };
    assert!(error.to_string().contains("GB of page-locked host memory are needed, 10.00 GB can be had"), "{error}");
}

/// Wishes beyond the model's layers are the model's layers, and layers on the host include their experts.
#[test]
fn wishes_are_cut_to_the_model() {
    let (needs, sizes) = (needs("Q8_0"), params(None, 0, 0).context.sizes(&config(), KvType::F16).unwrap());
    let plan = |gpu, cpu| needs.plan(gpu, cpu, &sizes, 141 * GB);
    let counts = |gpu, cpu| (plan(gpu, cpu).n_gpu_layers, plan(gpu, cpu).n_cpu_experts);
    assert_eq!(counts(Some(99), 99), (30, 30));
    assert_eq!(counts(Some(20), 3), (20, 10));
    assert_eq!(counts(Some(20), 12), (20, 12));
    assert_eq!(counts(Some(0), 0), (0, 30));
    let all = plan(None, 0).weights;
    for (gpu, cpu) in [(Some(99), 99), (Some(20), 3), (Some(20), 12), (Some(0), 0), (None, 7)] {
        let plan = plan(gpu, cpu);
        assert!(plan.weights + plan.host_weights >= all, "{plan}");
        assert!(plan.weights + plan.host_weights - all < 30 * 8 * 256, "more than alignment: {plan}");
        assert_eq!(plan.slots, 2 * plan.placement.slot_bytes());
    }
}

/// Work space is that of the worst length up to the longest, so a longer context never takes less of it: without that, the
/// search for the longest that fits would not find it.
#[test]
fn longer_contexts_take_more() {
    let needs = needs("Q4_K_M");
    let of = |context| needs.context(&SessionSizes { context, chunk: 256, kv: KvType::F16 });
    let mut before = of(256);
    for context in (512..=16_384).step_by(256).chain([65_536, 131_072, 262_144]) {
        let (kv, activations, work) = of(context);
        assert!(kv >= before.0 && activations >= before.1 && work >= before.2, "{context}");
        before = (kv, activations, work);
    }
}
