//! Model files: shape, weights, vocabulary, sampler numbers, and a canvas denoised with whatever the weights are.
//!
//! Input: a GGUF file; zeros follow it, so that larger shapes find their bytes. A model that loads runs, on the fast backend
//! and on the plain one, and chooses tokens of its vocabulary; one that does not is answered with a line that names the
//! file, or the vocabulary.

use crate::common::{FILE, allowed, assert_tells, bounded, model, open};
use dgemma::engine::{BackendKind, ContextParams, GenerateParams, Model, ModelParams};
use std::ops::ControlFlow;

/// Zeros behind an input.
const ZEROS: usize = 1 << 14;
/// What is run: a product of a pass's rows with all weights takes that many multiplications at most.
const MULTIPLICATIONS: usize = 1 << 20;

/// Whether the model was loaded.
pub fn run(data: &[u8]) -> bool {
    let mut bytes = data.to_vec();
    bytes.resize(data.len() + ZEROS, 0);
    let load = |backend| {
        let file = open(&bytes)?;
        let params = ModelParams { backend, threads: 1, ..Default::default() };
        Model::from_gguf(file, &params, |_| true)
    };
    for backend in [BackendKind::Cpu, BackendKind::Reference] {
        match bounded(allowed(bytes.len()), || load(backend)) {
            Ok(model) => use_it(&model),
            Err(error) => {
                assert_tells(&error, &[FILE, "tokenizer: "]);
                return false;
            }
        }
    }
    true
}

fn use_it(model: &Model) {
    let tokens = model.tokenizer().encode("a ab", true, true).unwrap();
    model.tokenizer().decode(&tokens, true).unwrap();
    let _ =
        (model.chat_template().map_err(|e| assert_tells(&e, &["chat template: "])), model.fingerprint(), model.sizes());
    let config = model.config();
    let rows = config.canvas + tokens.len();
    if rows > 64 || rows > config.context_length || rows * model.file().file_bytes() as usize / 4 > MULTIPLICATIONS {
        return;
    }
    let mut context = model.context(&ContextParams { size: rows, ..Default::default() }).unwrap();
    context.set_tokens(&tokens).unwrap();
    let mut params = GenerateParams::new(model);
    params.sampler.steps = params.sampler.steps.min(2);
    let answer = context.generate(&params, |_| ControlFlow::Continue(())).unwrap();
    assert!(answer.tokens.iter().all(|&id| (id as usize) < config.vocab));
}

/// Inputs to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    vec![model()]
}
