//! The tokenizer against ids and texts that Hugging Face's produced, its limits, and what it makes of broken files.

#[path = "common/hf_tokenizer.rs"]
mod hf_tokenizer;

use dgemma::gguf::{Array, Metadata, Value as Gguf};
use dgemma::tokenizer::{Kind, StreamDecoder, Tokenizer, Vocabulary};
use hf_tokenizer::HfTokenizer;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

fn json(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(golden(path)).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// Protects equality with the reference. The vocabularies have merges that join newlines with letters, so a tokenizer
/// that cuts at newlines would fail here.
#[test]
fn equals_the_reference() {
    for name in ["tiny-a", "tiny-b", "tiny-k"] {
        let tokenizer = HfTokenizer::read(&golden(&format!("{name}/hf/tokenizer.json"))).build();
        let cases = json(&format!("{name}/tokenizer.json"));
        let cases = cases["cases"].as_array().unwrap();
        assert!(cases.len() > 20);
        for case in cases {
            let (text, expected) = (case["text"].as_str().unwrap(), ids(&case["ids"]));
            assert_eq!(tokenizer.encode(text, false, true).unwrap(), expected, "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&expected, true).unwrap(), case["decoded"], "{name}: {text:?}");
        }
    }
}

/// The same for the vocabulary of the files that llama.cpp's converter made. It stores `<unused0>` as a normal token, so
/// the text is spelled out there, and here; marked as a control token it gives the reference's ids.
#[test]
fn equals_the_peer() {
    let mut hf = HfTokenizer::read(&golden("peer-k256/hf/tokenizer.json"));
    let special = hf.build();
    *hf.kind_mut("<unused0>") = Kind::Normal;
    let normal = hf.build();
    for case in json("peer-k256/tokenizer-peer-vs-hf.json").as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        assert_eq!(special.encode(text, true, true).unwrap(), ids(&case["hf"]), "{text:?}");
        assert_eq!(normal.encode(text, true, true).unwrap(), ids(&case["peer"]), "{text:?}");
    }
}

#[test]
fn special_tokens_are_parsed_on_request() {
    let tokenizer = HfTokenizer::read(&golden("tiny-a/hf/tokenizer.json")).build();
    let (turn, channel) = (tokenizer.find("<|turn>").unwrap(), tokenizer.find("<|channel>").unwrap());
    let parsed = tokenizer.encode("<|turn><|channel>", false, true).unwrap();
    assert_eq!(parsed, [turn, channel]);
    let plain = tokenizer.encode("<|turn><|channel>", false, false).unwrap();
    assert!(!plain.contains(&turn) && plain.ends_with(&[channel]), "user-defined tokens are always parsed");
    assert_eq!(tokenizer.decode(&parsed, false).unwrap(), "<|channel>");
    assert_eq!(tokenizer.decode(&parsed, true).unwrap(), "<|turn><|channel>");
    assert_eq!(tokenizer.encode("", true, false).unwrap(), [2]);
    assert_eq!(tokenizer.eog(), [1, 5]);
    assert!(tokenizer.is_eog(5) && !tokenizer.is_eog(2));
}

/// Runs of byte tokens are text only as a whole, and a hidden token does not end one.
#[test]
fn byte_runs() {
    let tokenizer = HfTokenizer::read(&golden("tiny-a/hf/tokenizer.json")).build();
    let byte = |b: u8| tokenizer.find(&format!("<0x{b:02X}>")).unwrap();
    let a = tokenizer.find("a").unwrap();
    let cup = "☕".bytes().map(byte).collect::<Vec<_>>();
    let decode = |ids: &[u32], special| tokenizer.decode(ids, special).unwrap();
    assert_eq!(decode(&cup, false), "☕");
    assert_eq!(decode(&cup[..2], false), "\u{fffd}\u{fffd}");
    assert_eq!(decode(&[&cup[..], &[byte(0xff), a]].concat(), false), "\u{fffd}\u{fffd}\u{fffd}\u{fffd}a");
    let interrupted = [cup[0], cup[1], 2, cup[2]];
    assert_eq!(decode(&interrupted, false), "☕");
    assert_eq!(decode(&interrupted, true), "\u{fffd}\u{fffd}<bos>\u{fffd}");
}

/// Any ids, half of them byte tokens: pieces joined equal the whole, and both equal what the `tokenizers` crate's own
/// chain of decoders makes of the pieces.
#[test]
fn streaming_equals_decoding_at_once() {
    use tokenizers::{Decoder, decoders};
    let tokenizer = HfTokenizer::read(&golden("tiny-b/hf/tokenizer.json")).build();
    let bytes = tokenizer.find("<0x00>").unwrap();
    let replace = tokenizers::normalizers::Replace::new("\u{2581}", " ").unwrap();
    let chain = decoders::sequence::Sequence::new(vec![
        replace.into(),
        decoders::byte_fallback::ByteFallback::new().into(),
        decoders::fuse::Fuse::new().into(),
    ]);
    let mut numbers = random(1);
    let mut random = |n: u32| numbers(n as usize) as u32;
    for round in 0..2000 {
        let special = round % 2 == 0;
        let n = random(40);
        let ids: Vec<u32> = (0..n)
            .map(|_| match random(4) {
                0 => bytes + 0xc2 + random(0x32),
                1 => bytes + 0x80 + random(0x40),
                _ => random(tokenizer.vocab_size() as u32),
            })
            .collect();
        let mut decoder = StreamDecoder::new(special);
        let mut streamed: String = ids.iter().map(|id| decoder.push(&tokenizer, *id).unwrap()).collect();
        streamed += &decoder.finish();
        let hidden = |id: u32| !special && tokenizer.kind(id).unwrap() == Kind::Control;
        let pieces = ids.iter().filter(|id| !hidden(**id)).map(|id| tokenizer.piece(*id).unwrap().to_owned());
        let expected = chain.decode_chain(pieces.collect()).unwrap().concat();
        assert_eq!(streamed, expected, "{ids:?}");
        assert_eq!(tokenizer.decode(&ids, special).unwrap(), expected, "{ids:?}");
    }
}

/// The `tokenizer.ggml` keys of a file.
fn metadata(entries: Vec<(&str, Gguf)>) -> Metadata {
    let model = ("model", Gguf::String("gemma4".into()));
    let full = |(key, value)| (format!("tokenizer.ggml.{key}"), value);
    Metadata::new(Path::new("made-up.gguf"), [model].into_iter().chain(entries).map(full).collect()).unwrap()
}

/// A vocabulary of the real one's size: words of one to four letters, half of them with a leading space.
fn large() -> (Vec<String>, Vec<Kind>, Vec<String>) {
    const TOKENS: usize = 262_144;
    const MERGES: usize = 514_906;
    let mut tokens: Vec<String> = ["<pad>", "<eos>", "<bos>", "<unk>"].map(String::from).into();
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    tokens.push("\u{2581}".into());
    let letters = b'a'..=b'z';
    let mut words = vec![String::new()];
    let mut merges = Vec::with_capacity(MERGES);
    let join = |merges: &mut Vec<String>, left: &str, right: &str| {
        if merges.len() < MERGES {
            merges.push(format!("{left} {right}"));
        }
    };
    'fill: for length in 1..=4 {
        words = words.iter().flat_map(|w| letters.clone().map(move |l| format!("{w}{}", l as char))).collect();
        for word in &words {
            for space in ["", "\u{2581}"] {
                if tokens.len() == TOKENS {
                    break 'fill;
                }
                tokens.push(format!("{space}{word}"));
                if !space.is_empty() {
                    join(&mut merges, space, word);
                }
                for cut in 1..length {
                    join(&mut merges, &format!("{space}{}", &word[..cut]), &word[cut..]);
                }
            }
        }
    }
    assert_eq!((tokens.len(), merges.len()), (TOKENS, MERGES));
    let mut kinds = vec![Kind::Normal; TOKENS];
    kinds[..4].fill(Kind::Control);
    (tokens, kinds, merges)
}

