//! A Hugging Face `tokenizer.json` as the [`Vocabulary`] that a converter makes of it.

use dgemma::tokenizer::{Kind, Tokenizer, Vocabulary};
use serde_json::Value;
use std::path::Path;

/// The parts of a `tokenizer.json`, owned.
pub struct HfTokenizer {
    tokens: Vec<String>,
    kinds: Vec<Kind>,
    merges: Vec<String>,
}

/// Shown to the user although the reference calls some of them special.
const VISIBLE: [&str; 7] =
    ["<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", "<|\"|>"];

impl HfTokenizer {
    /// Reads the file; added tokens become control tokens, seven of them user-defined ones.
    pub fn read(path: &Path) -> Self {
        let json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let vocab = json["model"]["vocab"].as_object().unwrap();
        let mut tokens = vec![String::new(); vocab.len()];
        for (text, id) in vocab {
            tokens[id.as_u64().unwrap() as usize] = text.clone();
        }
        let mut kinds = vec![Kind::Normal; tokens.len()];
        for added in json["added_tokens"].as_array().unwrap() {
            let visible = VISIBLE.contains(&added["content"].as_str().unwrap());
            kinds[added["id"].as_u64().unwrap() as usize] = if visible { Kind::UserDefined } else { Kind::Control };
        }
        let side = |merge: &Value, at: usize| merge[at].as_str().unwrap().to_owned();
        let merges = json["model"]["merges"].as_array().unwrap();
        let merges = merges.iter().map(|merge| side(merge, 0) + " " + &side(merge, 1)).collect();
        HfTokenizer { tokens, kinds, merges }
    }

    /// The kind of one token, to change it.
    #[allow(dead_code)] // not by every test
    pub fn kind_mut(&mut self, text: &str) -> &mut Kind {
        let at = self.tokens.iter().position(|token| token == text).unwrap();
        &mut self.kinds[at]
    }

    /// The vocabulary; every fixture has pad, eos, bos, unk in this order.
    pub fn vocabulary(&self) -> Vocabulary<'_> {
        Vocabulary {
            tokens: self.tokens.iter().map(String::as_str).collect(),
            kinds: self.kinds.clone(),
            merges: self.merges.iter().map(String::as_str).collect(),
            pad: Some(0),
            eos: Some(1),
            bos: Some(2),
            unk: Some(3),
            add_bos: true,
            ..Default::default()
        }
    }

    /// The tokenizer.
    pub fn build(&self) -> Tokenizer {
        Tokenizer::new(&self.vocabulary()).unwrap()
    }
}
