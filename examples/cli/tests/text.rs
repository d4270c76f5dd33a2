//! `tokenize` and `info`.

mod common;
use common::*;

#[test]
fn ids_come_out_in_both_forms_whatever_the_text_comes_from() {
    let model = micro();
    let file = scratch("hello.txt");
    std::fs::write(&file, "Hello world").unwrap();
    let file = file.display().to_string();
    let ids = "327 356 363 476 438 400 363 355\n";
    assert_eq!(good(&["tokenize", "-m", &model, "Hello world"]).out, ids);
    assert_eq!(good(&["tokenize", "-m", &model, "--file", &file]).out, ids);
    assert_eq!(run_with(&["tokenize", "-m", &model], "Hello world").out, ids);
    let json = good(&["tokenize", "-m", &model, "--bos", "--json", "Hello world"]).out;
    assert_eq!(json, "[2, 327, 356, 363, 476, 438, 400, 363, 355]\n");
    assert_eq!(good(&["tokenize", "-m", &model, "--json", ""]).out, "[]\n");
    assert_eq!(good(&["tokenize", "-m", &model, "<bos>"]).out, "2\n");
    assert_ne!(good(&["tokenize", "-m", &model, "--plain", "<bos>"]).out, "2\n");
}

#[test]
fn a_file_is_described() {
    let out = good(&["info", "-m", &micro()]).out;
    for line in [
        "tensors      75: 75 F32",
        "layers       3, 1 of them full",
        "experts      6 of 32, 3 chosen",
        "canvas       16 tokens",
        "vocabulary   512 tokens, 127 merges",
        "text ends    1 <eos>, 9 <|tool_response>, 16 <turn|>",
        "steps        48, temperature 0.8 to 0.4",
    ] {
        assert!(out.lines().any(|l| l == line), "{line:?} in\n{out}");
    }
}
