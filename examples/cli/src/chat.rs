//! `dgemma chat`: a conversation, one message per line.
//!
//! Every turn renders the whole history through the chat template; the context keeps what it has encoded of the part
//! that did not change.

use crate::args::ChatArgs;
use crate::{Result, answer, model, signals};
use dgemma::engine::{Context, GenerateParams, Model, StopReason};
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;

/// Runs the command.
pub fn run(args: &ChatArgs) -> Result<ExitCode> {
    let (model, context) = model::load_with_context(&args.model)?;
    signals::cancel_on_interrupt(context.cancel_token());
    let params = answer::params(&model, &args.sampler);
    let system = args.system.iter().map(|text| json!({"role": "system", "content": text})).collect();
    let mut chat = Chat { model, context, params, visual: args.sampler.visual, messages: system };
    let first = chat.messages.len();
    let stdin = std::io::stdin();
    let is_terminal = stdin.is_terminal();
    let mut line = String::new();
    loop {
        if is_terminal {
            eprint!("> ");
        }
        line.clear();
        if stdin.lock().read_line(&mut line).map_err(|e| format!("standard input: {e}"))? == 0 {
            if is_terminal {
                eprintln!();
            }
            return Ok(ExitCode::SUCCESS);
        }
        match line.trim() {
            "" => {}
            "/exit" => return Ok(ExitCode::SUCCESS),
            "/reset" => chat.messages.truncate(first),
            text => chat.turn(text)?,
        }
    }
}

struct Chat {
    model: Model,
    context: Context,
    params: GenerateParams,
    visual: bool,
    messages: Vec<Value>,
}

impl Chat {
    /// One message and its answer. What only concerns this message is said, and the conversation goes on without it.
    fn turn(&mut self, text: &str) -> Result<()> {
        self.messages.push(json!({"role": "user", "content": text}));
        let prepared = self.model.encode_chat(&Value::from(self.messages.clone()), None);
        let reused = match prepared.and_then(|tokens| self.context.set_tokens(&tokens)) {
            Ok(reused) => reused,
            Err(error) => {
                self.messages.pop();
                eprintln!("dgemma: {error} (/reset forgets the conversation)");
                return Ok(());
            }
        };
        let generation = match answer::write(&mut self.context, &self.params, self.visual) {
            Ok(generation) => generation,
            Err(error) if matches!(error.downcast_ref(), Some(dgemma::Error::ContextFull { .. })) => {
                self.messages.pop();
                eprintln!("dgemma: {error} (/reset forgets the conversation)");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        answer::report(&generation, reused);
        let text = self.model.tokenizer().decode(&generation.tokens, false)?;
        if generation.stop == StopReason::Cancelled && text.is_empty() {
            self.messages.pop();
        } else {
            self.messages.push(json!({"role": "assistant", "content": without_thoughts(&text)}));
        }
        Ok(())
    }
}

/// The part of an answer that belongs into the history: models are trained without their earlier thoughts.
fn without_thoughts(text: &str) -> String {
    const OPEN: &str = "<|channel>";
    const CLOSE: &str = "<channel|>";
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, thought)) = rest.split_once(OPEN) {
        kept += before;
        rest = thought.split_once(CLOSE).map_or("", |(_, after)| after);
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::without_thoughts;

    #[test]
    fn thoughts_are_forgotten() {
        assert_eq!(without_thoughts("<|channel>thought\nhm<channel|>yes"), "yes");
        assert_eq!(without_thoughts("a<|channel>b<channel|>c<|channel>cut short"), "ac");
        assert_eq!(without_thoughts("plain"), "plain");
    }
}
