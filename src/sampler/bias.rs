//! Logit biases and banned tokens, merged into the one list that the head reads.

use super::SamplerParams;
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// Largest size of a finite bias. Soft-capped logits lie within 30 of zero, so this is certainty already.
pub const MAX_BIAS: f32 = 1000.0;

impl SamplerParams {
    /// What is added to the logits of which tokens: sorted by token, each token once, negative infinity where banned.
    /// Biases of a token listed twice add up.
    ///
    /// [`Error::Argument`]: an id is not below `vocab`, a bias is neither within ±1000 nor negative infinity, or every
    /// token is banned.
    pub fn merged_bias(&self, vocab: usize) -> Result<Vec<(u32, f32)>> {
        let mut merged: BTreeMap<u32, f32> = BTreeMap::new();
        for &(token, bias) in &self.logit_bias {
            check_id("logit_bias", token, vocab)?;
            if bias != f32::NEG_INFINITY && (bias.is_nan() || bias.abs() > MAX_BIAS) {
                let what = format!("of token {token} is {bias}, expected -1000 to 1000 or negative infinity");
                return Err(Error::argument("logit_bias", what));
            }
            *merged.entry(token).or_default() += bias;
        }
        for &token in &self.banned {
            check_id("banned", token, vocab)?;
            merged.insert(token, f32::NEG_INFINITY);
        }
        if merged.values().filter(|&&b| b == f32::NEG_INFINITY).count() == vocab {
            return Err(Error::argument("banned", format!("has all {vocab} tokens, expected one left")));
        }
        Ok(merged.into_iter().collect())
    }
}

fn check_id(name: &'static str, token: u32, vocab: usize) -> Result<()> {
    if (token as usize) < vocab {
        return Ok(());
    }
    Err(Error::argument(name, format!("has id {token}, expected ids below {vocab}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(logit_bias: &[(u32, f32)], banned: &[u32]) -> SamplerParams {
        SamplerParams { logit_bias: logit_bias.to_vec(), banned: banned.to_vec(), ..Default::default() }
    }

    #[test]
    fn sorted_added_up_and_a_ban_wins() {
        let merged = params(&[(7, 1.5), (2, -1.0), (7, 2.0), (3, 5.0)], &[3, 3]).merged_bias(8).unwrap();
        assert_eq!(merged, [(2, -1.0), (3, f32::NEG_INFINITY), (7, 3.5)]);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let bad = |bias: &[(u32, f32)], banned: &[u32]| params(bias, banned).merged_bias(2).unwrap_err().to_string();
        assert_eq!(bad(&[(2, 0.0)], &[]), "argument `logit_bias`: has id 2, expected ids below 2");
        assert_eq!(bad(&[], &[9]), "argument `banned`: has id 9, expected ids below 2");
        assert_eq!(bad(&[], &[0, 1, 1]), "argument `banned`: has all 2 tokens, expected one left");
        for odd in [f32::NAN, f32::INFINITY, 1e9] {
            let text = bad(&[(1, odd)], &[]);
            assert!(text.ends_with("expected -1000 to 1000 or negative infinity"), "{text}");
        }
    }
}
