//! Arguments of the C API: texts, tokens, flags, and structs of options with anything in them.
//!
//! Input: a byte that says which call, then its arguments. Every call answers with a status other than INTERNAL, with a text
//! where it is a failure, and writes nothing behind the end of a buffer, nor into it when it fails.

use crate::common::{bounded, folder, joined, model, pieces};
use dgemma::capi::*;
use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr::null_mut;
use std::sync::LazyLock;

/// Contexts of the smallest model and what templates may take.
const MEMORY: usize = 256 << 20;

/// A struct as its init function leaves it.
macro_rules! filled {
    ($init:ident $(, $model:expr)?) => {{
        let mut params = std::mem::MaybeUninit::uninit();
        // SAFETY: room for one, all of which is written on success.
        unsafe {
            assert!(ok($init(params.as_mut_ptr(), size_of_val(&params) $(, $model)?)));
            params.assume_init()
        }
    }};
}

struct Model(*mut dgemma_model);
// SAFETY: the header says that any thread may use a model.
unsafe impl Send for Model {}
// SAFETY: the same.
unsafe impl Sync for Model {}

static MODEL: LazyLock<Model> = LazyLock::new(|| {
    let file = folder("capi").join("model.gguf");
    std::fs::write(&file, model()).unwrap();
    let path = CString::new(file.to_str().unwrap()).unwrap();
    let (mut params, mut model) = (filled!(dgemma_model_params_init), null_mut());
    params.threads = 1;
    // SAFETY: valid pointers.
    assert!(ok(unsafe { dgemma_model_load(path.as_ptr(), &params, &mut model) }), "{}", last_error());
    std::fs::remove_file(file).unwrap(); // it stays mapped
    Model(model)
});

fn last_error() -> String {
    // SAFETY: the library's text, until the next call.
    unsafe { CStr::from_ptr(dgemma_last_error()) }.to_str().unwrap().to_owned()
}

/// Whether a call succeeded; a failure has its text.
fn ok(status: dgemma_status) -> bool {
    if status == dgemma_status::Ok {
        return true;
    }
    let text = last_error();
    assert!(status != dgemma_status::Internal && !text.is_empty() && !text.contains('\n'), "{status:?}: {text}");
    false
}

/// Numbers out of an input; zeros behind its end.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn next<const N: usize>(&mut self) -> [u8; N] {
        let (now, rest) = self.0.split_at(self.0.len().min(N));
        self.0 = rest;
        std::array::from_fn(|i| now.get(i).copied().unwrap_or_default())
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.next())
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.next())
    }
    fn f32(&mut self) -> f32 {
        f32::from_le_bytes(self.next())
    }
    fn rest(self) -> Vec<u32> {
        self.0.chunks(4).map(|c| c.iter().rev().fold(0, |n, &byte| n << 8 | u32::from(byte))).collect()
    }
}

/// Whether the call succeeded.
pub fn run(data: &[u8]) -> bool {
    let Some((&call, data)) = data.split_first() else { return false };
    LazyLock::force(&MODEL);
    bounded(MEMORY, || match call % 6 {
        0 => chat(data),
        1 => tokens(data),
        2 => text(data),
        3 => names(data),
        4 => generation(Numbers(data)),
        _ => block(Numbers(data)),
    })
}

/// A call that fills a buffer, with a buffer of `cap` entries.
fn fills<T: Copy + PartialEq>(cap: usize, fill: T, call: impl Fn(*mut T, usize, *mut usize) -> dgemma_status) -> bool {
    let (mut buffer, mut len) = (vec![fill; cap + 8], usize::MAX);
    let good = ok(call(buffer.as_mut_ptr(), cap, &mut len));
    let untouched = if good { cap } else { 0 };
    assert!(buffer[untouched..].iter().all(|x| *x == fill));
    assert!(!good || len <= cap);
    good
}

fn chat(data: &[u8]) -> bool {
    let [head, messages, tools] = pieces(data);
    let mut head = Numbers(head);
    let (flags, cap) = (head.u32(), head.u32() as usize % 512);
    let (Ok(messages), Ok(tools)) = (CString::new(messages), CString::new(tools)) else { return false };
    // SAFETY: valid pointers.
    fills(cap, 0x55, |buffer, cap, len| unsafe {
        dgemma_chat_render(MODEL.0, messages.as_ptr(), tools.as_ptr(), flags, buffer, cap, len)
    })
}

fn tokens(data: &[u8]) -> bool {
    let mut head = Numbers(data);
    let (flags, cap) = (head.u32(), head.u32() as usize % 64);
    // SAFETY: valid pointers.
    fills(cap, 0x5555_5555, |buffer, cap, len| unsafe {
        dgemma_model_tokenize(MODEL.0, head.0.as_ptr().cast(), head.0.len(), flags, buffer, cap, len)
    })
}

fn text(data: &[u8]) -> bool {
    let mut head = Numbers(data);
    let (flags, cap) = (head.u32(), head.u32() as usize % 64);
    let ids = head.rest();
    let mut detokenizer = null_mut();
    // SAFETY: valid pointers; what was made is freed.
    unsafe {
        let whole = fills(cap, 0x55, |buffer, cap, len| {
            dgemma_model_detokenize(MODEL.0, ids.as_ptr(), ids.len(), flags, buffer, cap, len)
        });
        if ok(dgemma_detokenizer_create(MODEL.0, flags, &mut detokenizer)) {
            fills(cap, 0x55, |buffer, cap, len| {
                dgemma_detokenizer_push(detokenizer, ids.as_ptr(), ids.len(), buffer, cap, len)
            });
            dgemma_detokenizer_free(detokenizer);
        }
        whole
    }
}

