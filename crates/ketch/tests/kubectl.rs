//! The commands of the first voyage with the real kubectl, their texts and exit codes.

mod common;

use common::{Ketch, example};

#[test]
fn kubectl_does_what_its_users_expect() {
    let Some(k) = Ketch::with_busybox(&[]) else { return };
    discovery(&k);
    reads(&k);
    deployment(&k);
    applies(&k);
    patches(&k);
    watches(&k);
    authorization(&k);
    bad_input(&k);
}

fn discovery(k: &Ketch) {
    let version = k.k("version -o json");
    let version: serde_json::Value = serde_json::from_str(&version).expect("JSON");
    assert!(
        version["serverVersion"]["gitVersion"].as_str().is_some_and(|v| v.starts_with("v1.36.")),
        "{version}"
    );
    let resources = k.k("api-resources");
    for line in ["deployments", "deploy", "apps/v1", "pods", "po", "leases", "endpointslices", "clusterroles"]
    {
        assert!(resources.contains(line), "{line} in\n{resources}");
    }
    let explained = k.k("explain deployment.spec.strategy");
    assert!(
        explained.contains("KIND:       Deployment") && explained.contains("rollingUpdate"),
        "{explained}"
    );
    assert!(k.k("auth whoami").contains("ketch-admin"));
}

fn reads(k: &Ketch) {
    for kind in [
        "nodes",
        "pods",
        "deployments",
        "replicasets",
        "services",
        "configmaps",
        "secrets",
        "events",
        "namespaces",
    ] {
        k.k(&format!("get {kind} -A"));
    }
    for kind in ["serviceaccounts", "leases", "endpointslices"] {
        assert!(!k.k(&format!("get {kind} -A")).is_empty(), "{kind}");
    }
    let nodes = k.k("get nodes -o wide");
    assert!(
        nodes.contains("Ready") && nodes.contains("CONTAINER-RUNTIME") && nodes.contains("v1.36."),
        "{nodes}"
    );
    let services = k.k("get services");
    assert!(
        services.starts_with("NAME         TYPE        CLUSTER-IP   EXTERNAL-IP   PORT(S)   AGE\n"),
        "{services}"
    );
    assert!(services.contains("kubernetes   ClusterIP   10.43.0.1    <none>        443/TCP"), "{services}");
    assert_eq!(k.k("get namespace default -o name"), "namespace/default\n");
    assert_eq!(k.k("get ns default -o jsonpath={.status.phase}"), "Active");
    assert!(k.k("get ns default -o yaml").contains("kubernetes.io/metadata.name: default"));
    assert_eq!(k.k("get ns --field-selector metadata.name=kube-system -o name"), "namespace/kube-system\n");
}

fn deployment(k: &Ketch) {
    k.k("create namespace shop");
    let created = k.kubectl(&[
        "create",
        "deployment",
        "web",
        "-n",
        "shop",
        "--image=busybox:latest",
        "--replicas=2",
        "--",
        "sleep",
        "3600",
    ]);
    assert_eq!(created, "deployment.apps/web created\n");
    // kubectl create gives no pull policy, and :latest would mean Always: what is imported serves both.
    k.k("-n shop rollout status deployment/web --timeout=60s");
    let row = k.k("-n shop get deployment web --no-headers");
    assert!(row.split_whitespace().take(4).eq(["web", "2/2", "2", "2"]), "{row}");
    let exposed = k.k("-n shop expose deployment web --port=80 --target-port=8080");
    assert_eq!(exposed, "service/web exposed\n");
    assert_eq!(k.k("-n shop scale deployment web --replicas=3"), "deployment.apps/web scaled\n");
    k.becomes("deployment web -n shop", "{.status.readyReplicas}", "3", 30);
    assert_eq!(k.k("-n shop rollout restart deployment/web"), "deployment.apps/web restarted\n");
    k.k("-n shop rollout status deployment/web --timeout=120s");
    let patch = r#"{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":1}}}}"#;
    k.kubectl(&["-n", "shop", "patch", "deployment", "web", "-p", patch]);
    k.k("-n shop rollout status deployment/web --timeout=120s");
    assert_eq!(
        k.k("-n shop set image deployment/web busybox=busybox"),
        "deployment.apps/web image updated\n"
    );
    k.k("-n shop rollout status deployment/web --timeout=120s");
    let described = k.k("-n shop describe deployment web");
    for text in ["Scaled up replica set", "NewReplicaSetAvailable", "RollingUpdateStrategy:", "3 available"] {
        assert!(described.contains(text), "{text} in\n{described}");
    }
    k.eventually("the old pods are gone", 40, || k.k("-n shop get pods -o name").lines().count() == 3);
    let pod = k.k("-n shop get pods -o name").lines().next().expect("a pod").to_owned();
    let described = k.k(&format!("-n shop describe {pod}"));
    for text in ["Successfully assigned shop/", "Started container", "Container image", "QoS Class:"] {
        assert!(described.contains(text), "{text} in\n{described}");
    }
    assert_eq!(k.k("-n shop delete deployment web"), "deployment.apps \"web\" deleted from shop namespace\n");
    k.eventually("the pods go with it", 40, || k.k("-n shop get pods -o name").is_empty());
    k.k("delete namespace shop --timeout=60s");
}

