//! Prints a model's answer as it comes: `cargo run --release --example hello -- MODEL PROMPT`.

use dgemma::engine::{ContextParams, Event, GenerateParams, Model, ModelParams};
use dgemma::tokenizer::StreamDecoder;
use std::io::Write;
use std::ops::ControlFlow;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, path, prompt] = args.as_slice() else { return Err("usage: hello MODEL PROMPT".into()) };
    let model = Model::load(path.as_ref(), &ModelParams::default())?;
    let mut context = model.context(&ContextParams::default())?;
    let messages = serde_json::json!([{"role": "user", "content": prompt}]);
    context.set_tokens(&model.encode_chat(&messages, None)?)?;

    let mut decoder = StreamDecoder::new(false);
    context.generate(&GenerateParams::new(&model), |event| {
        if let Event::Commit { tokens, .. } = event {
            for &token in tokens {
                print!("{}", decoder.push(model.tokenizer(), token).expect("the model's own token"));
            }
            std::io::stdout().flush().expect("standard output");
        }
        ControlFlow::Continue(())
    })?;
    println!("{}", decoder.finish());
    Ok(())
}
