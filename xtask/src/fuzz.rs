//! The fuzzers under `fuzz/`, built and run with the toolchain that builds everything else.
//!
//! What cargo-fuzz asks a nightly compiler for is a sanitizer of addresses; what guides the fuzzer (counters, compared
//! values) are passes of LLVM that every compiler has. Memory is checked by the language here, so the guide is enough.
//!
//! The corpus of each target grows under the cache, between runs; it begins with the golden bytes of the tests. What fails
//! is left under `fuzz/artifacts/NAME`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{cache_dir, cargo, root, run as run_command};

/// What guides libFuzzer; cargo-fuzz's flags without its sanitizer.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Clink-dead-code -Cdebug-assertions -Ccodegen-units=4";
/// Apart from what is built for this machine, such as build scripts, which must not be instrumented.
fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

const SECONDS: u64 = 60;
/// One input takes no longer than so many seconds, and no more memory than so many MiB.
const INPUT_SECONDS: u64 = 10;
const INPUT_MIB: u64 = 1024;

/// `fuzz [NAME...] [--seconds N]`: all targets, or those named, for so long each.
pub fn run(args: &[String]) -> Result<()> {
    let (mut names, mut seconds) = (Vec::new(), SECONDS);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => seconds = args.next().and_then(|n| n.parse().ok()).context("--seconds takes N")?,
            name => names.push(name.to_owned()),
        }
    }
    let known = targets()?;
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        bail!("no fuzzer is called '{unknown}'; there are: {}", known.join(", "));
    }
    let names = if names.is_empty() { known } else { names };
    build()?;
    let failed: Vec<&str> =
        names.iter().filter(|name| fuzz(name, seconds).is_err()).map(String::as_str).collect();
    if !failed.is_empty() {
        bail!("failed: {}; what they failed on is under fuzz/artifacts", failed.join(", "));
    }
    Ok(())
}

/// The targets, by their files.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root().join("fuzz/fuzz_targets"))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort_unstable();
    Ok(names)
}

fn build() -> Result<()> {
    let mut command = cargo();
    command
        .args(["build", "--release", "--target", &target(), "--manifest-path", "fuzz/Cargo.toml"])
        .arg("--target-dir")
        .arg(cache_dir()?.join("fuzz-target"))
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_PROFILE_RELEASE_LTO", "off");
    run_command(&mut command)
}

fn fuzz(name: &str, seconds: u64) -> Result<()> {
    let program = cache_dir()?.join("fuzz-target").join(target()).join("release").join(name);
    let corpus = cache_dir()?.join("fuzz-corpus").join(name);
    let artifacts = root().join("fuzz/artifacts").join(name);
    for dir in [&corpus, &artifacts] {
        std::fs::create_dir_all(dir)?;
    }
    seed(name, &corpus)?;
    let mut command = Command::new(program);
    command
        .arg(&corpus)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_SECONDS}"))
        .arg(format!("-rss_limit_mb={INPUT_MIB}"))
        .args(["-max_len=8192", "-print_final_stats=1", "-detect_leaks=0"])
        .arg(format!("-artifact_prefix={}/", artifacts.display()));
    run_command(&mut command)
}

/// Puts what a target begins with into its corpus. Seeds need not be right, only close.
fn seed(name: &str, corpus: &Path) -> Result<()> {
    let golden =
        |file: &str| std::fs::read_to_string(root().join("crates/kafka-wire/tests/golden").join(file));
    let batches = || -> Result<Vec<Vec<u8>>> { Ok(golden("batches.txt")?.lines().map(last_hex).collect()) };
    let seeds: Vec<Vec<u8>> = match name {
        "batches" => batches()?,
        // How to open, then one file: which, with the bit that asks for right checksums, length, content.
        "partition" => batches()?.iter().map(|batch| [&[2][..], &file(0x80, batch)].concat()).collect(),
        "metadata_log" => batches()?.iter().map(|batch| file(0x80, batch)).collect(),
        "messages" => {
            let text = golden("messages.txt")?;
            let lines = (0_u32..).zip(text.lines());
            lines.map(|(n, line)| [&[n as u8, (n >> 8) as u8][..], &last_hex(line)].concat()).collect()
        }
        _ => Vec::new(),
    };
    for (n, bytes) in seeds.iter().enumerate() {
        std::fs::write(corpus.join(format!("golden-{n:04}")), bytes)?;
    }
    Ok(())
}

/// A file as the fuzzers of directories take it.
fn file(which: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    [&[which][..], &length.to_be_bytes(), content].concat()
}

/// The bytes that the last word of a line stands for.
fn last_hex(line: &str) -> Vec<u8> {
    let word = line.rsplit(' ').next().unwrap_or_default().as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
    word.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
