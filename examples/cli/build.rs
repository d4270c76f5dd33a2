//! Tells `builtin.rs` whether the model that is built into the program is there to be built in.

fn main() {
    const MODEL: &str = "../tiny/dgemma-tiny.gguf";
    println!("cargo::rerun-if-changed={MODEL}");
    println!("cargo::rustc-check-cfg=cfg(has_built_in_model)");
    if std::path::Path::new(MODEL).exists() {
        println!("cargo::rustc-cfg=has_built_in_model");
    }
}
