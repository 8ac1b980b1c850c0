//! All that a change must pass, and all that CI runs.

use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use crate::run::cargo;
use crate::{codegen, tidy, tools};

/// Seeds of the store's simulation in a whole test run; `cargo xtask sim` runs as many as one likes.
const SIM_SEEDS: &str = "50";

/// One named, timed step.
fn run_step(name: &str, step: impl FnOnce() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    eprintln!("== {name}");
    step()?;
    eprintln!("== {name}: {:.0}s", start.elapsed().as_secs_f32());
    Ok(())
}

/// Runs every step, or with a filter only the tests that match it.
pub fn run(args: &[String]) -> Result<()> {
    if args.is_empty() {
        run_step("format", || crate::run::run(cargo().args(["fmt", "--all", "--check"])))?;
        run_step("tidy", tidy::run)?;
        run_step("generated tables", || codegen::run(&["--check".to_owned()]))?;
    }
    let tools = tools::ensure_all()?;
    if args.is_empty() {
        run_step("clippy", || {
            crate::run::run(cargo().args([
                "clippy",
                "--workspace",
                "--all-targets",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ]))
        })?;
    }
    run_step("tests", || cargo_test(&tools, args))
}

fn cargo_test(tools: &tools::Tools, filter: &[String]) -> Result<()> {
    // Tests that need a real client skip with a word when these are unset; here they never do.
    let mut command: Command = cargo();
    command
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(filter)
        .env("KETCH_SIM_SEEDS", SIM_SEEDS)
        .env("KETCH_TEST_KUBECTL", &tools.kubectl)
        .env("KETCH_TEST_KAFKA_CLASSPATH", &tools.kafka_classpath)
        .env("KETCH_TEST_KAFKA_28_CLASSPATH", &tools.kafka_2_8_classpath)
        .env("KETCH_TEST_KAFKA_PYTHONPATH", &tools.kafka_clients.python_path)
        .env("KETCH_TEST_KAFKA_NODE", &tools.kafka_clients.node_modules)
        .env("KETCH_TEST_KAFKA_GO", &tools.kafka_clients.go)
        .env("KETCH_TEST_BUSYBOX_IMAGE", &tools.busybox_image)
        .env("KETCH_TEST_ORDERS_IMAGE", &tools.orders_image)
        .env("KETCH_TEST_ETCD", tools.etcd.programs.join("etcd"))
        .env("KETCH_TEST_ETCDCTL", tools.etcd.programs.join("etcdctl"))
        .env("KETCH_TEST_ETCDUTL", tools.etcd.programs.join("etcdutl"))
        .env("KETCH_TEST_ETCD_GO", tools.etcd.programs.join("etcd-client"))
        .env("KETCH_TEST_ETCD_RUST", &tools.etcd.rust_client)
        .env("KETCH_TEST_ETCD_PYTHONPATH", &tools.etcd.python_path)
        .env("KETCH_TEST_S3", &tools.s3)
        .env("KETCH_TEST_ETCDCTL_34", &tools.etcd.etcdctl_3_4);
    crate::run::run(&mut command)
}

/// `sim [--seeds N] [--from SEED]`: clusters of the store in simulated time, built so that seeds are fast.
pub fn sim(args: &[String]) -> Result<()> {
    let mut command: Command = cargo();
    command
        .args(["test", "--profile", "sim", "-p", "store", "--test", "sim", "--", "clusters", "--nocapture"])
        .env("KETCH_SIM_SEEDS", SIM_SEEDS);
    for pair in args.chunks(2) {
        match pair {
            [name, number] if name == "--seeds" => command.env("KETCH_SIM_SEEDS", number),
            [name, number] if name == "--from" => command.env("KETCH_SIM_FROM", number),
            _ => anyhow::bail!("sim takes --seeds N and --from SEED"),
        };
    }
    crate::run::run(&mut command)
}
