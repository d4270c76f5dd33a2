//! `tojson` as templates expect it: Python's `json.dumps` with `ensure_ascii=False`, key order kept. (The filter that
//! Jinja itself comes with escapes `<`, `>`, `&` and `'` for HTML, and models were not trained on that.)

use minijinja::value::{Kwargs, Rest, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

/// Deeper values are refused, before the stack decides.
const DEPTH: usize = 128;

/// The template's view of `json`. (Not through serde: with serde_json's `arbitrary_precision`, which another crate of the
/// host may switch on, that makes a struct of each number.)
pub(super) fn value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::from(()),
        Json::Bool(yes) => Value::from(*yes),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => Value::from(n),
            (None, Some(n)) => Value::from(n),
            (None, None) => n.as_f64().map_or_else(|| Value::from(n.to_string()), Value::from),
        },
        Json::String(text) => Value::from(text),
        Json::Array(items) => items.iter().map(value).collect(),
        Json::Object(map) => Value::from_pairs(map.iter().map(|(key, json)| (Value::from(key), value(json)))),
    }
}

/// `value | tojson(ensure_ascii=false, indent=none, separators=none, sort_keys=false)`.
pub(super) fn tojson(state: &State, value: Value, options: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let option = |at: usize, name| -> Result<Option<Value>, Error> {
        let value = options.get(at).cloned().map_or_else(|| named.get(name), |value| Ok(Some(value)))?;
        Ok(value.filter(|value| !value.is_none()))
    };
    let ensure_ascii = option(0, "ensure_ascii")?.is_some_and(|yes| yes.is_true());
    let indent = option(1, "indent")?;
    let separators = option(2, "separators")?;
    let sort_keys = option(3, "sort_keys")?.is_some_and(|yes| yes.is_true());
    named.assert_all_used()?;
    let separator = |at, default: &str| match &separators {
        Some(pair) => Ok::<_, Error>(pair.get_item_by_index(at)?.to_string()),
        None => Ok(default.to_owned()),
    };
    let mut dump = Dump {
        comma: separator(0, if indent.is_some() { "," } else { ", " })?,
        colon: separator(1, ": ")?,
        indent: indent.map(|indent| match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(indent.as_usize().unwrap_or(0).min(64)),
        }),
        ensure_ascii,
        sort_keys,
        out: String::new(),
    };
    dump.value(&value, 0)?;
    // Filters are only charged for what they return; this one also built it character by character.
    state.consume_fuel(dump.out.len() as u64 / 16)?;
    Ok(Value::from(dump.out))
}

struct Dump {
    comma: String,
    colon: String,
    /// One level of it.
    indent: Option<String>,
    ensure_ascii: bool,
    sort_keys: bool,
    out: String,
}

