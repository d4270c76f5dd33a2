//! `include/dgemma.h` is what cbindgen makes of src/capi today. `DGEMMA_WRITE_HEADER=1` (or `cargo xtask header`) writes it.

use std::path::Path;

#[test]
fn the_committed_header_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    // In the order in which a reader wants them.
    let files = [
        "status",
        "last_error",
        "library",
        "log",
        "model",
        "vocabulary",
        "detokenizer",
        "chat",
        "sampler",
        "step",
        "noise",
        "params",
        "generate",
        "context",
        "keep",
        "canceller",
        "block",
    ];
    for file in files {
        builder = builder.with_src(root.join(format!("src/capi/{file}.rs")));
    }
    let mut bytes = Vec::new();
    builder.generate().unwrap().write(&mut bytes);
    let generated = String::from_utf8(bytes).unwrap();
    let path = root.join("include/dgemma.h");
    if std::env::var_os("DGEMMA_WRITE_HEADER").is_some() {
        std::fs::write(&path, &generated).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "include/dgemma.h differs from src/capi: run `cargo xtask header` and commit it");
}
