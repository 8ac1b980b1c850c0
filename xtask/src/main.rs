//! The project's automation: what a change must pass, and the generators, images, benches behind it.

mod bench;
mod codegen;
mod fuzz;
mod image;
mod referee;
mod run;
mod test;
mod tidy;
mod tools;

use anyhow::{Result, bail};

const HELP: &str = "\
cargo xtask COMMAND

  test [FILTER]      all that a change must pass; installs what it needs
  tidy               crate edges, pure manifests, forbidden dependencies, file sizes
  codegen WHAT       regenerate 'etcd', 'kafka', 'kube' or 'proto' tables; --check compares recorded checksums
  image [OUT]        build the example application and its OCI archive
  bench NAME         run Ketch and print the figures of a bench: broker, store [--quick], voyage
  referee [NAME]     build and run a foreign program against Ketch; without a name, list them
  sim [--seeds N]    the store's clusters in simulated time, 50 seeds unless told; --from SEED
  fuzz [NAME]        the fuzzers, 60 s each unless told; --seconds N
  tools              build and fetch the real clients the tests use
";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    match args.first().map(String::as_str) {
        Some("test") => test::run(rest),
        Some("sim") => test::sim(rest),
        Some("fuzz") => fuzz::run(rest),
        Some("tidy") => tidy::run(),
        Some("codegen") => codegen::run(rest),
        Some("image") => image::run_command(rest),
        Some("bench") => bench::run(rest),
        Some("referee") => referee::run(rest),
        Some("tools") => tools::ensure_all().map(|_| ()),
        Some("help" | "-h" | "--help") | None => {
            print!("{HELP}");
            Ok(())
        }
        Some(other) => bail!("unknown command '{other}'\n\n{HELP}"),
    }
}
