//! Models of which a part stays on the host: the same results, bit for bit; memory as planned; failures on the way.

use super::common::*;
use super::device::available_unchecked;
use super::standin::Standin;
use dgemma::Error;
use dgemma::backend::cuda::Cuda;
use dgemma::engine::{
    BackendKind, ContextParams, GenerateParams, KvType, MemoryPlan, Model, ModelParams, PlanParams, Room,
};
use dgemma::gguf::Gguf;
use std::ops::ControlFlow;
use std::path::PathBuf;

fn micro(format: &str) -> PathBuf {
    golden("peer").join(format!("micro-{format}.gguf"))
}

fn load(format: &str, n_gpu_layers: Option<usize>, n_cpu_experts: usize) -> dgemma::Result<Model> {
    let params =
        ModelParams { backend: BackendKind::Cuda, threads: 2, n_gpu_layers, n_cpu_experts, ..Default::default() };
    Model::load(&micro(format), &params)
}

/// Logits behind a prompt of several chunks, then a short text: encoding, canvas passes, head, cut and repetition.
fn results(model: &Model) -> (Vec<u32>, Vec<u32>) {
    let prompt: Vec<u32> = (3..43).collect();
    let canvas: Vec<u32> = (0..model.config().canvas as u32).map(|i| i * 7 % 500).collect();
    let mut context = context(model, 16);
    context.set_tokens(&prompt).unwrap();
    let logits = context.canvas_logits(&canvas, None).unwrap().iter().map(|l| l.to_bits()).collect();
    let mut params = GenerateParams::new(model);
    (params.sampler.seed, params.sampler.steps) = (7, 2);
    (logits, context.generate(&params, |_| ControlFlow::Continue(())).unwrap().tokens)
}

/// Wherever the layers are, every bit is the same; in three formats, which have the three kinds of operands.
#[test]
fn results_do_not_depend_on_where_layers_are() {
    if !available_unchecked("results_do_not_depend_on_where_layers_are") {
        return;
    }
    for format in ["Q8_0", "Q4_0", "bf16"] {
        let whole = load(format, None, 0).unwrap();
        let (layers, want) = (whole.config().layers.len(), results(&whole));
        assert!(layers > 2, "too few layers to take turns");
        let some = if format == "Q8_0" { (0..=layers).collect() } else { vec![layers - 1] };
        for n in some {
            for (gpu_layers, cpu_experts) in [(Some(layers - n), 0), (None, n), (Some(layers - n / 2), n)] {
                let got = results(&load(format, gpu_layers, cpu_experts).unwrap());
                assert!(got == want, "{format}: n_gpu_layers {gpu_layers:?}, n_cpu_experts {cpu_experts}");
            }
        }
    }
}

/// Two contexts of one model on two threads take turns, pass by pass, and get what each gets alone.
#[test]
fn contexts_take_turns_at_the_slots() {
    if !available_unchecked("contexts_take_turns_at_the_slots") {
        return;
    }
    let model = load("Q8_0", Some(0), 0).unwrap();
    let want = results(&model);
    std::thread::scope(|s| {
        let runs: Vec<_> = (0..2).map(|_| s.spawn(|| results(&model))).collect();
        for run in runs {
            assert!(run.join().unwrap() == want);
        }
    });
}

/// Copies wait for the kernels that still read their slot, and kernels for the copies (the stand-in does those as late as
/// it may, so the test above would fail).
#[test]
fn copies_wait_for_kernels() {
    let Some(standin) = Standin::open("copies_wait_for_kernels") else { return };
    let count = || (standin.count(c"standin_copies_in_order"), standin.count(c"standin_copies_out_of_order"));
    let model = load("Q8_0", Some(0), 0).unwrap();
    let before = count(); // an upload does not wait for all kernels, nor has it to
    results(&model);
    let layers = model.config().layers.len();
    let (ordered, disordered) = (count().0 - before.0, count().1 - before.1);
    assert_eq!(disordered, 0);
    // Each pass brings each layer once, the last one the first layer of the pass that never came.
    assert!(layers > 2 && ordered % layers == 1 && ordered / layers >= 4, "{ordered} copies, {layers} layers");
}

