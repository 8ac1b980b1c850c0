//! `ketch image`: images for pods, imported from archives.

use std::path::Path;

use anyhow::{Context, Result};
use kubelet::images;

use crate::cli::{ImageArgs, ImageCommand};

/// Where images live below a data directory.
pub const IMAGES: &str = "node/images";

/// Runs one `ketch image` command.
///
/// # Errors
/// When an archive is refused or the directory cannot be used.
pub fn run(args: &ImageArgs) -> Result<()> {
    let dir = args.data_dir.resolve()?.join(IMAGES);
    match &args.command {
        ImageCommand::Import { archives } => archives.iter().try_for_each(|archive| import(&dir, archive)),
        ImageCommand::Ls => list(&dir),
    }
}

/// Imports one archive and prints the names it brought.
///
/// # Errors
/// When the archive is refused.
pub fn import(dir: &Path, archive: &Path) -> Result<()> {
    let spinner =
        indicatif::ProgressBar::new_spinner().with_message(format!("importing {}", archive.display()));
    spinner.enable_steady_tick(std::time::Duration::from_millis(100));
    let imported =
        images::import(dir, archive).with_context(|| format!("cannot import {}", archive.display()));
    spinner.finish_and_clear();
    for image in imported? {
        println!("imported {} ({})", image.names.join(", "), short(&image.id));
    }
    Ok(())
}

fn list(dir: &Path) -> Result<()> {
    let images = if dir.is_dir() { images::list(dir)? } else { Vec::new() };
    println!("{:<56} {:<14} {:>10}", "IMAGE", "ID", "SIZE");
    for image in images {
        for name in &image.names {
            println!("{name:<56} {:<14} {:>10}", short(&image.id), megabytes(image.size_bytes));
        }
    }
    Ok(())
}

fn short(id: &str) -> &str {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    digits.get(..12).unwrap_or(digits)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