/// Time that this thread computed: unlike time on the wall, what else the machine does is not in it.
fn computed() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to `time` only.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Runs in less than `bound`. The bounds are what a user would notice; a debug build only shows its own times.
fn within(what: &str, bound: Duration, run: impl Fn()) {
    let best = (0..3).map(|_| {
        let (wall, start) = (Instant::now(), computed());
        run();
        (computed() - start, wall.elapsed())
    });
    let (best, wall) = best.min().unwrap();
    println!("{what}: {best:.2?}, on the wall {wall:.2?}, bound {bound:?}");
    assert!(cfg!(debug_assertions) || best < bound, "{what}: {best:?}, bound {bound:?}");
}

#[test]
fn a_large_vocabulary_loads_in_time_and_long_texts_are_not_quadratic() {
    let (tokens, kinds, merges) = large();
    let metadata = metadata(vec![
        ("tokens", Gguf::Array(Array::String(tokens.iter().collect()))),
        ("token_type", Gguf::Array(Array::I32(kinds.iter().map(|kind| *kind as i32).collect()))),
        ("merges", Gguf::Array(Array::String(merges.iter().collect()))),
        ("unknown_token_id", Gguf::U32(3)),
    ]);
    within("load 262,144 tokens and 514,906 merges", Duration::from_millis(1500), || {
        Tokenizer::from_gguf(&metadata).unwrap();
    });
    let tokenizer = Tokenizer::from_gguf(&metadata).unwrap();
    let prose = "the quick brown fox jumps over the lazy dog \n".repeat(1 << 20 >> 5);
    let texts = [
        ("1.5 MB of prose", prose),
        ("300,000 times a", "a".repeat(300_000)),
        ("one word of 1 MB", "abcdefgh".repeat(1 << 17)),
    ];
    for (what, text) in texts {
        within(what, Duration::from_secs(4), || {
            tokenizer.encode(&text, false, true).unwrap();
        });
        let ids = tokenizer.encode(&text, false, true).unwrap();
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
    }
}

