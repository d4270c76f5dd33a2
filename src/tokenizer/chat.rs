//! Chat messages to the text of a prompt, through the Jinja template that a model brings.
//!
//! Templates are written for Hugging Face's set-up of Jinja2, so that is what they find: blocks take their line end with
//! them, strings have Python's methods, `tojson` is `json.dumps`, `raise_exception` refuses messages. A template comes
//! out of a file and is not trusted: what it may compute and allocate is bounded.

mod clock;
mod json;

use super::Tokenizer;
use crate::{Error, Result, log};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value};
use std::collections::BTreeMap;
use std::error::Error as _;

/// The name that errors show.
const NAME: &str = "chat_template";

/// Stands in where a file has no template: the turns of the Gemma 4 family and nothing else.
const PLAIN_TURNS: &str = "\
{{ bos_token }}{% for message in messages %}
<|turn>{{ 'model' if message.role == 'assistant' else message.role }}
{% if message.content is string %}
{{ message.content | trim }}
{%- else %}
{% for part in message.content if part.type == 'text' %}
{{ part.text | trim }}
{%- endfor %}
{% endif %}
<turn|>
{% endfor %}
{% if add_generation_prompt %}
<|turn>model
{% endif %}
";

/// Work that one rendering may do: instructions, or 64-byte pieces of new data. Some thousand messages stay below; a
/// template without end stops within a second or two, having allocated less than 128 MB.
const FUEL: u64 = 2_000_000;

/// Stack of the thread that renders. Values are printed, compared and dropped recursively, and a list in a list in a list
/// ... is the deepest thing that fuel can buy: measured, 10 fuel a level, and 500 bytes of stack to print one. Four times
/// that is reserved; what is not used is not touched.
const STACK_BYTES: usize = FUEL as usize / 10 * 500 * 4;

/// A compiled chat template with the special tokens of its vocabulary. Immutable; any number of threads may use it.
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// `bos_token` and its like.
    token_variables: Vec<(&'static str, Value)>,
}

impl ChatTemplate {
    /// Compiles `source`, or the plain turns of the family where the file has no template.
    pub fn new(source: Option<&str>, tokenizer: &Tokenizer) -> Result<ChatTemplate> {
        let source = source.unwrap_or_else(|| {
            log::warn(|| "chat template: the file has none; plain <|turn> turns are used".into());
            PLAIN_TURNS
        });
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(explain)?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        // Its indentation grows with the square of the depth, and is not paid for.
        environment.remove_filter("pprint");
        environment.add_filter("tojson", json::tojson);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", clock::strftime_now);
        environment.add_template_owned(NAME, source.to_owned()).map_err(explain)?;
        let roles = [
            ("bos_token", tokenizer.bos()),
            ("eos_token", tokenizer.eos()),
            ("unk_token", tokenizer.unk()),
            ("pad_token", tokenizer.pad()),
            ("mask_token", tokenizer.mask()),
        ];
        let variable = |(name, id): (_, Option<u32>)| Some((name, Value::from(tokenizer.piece(id?).ok()?)));
        Ok(ChatTemplate { environment, token_variables: roles.into_iter().filter_map(variable).collect() })
    }

    /// The prompt for `messages`, a list of objects with `role` and `content`, and `tools`, a list of function schemas.
    /// With `add_generation_prompt` it ends where the model's answer begins. It holds its own `<bos>`; see
    /// [`Tokenizer::encode`].
    pub fn render(
        &self,
        messages: &serde_json::Value,
        tools: Option<&serde_json::Value>,
        add_generation_prompt: bool,
    ) -> Result<String> {
        let mut variables: BTreeMap<&str, Value> = self.token_variables.iter().cloned().collect();
        variables.insert("messages", json::value(messages));
        variables.insert("tools", tools.map_or(Value::from(()), json::value));
        variables.insert("documents", Value::from(()));
        variables.insert("add_generation_prompt", Value::from(add_generation_prompt));
        let render = || self.environment.get_template(NAME)?.render(Value::from(variables));
        let rendered = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("dgemma-chat".into()).stack_size(STACK_BYTES);
            Some(thread.spawn_scoped(scope, render).ok()?.join())
        });
        match rendered {
            Some(Ok(text)) => text.map_err(explain),
            Some(Err(_)) => Err(Error::Internal("the template engine panicked".into())),
            None => Err(Error::OutOfMemory { bytes: STACK_BYTES, what: "the stack of the chat template" }),
        }
    }
}

/// What a template calls when the messages do not suit it.
fn raise_exception(message: String) -> std::result::Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

/// One line with the place in the template, and what lies behind the error.
fn explain(error: minijinja::Error) -> Error {
    let mut text = match error.kind() {
        ErrorKind::OutOfFuel => format!("it does not come to an end (line {})", error.line().unwrap_or(0)),
        _ => error.to_string(),
    };
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    Error::Template(text.replace('\n', " "))
}