impl Dump {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEPTH {
            return Err(Error::new(ErrorKind::BadSerialization, format!("more than {DEPTH} levels")));
        }
        match value.kind() {
            ValueKind::None | ValueKind::Bool | ValueKind::Number => self.out += &scalar(value),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                self.out.push('[');
                let mut empty = true;
                for item in value.try_iter()? {
                    self.before_item(empty, depth);
                    empty = false;
                    self.value(&item, depth + 1)?;
                }
                self.close(']', empty, depth);
            }
            ValueKind::Map => self.map(value, depth)?,
            kind => return Err(Error::new(ErrorKind::BadSerialization, format!("{kind} is not JSON"))),
        }
        Ok(())
    }

    fn map(&mut self, map: &Value, depth: usize) -> Result<(), Error> {
        let mut items = Vec::new();
        for key in map.try_iter()? {
            let text = match key.kind() {
                ValueKind::String => key.to_string(),
                ValueKind::None | ValueKind::Bool | ValueKind::Number => scalar(&key),
                kind => return Err(Error::new(ErrorKind::BadSerialization, format!("{kind} as a JSON key"))),
            };
            items.push((text, map.get_item(&key)?));
        }
        if self.sort_keys {
            items.sort_by(|a, b| a.0.cmp(&b.0));
        }
        self.out.push('{');
        for (at, (key, value)) in items.iter().enumerate() {
            self.before_item(at == 0, depth);
            self.string(key);
            self.out += &self.colon;
            self.value(value, depth + 1)?;
        }
        self.close('}', items.is_empty(), depth);
        Ok(())
    }

    fn before_item(&mut self, first: bool, depth: usize) {
        if !first {
            self.out += &self.comma;
        }
        self.new_line(depth + 1);
    }

    fn close(&mut self, bracket: char, empty: bool, depth: usize) {
        if !empty {
            self.new_line(depth);
        }
        self.out.push(bracket);
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out += &indent.repeat(depth);
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out += "\\\"",
                '\\' => self.out += "\\\\",
                '\n' => self.out += "\\n",
                '\r' => self.out += "\\r",
                '\t' => self.out += "\\t",
                '\u{8}' => self.out += "\\b",
                '\u{c}' => self.out += "\\f",
                ' '..='~' => self.out.push(c),
                _ if c > '~' && !self.ensure_ascii => self.out.push(c),
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.out += &format!("\\u{unit:04x}");
                    }
                }
            }
        }
        self.out.push('"');
    }
}

/// `null`, a truth value or a number, as Python writes them.
fn scalar(value: &Value) -> String {
    match value.kind() {
        ValueKind::None => "null".into(),
        // Printed as Python's `True` otherwise.
        ValueKind::Bool => if value.is_true() { "true" } else { "false" }.into(),
        ValueKind::Number if !value.is_integer() => f64::try_from(value.clone()).map_or("null".into(), float),
        _ => value.to_string(),
    }
}

/// Rust prints the same digits and changes to an exponent at the same sizes; only the exponent looks different.
fn float(x: f64) -> String {
    if x.is_nan() {
        return "NaN".into();
    } else if x.is_infinite() {
        return if x > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    let text = format!("{x:?}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, size) = exponent.strip_prefix('-').map_or(('+', exponent), |size| ('-', size));
            format!("{digits}e{sign}{size:0>2}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::context;

    fn dump(arguments: &str, json: &str) -> String {
        let mut environment = minijinja::Environment::new();
        environment.add_filter("tojson", tojson);
        let value = super::value(&serde_json::from_str(json).unwrap());
        environment.render_str(&format!("{{{{ x | tojson{arguments} }}}}"), context! { x => value }).unwrap()
    }

    /// The right-hand sides are what Python 3's `json.dumps` prints.
    #[test]
    fn like_python() {
        let json = r#"{"b": [1, 2.0, {"c": null}], "a": "<é>'\"\\\n\u0001\u007f🦙", "e": {}, "f": []}"#;
        assert_eq!(
            dump("", json),
            "{\"b\": [1, 2.0, {\"c\": null}], \"a\": \"<é>'\\\"\\\\\\n\\u0001\u{7f}🦙\", \"e\": {}, \"f\": []}"
        );
        assert_eq!(
            dump("(ensure_ascii=true, sort_keys=true, separators=(',', ':'))", json),
            r#"{"a":"<\u00e9>'\"\\\n\u0001\u007f\ud83e\udd99","b":[1,2.0,{"c":null}],"e":{},"f":[]}"#
        );
        assert_eq!(
            dump("(indent=2)", r#"{"b": [1, true], "e": {}}"#),
            "{\n  \"b\": [\n    1,\n    true\n  ],\n  \"e\": {}\n}"
        );
        assert_eq!(dump("(false, 0)", "[1, 2]"), "[\n1,\n2\n]");
        assert_eq!(
            dump("", "[true, 1e16, 1e-5, 1.5e-7, 0.0001, 1e15, -0.0, 12345678901234567890, 1e100]"),
            "[true, 1e+16, 1e-05, 1.5e-07, 0.0001, 1000000000000000.0, -0.0, 12345678901234567890, 1e+100]"
        );
    }
}
