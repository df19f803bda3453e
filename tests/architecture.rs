//! The rules of the house, held over every file under `src`. Each rule is a function over (path, text) and has a test
//! with a planted breach.

use std::path::{Path, PathBuf};
use std::{fs, iter};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Which room may use which. [`FREE`] is free to all. If the table hurts, change it with a reason.
const TABLE: &[(&str, &[&str])] = &[
    ("kernels", &[]),
    ("audio", &[]),
    ("spectrogram", &[]),
    ("tokens", &[]),
    ("transcript", &[]),
    ("network", &[]),
    ("layers", &["network", "kernels"]),
    ("inference", &["network", "kernels"]),
    ("ctc", &["tokens", "transcript"]),
    ("endpoint", &["transcript"]),
    ("captions", &["transcript"]),
    ("model", &["spectrogram", "network", "tokens", "ctc"]),
    ("recognizer", &["audio", "spectrogram", "inference", "ctc", "endpoint", "tokens", "transcript", "model"]),
    ("dataset", &["audio", "spectrogram", "tokens"]),
    ("evaluate", &["tokens", "transcript"]),
    ("train", &["dataset", "spectrogram", "network", "layers", "ctc", "tokens", "model", "evaluate"]),
    ("quantize", &["network", "layers", "inference"]),
    ("visualize", &["spectrogram", "network", "layers", "model", "tokens", "transcript", "ctc"]),
    ("server", &["recognizer", "transcript"]),
];

/// What every room may use: the re-exports of `error`, and five modules that know no room. `random`, `atomic_file` and
/// `lines` are among them because dataset, evaluate, train and ctc need them and may not use each other.
const FREE: &[&str] = &["error", "time", "random", "atomic_file", "lines", "Error", "Result"];

/// The door: part of the binary, uses the library as `dfcnn::…`, is used by nobody but `main.rs`.
const DOOR: &str = "cli";

/// Where `unsafe` may be written.
const UNSAFE_ROOMS: &[&str] = &["kernels"];

const FORBIDDEN_NAMES: &[&str] = &["utils", "util", "common", "base", "manager", "helpers", "helper", "misc"];

const MOST_LINES: usize = 600;

/// Looks at one file and lists what is wrong with it.
type Rule = fn(&Path, &str) -> Vec<String>;

const RULES: &[Rule] = &[rooms_use_only_their_list, unsafe_stays_in_its_room, unsafe_is_justified, short, well_named];

#[test]
fn every_file_keeps_every_rule() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = rust_files(&package.join("src"));
    assert!(files.len() > 5, "found only {files:?}");
    let mut breaches = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let path = file.strip_prefix(package).unwrap();
        for rule in RULES {
            breaches.extend(rule(path, &text).into_iter().map(|breach| format!("{}: {breach}", path.display())));
        }
    }
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

// ---- the rules

fn rooms_use_only_their_list(path: &Path, text: &str) -> Vec<String> {
    let module = module_path(path);
    let Some(room) = module.first().map(String::as_str) else {
        return Vec::new(); // lib.rs and main.rs name everything
    };
    let allowed: &[&str] = match TABLE.iter().find(|(name, _)| *name == room) {
        Some((_, allowed)) => allowed,
        None if room == DOOR || FREE.contains(&room) => &[],
        None => return vec![format!("the room `{room}` is not in the table of tests/architecture.rs")],
    };
    let mut used = Vec::new();
    collect_used(&tokens(text).into_iter().collect::<Vec<_>>(), module.len(), room != DOOR, &mut used);
    used.retain(|name| name != room && !FREE.contains(&name.as_str()) && !allowed.contains(&name.as_str()));
    used.sort();
    used.dedup();
    used.into_iter().map(|name| format!("`{room}` may not use `{name}`")).collect()
}

fn unsafe_stays_in_its_room(path: &Path, text: &str) -> Vec<String> {
    let room = module_path(path).into_iter().next().unwrap_or_default();
    if UNSAFE_ROOMS.contains(&room.as_str()) {
        return Vec::new();
    }
    unsafe_lines(tokens(text), false)
        .into_iter()
        .map(|line| format!("line {line}: `unsafe` outside kernels/"))
        .collect()
}

