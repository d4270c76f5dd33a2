//! What the chores share: running programs, and getting those that are missing.

use std::path::Path;
use std::process::{Command, Stdio};

/// Nothing, or what went wrong in a line.
pub type Outcome = Result<(), String>;

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().and_then(Path::parent).expect("xtask lies in tests/xtask")
}

/// Runs a program in the repository.
pub fn run(command: &mut Command) -> Outcome {
    command.current_dir(root());
    let shown = format!("{command:?}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{shown}: {status}")),
        Err(e) => Err(format!("{shown}: {e}")),
    }
}

/// Runs cargo with a component that a minimal toolchain may lack.
pub fn cargo(args: &[&str], component: &str) -> Outcome {
    if !Command::new("cargo").args([args[0], "--version"]).output().is_ok_and(|o| o.status.success()) {
        run(Command::new("rustup").args(["component", "add", component]))?;
    }
    run(Command::new("cargo").args(args))
}

/// Installs the system's `packages` unless `program` is there already.
pub fn need(program: &str, packages: &[&str]) -> Outcome {
    if is_there(program) {
        return Ok(());
    }
    println!("{program} is missing: installing {}", packages.join(", "));
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        command
    };
    run(apt().args(["update", "--quiet"]))?;
    run(apt().args(["install", "--quiet", "--yes", "--no-install-recommends"]).args(packages))?;
    if is_there(program) { Ok(()) } else { Err(format!("{program} is missing, also after installing {packages:?}")) }
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
