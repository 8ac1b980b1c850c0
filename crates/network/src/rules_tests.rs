use super::*;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

fn service(name: &str, spec: Value) -> Arc<Service> {
    let value = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
    Arc::new(serde_json::from_value(value).expect("a Service"))
}

fn slice(service: &str, ports: Value, endpoints: Value) -> Arc<EndpointSlice> {
    let value = json!({
        "metadata": {"namespace": "default", "name": format!("{service}-x"),
                     "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
    });
    Arc::new(serde_json::from_value(value).expect("an EndpointSlice"))
}

fn base() -> Base {
    Base {
        id: "0011aabb".into(),
        gateway: Ipv4Addr::new(10, 42, 0, 1),
        pod_cidr: "10.42.0.0/16".parse().expect("a range"),
        service_cidr: "10.43.0.0/16".parse().expect("a range"),
        egress: true,
        forwarding: BTreeSet::from(["eth0".to_owned()]),
    }
}

/// The difference from nothing, without the table's name.
fn check(services: &[Arc<Service>], slices: &[Arc<EndpointSlice>], expect: &Expect) {
    let ruleset = rules(services, slices);
    expect.assert_eq(&base().difference(&Ruleset::default(), &ruleset).replace(" ip ketch-0011aabb", ""));
}

fn web() -> Arc<Service> {
    service(
        "web",
        json!({"clusterIP": "10.43.0.20", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}),
    )
}

fn web_slice(addresses: &[&str]) -> Arc<EndpointSlice> {
    let endpoints: Vec<Value> = addresses.iter().map(|a| json!({"addresses": [a]})).collect();
    slice("web", json!([{"name": "http", "port": 8080, "protocol": "TCP"}]), json!(endpoints))
}

#[test]
fn a_service_with_two_endpoints_and_a_node_port() {
    check(
        &[web()],
        &[web_slice(&["10.42.0.5", "10.42.0.6"])],
        &expect![[r#"
            add chain s-fed7c68d34820ce4 { comment "default/web:http tcp"; }
            add rule s-fed7c68d34820ce4 meta l4proto tcp dnat to numgen random mod 2 map { 0 : 10.42.0.5 . 8080, 1 : 10.42.0.6 . 8080 }
            add element services { 10.43.0.20 . tcp . 80 : goto s-fed7c68d34820ce4 }
            add element nodeports { tcp . 30080 : goto s-fed7c68d34820ce4 }
            add element hairpin { 10.42.0.5 . 10.42.0.5 }
            add element hairpin { 10.42.0.6 . 10.42.0.6 }
        "#]],
    );
}

#[test]
fn without_endpoints_there_is_a_route_and_no_rule() {
    check(&[web()], &[], &expect![""]);
    assert_eq!(rules(&[web()], &[]).cluster_ips, BTreeSet::from([Ipv4Addr::new(10, 43, 0, 20)]));
}

#[test]
fn headless_and_external_services_have_no_rules() {
    let headless = service("db", json!({"clusterIP": "None", "ports": [{"port": 80}]}));
    let external = service("out", json!({"type": "ExternalName", "externalName": "example.com"}));
    check(
        &[headless, external],
        &[slice("db", json!([{"port": 80}]), json!([{"addresses": ["10.42.0.5"]}]))],
        &expect![""],
    );
}

#[test]
fn readiness_decides_and_ending_endpoints_are_the_last_resort() {
    let service =
        service("web", json!({"clusterIP": "10.43.0.20", "ports": [{"port": 53, "protocol": "UDP"}]}));
    let ports = json!([{"port": 5353, "protocol": "UDP"}]);
    let endpoints = |first_ready: bool| {
        json!([
            {"addresses": ["10.42.0.5"], "conditions": {"ready": first_ready}},
            {"addresses": ["10.42.0.6"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["10.42.0.7"], "conditions": {"ready": false, "serving": false, "terminating": true}},
        ])
    };
    check(
        std::slice::from_ref(&service),
        &[slice("web", ports.clone(), endpoints(true))],
        &expect![[r#"
            add chain s-07d29f4319c29640 { comment "default/web: udp"; }
            add rule s-07d29f4319c29640 meta l4proto udp dnat to 10.42.0.5:5353
            add element services { 10.43.0.20 . udp . 53 : goto s-07d29f4319c29640 }
            add element hairpin { 10.42.0.5 . 10.42.0.5 }
        "#]],
    );
    check(
        &[service],
        &[slice("web", ports, endpoints(false))],
        &expect![[r#"
            add chain s-07d29f4319c29640 { comment "default/web: udp"; }
            add rule s-07d29f4319c29640 meta l4proto udp dnat to 10.42.0.6:5353
            add element services { 10.43.0.20 . udp . 53 : goto s-07d29f4319c29640 }
            add element hairpin { 10.42.0.6 . 10.42.0.6 }
        "#]],
    );
}

#[test]
fn affinity_remembers_the_client_at_each_endpoint() {
    let service = service(
        "web",
        json!({"clusterIP": "10.43.0.20", "externalIPs": ["192.0.2.7"], "sessionAffinity": "ClientIP",
               "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
               "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}),
    );
    check(
        &[service],
        &[web_slice(&["10.42.0.5", "10.42.0.6"])],
        &expect![[r#"
        add set a-7494c94e7d9140f4 { type ipv4_addr; flags dynamic,timeout; timeout 60s; size 65535; }
        add set a-7b850bda1e1c5aed { type ipv4_addr; flags dynamic,timeout; timeout 60s; size 65535; }
        add chain e-7494c94e7d9140f4 { comment "default/web:http tcp 10.42.0.5:8080"; }
        add chain e-7b850bda1e1c5aed { comment "default/web:http tcp 10.42.0.6:8080"; }
        add chain s-fed7c68d34820ce4 { comment "default/web:http tcp"; }
        add rule e-7494c94e7d9140f4 update @a-7494c94e7d9140f4 { ip saddr }
        add rule e-7494c94e7d9140f4 meta l4proto tcp dnat to 10.42.0.5:8080
        add rule e-7b850bda1e1c5aed update @a-7b850bda1e1c5aed { ip saddr }
        add rule e-7b850bda1e1c5aed meta l4proto tcp dnat to 10.42.0.6:8080
        add rule s-fed7c68d34820ce4 ip saddr @a-7494c94e7d9140f4 goto e-7494c94e7d9140f4
        add rule s-fed7c68d34820ce4 ip saddr @a-7b850bda1e1c5aed goto e-7b850bda1e1c5aed
        add rule s-fed7c68d34820ce4 numgen random mod 2 vmap { 0 : goto e-7494c94e7d9140f4, 1 : goto e-7b850bda1e1c5aed }
        add element services { 10.43.0.20 . tcp . 80 : goto s-fed7c68d34820ce4 }
        add element services { 192.0.2.7 . tcp . 80 : goto s-fed7c68d34820ce4 }
        add element hairpin { 10.42.0.5 . 10.42.0.5 }
        add element hairpin { 10.42.0.6 . 10.42.0.6 }
    "#]],
    );
}

#[test]
fn a_change_touches_only_what_changes() {
    let one = rules(&[web()], &[web_slice(&["10.42.0.5"])]);
    let two = rules(&[web()], &[web_slice(&["10.42.0.6"])]);
    let text = base().difference(&one, &two).replace(" ip ketch-0011aabb", "");
    expect![[r#"
        flush chain s-fed7c68d34820ce4
        add rule s-fed7c68d34820ce4 meta l4proto tcp dnat to 10.42.0.6:8080
        delete element hairpin { 10.42.0.5 . 10.42.0.5 }
        add element hairpin { 10.42.0.6 . 10.42.0.6 }
    "#]]
    .assert_eq(&text);
    assert_eq!(base().difference(&two, &two), "");
    let text = base().difference(&two, &Ruleset::default()).replace(" ip ketch-0011aabb", "");
    expect![[r#"
        delete element services { 10.43.0.20 . tcp . 80 }
        delete element nodeports { tcp . 30080 }
        delete element hairpin { 10.42.0.6 . 10.42.0.6 }
        flush chain s-fed7c68d34820ce4
        delete chain s-fed7c68d34820ce4
    "#]]
    .assert_eq(&text);
}

#[test]
fn the_whole_table() {
    expect![[r#"
        add table ip ketch-0011aabb
        delete table ip ketch-0011aabb
        add table ip ketch-0011aabb
        add set ip ketch-0011aabb forwarding { type ifname; }
        add set ip ketch-0011aabb hairpin { type ipv4_addr . ipv4_addr; }
        add map ip ketch-0011aabb services { type ipv4_addr . inet_proto . inet_service : verdict; }
        add map ip ketch-0011aabb nodeports { type inet_proto . inet_service : verdict; }
        add chain ip ketch-0011aabb services { comment "Services by address, then by node port"; }
        add rule ip ketch-0011aabb services ip daddr . meta l4proto . th dport vmap @services
        add rule ip ketch-0011aabb services fib daddr type local meta l4proto . th dport vmap @nodeports
        add chain ip ketch-0011aabb guard { type filter hook prerouting priority raw; policy accept; }
        add rule ip ketch-0011aabb guard iifname "kv0011aabb*" ip daddr 127.0.0.0/8 drop
        add chain ip ketch-0011aabb filter-prerouting { type filter hook prerouting priority filter; policy accept; }
        add rule ip ketch-0011aabb filter-prerouting iifname "kv0011aabb*" ip daddr { 10.42.0.0/16, 10.43.0.0/16 } fib daddr type != local fib daddr oif missing meta l4proto tcp reject with tcp reset
        add chain ip ketch-0011aabb nat-prerouting { type nat hook prerouting priority dstnat; policy accept; }
        add rule ip ketch-0011aabb nat-prerouting jump services
        add chain ip ketch-0011aabb nat-output { type nat hook output priority -100; policy accept; }
        add rule ip ketch-0011aabb nat-output jump services
        add chain ip ketch-0011aabb nat-postrouting { type nat hook postrouting priority srcnat; policy accept; }
        add rule ip ketch-0011aabb nat-postrouting ip saddr . ip daddr @hairpin snat to 10.42.0.1
        add rule ip ketch-0011aabb nat-postrouting ip saddr 127.0.0.0/8 oifname "kv0011aabb*" snat to 10.42.0.1
        add rule ip ketch-0011aabb nat-postrouting ip saddr 10.42.0.0/16 ip daddr != { 10.42.0.0/16, 10.43.0.0/16 } oifname != "kv0011aabb*" masquerade
        add chain ip ketch-0011aabb filter-output { type filter hook output priority filter; policy accept; }
        add rule ip ketch-0011aabb filter-output ip daddr 10.43.0.0/16 meta l4proto tcp reject with tcp reset
        add rule ip ketch-0011aabb filter-output ip daddr 10.43.0.0/16 reject
        add chain ip ketch-0011aabb filter-input { type filter hook input priority filter; policy accept; }
        add rule ip ketch-0011aabb filter-input ip daddr 10.42.0.1 iifname != "lo" iifname != "kv0011aabb*" ct status dnat accept
        add rule ip ketch-0011aabb filter-input ip daddr 10.42.0.1 iifname != "lo" iifname != "kv0011aabb*" drop
        add chain ip ketch-0011aabb filter-forward { type filter hook forward priority filter; policy accept; }
        add rule ip ketch-0011aabb filter-forward ct state established,related accept
        add rule ip ketch-0011aabb filter-forward ct status dnat accept
        add rule ip ketch-0011aabb filter-forward ip daddr 10.43.0.0/16 meta l4proto tcp reject with tcp reset
        add rule ip ketch-0011aabb filter-forward ip daddr 10.43.0.0/16 reject
        add rule ip ketch-0011aabb filter-forward iifname "kv0011aabb*" accept
        add rule ip ketch-0011aabb filter-forward oifname "kv0011aabb*" reject with icmp type admin-prohibited
        add rule ip ketch-0011aabb filter-forward iifname @forwarding drop
        add element ip ketch-0011aabb forwarding { "eth0" }
    "#]].assert_eq(&base().full(&Ruleset::default()));
    let closed = Base { egress: false, ..base() };
    assert!(!closed.full(&Ruleset::default()).contains("masquerade"));
}

#[test]
fn the_order_of_the_cache_does_not_matter() {
    let other = service(
        "aaa",
        json!({"clusterIP": "10.43.0.21", "externalIPs": ["10.43.0.20"], "ports": [{"port": 80, "name": "http"}]}),
    );
    let slices = [
        web_slice(&["10.42.0.5"]),
        slice("aaa", json!([{"name": "http", "port": 1}]), json!([{"addresses": ["10.42.0.9"]}])),
    ];
    let reversed: Vec<_> = slices.iter().rev().cloned().collect();
    assert_eq!(rules(&[web(), other.clone()], &slices), rules(&[other, web()], &reversed));
}
