//! What a new user meets: output, files, a second start, Ctrl-C, resuming, `down`.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use common::{KETCH, Ketch};

#[test]
fn up_says_what_it_does_and_resumes_where_it_was() {
    let Some(mut k) = Ketch::with_busybox(&[]) else { return };
    speaks_plainly(&k);
    a_second_start_is_refused(&k);
    k.apply_basic("pod", "default");
    k.kubectl(&["wait", "--for=condition=Ready", "pod/hello", "--timeout=30s"]);
    let started = container_start(&k);
    assert_eq!(k.stop("INT"), Some(0));
    assert!(!k.dir.join("endpoints.json").exists(), "nothing listens any more");
    k.up();
    k.kubectl(&["wait", "--for=condition=Ready", "pod/hello", "--timeout=30s"]);
    assert_eq!(container_start(&k), started, "the container was adopted, not started again");
    k.kubectl(&["exec", "hello", "--", "true"]);

    k.stop("KILL");
    k.up();
    k.kubectl(&["wait", "--for=condition=Ready", "pod/hello", "--timeout=30s"]);
    assert_eq!(container_start(&k), started, "adopted after kill -9 too");
    leaves_nothing(&mut k);
}

fn container_start(k: &Ketch) -> String {
    let path = "jsonpath={.status.containerStatuses[0].state.running.startedAt}{.status.containerStatuses[0].containerID}";
    k.kubectl(&["get", "pod", "hello", "-o", path])
}

fn speaks_plainly(k: &Ketch) {
    let last = k.said.last().expect("it spoke");
    let number = last.strip_prefix("ready in ").and_then(|l| l.strip_suffix('s')).expect("ready in N.NNs");
    let (whole, part) = number.split_once('.').expect("two decimals");
    assert!(whole.parse::<u32>().is_ok() && part.len() == 2 && part.parse::<u32>().is_ok(), "{last}");
    for part in ["store", "broker", "api", "control", "network", "node"] {
        assert!(k.said.iter().any(|line| line.starts_with(part)), "{part} in {:?}", k.said);
    }
    for file in ["endpoints.json", "kubeconfig", "pki/ca.key", "pki/sa.key"] {
        let mode = std::fs::metadata(k.dir.join(file)).expect(file).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert!(k.endpoint("api").starts_with("https://127.0.0.1:"));
    assert!(k.endpoint("kafka").starts_with("127.0.0.1:"));
    assert!(k.ketch(&["status"]).stdout.contains("running in"));
}

fn a_second_start_is_refused(k: &Ketch) {
    let second = k.ketch(&["up", "--api-port", "0", "--kafka-port", "0", "--etcd-port", "0"]);
    assert_eq!(second.code, 1);
    assert!(second.stderr.contains(&format!("is in use by process {}", k.pid())), "{second:?}");
    // Another data directory in the same network namespace: its node part would fight for the same addresses.
    let other = tempfile::tempdir().expect("a temporary directory");
    let path = other.path().to_string_lossy().into_owned();
    let third = k.run(
        KETCH,
        &["up", "--api-port", "0", "--kafka-port", "0", "--etcd-port", "0", "--data-dir", &path],
        None,
    );
    assert_eq!(third.code, 1);
    assert!(third.stderr.contains("another node part"), "{third:?}");
}

fn leaves_nothing(k: &mut Ketch) {
    let pid_of_shim = || shims(&k.dir.to_string_lossy());
    assert!(!pid_of_shim().is_empty());
    let down = k.ketch(&["down"]);
    assert_eq!(down.code, 0, "{down:?}");
    k.eventually("the shims end", 5, || pid_of_shim().is_empty());
    let links = k.host.succeed(&["ip", "-o", "link"]);
    assert_eq!(links.lines().count(), 1, "only lo: {links}");
    assert_eq!(k.host.succeed(&["ip", "-4", "route"]), "");
    assert_eq!(k.host.succeed(&["nft", "list", "tables"]), "");
    let mounts = k.host.succeed(&["cat", "/proc/self/mountinfo"]);
    assert!(!mounts.contains(&*k.dir.to_string_lossy()), "{mounts}");
    assert!(k.dir.join("store").is_dir(), "the data stays");
}

/// Process ids of the shims of a data directory.
fn shims(dir: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let ids = entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| n.parse::<u32>().is_ok());
    ids.filter(|id| {
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("shim") && line.contains(dir)
    })
    .collect()
}

#[test]
fn wrong_words_are_answered_with_the_right_ones() {
    let say = |args: &[&str]| {
        let out = Command::new(KETCH).args(args).output().expect("ketch runs");
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (code, text) = say(&["up", "--api-prot", "1"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("--api-port"), "{text}");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("ketch.toml");
    std::fs::write(&file, "[kafka]\nprot = 1\n").expect("writable");
    let (code, text) = say(&["up", "--config", &file.to_string_lossy()]);
    assert_eq!(code, Some(1));
    assert!(text.contains("unknown field `prot`"), "{text}");
    let (code, text) = say(&["down", "--data-dir", &dir.path().to_string_lossy()]);
    assert_eq!(code, Some(1));
    assert!(text.contains("is not a data directory of ketch"), "{text}");
    let (code, text) = say(&["image", "import", "--data-dir", &dir.path().to_string_lossy(), "/dev/null"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("not an image archive"), "{text}");
}

#[test]
fn parts_can_be_left_out() {
    let Some(k) = Ketch::start(&["--no-node", "--no-broker"]) else { return };
    assert!(k.k("get namespaces").contains("kube-system"));
    let endpoints = std::fs::read_to_string(k.dir.join("endpoints.json")).expect("endpoints.json");
    assert!(!endpoints.contains("kafka") && !endpoints.contains("kubelet"), "{endpoints}");
    assert_eq!(k.host.succeed(&["ip", "-o", "link"]).lines().count(), 1, "no link was made");
    // Without a node nothing runs, and a pod says why.
    k.kubectl(&["run", "alone", "--image=busybox"]);
    k.becomes("pod alone", "{.status.conditions[0].message}", "no nodes available to schedule pods", 10);
}