fn applies(k: &Ketch) {
    k.k("create namespace apply");
    let file = example("basics/deployment.yaml");
    let apply = |extra: &[&str]| {
        let mut args = vec!["-n", "apply", "apply", "-f", &file];
        args.extend(extra);
        k.kubectl(&args)
    };
    assert_eq!(apply(&[]), "deployment.apps/web created\n");
    assert_eq!(apply(&[]), "deployment.apps/web unchanged\n");
    let same = k.try_kubectl(&["-n", "apply", "diff", "-f", &file]);
    assert_eq!((same.code, same.stdout.as_str()), (0, ""), "{same:?}");
    k.k("-n apply scale deployment web --replicas=1");
    let differs = k.try_kubectl(&["-n", "apply", "diff", "-f", &file]);
    assert!(differs.code == 1 && differs.stdout.contains("+  replicas: 2"), "{differs:?}");
    assert_eq!(apply(&[]), "deployment.apps/web configured\n");
    assert_eq!(apply(&["--server-side"]), "deployment.apps/web serverside-applied\n");
    // Somebody else owns a field with another value: a conflict that names the owner.
    let other = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 5}\n";
    let conflict =
        k.kubectl_with(&["-n", "apply", "apply", "--server-side", "--field-manager=other", "-f", "-"], other);
    assert_eq!(conflict.code, 1);
    assert!(
        conflict.stderr.contains("Apply failed with 1 conflict: conflict with \"kubectl\": .spec.replicas"),
        "{conflict:?}"
    );
    let forced = k.kubectl_with(
        &["-n", "apply", "apply", "--server-side", "--force-conflicts", "--field-manager=other", "-f", "-"],
        other,
    );
    assert_eq!(forced.code, 0, "{forced:?}");
    assert_eq!(k.k("-n apply get deployment web -o jsonpath={.spec.replicas}"), "5");
    k.k("delete namespace apply --timeout=60s");
}

fn patches(k: &Ketch) {
    k.k("create configmap c --from-literal=a=1");
    assert_eq!(k.k("label configmap c tier=back"), "configmap/c labeled\n");
    assert_eq!(k.k("annotate configmap c note=x"), "configmap/c annotated\n");
    for (kind, patch) in [
        ("merge", r#"{"data":{"b":"2"}}"#),
        ("strategic", r#"{"data":{"c":"3"}}"#),
        ("json", r#"[{"op":"add","path":"/data/d","value":"4"},{"op":"remove","path":"/data/a"}]"#),
    ] {
        assert_eq!(
            k.kubectl(&["patch", "configmap", "c", "--type", kind, "-p", patch]),
            "configmap/c patched\n"
        );
    }
    assert_eq!(k.k("get configmap c -o jsonpath={.data}"), r#"{"b":"2","c":"3","d":"4"}"#);
    assert_eq!(k.k("get configmaps -l tier=back,tier!=front -o name"), "configmap/c\n");
    let edited = k.run(
        "env",
        &[
            "KUBE_EDITOR=sed -i /^..d:/s/4/44/",
            &std::env::var("KETCH_TEST_KUBECTL").expect("set"),
            "edit",
            "configmap",
            "c",
        ],
        None,
    );
    assert_eq!(edited.stdout, "configmap/c edited\n", "{edited:?}");
    assert_eq!(k.k("get configmap c -o jsonpath={.data.d}"), "44");
    assert_eq!(k.k("delete configmap c"), "configmap \"c\" deleted from default namespace\n");
}

fn watches(k: &Ketch) {
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: seen}\n";
    let watched = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            k.run(
                "timeout",
                &[
                    "3",
                    &std::env::var("KETCH_TEST_KUBECTL").expect("set"),
                    "get",
                    "configmaps",
                    "-w",
                    "-o",
                    "name",
                ],
                None,
            )
        });
        std::thread::sleep(std::time::Duration::from_millis(1000));
        k.kubectl_with(&["apply", "-f", "-"], manifest);
        watch.join().expect("the watch ends")
    });
    assert!(watched.stdout.contains("configmap/seen\n"), "{watched:?}");
    k.k("delete configmap seen");
    k.k("create configmap late");
    k.kubectl(&["wait", "--for=jsonpath={.metadata.name}=late", "configmap/late", "--timeout=5s"]);
    k.k("delete configmap late");
}

