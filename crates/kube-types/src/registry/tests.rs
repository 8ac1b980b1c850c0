use super::*;
use expect_test::expect;

#[test]
fn the_table_reads_as_discovery_would() {
    let mut out = String::new();
    for one in Registry::builtin().resources() {
        let subs: Vec<&str> = one.subresources.iter().map(|sub| sub.name.as_ref()).collect();
        out += &format!(
            "{} {} {} {:?} {} {}\n",
            one.group_resource(),
            one.gvk.kind,
            if one.namespaced { "namespaced" } else { "cluster" },
            one.short_names,
            one.storage_prefix,
            subs.join(",")
        );
    }
    expect![[r#"
        configmaps ConfigMap namespaced ["cm"] /registry/configmaps/ 
        endpoints Endpoints namespaced ["ep"] /registry/services/endpoints/ 
        events Event namespaced ["ev"] /registry/events/ 
        namespaces Namespace cluster ["ns"] /registry/namespaces/ finalize,status
        nodes Node cluster ["no"] /registry/minions/ status
        pods Pod namespaced ["po"] /registry/pods/ binding,eviction,exec,log,status
        secrets Secret namespaced [] /registry/secrets/ 
        serviceaccounts ServiceAccount namespaced ["sa"] /registry/serviceaccounts/ token
        services Service namespaced ["svc"] /registry/services/specs/ status
        deployments.apps Deployment namespaced ["deploy"] /registry/deployments/ scale,status
        replicasets.apps ReplicaSet namespaced ["rs"] /registry/replicasets/ scale,status
        selfsubjectreviews.authentication.k8s.io SelfSubjectReview cluster []  
        tokenreviews.authentication.k8s.io TokenReview cluster []  
        localsubjectaccessreviews.authorization.k8s.io LocalSubjectAccessReview namespaced []  
        selfsubjectaccessreviews.authorization.k8s.io SelfSubjectAccessReview cluster []  
        selfsubjectrulesreviews.authorization.k8s.io SelfSubjectRulesReview cluster []  
        subjectaccessreviews.authorization.k8s.io SubjectAccessReview cluster []  
        leases.coordination.k8s.io Lease namespaced [] /registry/leases/ 
        endpointslices.discovery.k8s.io EndpointSlice namespaced [] /registry/endpointslices/ 
        events.events.k8s.io Event namespaced ["ev"] /registry/events/ 
        clusterrolebindings.rbac.authorization.k8s.io ClusterRoleBinding cluster [] /registry/clusterrolebindings/ 
        clusterroles.rbac.authorization.k8s.io ClusterRole cluster [] /registry/clusterroles/ 
        rolebindings.rbac.authorization.k8s.io RoleBinding namespaced [] /registry/rolebindings/ 
        roles.rbac.authorization.k8s.io Role namespaced [] /registry/roles/ 
        priorityclasses.scheduling.k8s.io PriorityClass cluster ["pc"] /registry/priorityclasses/ 
    "#]].assert_eq(&out);
}

#[test]
fn keys_are_upstreams() {
    let registry = Registry::builtin();
    let key = |group: &str, plural: &str, namespace: &str, name: &str| {
        registry.find(group, "v1", plural).unwrap().key(namespace, name)
    };
    assert_eq!(key("", "pods", "a", "b"), "/registry/pods/a/b");
    assert_eq!(key("", "nodes", "", "b"), "/registry/minions/b");
    assert_eq!(key("", "services", "a", "b"), "/registry/services/specs/a/b");
    assert_eq!(key("", "endpoints", "a", "b"), "/registry/services/endpoints/a/b");
    assert_eq!(key("apps", "deployments", "a", "b"), "/registry/deployments/a/b");
    assert_eq!(key("events.k8s.io", "events", "a", "b"), "/registry/events/a/b");
}