fn plan(format: &str, n_gpu_layers: Option<usize>, n_cpu_experts: usize, context: ContextParams) -> MemoryPlan {
    let file = Gguf::open(&micro(format)).unwrap();
    let params = PlanParams { n_gpu_layers, n_cpu_experts, context, ..Default::default() };
    let (free, total, processors, rounding) = (8 << 30, 8 << 30, 4, Cuda::new(0, 1).unwrap().rounding()); // the stand-in's
    let room =
        Room { device: "stand-in".into(), free, total, processors, shared: 101_376, rounding, host_free: usize::MAX };
    MemoryPlan::for_file(&file, &params, &room).unwrap()
}

/// What the driver counted is what was planned: weights after the load, context after its creation, and work space, which
/// grows as operations need it, after a generation.
#[test]
fn the_plan_is_what_the_driver_counts() {
    let Some(standin) = Standin::open("the_plan_is_what_the_driver_counts") else { return };
    let counted = || (standin.count(c"standin_allocated_here"), standin.count(c"standin_page_locked_here"));
    let start = counted();
    for (format, gpu_layers, cpu_experts, kv, capability) in [
        ("Q8_0", None, 0, KvType::F32, 86),
        ("Q8_0", Some(2), 2, KvType::F16, 86),
        ("Q4_0", None, 1, KvType::F32, 86),
        ("bf16", Some(0), 0, KvType::Bf16, 86),
        ("Q8_0", None, 0, KvType::F16, 90), // products in bf16
    ] {
        standin.set(c"standin_capability", capability);
        let params = ContextParams { size: 256, chunk: 64, kv: Some(kv) };
        let plan = plan(format, gpu_layers, cpu_experts, params.clone());
        let most = || (standin.count(c"standin_most_allocated_here"), standin.count(c"standin_most_page_locked_here"));
        most(); // of this load, from here on
        let model = load(format, gpu_layers, cpu_experts).unwrap();
        let most = most();
        let what = format!("{format}: n_gpu_layers {gpu_layers:?}, n_cpu_experts {cpu_experts}, {kv:?}, {capability}");
        let loaded = counted();
        assert_eq!(loaded.0 - start.0, plan.weights + plan.slots, "{what}");
        assert_eq!(loaded.1 - start.1, plan.host_weights, "{what}");
        // The last tensors come while all others are there, and the buffers of the largest.
        assert_eq!(most.0 - start.0, plan.weights + plan.slots + plan.staging, "{what}: while it was loaded");
        assert_eq!(most.1 - start.1, plan.host_weights + plan.upload, "{what}: while it was loaded");
        let mut context = model.context(&params).unwrap();
        // The first route's offsets are the only activations that come later.
        let later = 4 * (model.config().experts + 1);
        assert_eq!(counted().0 - loaded.0, plan.kv + plan.activations - later, "{what}");
        context.set_tokens(&(3..203).collect::<Vec<u32>>()).unwrap();
        let mut params = GenerateParams::new(&model);
        params.sampler.steps = 1;
        context.generate(&params, |_| ControlFlow::Continue(())).unwrap();
        let used = counted().0 - start.0;
        assert!(used <= plan.device(), "{what}: {used} bytes, {} planned", plan.device());
        // A bias is planned for and not used here, and what splits of attention need is a bound.
        assert!(used * 100 >= plan.device() * 95, "{what}: {used} bytes, {} planned", plan.device());
    }
    assert_eq!(counted(), start, "left behind");
}