/// Every broken vocabulary is answered with one line that says what is wrong.
#[test]
fn broken_vocabularies() {
    let good = Vocabulary {
        tokens: vec!["<eos>", "a", "b", "ab"],
        kinds: vec![Kind::Control, Kind::Normal, Kind::Normal, Kind::Normal],
        merges: vec!["a b"],
        eos: Some(0),
        ..Default::default()
    };
    let message = |change: &dyn Fn(&mut Vocabulary)| {
        let mut vocabulary = good.clone();
        change(&mut vocabulary);
        let message = Tokenizer::new(&vocabulary).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(!message.contains('\n'), "{message}");
        message
    };
    assert_eq!(message(&|_| ()), "");
    assert_eq!(message(&|v| v.tokens.clear()), "tokenizer: the vocabulary is empty");
    assert_eq!(message(&|v| v.kinds.truncate(2)), "tokenizer: 4 tokens, but 2 token types");
    assert_eq!(message(&|v| v.eos = Some(4)), "tokenizer: the eos token is 4, but there are only 4 tokens");
    assert_eq!(message(&|v| v.kinds[1] = Kind::Byte), "tokenizer: token 1 is a byte token, but spells \"a\"");
    for (merge, missing) in [("a \n", "\n"), ("b a", "ba"), ("<eos> a", "<eos>a"), ("c a", "c")] {
        let what = format!("tokenizer: merge 1, {merge:?}, takes or makes {missing:?}, which is not a token");
        assert_eq!(message(&|v| v.merges.push(merge)), what);
    }
    assert_eq!(
        message(&|v| v.merges.push("ab")),
        "tokenizer: merge 1, \"ab\", is not two parts and a space between them"
    );
    let what = "tokenizer: merge 0, \"a b\", takes or makes \"b\", which is not a token";
    assert_eq!(message(&|v| v.tokens[2] = "a"), what);
}

