//! `--tensor-type PATTERN=TYPE`: another type for some matrices.

use crate::types::{Named, is_matrix};
use dgemma::quant::{self, Format};
use dgemma::{Error, Result};

/// A pattern and what the matrices that it matches become.
#[derive(Clone, Debug)]
pub struct Override {
    pattern: String,
    /// The type.
    pub format: &'static Format,
}

impl Override {
    /// Reads `PATTERN=TYPE`. A pattern matches where it occurs anywhere in a name; `*` in it stands for any characters.
    pub fn parse(text: &str) -> Result<Override> {
        let wrong = |what: String| Err(Error::argument("tensor-type", what));
        let Some((pattern, name)) = text.rsplit_once('=').filter(|(pattern, _)| !pattern.is_empty()) else {
            return wrong(format!("{text:?} is not of the form PATTERN=TYPE"));
        };
        // Users of llama.cpp know these as regular expressions: say that they are not, rather than not match.
        if let Some(c) = pattern.chars().find(|c| r"\^$()[]{}|+?".contains(*c)) {
            return wrong(format!("{text:?} has a {c:?}, but patterns are plain text in which only * is special"));
        }
        Ok(Override { pattern: pattern.to_owned(), format: writable("tensor-type", name)? })
    }

    /// Whether it is about the tensor `name`.
    pub fn matches(&self, name: &str) -> bool {
        let mut rest = Some(name);
        for part in self.pattern.split('*') {
            rest = rest.and_then(|text| text.find(part).map(|at| &text[at + part.len()..]));
        }
        rest.is_some()
    }

    /// Refuses a pattern that would change nothing: a name misspelt.
    pub fn check(&self, tensors: &[Named]) -> Result<()> {
        let matching: Vec<_> = tensors.iter().filter(|(name, _)| self.matches(name)).collect();
        let wrong = |what: &str| Err(Error::argument("tensor-type", format!("{:?} matches {what}", self.pattern)));
        if matching.is_empty() {
            return wrong("no tensor");
        }
        if !matching.iter().any(|(name, shape)| is_matrix(name, shape)) {
            return wrong("no matrix: vectors, norms, scales and the router are always F32");
        }
        Ok(())
    }
}

/// The format `name` for the option `argument`.
pub fn writable(argument: &'static str, name: &str) -> Result<&'static Format> {
    quant::by_name(name).ok_or_else(|| {
        let known = quant::FORMATS.iter().map(|format| format.name).collect::<Vec<_>>().join(", ");
        Error::argument(argument, format!("{name:?} is no type that can be written, expected one of {known}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_anywhere_and_stars_match_anything() {
        let matches = |pattern: &str, name| Override::parse(&format!("{pattern}=Q8_0")).unwrap().matches(name);
        assert!(matches("ffn_down", "blk.3.ffn_down_exps.weight"));
        assert!(!matches("ffn_down.", "blk.3.ffn_down_exps.weight"));
        assert!(matches("blk.1.*attn", "blk.1.attn_q.weight"));
        assert!(!matches("blk.1.*attn", "blk.11.attn_q.weight"));
        assert!(matches("a*b*c", "xxaxxbxxcxx") && !matches("a*b*c", "cba"));
        assert!(matches("*", "anything") && matches("a*", "a") && !matches("aa*a", "aa"));
    }

    #[test]
    fn mistakes() {
        let what = |text| Override::parse(text).unwrap_err().to_string();
        assert_eq!(what("ffn_down"), "argument `tensor-type`: \"ffn_down\" is not of the form PATTERN=TYPE");
        assert_eq!(what("=Q8_0"), "argument `tensor-type`: \"=Q8_0\" is not of the form PATTERN=TYPE");
        assert!(
            what("a=Q9_9").starts_with("argument `tensor-type`: \"Q9_9\" is no type that can be written, expected")
        );
        assert!(what(r"blk\.1=Q8_0").ends_with("has a '\\\\', but patterns are plain text in which only * is special"));
        let tensors: [Named; 2] = [("blk.0.attn_norm.weight", &[8]), ("token_embd.weight", &[8, 8])];
        let check = |text| Override::parse(text).unwrap().check(&tensors).map_err(|e| e.to_string());
        assert_eq!(check("token=F16"), Ok(()));
        assert_eq!(check("ffn=F16").unwrap_err(), "argument `tensor-type`: \"ffn\" matches no tensor");
        assert!(check("attn=F16").unwrap_err().contains("matches no matrix"));
    }
}