/// Every `unsafe` block and `unsafe impl` has `// SAFETY:` above its statement.
fn unsafe_is_justified(_: &Path, text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let justified = |line: usize| {
        let statement = iter::once(lines[line - 1]).chain(
            lines[..line - 1]
                .iter()
                .rev()
                .copied()
                .take_while(|line| line.starts_with("//") || !line.ends_with([';', '{', '}'])),
        );
        statement.into_iter().any(|line| line.contains("// SAFETY:"))
    };
    let breaches = unsafe_lines(tokens(text), true).into_iter().filter(|line| !justified(*line));
    breaches.map(|line| format!("line {line}: `unsafe` without a `// SAFETY:` line")).collect()
}

fn short(_: &Path, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines > MOST_LINES { vec![format!("{lines} lines, at most {MOST_LINES}")] } else { Vec::new() }
}

fn well_named(path: &Path, _: &str) -> Vec<String> {
    let names = module_path(path);
    let breaches = names.iter().filter(|name| FORBIDDEN_NAMES.contains(&name.as_str()));
    breaches.map(|name| format!("`{name}` says nothing; name it after what it does")).collect()
}

// ---- how they read a file

/// `src/ctc/greedy.rs` is `ctc::greedy`; `src/lib.rs` and `src/main.rs` are the root.
fn module_path(path: &Path) -> Vec<String> {
    let path = path.strip_prefix("src").unwrap().with_extension("");
    let mut names: Vec<String> = path.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
    if names.last().is_some_and(|name| ["mod", "lib", "main"].contains(&name.as_str())) {
        names.pop();
    }
    names
}

fn tokens(text: &str) -> TokenStream {
    text.parse().unwrap_or_else(|error| panic!("not Rust: {error}"))
}

/// Adds the names used from the root of the crate by code `depth` modules below it; in the library, `dfcnn` too.
fn collect_used(tokens: &[TokenTree], depth: usize, in_library: bool, used: &mut Vec<String>) {
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => {
                let inline_module =
                    matches!(&tokens[..at], [.., TokenTree::Ident(keyword), TokenTree::Ident(_)] if keyword == "mod");
                let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                collect_used(&inside, depth + usize::from(inline_module), in_library, used);
            }
            TokenTree::Ident(start) if !follows_path_separator(tokens, at) => {
                let mut rest = &tokens[at..];
                let mut climbed = 0;
                while let Some(after) = after_segment(rest, "super") {
                    (rest, climbed) = (after, climbed + 1);
                }
                if let Some(after) = after_segment(rest, "crate") {
                    (rest, climbed) = (after, depth);
                } else if in_library && start == "dfcnn" && after_segment(rest, "dfcnn").is_some() {
                    used.push("dfcnn".to_owned());
                }
                if climbed > 0 && climbed == depth {
                    used.extend(first_names(rest));
                }
            }
            _ => {}
        }
    }
}

fn is_colon(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == ':')
}

fn follows_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    at >= 3
        && is_colon(tokens.get(at - 1))
        && is_colon(tokens.get(at - 2))
        && matches!(tokens[at - 3], TokenTree::Ident(_))
}

/// What follows `name ::` if the tokens begin so.
fn after_segment<'a>(tokens: &'a [TokenTree], name: &str) -> Option<&'a [TokenTree]> {
    let found = matches!(tokens.first(), Some(TokenTree::Ident(ident)) if ident == name);
    (found && is_colon(tokens.get(1)) && is_colon(tokens.get(2))).then(|| &tokens[3..])
}

/// The first names of what stands after `crate::`: one, or those of a group `{a::x, b}`.
fn first_names(tokens: &[TokenTree]) -> Vec<String> {
    match tokens.first() {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
            let inside: Vec<TokenTree> = group.stream().into_iter().collect();
            let items = inside.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ','));
            items.flat_map(first_names).collect()
        }
        Some(token @ TokenTree::Ident(_)) => vec![token.to_string()],
        _ => Vec::new(),
    }
}

/// The lines with an `unsafe`; when `justifiable`, only those of blocks and `impl`s.
fn unsafe_lines(tokens: TokenStream, justifiable: bool) -> Vec<usize> {
    let mut lines = Vec::new();
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => lines.extend(unsafe_lines(group.stream(), justifiable)),
            TokenTree::Ident(ident) if ident == "unsafe" => {
                let justified_by_comment = match tokens.get(at + 1) {
                    Some(TokenTree::Group(group)) => group.delimiter() == Delimiter::Brace,
                    Some(TokenTree::Ident(next)) => next == "impl",
                    _ => false,
                };
                if justified_by_comment || !justifiable {
                    lines.push(ident.span().start().line);
                }
            }
            _ => {}
        }
    }
    lines
}

