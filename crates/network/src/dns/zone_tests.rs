use super::*;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

fn service(name: &str, spec: Value) -> Arc<Service> {
    let (namespace, name) = name.split_once('/').expect("namespace/name");
    let value = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
    Arc::new(serde_json::from_value(value).expect("a Service"))
}

fn slice(service: &str, ports: Value, endpoints: Value) -> Arc<EndpointSlice> {
    let (namespace, name) = service.split_once('/').expect("namespace/name");
    let value = json!({
        "metadata": {"namespace": namespace, "name": format!("{name}-x"),
                     "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
    });
    Arc::new(serde_json::from_value(value).expect("an EndpointSlice"))
}

fn zone() -> Zone {
    let services = [
        service(
            "default/kubernetes",
            json!({"clusterIP": "10.43.0.1", "ports": [{"name": "https", "port": 443}]}),
        ),
        service("shop/db", json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]})),
        service("shop/out", json!({"type": "ExternalName", "externalName": "Example.com"})),
        service(
            "shop/api",
            json!({"type": "ExternalName", "externalName": "kubernetes.default.svc.cluster.local"}),
        ),
        service("shop/loop", json!({"type": "ExternalName", "externalName": "loop.shop.svc.cluster.local"})),
    ];
    let slices = [slice(
        "shop/db",
        json!([{"name": "sql", "port": 5432, "protocol": "TCP"}]),
        json!([
            {"addresses": ["10.42.0.5"], "hostname": "db-0"},
            {"addresses": ["10.42.0.6"]},
            {"addresses": ["10.42.0.7"], "conditions": {"ready": false}},
        ]),
    )];
    let ours = ["10.42.0.0/16", "10.43.0.0/16"].map(|r| r.parse().expect("a range"));
    Zone::build("cluster.local", ours.to_vec(), &services, &slices)
}

fn shown(verdict: &Verdict) -> String {
    let Verdict::Answered(answer) = verdict else { return "forward\n".into() };
    let mut text = format!("{:?}\n", answer.code);
    for (section, records) in
        [("", &answer.answers), ("authority ", &answer.authorities), ("additional ", &answer.additionals)]
    {
        for record in records {
            text += &format!("{section}{record}\n");
        }
    }
    if let Some(name) = &answer.continues_at {
        text += &format!("continues at {name}\n");
    }
    text
}

fn check(question: &str, expect: &Expect) {
    let (kind, name) = question.split_once(' ').expect("type and name");
    let name = Name::from_ascii(format!("{name}.")).expect("a name");
    expect.assert_eq(&shown(&zone().resolve(&name, kind.parse().expect("a type"), 0)));
}

