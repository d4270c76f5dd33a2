//! Recorded steps: what a step asks of the driver, when a record is made again, and that nothing of it shows in the text.

use super::common::golden;
use super::device::{available, checked};
use super::standin::Standin;
use dgemma::engine::{BackendKind, Block, Context, ContextParams, GenerateParams, Model, ModelParams, Slot, Start};
use dgemma::sampler::SamplerParams;
use std::ops::ControlFlow;
use std::process::Command;

fn load(name: &str, backend: BackendKind, exact: bool) -> Model {
    Model::load(&golden("peer").join(name), &ModelParams { backend, threads: 1, exact, ..Default::default() }).unwrap()
}

/// Numbers under which no block ends before its last step.
fn endless(model: &Model, steps: u32) -> SamplerParams {
    SamplerParams { steps, confidence: 0.0, seed: 5, ..model.sampler_defaults().clone() }
}

fn context(model: &Model, chunk: usize, tokens: usize) -> Context {
    let mut context = model.context(&ContextParams { chunk, ..Default::default() }).unwrap();
    context.set_tokens(&(0..tokens as u32).map(|i| 3 + i % 400).collect::<Vec<_>>()).unwrap();
    context
}

/// Calls of one kind during `f`.
fn calls_during<const N: usize>(standin: &Standin, names: [&str; N], f: impl FnOnce()) -> [usize; N] {
    let before = names.map(|name| standin.calls(name));
    f();
    std::array::from_fn(|i| standin.calls(names[i]) - before[i])
}

const ALL: [&str; 14] = [
    "cuGraphLaunch",
    "cuEventSynchronize",
    "cuMemcpyDtoHAsync_v2",
    "cuStreamSynchronize",
    "cuLaunchKernel",
    "cuMemAlloc_v2",
    "cuMemHostAlloc",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleLoadData",
    "cuStreamBeginCapture_v2",
    "cuGraphInstantiateWithFlags",
    "cuGraphExecUpdate_v2",
];

