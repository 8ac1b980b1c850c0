//! `ketch snapshot`: the store saved to a file, and stores made from files, in etcd's form.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use store::snapshot::{RestoreOptions, Restored, SnapshotStatus};

use crate::cli::DataDir;
use crate::files::Lock;
use crate::reach::ReachArgs;
use crate::table::{human, table};

/// Flags of `ketch snapshot`.
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    #[command(flatten)]
    data_dir: DataDir,
    #[command(subcommand)]
    command: SnapshotCommand,
}

#[derive(Debug, Subcommand)]
enum SnapshotCommand {
    /// Save the store of a running Ketch or etcd to a file that Ketch and etcdutl restore
    Save(SaveArgs),
    /// Make the store of a new cluster from a snapshot of Ketch or etcd, or from what one member has left
    Restore(RestoreArgs),
    /// Say what is in a snapshot
    Status {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// How to print it
        #[arg(short, long, value_name = "FORM", default_value = "simple")]
        write_out: WriteOut,
    },
}

#[derive(Debug, Args)]
struct SaveArgs {
    /// The file to write; replaced when it is there
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    reach: ReachArgs,
}

#[derive(Debug, Args)]
struct RestoreArgs {
    /// The snapshot; also s3://bucket/prefix/name
    #[arg(value_name = "FILE", required_unless_present = "from_data_dir")]
    file: Option<PathBuf>,
    /// Take the latest state of a member that is not running from its data directory, where too few members are left
    #[arg(long, value_name = "DIR", conflicts_with_all = ["file", "skip_hash_check", "bump_revision", "mark_compacted"])]
    from_data_dir: Option<PathBuf>,
    /// Do not compare the file with its hash (a file copied out of etcd's data directory has none)
    #[arg(long)]
    skip_hash_check: bool,
    /// How much to raise the revision, so that it passes what clients have seen since the snapshot
    #[arg(long, value_name = "N", default_value_t = 0, requires = "mark_compacted")]
    bump_revision: u64,
    /// Refuse reads and watches from before the restore; goes with --bump-revision
    #[arg(long, requires = "bump_revision")]
    mark_compacted: bool,
}

/// etcdutl's forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WriteOut {
    Simple,
    Table,
    Json,
    Fields,
}

/// Runs one `ketch snapshot` command.
///
/// # Errors
/// When the server, the file or the directory refuses; the text says why.
pub fn run(args: &SnapshotArgs) -> Result<()> {
    match &args.command {
        SnapshotCommand::Save(save) => run_save(&args.data_dir, save),
        SnapshotCommand::Restore(restore) => run_restore(&args.data_dir, restore),
        SnapshotCommand::Status { file, write_out } => {
            let status = store::snapshot::status(file).with_context(|| file.display().to_string())?;
            println!("{}", shown(&status, *write_out));
            Ok(())
        }
    }
}

fn run_save(data_dir: &DataDir, args: &SaveArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let pool = args.reach.pool(data_dir)?;
        let bar = ProgressBar::new(0);
        bar.set_style(ProgressStyle::with_template("{spinner} {bytes} of {total_bytes} {wide_bar}")?);
        let mut progress = |done, left| {
            bar.set_length(done + left);
            bar.set_position(done);
        };
        let saved = store::snapshot::save(&pool, &args.file, &mut progress).await;
        bar.finish_and_clear();
        let saved = saved?;
        println!("Snapshot saved at {}", args.file.display());
        if !saved.version.is_empty() {
            println!("Server version {}", saved.version);
        }
        Ok(())
    })
}

fn run_restore(data_dir: &DataDir, args: &RestoreArgs) -> Result<()> {
    let dir = data_dir.resolve()?;
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let _lock = idle(&dir)?;
    let store = dir.join("store");
    let restored = match (&args.from_data_dir, &args.file) {
        (Some(old), _) => {
            let old = std::path::absolute(old)?;
            if old == dir {
                bail!("--from-data-dir is the directory to restore into; name another by --data-dir");
            }
            let _lock = idle(&old)?;
            store::snapshot::revive(&old.join("store"), &store)?
        }
        (None, Some(file)) => {
            let options = RestoreOptions {
                skip_hash_check: args.skip_hash_check,
                bump_revision: args.bump_revision,
                mark_compacted: args.mark_compacted,
            };
            match file.to_str().filter(|name| name.starts_with("s3://")) {
                Some(url) => restore_object(url, &dir, &store, options)?,
                None => store::snapshot::restore(file, &store, options)?,
            }
        }
        (None, None) => bail!("name a snapshot or --from-data-dir"),
    };
    println!("{}", told(&restored, &store));
    println!("start it with: ketch up --data-dir {0} (or ketch server --data-dir {0})", dir.display());
    Ok(())
}

