//! `cargo xtask install --prefix DIR [--destdir DIR]`: builds the release and puts it where programs look for it.
//!
//! ```text
//! include/   dgemma.h dgemma.hpp
//! lib/       libdgemma.so -> libdgemma.so.0 -> libdgemma.so.0.1.0, libdgemma.a
//! lib/       pkgconfig/dgemma.pc, cmake/dgemma/dgemma-config.cmake with its version file
//! bin/       dgemma dgemma-quantize
//! share/     doc/dgemma: licence, readme, changelog
//! ```

use crate::tools::{Outcome, root, run};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a static library of Rust's needs of the system: `rustc --print native-static-libs`, without libc and libgcc_s, which
/// compilers add themselves (and which must not be named when everything is linked statically).
const SYSTEM_LIBS: &str = "-lutil -lrt -lpthread -lm -ldl";

const USAGE: &str = "usage: cargo xtask install --prefix DIR [--destdir DIR]";

/// Reads the arguments, builds and installs.
pub fn command(args: impl Iterator<Item = String>) -> Outcome {
    let (mut prefix, mut destdir) = (None, None);
    // `--prefix=DIR` is `--prefix DIR`.
    let halves = |arg: String| match arg.split_once('=').filter(|_| arg.starts_with("--")) {
        Some((name, value)) => vec![name.to_owned(), value.to_owned()],
        None => vec![arg],
    };
    let mut args = args.flat_map(halves);
    while let Some(arg) = args.next() {
        let to = match arg.as_str() {
            "--prefix" => &mut prefix,
            "--destdir" => &mut destdir,
            _ => return Err(format!("{arg}: {USAGE}")),
        };
        *to = Some(PathBuf::from(args.next().ok_or(USAGE)?));
    }
    install(&prefix.ok_or(USAGE)?, destdir.as_deref())
}

/// `prefix` is where the files will be used, `destdir` (for packagers) what goes in front of it now.
pub fn install(prefix: &Path, destdir: Option<&Path>) -> Outcome {
    let prefix = std::path::absolute(prefix).map_err(|e| format!("{}: {e}", prefix.display()))?;
    let packages = ["--package", "dgemma", "--package", "dgemma-cli", "--package", "dgemma-quantize"];
    run(Command::new("cargo").args(["build", "--release", "--locked"]).args(packages))?;
    let to = match destdir {
        Some(destdir) => destdir.join(prefix.strip_prefix("/").unwrap_or(&prefix)),
        None => prefix.clone(),
    };
    files(&prefix, &to).map_err(|e| format!("installing to {}: {e}", to.display()))?;
    println!("installed {VERSION} to {}", to.display());
    Ok(())
}

/// Where cargo builds.
pub fn built() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    root().join(target).join("release")
}

fn files(prefix: &Path, to: &Path) -> std::io::Result<()> {
    let (major, built) = (VERSION.split('.').next().unwrap_or_default(), built());
    let full = format!("libdgemma.so.{VERSION}");
    for header in ["dgemma.h", "dgemma.hpp"] {
        copy(&root().join("include").join(header), &to.join("include").join(header), 0o644)?;
    }
    copy(&built.join("libdgemma.so"), &to.join("lib").join(&full), 0o755)?;
    strip(&to.join("lib").join(&full));
    copy(&built.join("libdgemma.a"), &to.join("lib/libdgemma.a"), 0o644)?;
    link(&full, &to.join(format!("lib/libdgemma.so.{major}")))?;
    link(&format!("libdgemma.so.{major}"), &to.join("lib/libdgemma.so"))?;
    for program in ["dgemma", "dgemma-quantize"] {
        copy(&built.join(program), &to.join("bin").join(program), 0o755)?;
        strip(&to.join("bin").join(program));
    }
    for text in ["LICENSE", "README.md", "CHANGELOG.md"] {
        copy(&root().join(text), &to.join("share/doc/dgemma").join(text), 0o644)?;
    }
    let filled = |template: &str| {
        let with_prefix = template.replace("@PREFIX@", &prefix.to_string_lossy());
        with_prefix.replace("@VERSION@", VERSION).replace("@MAJOR@", major)
    };
    let pc = filled(include_str!("../install/dgemma.pc.in")).replace("@SYSTEM_LIBS@", SYSTEM_LIBS);
    write(&to.join("lib/pkgconfig/dgemma.pc"), &pc)?;
    let cmake = to.join("lib/cmake/dgemma");
    let config = filled(include_str!("../install/dgemma-config.cmake.in"));
    write(&cmake.join("dgemma-config.cmake"), &config.replace("@SYSTEM_LIBS@", &SYSTEM_LIBS.replace(' ', ";")))?;
    write(
        &cmake.join("dgemma-config-version.cmake"),
        &filled(include_str!("../install/dgemma-config-version.cmake.in")),
    )
}

/// A new file in the place of an older one: programs that run keep what they have mapped.
fn fresh(to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    match fs::remove_file(to) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn copy(from: &Path, to: &Path, mode: u32) -> std::io::Result<()> {
    fresh(to)?;
    fs::copy(from, to).map_err(|e| std::io::Error::new(e.kind(), format!("{}: {e}", from.display())))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))
}

/// Takes debugging information away: 39 MB of the library become 6. binutils come with every C compiler; where they are
/// missing, or the file is for another machine, it stays as it is and works as well.
fn strip(program: &Path) {
    let done = Command::new("strip").arg("--strip-debug").arg(program).status();
    if !done.is_ok_and(|status| status.success()) {
        println!("{} keeps its debugging information: `strip` failed", program.display());
    }
}

fn link(name: &str, to: &Path) -> std::io::Result<()> {
    fresh(to)?;
    symlink(name, to)
}

fn write(to: &Path, text: &str) -> std::io::Result<()> {
    fresh(to)?;
    fs::write(to, text)
}