/// From a context's third step on, a step is one graph, one wait, and one copy if somebody looks.
#[test]
fn a_step_is_one_graph_and_one_wait() {
    let Some(standin) = Standin::open("a_step_is_one_graph_and_one_wait") else { return };
    let model = load("micro-Q8_0.gguf", BackendKind::Cuda, false);
    let mut context = context(&model, 0, 40);
    let sampler = endless(&model, 6);
    let mut noise = context.noise(5);
    let mut block = context.begin_block(0, Start::Random(0), &sampler, &mut noise).unwrap();
    for step in 0..6 {
        let counted = calls_during(&standin, ALL, || context.step(&mut block, &mut noise).unwrap());
        if step >= 2 {
            assert_eq!(counted, [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "step {step} of {ALL:?}");
        } else {
            assert_eq!((counted[0], counted[1]), (0, 1), "step {step} is launched kernel by kernel");
        }
    }
    // Nobody looks: a step more is a graph and a wait more, and no copy.
    let unseen = |steps: u32| {
        let mut context = self::context(&model, 0, 40);
        let params = GenerateParams {
            sampler: endless(&model, steps),
            ignore_eog: true,
            report_steps: false,
            ..GenerateParams::new(&model)
        };
        calls_during(&standin, ALL, || drop(context.generate(&params, |_| ControlFlow::Continue(())).unwrap()))
    };
    unseen(4); // its first step, a pass with the prompt, needs more work space than there was
    let (few, many) = (unseen(4), unseen(9));
    let more: Vec<usize> = many.iter().zip(few).map(|(m, f)| m - f).collect();
    assert_eq!(more, [5, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "five more steps of {ALL:?}");
}

/// A step is recorded once per block, while its first step runs, and the executable graph is updated in place; a new one is
/// made where attention begins to be split.
#[test]
fn each_block_is_recorded_once() {
    let Some(standin) = Standin::open("each_block_is_recorded_once") else { return };
    let model = load("micro-Q8_0.gguf", BackendKind::Cuda, false);
    let mut context = context(&model, 0, 0);
    let sampler = endless(&model, 5);
    let names = ["cuStreamBeginCapture_v2", "cuGraphInstantiateWithFlags", "cuGraphExecUpdate_v2", "cuGraphLaunch"];
    let mut run = |start: usize| {
        context.pretend_encoded(&vec![7; start]).unwrap();
        let mut noise = context.noise(5);
        calls_during(&standin, names, || {
            let mut block = context.begin_block(0, Start::Random(0), &sampler, &mut noise).unwrap();
            while !block.is_done() {
                context.step(&mut block, &mut noise).unwrap();
            }
        })
    };
    // The first attempt finds kernels that have not been loaded yet.
    assert_eq!(run(40), [2, 1, 0, 3]);
    assert_eq!(run(56), [1, 0, 1, 4]);
    assert_eq!(run(56), [0, 0, 0, 4], "the same place again: the record is still good");
    assert_eq!(run(700), [1, 1, 1, 4], "more kernels: updating fails");
    assert_eq!(run(40), [1, 1, 1, 4], "fewer again");
}

/// The draft that a block of `model` ends with, by the steps' own report.
fn finish(context: &mut Context, block: &mut Block) -> Vec<u32> {
    let mut noise = context.noise(5);
    while !block.is_done() {
        context.step(block, &mut noise).unwrap();
    }
    block.draft().to_vec()
}

/// Another context makes work space grow in the middle of a block: its records point to memory that is gone, and are not
/// used any more.
#[test]
fn work_space_that_moves_voids_records() {
    let Some(standin) = Standin::open("work_space_that_moves_voids_records") else { return };
    let draft = |disturb: bool| {
        let model = load("micro-Q8_0.gguf", BackendKind::Cuda, false);
        let mut one = context(&model, 16, 40);
        let (sampler, mut noise) = (endless(&model, 8), one.noise(5));
        let mut block = one.begin_block(0, Start::Random(0), &sampler, &mut noise).unwrap();
        for _ in 0..4 {
            one.step(&mut block, &mut noise).unwrap();
        }
        if disturb {
            context(&model, 200, 150).prefill(|_, _| ControlFlow::Continue(())).unwrap();
        }
        let mut draft = Vec::new();
        let graphs = calls_during(&standin, ["cuGraphLaunch"], || draft = finish(&mut one, &mut block));
        (draft, graphs[0])
    };
    let ((calm, all), (disturbed, fewer)) = (draft(false), draft(true));
    assert_eq!(calm, disturbed);
    assert_eq!((all, fewer), (4, 3), "one step had to be launched by itself");
}

/// What two threads do on one device at a time, one recording while the other works, is what each would do alone.
#[test]
fn threads_record_for_themselves() {
    if !available("threads_record_for_themselves") || checked() {
        return;
    }
    let model = load("micro-Q4_0.gguf", BackendKind::Cuda, false);
    let text = |seed: u64| {
        let mut context = context(&model, 16, 30);
        let mut params = GenerateParams { ignore_eog: true, ..GenerateParams::new(&model) };
        (params.sampler, params.max_tokens) = (endless(&model, 4), 3 * model.config().canvas);
        params.sampler.seed = seed;
        context.generate(&params, |_| ControlFlow::Continue(())).unwrap().tokens
    };
    let alone = [text(1), text(2)];
    let together = std::thread::scope(|s| {
        let threads = [1, 2].map(|seed| s.spawn(move || text(seed)));
        threads.map(|thread| thread.join().unwrap())
    });
    assert_eq!(alone, together);
}

/// Bits of all that a seed gives: the text of two blocks, and every step's numbers where somebody looks.
fn answer(look: bool) -> String {
    let mut out = String::new();
    for name in ["micro-Q8_0.gguf", "micro-bf16.gguf"] {
        let model = load(name, BackendKind::Cuda, false);
        let mut context = context(&model, 0, 40);
        let params = GenerateParams {
            sampler: SamplerParams { banned: vec![3], logit_bias: vec![(9, 2.5)], ..endless(&model, 5) },
            max_tokens: 2 * model.config().canvas,
            ignore_eog: true,
            report_steps: look,
            ..GenerateParams::new(&model)
        };
        let text = context.generate(&params, |_| ControlFlow::Continue(())).unwrap().tokens;
        out += &format!("{name} {text:?} ");
    }
    out
}

/// Set for a process that is to print [`answer`] and nothing more.
const CHILD: &str = "DGEMMA_TEST_GRAPHS_CHILD";

/// The same text at every run: with graphs and without, with somebody who looks at steps and without.
#[test]
fn nothing_of_it_shows_in_the_text() {
    if !available("nothing_of_it_shows_in_the_text") || checked() {
        return;
    }
    if std::env::var_os(CHILD).is_some() {
        println!("answer: {}", answer(true));
        return;
    }
    let looked = answer(true);
    assert_eq!(answer(true), looked, "two runs");
    assert_eq!(answer(false), looked, "without a look at the steps");
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "graphs::nothing_of_it_shows_in_the_text", "--nocapture", "--test-threads=1"]);
    let output = child.env(CHILD, "1").env("DGEMMA_CUDA_GRAPHS", "0").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let without = said.split("answer: ").nth(1).and_then(|rest| rest.lines().next()).unwrap_or_default();
    assert_eq!(without.trim(), looked.trim(), "without graphs");
}

/// Pinned positions and banned tokens on the device: the numbers of the reference backend, whose sampler is the host's.
#[test]
fn pinned_positions_and_bans_as_on_the_host() {
    if !available("pinned_positions_and_bans_as_on_the_host") || checked() {
        return;
    }
    let steps = |backend| {
        let model = load("micro-f32.gguf", backend, true);
        let canvas = model.config().canvas;
        let slots: Vec<Slot> =
            (0..canvas as u32).map(|i| if i % 3 == 1 { Slot::Pinned(40 + i) } else { Slot::Noise }).collect();
        let sampler = SamplerParams { banned: vec![3, 4], logit_bias: vec![(9, 1.5)], ..endless(&model, 5) };
        let mut context = context(&model, 0, 20);
        let mut noise = context.noise(8);
        let mut block = context.begin_block(2, Start::Canvas(&slots), &sampler, &mut noise).unwrap();
        let mut all = Vec::new();
        while !block.is_done() {
            context.step(&mut block, &mut noise).unwrap();
            let step = block.last_step().unwrap();
            all.push((step.draft.to_vec(), step.drawn.to_vec(), step.accepted.to_vec(), step.canvas.to_vec()));
            all.push((vec![], vec![], [step.changed, step.pinned].concat(), vec![step.stable as u32]));
        }
        all
    };
    assert_eq!(steps(BackendKind::Cuda), steps(BackendKind::Reference));
}