/// Restores from an object store, by way of a file in the data directory.
fn restore_object(url: &str, dir: &Path, store: &Path, options: RestoreOptions) -> Result<Restored> {
    let (place, name) = url.rsplit_once('/').with_context(|| format!("{url} names no object"))?;
    let objects = store::snapshot::Objects::parse(place, crate::config::environment())?;
    let file = dir.join("snapshot.fetched");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let fetched = runtime.block_on(objects.fetch(name, &file)).with_context(|| url.to_owned());
    let restored = fetched.and_then(|()| Ok(store::snapshot::restore(&file, store, options)?));
    // Fetched for this alone; that it may not be there changes nothing about the outcome.
    let _ = std::fs::remove_file(&file);
    restored
}

/// Takes the directory's lock, so that nothing runs on it meanwhile.
pub fn idle(dir: &Path) -> Result<Lock> {
    match Lock::try_take(dir)? {
        Ok(lock) => Ok(lock),
        Err(_) => bail!(
            "{} is in use; stop what runs there first: ketch down --data-dir {}",
            dir.display(),
            dir.display()
        ),
    }
}

fn told(restored: &Restored, store: &Path) -> String {
    let compacted = match restored.compacted.get() {
        0 => String::new(),
        revision => format!(", compacted at {revision}"),
    };
    let Restored { revision, changes, leases, .. } = restored;
    format!(
        "restored {} at revision {revision}{compacted}: {changes} changes, {leases} leases",
        store.display()
    )
}

fn shown(status: &SnapshotStatus, form: WriteOut) -> String {
    let SnapshotStatus { hash, revision, total_keys, total_bytes, version } = status;
    let cells = [
        format!("{hash:x}"),
        revision.to_string(),
        total_keys.to_string(),
        human(*total_bytes),
        version.clone(),
    ];
    match form {
        WriteOut::Simple => cells.join(", "),
        WriteOut::Table => {
            table(&["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE", "VERSION"], &[cells.to_vec()])
        }
        WriteOut::Json => format!(
            r#"{{"hash":{hash},"revision":{revision},"totalKey":{total_keys},"totalSize":{total_bytes},"version":{version:?}}}"#
        ),
        WriteOut::Fields => format!(
            "\"Hash\" : {hash}\n\"Revision\" : {revision}\n\"Keys\" : {total_keys}\n\"Size\" : {total_bytes}\n\"Version\" : {version}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_api::Revision;

    #[test]
    fn a_status_is_printed_as_etcdutl_prints_it() {
        let status = SnapshotStatus {
            hash: 1_638_996_662,
            revision: Revision(2),
            total_keys: 1,
            total_bytes: 20480,
            version: "3.6.0".to_owned(),
        };
        let all = [WriteOut::Simple, WriteOut::Table, WriteOut::Json, WriteOut::Fields];
        let shown: Vec<_> = all.iter().map(|form| shown(&status, *form)).collect();
        expect_test::expect![[r#"
            61b11ab6, 2, 1, 20 kB, 3.6.0
            +----------+----------+------------+------------+---------+
            |   HASH   | REVISION | TOTAL KEYS | TOTAL SIZE | VERSION |
            +----------+----------+------------+------------+---------+
            | 61b11ab6 |        2 |          1 |      20 kB |   3.6.0 |
            +----------+----------+------------+------------+---------+
            {"hash":1638996662,"revision":2,"totalKey":1,"totalSize":20480,"version":"3.6.0"}
            "Hash" : 1638996662
            "Revision" : 2
            "Keys" : 1
            "Size" : 20480
            "Version" : 3.6.0"#]]
        .assert_eq(&shown.join("\n"));
        assert_eq!(
            (human(9), human(82_854_982), human(1_500)),
            ("9 B".into(), "83 MB".into(), "1.5 kB".into())
        );
    }
}
