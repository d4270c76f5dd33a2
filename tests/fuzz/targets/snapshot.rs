//! Saved contexts.
//!
//! Input: a saved context without its checksum, which is added, as somebody who forges a file would. What is taken is saved
//! again as the same bytes (but for rows that no pass can see any more) and can be continued; what is not leaves the context
//! as it was.

use crate::common::{allowed, assert_tells, bounded, model, open};
use dgemma::engine::{Context, ContextParams, GenerateParams, Hash64, KvType, Model, ModelParams};
use std::ops::ControlFlow;
use std::sync::LazyLock;

static MODEL: LazyLock<Model> = LazyLock::new(|| {
    let params = ModelParams { threads: 1, ..Default::default() };
    Model::from_gguf(open(&model()).unwrap(), &params, |_| true).unwrap()
});

fn context() -> Context {
    MODEL.context(&ContextParams { size: 24, chunk: 4, kv: Some(KvType::F16) }).unwrap()
}

fn saved(context: &Context) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert_eq!(context.save(&mut bytes).unwrap(), bytes.len() as u64);
    bytes
}

/// Whether it was taken.
pub fn run(data: &[u8]) -> bool {
    let mut hash = Hash64::default();
    hash.add(data);
    let bytes = [data, &hash.finish().to_le_bytes()].concat();
    bounded(allowed(bytes.len()), || {
        let mut context = context();
        context.set_tokens(&[2, 5]).unwrap();
        match context.load(&bytes) {
            Ok(()) => {
                go_on(context);
                true
            }
            Err(error) => {
                assert_tells(&error, &["argument `bytes`: ", "context"]);
                assert_eq!((context.tokens(), context.encoded()), (&[2, 5][..], 0));
                false
            }
        }
    })
}

fn go_on(mut first: Context) {
    let once = saved(&first);
    let mut second = context();
    second.load(&once).unwrap();
    assert_eq!((second.tokens(), second.encoded()), (first.tokens(), first.encoded()));
    assert_eq!(saved(&second), once);
    let mut params = GenerateParams::new(&MODEL);
    params.sampler.steps = 1;
    let room = first.tokens().len() + MODEL.config().canvas <= first.size();
    let answer = first.generate(&params, |_| ControlFlow::Continue(()));
    assert_eq!(answer.is_ok(), room);
}

/// Inputs to begin with: nothing encoded, some, and more than a window.
pub fn seeds() -> Vec<Vec<u8>> {
    let seed = |tokens: &[u32], encoded: usize| {
        let mut context = context();
        context.set_tokens(&tokens[..encoded]).unwrap();
        context.prefill(|_, _| ControlFlow::Continue(())).unwrap();
        context.set_tokens(tokens).unwrap();
        let mut bytes = saved(&context);
        bytes.truncate(bytes.len() - 8);
        bytes
    };
    let long: Vec<u32> = (0..14).map(|n| n % 8).collect();
    vec![seed(&[], 0), seed(&[2, 5, 6], 2), seed(&long, 13)]
}
