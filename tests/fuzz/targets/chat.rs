//! Chat templates and what they render.
//!
//! Input: template, messages, tools, separated by 0xFF, the latter two as JSON. Rendering ends, in bounded memory, says the
//! same twice, and explains in one line what is wrong. Messages come through `tojson` as they were.

use crate::common::{assert_tells, bounded, joined, pieces};
use dgemma::tokenizer::{ChatTemplate, Kind, Tokenizer, Vocabulary};
use serde_json::Value;
use std::sync::LazyLock;

/// What `src/tokenizer/chat.rs` promises, and as much again for what is made of the result.
const MEMORY: usize = 256 << 20;

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let kinds = vec![Kind::Control; 2];
    let vocabulary =
        Vocabulary { tokens: vec!["<bos>", "<eos>"], kinds, bos: Some(0), eos: Some(1), ..Default::default() };
    Tokenizer::new(&vocabulary).unwrap()
});

static TO_JSON: LazyLock<ChatTemplate> =
    LazyLock::new(|| ChatTemplate::new(Some("{{ messages | tojson }}"), &TOKENIZER).unwrap());

/// Whether the template was taken and the messages rendered.
pub fn run(data: &[u8]) -> bool {
    let [template, messages, tools] = pieces(data).map(String::from_utf8_lossy);
    let json = |text: &str| serde_json::from_str::<Value>(text).ok();
    let Some(messages) = json(&messages) else { return false };
    let tools = json(&tools);
    LazyLock::force(&TO_JSON);
    bounded(MEMORY, || {
        there_and_back(&messages);
        let rendered = ChatTemplate::new(Some(&template), &TOKENIZER).and_then(|compiled| {
            let text = compiled.render(&messages, tools.as_ref(), true)?;
            if !template.contains("strftime") {
                assert_eq!(compiled.render(&messages, tools.as_ref(), true)?, text);
            }
            Ok(text)
        });
        rendered.map_err(|error| assert_tells(&error, &["chat template: "])).is_ok()
    })
}

fn there_and_back(messages: &Value) {
    let text = TO_JSON.render(messages, None, false).unwrap();
    assert!(same(&serde_json::from_str(&text).unwrap(), messages), "{messages} became {text}");
}

/// Equal, numbers as far as an f64 holds them: some crate may have switched on serde_json's `arbitrary_precision`.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (_, Value::Number(n)) if n.as_f64().is_none_or(f64::is_infinite) => true,
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same(a.1, b.1))
        }
        _ => a == b,
    }
}

/// Inputs to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let template = br#"{{ bos_token }}{%- set ns = namespace(n=0) -%}
{% macro turn(m) %}<{{ m['role'] | upper }}>{{ m.content.strip().split('\n')[0][:20] }}{% endmacro %}
{% for m in messages if m.role != 'system' %}{% set ns.n = ns.n + loop.index0 %}{{ turn(m) }}{% endfor %}
{% if tools %}{{ tools | map(attribute='name') | list | tojson(indent=2) }}{% endif %}{{ strftime_now('%Y') }}
{%- if add_generation_prompt and ns.n is defined %}{{ raise_exception('no') if ns.n > 100 else 'model' }}{% endif %}"#;
    let messages = br#"[{"role": "system", "content": "x"}, {"role": "user", "content": "  Hi\nyou \ud83e\udd99"}]"#;
    vec![joined(&[template, messages, br#"[{"name": "f", "n": [1, -2.5e3, null, true]}]"#])]
}
