//! examples/basics with the real kubectl: each manifest applied, observed and deleted.

mod common;

use common::{Ketch, example};

#[test]
fn every_basic_manifest_does_what_it_says() {
    let Some(k) = Ketch::with_busybox(&[]) else { return };
    pod(&k);
    once(&k);
    init_containers(&k);
    two_containers(&k);
    config(&k);
    downward(&k);
    host_path(&k);
    probes(&k);
    crash(&k);
    limits(&k);
    service_account(&k);
    deployment_and_service(&k);
    headless(&k);
}

fn logs(k: &Ketch, namespace: &str, pod: &str) -> String {
    k.kubectl(&["logs", "-n", namespace, pod])
}

fn phase(k: &Ketch, namespace: &str, pod: &str, expect: &str) {
    k.becomes(&format!("pod {pod} -n {namespace}"), "{.status.phase}", expect, 30);
}

fn pod(k: &Ketch) {
    k.apply_basic("pod", "b-pod");
    k.kubectl(&["wait", "-n", "b-pod", "--for=condition=Ready", "pod/hello", "--timeout=30s"]);
    k.eventually("the log line", 10, || logs(k, "b-pod", "hello") == "hello from hello\n");
    let shown = k.kubectl(&["exec", "-n", "b-pod", "hello", "--", "sh", "-c", "echo in; exit 0"]);
    assert_eq!(shown, "in\n");
    let failed = k.try_kubectl(&["exec", "-n", "b-pod", "hello", "--", "sh", "-c", "exit 7"]);
    assert_eq!((failed.code, failed.stderr.as_str()), (7, "command terminated with exit code 7\n"));
    let piped = k.kubectl_with(&["exec", "-i", "-n", "b-pod", "hello", "--", "cat"], "through\n");
    assert_eq!(piped.stdout, "through\n", "{piped:?}");
    k.delete_basic("pod", "b-pod");
    assert_eq!(
        k.try_kubectl(&["get", "pod", "-n", "b-pod", "hello"]).stderr,
        "Error from server (NotFound): pods \"hello\" not found\n"
    );
}

fn once(k: &Ketch) {
    k.apply_basic("job-like-pod", "b-once");
    phase(k, "b-once", "once", "Succeeded");
    assert_eq!(logs(k, "b-once", "once"), "good morning, world\n");
    let row = k.kubectl(&["get", "pod", "-n", "b-once", "once", "--no-headers"]);
    assert!(row.contains("0/1") && row.contains("Completed"), "{row}");
    k.delete_basic("job-like-pod", "b-once");
}

fn init_containers(k: &Ketch) {
    k.apply_basic("init-containers", "b-init");
    k.kubectl(&["wait", "-n", "b-init", "--for=condition=Ready", "pod/prepared", "--timeout=30s"]);
    let page = k.kubectl(&[
        "exec",
        "-n",
        "b-init",
        "prepared",
        "-c",
        "web",
        "--",
        "wget",
        "-q",
        "-O-",
        "http://127.0.0.1:8080/page",
    ]);
    assert_eq!(page, "one\ntwo\n");
    let denied = k.try_kubectl(&["exec", "-n", "b-init", "prepared", "--", "touch", "/www/x"]);
    assert_eq!(denied.code, 1, "the mount is read-only: {denied:?}");
    k.delete_basic("init-containers", "b-init");
}

fn two_containers(k: &Ketch) {
    k.apply_basic("two-containers", "b-pair");
    k.kubectl(&["wait", "-n", "b-pair", "--for=condition=Ready", "pod/pair", "--timeout=30s"]);
    k.eventually("the writer's file served by the server", 10, || {
        let args = [
            "exec",
            "-n",
            "b-pair",
            "pair",
            "-c",
            "writer",
            "--",
            "wget",
            "-q",
            "-O-",
            "http://localhost:8080/now",
        ];
        k.try_kubectl(&args).stdout.contains("UTC")
    });
    k.delete_basic("two-containers", "b-pair");
}

fn config(k: &Ketch) {
    k.apply_basic("config", "b-config");
    phase(k, "b-config", "configured", "Succeeded");
    let expect = "color=blue\n[ship]\nmasts = 2\npassword=open-sesame\nopen-sesame\n400\n";
    assert_eq!(logs(k, "b-config", "configured"), expect);
    k.delete_basic("config", "b-config");
}

fn downward(k: &Ketch) {
    k.apply_basic("downward", "b-aware");
    phase(k, "b-aware", "aware", "Succeeded");
    let ip = k.kubectl(&["get", "pod", "-n", "b-aware", "aware", "-o", "jsonpath={.status.podIP}"]);
    let text = logs(k, "b-aware", "aware");
    assert_eq!(
        text.trim_end(),
        format!("b-aware/aware ip={ip} memory=67108864\ntier=\"back\"\nzone=\"harbour\"")
    );
    k.delete_basic("downward", "b-aware");
}

fn host_path(k: &Ketch) {
    k.apply_basic("host-path", "b-host");
    phase(k, "b-host", "on-host", "Succeeded");
    assert!(logs(k, "b-host", "on-host").starts_with("/host/passwd\n1\n"));
    k.delete_basic("host-path", "b-host");
}

