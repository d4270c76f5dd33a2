//! `softmax(q k^T) v`, scale 1, one query row and head at a time.

use super::matmul::dot;
use crate::backend::host_kv::HostKv;
use crate::backend::{AttentionShape, KvLayer};

pub fn attention(q: &[f32], k: &[f32], v: &[f32], cache: &KvLayer<HostKv>, shape: &AttentionShape, out: &mut [f32]) {
    let (heads, kv_heads, dim) = (shape.heads, shape.kv_heads, shape.head_dim);
    // Position p of K/V head h, from the cache or from this pass.
    let at = |cached: &HostKv, fresh: &[f32], h: usize, p: usize| -> Vec<f32> {
        if p < shape.start {
            let mut row = vec![0.0; dim];
            cached.load((h * cache.capacity + p % cache.capacity) * dim, &mut row);
            row
        } else {
            fresh[((p - shape.start) * kv_heads + h) * dim..][..dim].to_vec()
        }
    };
    for row in 0..shape.rows {
        let (first, end) = shape.visible(row);
        for head in 0..heads {
            let kv_head = head / (heads / kv_heads);
            let query = &q[(row * heads + head) * dim..][..dim];
            let scores: Vec<f32> = (first..end).map(|p| dot(query, &at(&cache.k, k, kv_head, p))).collect();
            let p = super::head::softmax(&scores);
            let mut sum = vec![0.0f64; dim];
            for (i, p) in p.iter().enumerate() {
                for (s, v) in sum.iter_mut().zip(at(&cache.v, v, kv_head, first + i)) {
                    *s += p * f64::from(v);
                }
            }
            for (o, s) in out[(row * heads + head) * dim..][..dim].iter_mut().zip(sum) {
                *o = s as f32;
            }
        }
    }
}
