//! What comes back when the driver refuses. On the stand-in driver only: a real one does not fail on demand.

use super::common::golden;
use super::standin::Standin;
use dgemma::Error;
use dgemma::backend::cuda::devices;
use dgemma::engine::{BackendKind, ContextParams, Event, GenerateParams, Model, ModelParams};
use std::ops::ControlFlow;

fn load() -> dgemma::Result<Model> {
    let path = golden("peer").join("micro-Q8_0.gguf");
    Model::load(&path, &ModelParams { backend: BackendKind::Cuda, threads: 1, ..Default::default() })
}

fn refusal() -> Error {
    load().err().expect("the load was to fail")
}

#[test]
fn devices_that_cannot_be_used_are_named() {
    let Some(standin) = Standin::open("devices_that_cannot_be_used_are_named") else { return };
    standin.set(c"standin_devices", -1);
    assert_eq!(refusal().to_string(), "cuInit: CUDA_ERROR_NO_DEVICE");
    assert!(devices().is_empty());
    standin.set(c"standin_devices", 0);
    assert_eq!(refusal().to_string(), "argument `device`: is 0, but there are 0 CUDA devices");
    standin.set(c"standin_devices", 1);
    standin.set(c"standin_driver", 12040);
    let old = "cuDriverGetVersion: the driver offers CUDA 12.4, expected 13.0 or newer: install driver 580 or newer";
    assert_eq!(refusal().to_string(), old);
}

#[test]
fn too_little_memory_is_seen_before_anything_is_copied() {
    let Some(standin) = Standin::open("too_little_memory_is_seen_before_anything_is_copied") else { return };
    standin.set(c"standin_memory", 1000);
    let error = refusal().to_string();
    assert!(
        error.starts_with("stand-in has 0.00 GB free of 0.00, ") && error.contains("nothing of it would fit"),
        "{error}"
    );
    assert!(matches!(refusal(), Error::TooLittleMemory(_)));
}

/// Every driver call that a load and a generation make, failing at its first, second and tenth time: the error names the
/// call, nothing panics, and the next load works.
#[test]
fn every_failing_call_comes_back_by_name() {
    let Some(standin) = Standin::open("every_failing_call_comes_back_by_name") else { return };
    let calls = [
        "cuInit",
        "cuDriverGetVersion",
        "cuDeviceGetCount",
        "cuDeviceGet",
        "cuDeviceGetName",
        "cuDeviceGetAttribute",
        "cuDeviceTotalMem_v2",
        "cuDevicePrimaryCtxRetain",
        "cuCtxSetCurrent",
        "cuStreamCreate",
        "cuStreamWaitEvent",
        "cuStreamSynchronize",
        "cuMemGetInfo_v2",
        "cuMemHostAlloc",
        "cuEventCreate",
        "cuEventRecord",
        "cuEventSynchronize",
        "cuMemAlloc_v2",
        "cuMemsetD8Async",
        "cuMemcpyHtoDAsync_v2",
        "cuMemcpyDtoDAsync_v2",
        "cuMemcpyDtoHAsync_v2",
        "cuModuleLoadData",
        "cuModuleGetFunction",
        "cuFuncSetAttribute",
        "cuLaunchKernel",
        "cuStreamBeginCapture_v2",
        "cuStreamEndCapture",
        "cuGraphGetNodes",
        "cuGraphInstantiateWithFlags",
        "cuGraphExecUpdate_v2",
        "cuGraphLaunch",
    ];
    for call in calls {
        let recorded = call.starts_with("cuGraph") || call.contains("Capture");
        for n in if recorded { [1, 2, 3] } else { [1, 2, 10] } {
            standin.fail(call, n, 719, false);
            let outcome = load().and_then(|model| run(&model, if recorded { 3 } else { 1 }));
            standin.fail("", 0, 0, false);
            match outcome {
                Err(e) => assert_eq!(e.to_string(), format!("{call}: CUDA_ERROR_LAUNCH_FAILED")),
                Ok(()) => assert!(n > 1 || call == "cuStreamSynchronize", "{call} was never made, or its failure lost"),
            }
        }
    }
    run(&load().unwrap(), 1).unwrap();
}

/// Encodes a prompt and denoises two blocks, of which the second replays steps and records anew, given three of them.
fn run(model: &Model, steps: u32) -> dgemma::Result<()> {
    let mut context = model.context(&ContextParams::default())?;
    context.set_tokens(&[5, 6, 7])?;
    let mut params = GenerateParams::new(model);
    (params.sampler.steps, params.sampler.confidence) = (steps, 0.0);
    (params.max_tokens, params.ignore_eog) = (2 * model.config().canvas, true);
    context.generate(&params, |_| ControlFlow::Continue(())).map(|_| ())
}

#[test]
fn memory_that_runs_out_in_the_middle_says_for_what() {
    let Some(standin) = Standin::open("memory_that_runs_out_in_the_middle_says_for_what") else { return };
    standin.fail("cuMemAlloc_v2", 5, 2, false);
    let error = refusal();
    assert!(matches!(error, Error::OutOfMemory { what: "weights", .. }), "{error}");
    let model = load().unwrap();
    standin.fail("cuMemAlloc_v2", 3, 2, false);
    let error = model.context(&ContextParams::default()).err().unwrap();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    run(&model, 1).unwrap(); // the model is still good
}

/// A device that is gone stays gone: the context answers so at every call, another thread's is not concerned.
#[test]
fn a_lost_device_ends_the_context_and_not_the_process() {
    let Some(standin) = Standin::open("a_lost_device_ends_the_context_and_not_the_process") else { return };
    let model = load().unwrap();
    let mut context = model.context(&ContextParams::default()).unwrap();
    context.set_tokens(&[5, 6, 7]).unwrap();
    let mut params = GenerateParams::new(&model);
    params.sampler.steps = 3;
    let lost = context.generate(&params, |event| {
        if matches!(event, Event::Step(_)) {
            standin.fail("cuLaunchKernel", 1, 719, true);
        }
        ControlFlow::Continue(())
    });
    assert_eq!(lost.err().unwrap().to_string(), "cuLaunchKernel: CUDA_ERROR_LAUNCH_FAILED");
    for _ in 0..2 {
        let again = context.generate(&params, |_| ControlFlow::Continue(())).err().unwrap().to_string();
        assert!(again.ends_with(": CUDA_ERROR_LAUNCH_FAILED"), "{again}");
    }
    let other = std::thread::scope(|s| s.spawn(|| load().and_then(|model| run(&model, 1))).join().unwrap());
    other.unwrap();
}