fn probes(k: &Ketch) {
    k.apply_basic("probes", "b-probes");
    k.kubectl(&["wait", "-n", "b-probes", "--for=condition=Ready", "pod/probed", "--timeout=30s"]);
    k.becomes("pod probed -n b-probes", "{.status.containerStatuses[0].restartCount}", "1", 40);
    let events = k.kubectl(&["get", "events", "-n", "b-probes", "-o", "jsonpath={.items[*].reason}"]);
    assert!(events.contains("Unhealthy") && events.contains("Killing"), "{events}");
    k.delete_basic("probes", "b-probes");
}

fn crash(k: &Ketch) {
    k.apply_basic("crash", "b-crash");
    let state = "{.status.containerStatuses[0].state.waiting.reason}";
    k.becomes("pod crash -n b-crash", state, "CrashLoopBackOff", 30);
    k.eventually("a log of the last attempt", 30, || {
        k.try_kubectl(&["logs", "-n", "b-crash", "crash", "--previous"]).stdout == "about to fail\n"
    });
    let code = "{.status.containerStatuses[0].lastState.terminated.exitCode}";
    k.becomes("pod crash -n b-crash", code, "3", 10);
    k.delete_basic("crash", "b-crash");
}

fn limits(k: &Ketch) {
    k.apply_basic("limits", "b-limits");
    k.becomes(
        "pod greedy -n b-limits",
        "{.status.containerStatuses[0].state.terminated.reason}",
        "OOMKilled",
        40,
    );
    k.delete_basic("limits", "b-limits");
}

fn service_account(k: &Ketch) {
    let manifest = std::fs::read_to_string(example("basics/service-account.yaml")).expect("the manifest");
    let kubectl = std::env::var("KETCH_TEST_KUBECTL").expect("checked at start");
    let manifest = manifest.replace("/usr/local/bin/kubectl", &kubectl);
    k.k("create namespace b-sa");
    let applied = k.kubectl_with(&["apply", "-n", "b-sa", "-f", "-"], &manifest);
    assert_eq!(applied.code, 0, "{applied:?}");
    phase(k, "b-sa", "caller", "Succeeded");
    let text = logs(k, "b-sa", "caller");
    assert!(text.starts_with("ca.crt\nnamespace\ntoken\nconfigmap/kube-root-ca.crt\n"), "{text}");
    assert!(
        text.contains("User \"system:serviceaccount:b-sa:reader\" cannot list resource \"secrets\""),
        "{text}"
    );
    assert!(text.ends_with("secrets refused\n"), "{text}");
    k.delete_basic("service-account", "b-sa");
}

fn deployment_and_service(k: &Ketch) {
    k.apply_basic("deployment", "b-web");
    k.apply_basic("service", "b-web");
    k.kubectl(&["rollout", "status", "-n", "b-web", "deployment/web", "--timeout=60s"]);
    let ip = k.kubectl(&["get", "service", "-n", "b-web", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    let address = format!("{ip}:80");
    let mut answers = std::collections::BTreeSet::new();
    k.eventually("both pods answer the host", 20, || {
        answers.extend(k.fetch(&address, "/"));
        answers.len() == 2
    });
    // From a pod, by name.
    k.apply_basic("pod", "b-web");
    k.kubectl(&["wait", "-n", "b-web", "--for=condition=Ready", "pod/hello", "--timeout=30s"]);
    // No -T: with it Debian's static busybox crashes.
    for name in ["web", "web.b-web", "web.b-web.svc.cluster.local"] {
        let url = format!("http://{name}/");
        let page = k.kubectl(&["exec", "-n", "b-web", "hello", "--", "wget", "-q", "-O-", &url]);
        assert!(answers.contains(&page), "{name}: {page}");
    }
    // A deleted pod comes back.
    let names = |k: &Ketch| k.kubectl(&["get", "pods", "-n", "b-web", "-l", "app=web", "-o", "name"]);
    let before = names(k);
    let victim = before.lines().next().expect("a pod").to_owned();
    k.kubectl(&["delete", "-n", "b-web", &victim, "--wait=true"]);
    k.becomes("deployment web -n b-web", "{.status.readyReplicas}", "2", 30);
    assert!(!names(k).contains(&victim));
    k.delete_basic("pod", "b-web");
    k.delete_basic("service", "b-web");
    k.delete_basic("deployment", "b-web");
    k.eventually("the pods are collected", 30, || names(k).is_empty());
}

fn headless(k: &Ketch) {
    k.apply_basic("headless", "b-peers");
    k.kubectl(&["wait", "-n", "b-peers", "--for=condition=Ready", "pod/peer-0", "--timeout=30s"]);
    let ip = k.kubectl(&["get", "pod", "-n", "b-peers", "peer-0", "-o", "jsonpath={.status.podIP}"]);
    for name in ["peers.b-peers.svc.cluster.local", "peer-0.peers.b-peers.svc.cluster.local"] {
        k.eventually(&format!("{name} resolves"), 20, || {
            k.try_kubectl(&["exec", "-n", "b-peers", "peer-0", "--", "nslookup", name]).stdout.contains(&ip)
        });
    }
    k.delete_basic("headless", "b-peers");
}
