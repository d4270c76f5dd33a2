//! Reads what matters for programs out of a header that cbindgen wrote. Whatever is not of the form known here is a failure,
//! so that nothing is overlooked.

/// A struct and the names of its fields, in order.
pub struct Struct {
    pub name: String,
    pub fields: Vec<String>,
}

pub fn current() -> String {
    let path = super::root().join("include/dgemma.h");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The header without its comments.
fn code(header: &str) -> String {
    let mut out = String::new();
    for (i, part) in header.split("/*").enumerate() {
        out += if i == 0 { part } else { part.split_once("*/").expect("a comment ends").1 };
    }
    out.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Structs that are not opaque.
pub fn structs(header: &str) -> Vec<Struct> {
    let code = code(header);
    let one = |text: &str| {
        let (name, rest) = text.split_once('{')?;
        let name = name.trim();
        if name.contains(';') {
            return None; // opaque: `typedef struct a a;`
        }
        let (body, _) = rest.split_once('}').expect("a struct ends");
        let fields = body.split(';').map(str::trim).filter(|f| !f.is_empty()).map(field).collect();
        Some(Struct { name: name.to_owned(), fields })
    };
    code.split("typedef struct ").skip(1).filter_map(one).collect()
}

/// The name in a field's declaration, e.g. of `char name[128]` or `const float *entropy`.
fn field(declaration: &str) -> String {
    assert!(!declaration.contains('('), "{declaration}: function pointers are to have a typedef");
    let declared = declaration.split('[').next().unwrap();
    declared.rsplit([' ', '*']).next().unwrap().to_owned()
}

/// `#define`s with a number, and enumerators.
pub fn constants(header: &str) -> Vec<String> {
    let code = code(header);
    let define = |line: &str| {
        let mut words = line.strip_prefix("#define ")?.split_whitespace();
        let name = words.next()?;
        words.next().filter(|value| value.parse::<u64>().is_ok()).map(|_| name.to_owned())
    };
    let enumerator = |line: &str| {
        let (name, value) = line.trim().split_once(" = ")?;
        value.trim_end_matches(',').parse::<i64>().ok().map(|_| name.to_owned())
    };
    code.lines().filter_map(|line| define(line).or_else(|| enumerator(line))).collect()
}

/// Declarations of functions, each as one line, without `DGEMMA_API` and with the semicolon.
pub fn functions(header: &str) -> Vec<String> {
    let code = code(header);
    let declared = code.split("DGEMMA_API").filter_map(|text| text.split_once(';')).map(|(d, _)| d);
    let joined = declared.map(|d| d.split_whitespace().collect::<Vec<_>>().join(" ") + ";");
    joined.filter(|d| d.contains("(") && !d.contains('#') && !d.starts_with("__attribute__")).collect()
}

/// The function's name.
pub fn name(declaration: &str) -> &str {
    declaration.split('(').next().and_then(|head| head.rsplit([' ', '*']).next()).unwrap_or_default()
}