fn names(data: &[u8]) -> bool {
    let (Ok(name), mut id) = (CString::new(data), 0) else { return false };
    let token = Numbers(data).u32();
    // SAFETY: valid pointers.
    unsafe {
        ok(dgemma_token_piece(MODEL.0, token, null_mut(), 0, null_mut()));
        ok(dgemma_token_attributes(MODEL.0, token, &mut id));
        ok(dgemma_model_special_token(MODEL.0, token, &mut id));
        let found = ok(dgemma_token_find(MODEL.0, data.as_ptr().cast(), data.len(), &mut id));
        fills(256, 0x55, |b, cap, len| dgemma_model_metadata_value(MODEL.0, name.as_ptr(), b, cap, len)) || found
    }
}

unsafe extern "C" fn after_three(step: *const dgemma_step, _: *mut c_void) -> c_int {
    // SAFETY: lent for the call.
    (unsafe { (*step).step } >= 3).into()
}

fn sampler_params(n: &mut Numbers) -> dgemma_sampler_params {
    let mut sampler = filled!(dgemma_sampler_params_init, MODEL.0);
    (sampler.max_steps, sampler.stability) = (n.u32(), n.u32());
    (sampler.t_min, sampler.t_max) = (n.f32(), n.f32());
    (sampler.entropy_bound, sampler.confidence) = (n.f32(), n.f32());
    (sampler.stable_steps, sampler.stable_entropy) = (n.u32(), n.f32());
    sampler
}

fn generation(mut n: Numbers) -> bool {
    let mut params = filled!(dgemma_generate_params_init);
    (params.prompt_kind, params.max_steps) = (n.u32(), n.u32());
    (params.max_tokens, params.context_size) = (n.u64() as usize, n.u64() as usize);
    (params.seed, params.flags) = (n.u64(), n.u64());
    params.on_step = Some(after_three);
    let mut sampler = sampler_params(&mut n);
    let bias = [dgemma_logit_bias { token: n.u32(), bias: n.f32() }];
    (sampler.logit_bias, sampler.n_logit_bias) = (bias.as_ptr(), 1);
    let banned = n.rest();
    (sampler.banned, sampler.n_banned) = (banned.as_ptr(), banned.len());
    params.sampler = &sampler;
    // SAFETY: valid pointers.
    ok(unsafe { dgemma_generate(MODEL.0, c"ab a".as_ptr(), &params, null_mut()) })
}

fn block(mut n: Numbers) -> bool {
    let mut params = filled!(dgemma_context_params_init);
    (params.context_size, params.seed) = (n.u64() as usize, n.u64());
    (params.chunk, params.kv_type) = (n.u32(), n.u32());
    let mut options = filled!(dgemma_block_params_init);
    (options.index, options.canvas_length, options.seed) = (n.u32(), n.u32(), n.u64());
    let (sampler, commit, slots) = (sampler_params(&mut n), n.u64() as usize, n.next::<8>());
    let mut tokens = n.rest();
    tokens.resize(8, 0);
    options.sampler = &sampler;
    // As many entries as a canvas of this model has at most.
    (options.tokens, options.slots) = (tokens.as_ptr(), slots.as_ptr());
    let (mut context, mut block, mut done) = (null_mut(), null_mut(), 0);
    // SAFETY: valid pointers; what was made is freed.
    unsafe {
        if !ok(dgemma_context_create(MODEL.0, &params, &mut context)) {
            return false;
        }
        ok(dgemma_context_append(context, tokens.as_ptr(), 3));
        let mut good = ok(dgemma_block_begin(context, &options, &mut block));
        if good {
            good = ok(dgemma_block_step(block, &mut done)) && ok(dgemma_block_commit(block, commit));
            dgemma_block_free(block);
        }
        dgemma_context_free(context);
        good
    }
}

/// Inputs to begin with: one of each call.
pub fn seeds() -> Vec<Vec<u8>> {
    let words =
        |call: u8, numbers: &[u32]| [vec![call], numbers.iter().flat_map(|n| n.to_le_bytes()).collect()].concat();
    let [t_min, t_max, bound, confidence] = [0.4f32, 0.8, 0.1, 0.005].map(f32::to_bits);
    let sampler = [4, 1, t_min, t_max, bound, confidence, 2, bound];
    let generate = [&[1, 0, 4, 0, 0, 0, 7, 0, 0, 0], &sampler[..], &[5, bound, 6]].concat();
    let block = [&[0, 0, 7, 0, 0, 2, 0, 4, 0, 0], &sampler[..], &[4, 0, 0x0200_0100, 0, 5, 6, 7, 5]].concat();
    vec![
        joined(&[&words(0, &[1, 100]), br#"[{"role": "user", "content": "a"}]"#, b"[]"]),
        [words(1, &[3, 32]), b"a <bos>ab".to_vec()].concat(),
        words(2, &[1, 50, 2, 5, 4, 7]),
        [vec![3], b"general.architecture".to_vec()].concat(),
        words(4, &generate),
        words(5, &block),
    ]
}