/// A device on which not all fits: the error's advice holds, word for word, and the smallest device that takes the plan does
/// run the model.
#[test]
fn what_the_error_says_would_fit_does() {
    let Some(standin) = Standin::open("what_the_error_says_would_fit_does") else { return };
    let all = plan("Q8_0", None, 0, ContextParams::default());
    let total = (all.device() - 1) * 16 / 15;
    standin.set(c"standin_memory", total as i32);
    let error = load("Q8_0", None, 0).err().unwrap();
    assert!(matches!(error, Error::TooLittleMemory(_)), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("stand-in has ") && text.contains("would fit: "), "{text}");
    let number = |of: &str| text.split(of).nth(1)?.split([',', ' ']).next()?.parse::<usize>().ok();
    let gpu_layers = number("n_gpu_layers ").expect("fewer layers fit");
    results(&load("Q8_0", Some(gpu_layers), 0).unwrap());
    assert!(load("Q8_0", Some(gpu_layers + 1), 0).is_err());
    let context = number("a context of ").expect("a smaller context fits");
    let planned = |size| {
        let plan_for = ContextParams { size, ..Default::default() };
        Model::load(
            &micro("Q8_0"),
            &ModelParams { backend: BackendKind::Cuda, threads: 1, plan_for, ..Default::default() },
        )
    };
    let model = planned(context).unwrap();
    assert!(planned(context + model.config().canvas).is_err());
    // A context larger than what was planned for is refused with the size that fits, before anything is allocated.
    standin.set(c"standin_memory", all.device() as i32 - 1);
    let before = standin.count(c"standin_allocated_here");
    let larger = model.context(&ContextParams { size: 1 << 12, ..Default::default() }).err().unwrap().to_string();
    assert!(larger.contains("GB are free; would fit: a context of "), "{larger}");
    assert_eq!(standin.count(c"standin_allocated_here"), before);
}

/// Every driver call of a streamed model, failing at its first, second and tenth time, and memory that runs out at any
/// allocation: the error names the call or what the memory was for, and nothing is left allocated.
#[test]
fn a_failure_on_the_way_is_named_and_leaks_nothing() {
    let Some(standin) = Standin::open("a_failure_on_the_way_is_named_and_leaks_nothing") else { return };
    let counted = || (standin.count(c"standin_allocated_here"), standin.count(c"standin_page_locked_here"));
    let start = counted();
    let run = || {
        let model = load("Q8_0", Some(1), 0)?;
        let mut context = model.context(&ContextParams { size: 256, ..Default::default() })?;
        context.set_tokens(&[5, 6, 7])?;
        let mut params = GenerateParams::new(&model);
        params.sampler.steps = 1;
        context.generate(&params, |_| ControlFlow::Continue(())).map(|_| ())
    };
    for call in [
        "cuStreamCreate",
        "cuStreamWaitEvent",
        "cuMemHostAlloc",
        "cuEventCreate",
        "cuEventRecord",
        "cuMemcpyHtoDAsync_v2",
        "cuMemcpyDtoHAsync_v2",
    ] {
        for n in [1, 2, 3, 10] {
            standin.fail(call, n, 719, false);
            let outcome = run();
            standin.fail("", 0, 0, false);
            match outcome {
                Err(e) => assert_eq!(e.to_string(), format!("{call}: CUDA_ERROR_LAUNCH_FAILED")),
                Ok(()) => assert!(n > 2, "{call} was never made, or its failure lost"),
            }
            assert_eq!(counted(), start, "{call}, time {n}");
        }
    }
    for (call, step) in [("cuMemAlloc_v2", 7), ("cuMemHostAlloc", 1)] {
        for n in (1..).step_by(step) {
            standin.fail(call, n, 2, false);
            let outcome = run();
            standin.fail("", 0, 0, false);
            assert_eq!(counted(), start, "{call}, time {n}");
            match outcome {
                Err(e) => assert!(matches!(e, Error::OutOfMemory { .. }), "{call}, time {n}: {e}"),
                Ok(()) => break,
            }
        }
    }
}
