use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use super::*;

const NOW_S: i64 = 1_800_000_000;
const YEAR_S: i64 = 365 * 86_400;

fn names(extra: &[&str]) -> Names {
    let addresses: Vec<IpAddr> = extra.iter().map(|a| a.parse().unwrap()).collect();
    Names::api_server("cluster.local", "10.43.0.1".parse().unwrap(), "boat", &addresses)
}

#[test]
fn a_second_open_finds_what_the_first_made() {
    let dir = tempfile::tempdir().unwrap();
    let first = Pki::open(dir.path(), NOW_S).unwrap();
    let (serving, admin) = (first.api_server(&names(&[])).unwrap(), first.admin().unwrap());
    let second = Pki::open(dir.path(), NOW_S + 60).unwrap();
    assert_eq!(second.ca_pem(), first.ca_pem());
    assert_eq!(second.service_account_key_der(), first.service_account_key_der());
    assert_eq!(second.api_server(&names(&[])).unwrap(), serving);
    assert_eq!(second.admin().unwrap(), admin);
    let mode = |file: &str| dir.path().join(file).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode("ca.key"), mode("admin.key"), mode("etcd/ca.key"), mode("sa.key")),
        (0o600, 0o600, 0o600, 0o600)
    );
}

#[test]
fn leaves_are_reissued_when_they_no_longer_do() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path(), NOW_S).unwrap();
    let serving = pki.api_server(&names(&[])).unwrap();
    let wider = pki.api_server(&names(&["192.168.7.7"])).unwrap();
    assert_ne!(wider, serving, "a missing name");
    assert_eq!(pki.api_server(&names(&[])).unwrap(), wider, "more names than needed do");
    let later = Pki::open(dir.path(), NOW_S + YEAR_S - 86_400).unwrap();
    assert_ne!(later.api_server(&names(&[])).unwrap(), wider, "old");
    assert_ne!(pki.node("a").unwrap(), pki.node("b").unwrap(), "another user");
    std::fs::remove_file(dir.path().join("ca.crt")).unwrap();
    std::fs::remove_file(dir.path().join("ca.key")).unwrap();
    let admin = pki.admin().unwrap();
    let other = Pki::open(dir.path(), NOW_S).unwrap();
    assert_ne!(other.admin().unwrap(), admin, "another authority");
}

#[test]
fn a_broken_authority_is_named() {
    let dir = tempfile::tempdir().unwrap();
    drop(Pki::open(dir.path(), NOW_S).unwrap());
    std::fs::write(dir.path().join("ca.crt"), "garbage").unwrap();
    let error = Pki::open(dir.path(), NOW_S).err().unwrap().to_string();
    assert!(error.contains("ca.crt"), "{error}");
}

/// Shakes hands in memory and returns the client's principal as the server sees it.
fn handshake(server: rustls::ServerConfig, client: rustls::ClientConfig) -> Option<identity::UserInfo> {
    let name = "kubernetes.default.svc".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = rustls::ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets().unwrap();
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets().unwrap();
    }
    let certificate = server.peer_certificates()?.first()?.clone();
    Some(identity::x509::principal(&certificate).unwrap())
}

#[test]
fn the_certificate_shown_names_the_user() {
    let dir = tempfile::tempdir().unwrap();
    let now_s = jiff::Timestamp::now().as_second();
    let pki = Pki::open(dir.path(), now_s).unwrap();
    let serving = pki.api_server(&names(&[])).unwrap();
    let shake = |leaf: Option<&Leaf>| {
        handshake(pki.server_config(&serving).unwrap(), pki.client_config(leaf).unwrap())
    };
    let admin = shake(Some(&pki.admin().unwrap())).unwrap();
    assert_eq!((admin.name.as_str(), admin.in_group("system:masters")), ("ketch-admin", true));
    let node = shake(Some(&pki.node("boat").unwrap())).unwrap();
    assert_eq!((node.name.as_str(), node.in_group("system:nodes")), ("system:node:boat", true));
    assert_eq!(shake(None), None);
}

#[test]
fn kubeconfig_is_yaml_with_everything_embedded() {
    let leaf = Leaf { certificate_pem: "C".into(), key_pem: "K".into() };
    let text = kubeconfig("ketch", "https://127.0.0.1:6443", "A", &leaf);
    expect_test::expect![[r#"
        apiVersion: v1
        kind: Config
        clusters:
        - name: ketch
          cluster:
            server: https://127.0.0.1:6443
            certificate-authority-data: QQ==
        contexts:
        - name: ketch
          context:
            cluster: ketch
            user: ketch
        current-context: ketch
        preferences: {}
        users:
        - name: ketch
          user:
            client-certificate-data: Qw==
            client-key-data: Sw==
    "#]]
    .assert_eq(&text);
}