#[test]
fn duplicates_keep_the_first_and_foreign_ids_are_refused() {
    let vocabulary = Vocabulary { tokens: vec!["a", "b", "a"], kinds: vec![Kind::Normal; 3], ..Default::default() };
    let tokenizer = Tokenizer::new(&vocabulary).unwrap();
    assert_eq!(tokenizer.encode("aba", true, true).unwrap(), [0, 1, 0]);
    assert_eq!(tokenizer.decode(&[2, 1], false).unwrap(), "ab");
    let error = tokenizer.decode(&[3], false).unwrap_err();
    assert_eq!(error.to_string(), "argument `token`: 3 is not one of the 3 tokens");
    // Neither byte tokens nor an unknown one: what cannot be expressed is left out, as the reference does.
    assert_eq!(tokenizer.encode("axb", false, true).unwrap(), [0, 1]);
}

/// Numbers below n.
fn random(mut state: u64) -> impl FnMut(usize) -> usize {
    move |n| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % n
    }
}

/// Random vocabularies, many of them broken, and random texts: an error or ids of the vocabulary, but no panic.
#[test]
fn random_vocabularies() {
    let mut random = random(7);
    let pieces = ["a", "b", "\u{2581}", "é", "\n", "<0x41>", "<0xC3>", "<0xA9>", "", "<s>", " ", "🦙"];
    let (mut good, mut bad) = (0, 0);
    for _ in 0..3000 {
        let mut text = |n| (0..random(n)).map(|_| pieces[random(pieces.len())]).collect::<String>();
        let own: Vec<String> = (0..20).map(|_| text(3)).collect();
        let merges: Vec<String> = (0..3).map(|_| text(2) + " " + &text(2)).collect();
        let input = text(30);
        let tokens: Vec<&str> = pieces.into_iter().chain(own.iter().map(String::as_str)).collect();
        let vocabulary = Vocabulary {
            kinds: (0..tokens.len()).map(|_| Kind::from_code([1, 1, 1, 1, 1, 1, 3, 4][random(8)]).unwrap()).collect(),
            merges: merges.iter().take(random(4)).map(String::as_str).collect(),
            unk: Some(random(tokens.len() + 1) as u32),
            tokens,
            ..Default::default()
        };
        let Ok(tokenizer) = Tokenizer::new(&vocabulary) else {
            bad += 1;
            continue;
        };
        good += 1;
        let ids = tokenizer.encode(&input, true, random(2) == 0).unwrap();
        assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()));
        tokenizer.decode(&ids, true).unwrap();
    }
    assert!(good > 500 && bad > 100, "{good} good, {bad} bad");
}

