//! The main job: the orders application on the orchestrator and the broker, with consumers scaled and killed.

mod common;

use common::{Ketch, client, example};
use serde_json::Value;

#[test]
fn no_order_is_lost_when_consumers_come_and_go() {
    let Some(image) = client("KETCH_TEST_ORDERS_IMAGE") else { return };
    let Some(k) = Ketch::start(&[]) else { return };
    assert_eq!(k.ketch(&["image", "import", &image]).code, 0);
    k.kubectl(&["apply", "-f", &example("orders/manifests/orders.yaml")]);
    for name in ["producers", "aggregators", "page"] {
        k.kubectl(&["-n", "orders", "rollout", "status", &format!("deployment/{name}"), "--timeout=90s"]);
    }
    names_resolve(&k);
    counts(&k, 1000);
    k.k("-n orders scale deployment aggregators --replicas=3");
    k.becomes("deployment aggregators -n orders", "{.status.readyReplicas}", "3", 30);
    members(&k, 3);
    let victim = k
        .k("-n orders get pods -l part=aggregator -o name")
        .lines()
        .next()
        .expect("an aggregator")
        .to_owned();
    k.kubectl(&["-n", "orders", "delete", &victim, "--grace-period=0", "--force"]);
    let before = totals(&k)["orders"].as_u64().unwrap_or(0);
    counts(&k, before + 1000);
    k.k("-n orders scale deployment producers --replicas=0");
    k.eventually("the producers are gone", 60, || {
        k.k("-n orders get pods -l part=producer -o name").is_empty()
    });
    every_order_is_counted(&k);
    k.k("delete namespace orders --timeout=90s");
}

/// Names resolve inside an image from scratch.
fn names_resolve(k: &Ketch) {
    let address = k.k("-n ketch-system get service kafka -o jsonpath={.spec.clusterIP}");
    for name in ["kafka.ketch-system.svc", "kafka.ketch-system.svc.cluster.local"] {
        let found = k.kubectl(&["-n", "orders", "exec", "deploy/page", "--", "/orders", "resolve", name]);
        assert_eq!(found.trim(), address, "{name}");
    }
}

fn totals(k: &Ketch) -> Value {
    let ip = k.k("-n orders get service orders -o jsonpath={.spec.clusterIP}");
    k.fetch(&format!("{ip}:80"), "/totals.json")
        .and_then(|page| serde_json::from_str(&page).ok())
        .unwrap_or_default()
}

fn counts(k: &Ketch, at_least: u64) {
    k.eventually(&format!("{at_least} orders on the page"), 60, || {
        totals(k)["orders"].as_u64().is_some_and(|n| n >= at_least)
    });
}

/// The group rebalanced: every member has partitions.
fn members(k: &Ketch, count: usize) {
    k.eventually(&format!("{count} members share the partitions"), 60, || {
        let by = totals(k)["by_aggregator"].as_object().map_or(0, serde_json::Map::len);
        by >= count
    });
}

/// What the topic holds is what the page has counted, each order once.
fn every_order_is_counted(k: &Ketch) {
    let broker = k.endpoint("kafka");
    let ends: i64 = (0..6)
        .map(|partition| {
            let run = k.run("kcat", &["-b", &broker, "-Q", "-t", &format!("orders:{partition}:-1")], None);
            run.stdout
                .trim()
                .rsplit(' ')
                .next()
                .and_then(|n| n.parse::<i64>().ok())
                .unwrap_or_else(|| panic!("{run:?}"))
        })
        .sum();
    assert!(ends > 2000, "{ends}");
    k.eventually(&format!("all {ends} orders counted"), 60, || totals(k)["orders"].as_i64() == Some(ends));
    let shown = totals(k);
    eprintln!("{ends} orders, {} duplicates dropped", shown["duplicates"]);
}
