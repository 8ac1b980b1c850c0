//! `cargo xtask codegen kafka-configs [--check]`: the facts of every configuration key, printed by the pinned jars.
//!
//! ```text
//! kafka_classpath() + tests/java/wire/ConfigTable.java --java--> crates/broker/src/config/kafka-4.3.tsv
//! ```
//! The first line of `kafka-4.3.inputs` is the checksum of the table, the second that of the program and of the pins.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::run::{output, root};
use crate::tools::{digest, kafka_classpath};

fn file(name: &str) -> PathBuf {
    root().join("crates/broker/src/config").join(name)
}

/// Prints the table anew.
pub fn generate() -> Result<()> {
    let program = root().join("tests/java/wire/ConfigTable.java");
    let table = output(Command::new("java").arg("-cp").arg(kafka_classpath()?).arg(program))?;
    fs::write(file("kafka-4.3.tsv"), table)?;
    fs::write(file("kafka-4.3.inputs"), inputs()?)?;
    Ok(())
}

/// Compares table and program with what was recorded when the table was printed.
pub fn check() -> Result<()> {
    ensure!(
        fs::read_to_string(file("kafka-4.3.inputs"))? == inputs()?,
        "the table of configurations is not what its program printed; run `cargo xtask codegen kafka-configs`"
    );
    Ok(())
}

fn inputs() -> Result<String> {
    let mut sources = fs::read(root().join("tests/java/wire/ConfigTable.java"))?;
    sources.extend(fs::read(root().join("tests/java/pom.xml"))?);
    Ok(format!(
        "{}  kafka-4.3.tsv\n{}  inputs\n",
        digest(&fs::read(file("kafka-4.3.tsv"))?),
        digest(&sources)
    ))
}
