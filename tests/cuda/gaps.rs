//! What starting things costs a step, against a clock that is known: the stand-in driver's.

use super::common::golden;
use super::device::available_unchecked;
use super::standin::Standin;
use dgemma::engine::{BackendKind, Context, ContextParams, GenerateParams, Model, ModelParams};
use std::ops::ControlFlow;

fn context(params: ModelParams) -> Context {
    let path = golden("peer").join("micro-Q8_0.gguf");
    let model = Model::load(&path, &ModelParams { threads: 1, ..params }).unwrap();
    let mut context = model.context(&ContextParams::default()).unwrap();
    context.set_tokens(&(0..40).map(|i| 3 + i % 400).collect::<Vec<_>>()).unwrap();
    context
}

fn on_device() -> ModelParams {
    ModelParams { backend: BackendKind::Cuda, ..Default::default() }
}

/// Half a nanosecond: the driver says milliseconds in f32, and the laps here are some.
fn close(what: &str, got: f64, want: f64) {
    assert!((got - want).abs() < 5e-10, "{what}: {got}, expected {want}");
}

/// A kernel takes 10 microseconds, a start 0.7, the host 21 to go on: what is measured is that, whatever the number of steps.
#[test]
fn the_clock_is_found_again() {
    let Some(standin) = Standin::open("the_clock_is_found_again") else { return };
    let (kernel, start, wait) = (10e-6, 0.7e-6, 21e-6);
    let mut context = context(on_device());
    for n in [1, 2, 5] {
        standin.clock(10_000, 700, 21_000);
        let gaps = context.launch_gaps(n).unwrap().expect("steps are recorded");
        standin.clock(0, 0, 0);
        let (nodes, kernels) = (gaps.replays.nodes as f64, gaps.replays.padding as f64);
        assert!(kernels > 50.0 && nodes > kernels && nodes < kernels + 10.0, "{gaps:?}");
        close("a step", gaps.replays.seconds, nodes * start + kernels * kernel);
        close("a step with empty kernels", gaps.replays.padded_seconds, (nodes + kernels) * start + kernels * kernel);
        close("between steps", gaps.between(), wait);
        assert!((gaps.each() - start).abs() < 1e-3 * start, "{} a start, expected {start}", gaps.each());
        assert!((gaps.inside() - nodes * start).abs() < 1e-3 * nodes * start, "{gaps:?}");
    }
}

/// Kernels of a step. Of a layer: input norm, q, k, v (no v where there is none), their norms and rotation, operands, attention,
/// quantizing, o, norm (10); norm, gate, up, GELU, down, norm (6); norm, router, routing, grouping (4); norm, gate
/// and up, quantizing, down, sum (5); two norms. Splits of attention would add one. Products in bf16, of compute capability 9.0,
/// take k and v together, and gate and up.
#[test]
fn kernels_of_a_step() {
    let Some(standin) = Standin::open("kernels_of_a_step") else { return };
    for (capability, pairs) in [(86, 0), (90, 1)] {
        standin.set(c"standin_capability", capability);
        let mut context = context(on_device());
        let kernels = context.launch_gaps(1).unwrap().unwrap().replays.padding;
        let layers = &context.model().config().layers;
        let (all, full) = (layers.len(), layers.iter().filter(|layer| layer.window.is_none()).count());
        let together = pairs * (all - full + all + 1);
        let outside = 19; // noise, embedding, self-conditioning (6), two norms, the head and the decision
        assert_eq!(kernels, 27 * all - full + outside - together, "{all} layers, {full} of them full, {capability}");
    }
}

/// With the clock of a real device, or the host's, times are times.
#[test]
fn a_step_takes_as_long_as_its_replay_at_least() {
    if !available_unchecked("a_step_takes_as_long_as_its_replay_at_least") {
        return;
    }
    let gaps = context(on_device()).launch_gaps(3).unwrap().unwrap();
    println!("{gaps:?}: {} s between steps, {} s at each start", gaps.between(), gaps.each());
    assert!(gaps.step > 0.0 && gaps.replays.seconds > 0.0 && gaps.replays.padded_seconds > 0.0, "{gaps:?}");
}

/// The timeline and what is written behind it are what they would have been.
#[test]
fn nothing_is_left_behind() {
    if !available_unchecked("nothing_is_left_behind") {
        return;
    }
    let text = |measure: bool| {
        let mut context = context(on_device());
        let mut params = GenerateParams { ignore_eog: true, ..GenerateParams::new(context.model()) };
        params.sampler.steps = 4;
        if measure {
            context.launch_gaps(2).unwrap().unwrap();
            assert_eq!(context.tokens().len(), 40);
        }
        context.generate(&params, |_| ControlFlow::Continue(())).unwrap().tokens
    };
    assert_eq!(text(true), text(false));
}

/// Where no step is recorded there is nothing to measure, and no step is no measurement.
#[test]
fn only_recorded_steps_are_measured() {
    assert_eq!(context(ModelParams::default()).launch_gaps(2).unwrap(), None);
    if !available_unchecked("only_recorded_steps_are_measured") {
        return;
    }
    assert_eq!(context(ModelParams { n_gpu_layers: Some(1), ..on_device() }).launch_gaps(2).unwrap(), None);
    let error = context(on_device()).launch_gaps(0).unwrap_err().to_string();
    assert_eq!(error, "argument `n`: is 0, expected at least one step");
}

/// The calls that only measurements make, failing.
#[test]
fn a_failing_measurement_names_the_call() {
    let Some(standin) = Standin::open("a_failing_measurement_names_the_call") else { return };
    let mut context = context(on_device());
    context.launch_gaps(1).unwrap();
    for call in ["cuEventElapsedTime_v2", "cuEventCreate", "cuEventRecord", "cuGraphGetNodes", "cuGraphLaunch"] {
        standin.fail(call, 1, 719, false);
        let error = context.launch_gaps(1).unwrap_err();
        assert_eq!(error.to_string(), format!("{call}: CUDA_ERROR_LAUNCH_FAILED"));
    }
    context.launch_gaps(1).unwrap();
}