fn authorization(k: &Ketch) {
    assert_eq!(k.k("auth can-i create deployments"), "yes\n");
    let no =
        k.try_kubectl(&["auth", "can-i", "list", "secrets", "--as=system:serviceaccount:default:default"]);
    assert_eq!((no.code, no.stdout.as_str()), (1, "no\n"));
    let forbidden = k.try_kubectl(&["get", "pods", "--as=jane"]);
    assert_eq!(forbidden.code, 1);
    assert_eq!(
        forbidden.stderr,
        "Error from server (Forbidden): pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"\n"
    );
    let token = k.k("create token default");
    assert_eq!(token.trim().split('.').count(), 3, "a JWT");
    let api = k.endpoint("api");
    let bare = |token: &str| {
        let args = [
            "--kubeconfig=/dev/null",
            "--server",
            &api,
            "--insecure-skip-tls-verify",
            "--token",
            token,
            "auth",
            "whoami",
        ];
        k.try_kubectl(&args)
    };
    assert!(bare(token.trim()).stdout.contains("system:serviceaccount:default:default"));
    let wrong = bare("not.a.token");
    assert_eq!(wrong.code, 1);
    assert!(wrong.stderr.contains("You must be logged in to the server"), "{wrong:?}");
}

fn bad_input(k: &Ketch) {
    let check = |manifest: &str, expect: &str| {
        let run = k.kubectl_with(&["apply", "-f", "-"], manifest);
        assert_eq!(run.code, 1, "{run:?}");
        assert!(run.stderr.contains(expect), "{expect} in {run:?}");
    };
    check("kind: {", "error parsing STDIN");
    check(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndat: {}\n",
        "strict decoding error: unknown field \"dat\"",
    );
    check(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: X_y}\n",
        "Invalid value: \"X_y\": a lowercase RFC 1123 subdomain",
    );
    // Without OpenAPI v2 kubectl's own validation cannot pass over a kind that it does not find (docs/compat.md).
    let ship = "apiVersion: nowhere/v1\nkind: Ship\nmetadata: {name: x}\n";
    let unknown = k.kubectl_with(&["apply", "--validate=false", "-f", "-"], ship);
    assert_eq!(unknown.code, 1);
    assert!(unknown.stderr.contains("no matches for kind \"Ship\" in version \"nowhere/v1\""), "{unknown:?}");
    check(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: c}, {name: c, image: i}]}\n",
        "Duplicate value: \"c\"",
    );
    check(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: absent}\nspec: {containers: [{name: c, image: i}]}\n",
        "namespaces \"absent\" not found",
    );
    let big = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: x}}\ndata: {{a: {}}}\n",
        "x".repeat(4 << 20)
    );
    let too_large = k.kubectl_with(&["create", "-f", "-"], &big);
    assert_eq!(too_large.code, 1);
    assert!(too_large.stderr.to_lowercase().contains("too large"), "{}", too_large.stderr);
    let missing = k.try_kubectl(&["get", "pod", "none"]);
    assert_eq!(
        (missing.code, missing.stderr.as_str()),
        (1, "Error from server (NotFound): pods \"none\" not found\n")
    );
}