/// Ids of any text, for vocabularies of every kind, equal those of the `tokenizers` crate: some or all byte tokens, with and
/// without an unknown token, texts and merges that are there twice, merges in any order, characters that are no token.
#[test]
fn any_vocabulary_equals_the_tokenizers_crate() {
    use tokenizers::Model;
    use tokenizers::models::bpe::{BpeBuilder, Vocab};
    let mut random = random(3);
    let alphabet = ["a", "b", "c", "\u{2581}", "é", "\n", "🦙", "ø", "x", "y"];
    let (mut merged, mut unknown, mut bytes) = (0, 0, 0);
    for _ in 0..1500 {
        let mut tokens: Vec<String> = vec!["<unk>".into()];
        let known = 3 + random(alphabet.len() - 2); // of the others, if anything, the bytes
        tokens.extend(alphabet[..known].iter().map(|c| c.to_string()));
        let all = random(3);
        tokens.extend((0..=255).filter(|_| all == 0 || all == 1 && random(8) > 0).map(|b| format!("<0x{b:02X}>")));
        let mut merges: Vec<(String, String)> = Vec::new();
        for _ in 0..random(60) {
            // A token is unlikely to be long, so that most of them occur in a text.
            let mut side = || if random(3) > 0 { 1 + random(known) } else { random(tokens.len()) };
            let (left, right) = (tokens[side()].clone(), tokens[side()].clone());
            tokens.push(format!("{left}{right}"));
            merges.insert(random(merges.len() + 1), (left, right));
        }
        let unk = (random(2) == 0).then_some(0);
        let mut vocab = Vocab::default();
        for (id, text) in tokens.iter().enumerate() {
            vocab.entry(text.clone()).or_insert(id as u32);
        }
        let mut builder = BpeBuilder::new().cache_capacity(0).byte_fallback(true).fuse_unk(true);
        builder = builder.vocab_and_merges(vocab, merges.clone());
        if unk.is_some() {
            builder = builder.unk_token("<unk>".into());
        }
        let reference = builder.build().unwrap();
        let merges: Vec<String> = merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
        let tokenizer = Tokenizer::new(&Vocabulary {
            kinds: vec![Kind::Normal; tokens.len()],
            tokens: tokens.iter().map(String::as_str).collect(),
            merges: merges.iter().map(String::as_str).collect(),
            unk,
            ..Default::default()
        });
        let tokenizer = tokenizer.unwrap();
        for _ in 0..5 {
            let text: String = (0..random(60)).map(|_| alphabet[random(alphabet.len())]).collect();
            let expected = reference.tokenize(&text).unwrap();
            let expected: Vec<u32> = expected.iter().map(|token| token.id).collect();
            assert_eq!(tokenizer.encode(&text, false, false).unwrap(), expected, "{text:?}: {tokens:?}, {merges:?}");
            let count = |of: &dyn Fn(&str) -> bool| expected.iter().filter(|id| of(&tokens[**id as usize])).count();
            merged += count(&|text| text.chars().count() > 1 && !text.starts_with('<'));
            unknown += count(&|text| text == "<unk>");
            bytes += count(&|text| text.starts_with("<0x"));
        }
    }
    println!("{merged} merged, {unknown} unknown, {bytes} bytes");
    assert!(merged > 10_000 && unknown > 1_000 && bytes > 10_000);
}

/// What only a file can get wrong.
#[test]
fn broken_metadata() {
    let tokens = || ("tokens", Gguf::Array(Array::String(["a", "b"].iter().collect())));
    let kinds = |codes: &[i32]| ("token_type", Gguf::Array(Array::I32(codes.to_vec())));
    let merges = || ("merges", Gguf::Array(Array::String(Default::default())));
    let message = |entries| Tokenizer::from_gguf(&metadata(entries)).err().map(|e| e.to_string()).unwrap_or_default();
    assert_eq!(message(vec![tokens(), kinds(&[1, 1]), merges()]), "");
    assert_eq!(message(vec![]), "made-up.gguf: key `tokenizer.ggml.tokens`: is missing");
    assert_eq!(message(vec![tokens(), kinds(&[1, 1])]), "made-up.gguf: key `tokenizer.ggml.merges`: is missing");
    assert_eq!(
        message(vec![tokens(), kinds(&[1, 9]), merges()]),
        "made-up.gguf: key `tokenizer.ggml.token_type`: token 1 has type 9"
    );
    assert_eq!(message(vec![tokens(), kinds(&[1]), merges()]), "tokenizer: 2 tokens, but 1 token types");
    let other = [("tokenizer.ggml.model".to_owned(), Gguf::String("llama".into()))];
    let other = Metadata::new(Path::new("other.gguf"), other.into()).unwrap();
    let message = Tokenizer::from_gguf(&other).err().unwrap().to_string();
    assert_eq!(message, "other.gguf: key `tokenizer.ggml.model`: is \"llama\", expected \"gemma4\"");
}