#[test]
fn services_with_an_address() {
    check(
        "A kubernetes.default.svc.cluster.local",
        &expect![[r#"
        NoError
        kubernetes.default.svc.cluster.local. 5 IN A 10.43.0.1
    "#]],
    );
    check(
        "A Kubernetes.DEFAULT.svc.cluster.local",
        &expect![[r#"
        NoError
        Kubernetes.DEFAULT.svc.cluster.local. 5 IN A 10.43.0.1
    "#]],
    );
    check(
        "AAAA kubernetes.default.svc.cluster.local",
        &expect![[r#"
        NoError
        authority cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
    "#]],
    );
    check(
        "SRV _https._tcp.kubernetes.default.svc.cluster.local",
        &expect![[r#"
        NoError
        _https._tcp.kubernetes.default.svc.cluster.local. 5 IN SRV 0 100 443 kubernetes.default.svc.cluster.local.
        additional kubernetes.default.svc.cluster.local. 5 IN A 10.43.0.1
    "#]],
    );
    check(
        "PTR 1.0.43.10.in-addr.arpa",
        &expect![[r#"
        NoError
        1.0.43.10.in-addr.arpa. 5 IN PTR kubernetes.default.svc.cluster.local.
    "#]],
    );
}

#[test]
fn headless_services_and_host_names() {
    check(
        "A db.shop.svc.cluster.local",
        &expect![[r#"
        NoError
        db.shop.svc.cluster.local. 5 IN A 10.42.0.5
        db.shop.svc.cluster.local. 5 IN A 10.42.0.6
    "#]],
    );
    check(
        "A db-0.db.shop.svc.cluster.local",
        &expect![[r#"
        NoError
        db-0.db.shop.svc.cluster.local. 5 IN A 10.42.0.5
    "#]],
    );
    check(
        "SRV _sql._tcp.db.shop.svc.cluster.local",
        &expect![[r#"
        NoError
        _sql._tcp.db.shop.svc.cluster.local. 5 IN SRV 0 100 5432 10-42-0-6.db.shop.svc.cluster.local.
        _sql._tcp.db.shop.svc.cluster.local. 5 IN SRV 0 100 5432 db-0.db.shop.svc.cluster.local.
        additional 10-42-0-6.db.shop.svc.cluster.local. 5 IN A 10.42.0.6
        additional db-0.db.shop.svc.cluster.local. 5 IN A 10.42.0.5
    "#]],
    );
    check(
        "PTR 5.0.42.10.in-addr.arpa",
        &expect![[r#"
        NoError
        5.0.42.10.in-addr.arpa. 5 IN PTR db-0.db.shop.svc.cluster.local.
    "#]],
    );
    check(
        "PTR 6.0.42.10.in-addr.arpa",
        &expect![[r#"
        NoError
        6.0.42.10.in-addr.arpa. 5 IN PTR 10-42-0-6.db.shop.svc.cluster.local.
    "#]],
    );
}

#[test]
fn aliases() {
    check(
        "A out.shop.svc.cluster.local",
        &expect![[r#"
        NoError
        out.shop.svc.cluster.local. 5 IN CNAME example.com.
        continues at example.com.
    "#]],
    );
    check(
        "CNAME out.shop.svc.cluster.local",
        &expect![[r#"
        NoError
        out.shop.svc.cluster.local. 5 IN CNAME example.com.
    "#]],
    );
    check(
        "A api.shop.svc.cluster.local",
        &expect![[r#"
        NoError
        api.shop.svc.cluster.local. 5 IN CNAME kubernetes.default.svc.cluster.local.
        kubernetes.default.svc.cluster.local. 5 IN A 10.43.0.1
    "#]],
    );
    let Verdict::Answered(answer) =
        zone().resolve(&Name::from_ascii("loop.shop.svc.cluster.local.").expect("a name"), RecordType::A, 0)
    else {
        panic!("ours")
    };
    assert_eq!(answer.answers.len(), ALIASES_MAX);
}

#[test]
fn pods_by_address() {
    check(
        "A 10-42-0-9.shop.pod.cluster.local",
        &expect![[r#"
        NoError
        10-42-0-9.shop.pod.cluster.local. 5 IN A 10.42.0.9
    "#]],
    );
    check(
        "A nonsense.shop.pod.cluster.local",
        &expect![[r#"
        NXDomain
        authority cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
    "#]],
    );
}

#[test]
fn what_is_not_there() {
    check(
        "A nothing.default.svc.cluster.local",
        &expect![[r#"
        NXDomain
        authority cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
    "#]],
    );
    check(
        "A default.svc.cluster.local",
        &expect![[r#"
        NoError
        authority cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
    "#]],
    );
    check(
        "A cluster.local",
        &expect![[r#"
        NoError
        authority cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
    "#]],
    );
    check(
        "TXT dns-version.cluster.local",
        &expect![[r#"
        NoError
        dns-version.cluster.local. 5 IN TXT 1.1.0
    "#]],
    );
    check(
        "PTR 200.0.42.10.in-addr.arpa",
        &expect![[r#"
        NXDomain
        authority cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
    "#]],
    );
}

#[test]
fn the_rest_is_forwarded() {
    check("A example.com", &expect![["forward\n"]]);
    check("A notcluster.local", &expect![["forward\n"]]);
    check("PTR 1.2.0.192.in-addr.arpa", &expect![["forward\n"]]);
    check("PTR 0.192.in-addr.arpa", &expect![["forward\n"]]);
}

#[test]
fn the_turn_rotates() {
    let name = Name::from_ascii("db.shop.svc.cluster.local.").expect("a name");
    let first = |turn| match zone().resolve(&name, RecordType::A, turn) {
        Verdict::Answered(answer) => answer.answers[0].to_string(),
        Verdict::Forward => String::new(),
    };
    assert_ne!(first(0), first(1));
    assert_eq!(first(0), first(2));
}
