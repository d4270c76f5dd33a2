//! The router's choice: softmax over all experts, the best few, renormalised, scaled per expert.

use super::head::softmax;

/// For each row, its experts with their weights, best first.
#[derive(Debug, Default)]
pub struct Routes(pub Vec<Vec<(usize, f32)>>);

pub fn route(logits: &[f32], expert_scale: &[f32], experts: usize, top_k: usize) -> Routes {
    let row = |logits: &[f32]| {
        let p = softmax(logits);
        let mut order: Vec<usize> = (0..experts).collect();
        // Stable, so that the smaller id wins a tie.
        order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
        order.truncate(top_k);
        let sum: f64 = order.iter().map(|&e| p[e]).sum();
        order.iter().map(|&e| (e, (p[e] / sum) as f32 * expert_scale[e])).collect()
    };
    Routes(logits.chunks_exact(experts).map(row).collect())
}