// ---- planted breaches

fn breaches(rule: Rule, path: &str, text: &str) -> usize {
    rule(Path::new(path), text).len()
}

#[test]
fn a_forbidden_use_is_caught() {
    for text in [
        "use crate::recognizer::Recognizer;",
        "use crate::{error::Error, ctc::{self, Greedy}};",
        "fn f() { let x = vec![crate::model::Model::embedded()]; }",
        "use super::audio;",
        "pub(crate) use super::{audio::AudioStream};",
        "mod tests { use super::super::audio::AudioStream; }",
        "use dfcnn::time::FrameClock;",
        "use crate::SomeReexport;",
    ] {
        assert_eq!(breaches(rooms_use_only_their_list, "src/tokens.rs", text), 1, "{text}");
    }
    assert_eq!(breaches(rooms_use_only_their_list, "src/ctc/beam.rs", "use super::super::model::Model;"), 1);
    assert_eq!(breaches(rooms_use_only_their_list, "src/audio/file.rs", "use crate::{spectrogram, ctc};"), 2);
    assert_eq!(breaches(rooms_use_only_their_list, "src/server.rs", "use crate::cli::Cli;"), 1);
    assert_eq!(breaches(rooms_use_only_their_list, "src/cellar.rs", ""), 1);
}

#[test]
fn an_allowed_use_passes() {
    for (path, text) in [
        (
            "src/ctc/greedy.rs",
            "use crate::{error::Result, time, tokens::Tokens}; use super::Decoder; use crate::Error;",
        ),
        ("src/ctc/greedy.rs", "/// Unlike [`crate::model`]. \n fn f() { \"crate::model::x\"; } // crate::model::y"),
        ("src/tokens.rs", "mod tests { use super::*; use super::model; }"),
        ("src/tokens.rs", "pub(crate) struct A; pub(super) struct B; fn f() { other::crate_::x() }"),
        ("src/cli/transcribe.rs", "use dfcnn::recognizer::Recognizer; use super::output; use crate::cli::progress;"),
        ("src/main.rs", "mod cli; use dfcnn::Error;"),
    ] {
        assert_eq!(breaches(rooms_use_only_their_list, path, text), 0, "{text}");
    }
}

#[test]
fn unsafe_outside_its_room_is_caught() {
    let text = "fn f() {\n    // SAFETY: planted.\n    unsafe { g() }\n}\nunsafe fn g() {}";
    assert_eq!(breaches(unsafe_stays_in_its_room, "src/audio/file.rs", text), 2);
    assert_eq!(breaches(unsafe_stays_in_its_room, "src/kernels/avx2.rs", text), 0);
    assert_eq!(breaches(unsafe_stays_in_its_room, "src/audio/file.rs", "// no unsafe here\n"), 0);
}

#[test]
fn unsafe_without_a_reason_is_caught() {
    let path = "src/kernels/avx2.rs";
    for text in [
        "fn f() {\n    unsafe { g() }\n}",
        "fn f() {\n    // SAFETY: only for x.\n    let x = unsafe { g() };\n    unsafe { h() }\n}",
        "unsafe impl Send for A {}",
    ] {
        assert_eq!(breaches(unsafe_is_justified, path, text), 1, "{text}");
    }
    for text in [
        "fn f() {\n    // SAFETY: checked; see\n    // above.\n    let x =\n        unsafe { g() };\n}",
        "fn f() {\n    unsafe { g() } // SAFETY: checked.\n}",
        "/// # Safety\n/// AVX2.\nunsafe fn g() {}",
    ] {
        assert_eq!(breaches(unsafe_is_justified, path, text), 0, "{text}");
    }
}

#[test]
fn a_long_file_is_caught() {
    assert_eq!(breaches(short, "src/tokens.rs", &"\n".repeat(MOST_LINES + 1)), 1);
    assert_eq!(breaches(short, "src/tokens.rs", &"\n".repeat(MOST_LINES)), 0);
}

#[test]
fn an_empty_name_is_caught() {
    assert_eq!(breaches(well_named, "src/audio/utils.rs", ""), 1);
    assert_eq!(breaches(well_named, "src/helpers/mod.rs", ""), 1);
    assert_eq!(breaches(well_named, "src/audio/resample.rs", ""), 0);
}
