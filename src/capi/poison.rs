//! Panics injected below the C API: each becomes DGEMMA_STATUS_INTERNAL with its text, spoils the objects of its call and no
//! others, and what it spoiled can be freed.

use super::*;
use crate::error::{Error, Result};
use std::ffi::{CStr, CString};
use std::ptr::{null, null_mut};

const INTERNAL: dgemma_status = dgemma_status::Internal;
const OK: dgemma_status = dgemma_status::Ok;

fn message() -> String {
    // SAFETY: valid until the next call on this thread.
    unsafe { CStr::from_ptr(dgemma_last_error()) }.to_str().unwrap().to_owned()
}

fn model() -> *mut dgemma_model {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/tiny/dgemma-tiny.gguf");
    let (path, mut model) = (CString::new(path).unwrap(), null_mut());
    // SAFETY: all pointers are good.
    assert_eq!(unsafe { dgemma_model_load(path.as_ptr(), null(), &mut model) }, OK, "{}", message());
    model
}

fn context(model: *const dgemma_model) -> *mut dgemma_context {
    let mut context = null_mut();
    // SAFETY: all pointers are good.
    unsafe {
        assert_eq!(dgemma_context_create(model, null(), &mut context), OK, "{}", message());
        assert_eq!(dgemma_context_append(context, [2, 4, 5].as_ptr(), 3), OK, "{}", message());
    }
    context
}

/// A panic within a call on the context.
fn spoil(context: *const dgemma_context) {
    // SAFETY: the pointer is good.
    let shared = unsafe { super::context::shared(context) }.unwrap();
    let panics = |_: &mut crate::engine::Context| -> Result<()> { panic!("layer {} is gone", 3) };
    let error = guard::guard(|| shared.run(panics));
    assert_eq!((error, message().as_str()), (INTERNAL, "internal error: panic: layer 3 is gone"));
}

#[test]
fn a_panic_spoils_its_context_and_nothing_else() {
    let model = model();
    let (spoiled, other, mut block) = (context(model), context(model), null_mut());
    // SAFETY: all pointers are good; freed once, at the end.
    unsafe {
        assert_eq!(dgemma_block_begin(spoiled, null(), &mut block), OK, "{}", message());
        spoil(spoiled);
        let text = "internal error: the context failed before; free it";
        let mut copy = null_mut();
        for status in [
            dgemma_context_append(spoiled, [2].as_ptr(), 1),
            dgemma_context_reset(spoiled),
            dgemma_context_prefill(spoiled, None, null_mut()),
            dgemma_context_generate(spoiled, null(), null_mut()),
            dgemma_context_clone(spoiled, &mut copy),
            dgemma_block_step(block, null_mut()),
            dgemma_block_commit(block, 0),
        ] {
            assert_eq!((status, message().as_str()), (INTERNAL, text));
        }
        assert!(copy.is_null());
        // Its failure can be read, its canceller made; the model and the other context do not know.
        let mut buffer = [0; 256];
        assert_eq!(dgemma_context_last_error(spoiled, buffer.as_mut_ptr(), buffer.len(), null_mut()), OK);
        assert_eq!(CStr::from_ptr(buffer.as_ptr()).to_str().unwrap(), text);
        assert_eq!(dgemma_context_generate(other, null(), null_mut()), OK, "{}", message());
        assert_eq!(dgemma_context_create(model, null(), &mut copy), OK, "{}", message());
        dgemma_context_free(copy);
        dgemma_block_free(block);
        dgemma_context_free(spoiled);
        dgemma_context_free(other);
        dgemma_model_free(model);
    }
}

/// A panic of a pool's thread comes back through the call that waits for it, and the pool goes on.
#[test]
fn a_panic_on_a_thread_of_the_pool_comes_back() {
    use crate::backend::{Backend, cpu::Cpu};
    let cpu = Cpu::new(2, crate::cpu_level::CpuLevel::best()).unwrap();
    let broken = || -> Result<()> { cpu.run(|| rayon::join(|| (), || panic!("tile {}", 5)).1) };
    assert_eq!((guard::guard(broken), message().as_str()), (INTERNAL, "internal error: panic: tile 5"));
    assert_eq!(
        guard::guard(|| cpu.run(|| if rayon::join(|| 1, || 2) == (1, 2) { Ok(()) } else { Err(Error::Cancelled) })),
        OK
    );
}

/// A detokenizer, whose lock is its own.
#[test]
fn a_panic_spoils_its_detokenizer() {
    let (model, mut detokenizer) = (model(), null_mut());
    // SAFETY: all pointers are good; freed once, at the end.
    unsafe {
        assert_eq!(dgemma_detokenizer_create(model, 0, &mut detokenizer), OK);
        let status = guard::guard(|| {
            let _held = super::detokenizer::lock(detokenizer)?;
            panic!("no such token")
        });
        assert_eq!((status, message().as_str()), (INTERNAL, "internal error: panic: no such token"));
        let mut buffer = [0; 16];
        let again = dgemma_detokenizer_finish(detokenizer, buffer.as_mut_ptr(), buffer.len(), null_mut());
        assert_eq!((again, message().as_str()), (INTERNAL, "internal error: the detokenizer failed before; free it"));
        dgemma_detokenizer_free(detokenizer);
        dgemma_model_free(model);
    }
}
