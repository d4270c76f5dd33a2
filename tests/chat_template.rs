//! Chat templates: what Hugging Face's set-up of Jinja2 renders, and what hostile ones may not do.

#[path = "common/hf_tokenizer.rs"]
mod hf_tokenizer;

use dgemma::tokenizer::{ChatTemplate, Tokenizer};
use hf_tokenizer::HfTokenizer;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The template of the golden checkpoints.
const GOLDEN: &str = "{{ bos_token }}{% for m in messages %}<|turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n\
    {{ m['content'] | trim }}<turn|>\n{% endfor %}{% if add_generation_prompt %}<|turn>model\n{% endif %}";

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

fn tokenizer() -> Tokenizer {
    HfTokenizer::read(&golden("tiny-a/hf/tokenizer.json")).build()
}

fn render(source: &str, messages: Value, tools: Option<Value>) -> Result<String, String> {
    let template = ChatTemplate::new(Some(source), &tokenizer()).map_err(|e| e.to_string())?;
    template.render(&messages, tools.as_ref(), true).map_err(|e| e.to_string())
}

/// The golden conversation through the golden template, and through the one that stands in when a file has none.
#[test]
fn equals_the_reference() {
    for name in ["tiny-a", "tiny-b", "tiny-k"] {
        let cases: Value =
            serde_json::from_slice(&std::fs::read(golden(&format!("{name}/tokenizer.json"))).unwrap()).unwrap();
        let case = &cases["chat"][0];
        for source in [Some(GOLDEN), None] {
            let template = ChatTemplate::new(source, &tokenizer()).unwrap();
            assert_eq!(template.render(&case["messages"], None, true).unwrap(), case["text"]);
            let without = template.render(&case["messages"], None, false).unwrap();
            assert_eq!(without + "<|turn>model\n", case["text"].as_str().unwrap());
        }
    }
}

/// The stand-in also takes content in parts, and special tokens in the result are those of the vocabulary.
#[test]
fn plain_turns() {
    let tokenizer = tokenizer();
    let template = ChatTemplate::new(None, &tokenizer).unwrap();
    let parts = json!([{"type": "text", "text": " one "}, {"type": "image"}, {"type": "text", "text": "two"}]);
    let text = template.render(&json!([{"role": "user", "content": parts}]), None, true).unwrap();
    assert_eq!(text, "<bos><|turn>user\nonetwo<turn|>\n<|turn>model\n");
    let ids = tokenizer.encode(&text, false, true).unwrap();
    assert_eq!(ids[..2], [2, 4]);
}

/// The idioms of templates with tools, as `tests/golden/make_chat.py` renders them in Hugging Face's set-up of Jinja2.
#[test]
fn tool_calls() {
    let conversation: Value = serde_json::from_str(include_str!("golden/chat/tool_calls.json")).unwrap();
    let (messages, tools) = (conversation["messages"].clone(), conversation["tools"].clone());
    let text = render(include_str!("golden/chat/tool_calls.jinja"), messages, Some(tools)).unwrap();
    assert_eq!(text, include_str!("golden/chat/tool_calls.txt"));
}

/// Whatever a template gets wrong comes back as one line with the place.
#[test]
fn broken_templates() {
    let hello = || json!([{"role": "user", "content": "hello"}]);
    let error = |source: &str| {
        let error = render(source, hello(), None).unwrap_err();
        assert!(error.starts_with("chat template: ") && !error.contains('\n'), "{error}");
        error
    };
    let refused = error("a\n{{ raise_exception('roles must\nalternate') }}");
    assert_eq!(refused, "chat template: invalid operation: roles must alternate (in chat_template:2)");
    assert!(error("\n\n{% for x in %}").contains("(in chat_template:3)"));
    assert!(error("{{ messages[0].content.nonsense() }}").contains("(in chat_template:1)"));
    assert!(error("{{ none_such.member }}").contains("undefined"));
    assert!(error("{{ none_such | tojson }}").contains("undefined is not JSON"));
    assert_eq!(render("[{{ none_such }}]", hello(), None).unwrap(), "[]");
}

/// A template may neither run for ever, nor fill the memory, nor use up the stack.
#[test]
fn hostile_templates() {
    let start = Instant::now();
    let numbers = "range(99999)";
    let deep = "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}";
    for source in [
        format!(
            "{{% for a in {numbers} %}}{{% for b in {numbers} %}}{{% for c in {numbers} %}}{{% endfor %}}{{% endfor %}}{{% endfor %}}"
        ),
        "{% set ns = namespace(s='0123456789') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}"
            .into(),
        "{{ 'x' * 99999999999 }}".into(),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".into(),
        format!("{}1{}", "{{ ".to_owned() + &"(".repeat(100_000), ")".repeat(100_000) + " }}"),
        format!("{deep}{{{{ ns.x | tojson }}}}"),
    ] {
        let error = render(&source, json!([]), None).unwrap_err();
        println!("{error}");
        assert!(!error.contains('\n') && error.len() < 300, "{error}");
    }
    // Deep enough that a thread's usual stack would not do to print, compare or drop the value.
    let deep = deep.replace("[]", "[], y=[]").replace("{% endfor %}", "{% set ns.y = [ns.y] %}{% endfor %}");
    for (use_it, length) in [("", 0), ("{{ ns.x }}", 200_000), ("{{ ns.x == ns.y }}", 4)] {
        assert_eq!(render(&format!("{deep}{use_it}"), json!([]), None).unwrap().len(), length);
    }
    assert!(cfg!(debug_assertions) || start.elapsed().as_secs() < 30);
}
