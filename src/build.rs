//! Sets the shared library's soname: programs linked today keep loading every 0.x library that says `libdgemma.so.0`.

fn main() {
    println!("cargo:rerun-if-changed=src/build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libdgemma.so.0");
    }
}
