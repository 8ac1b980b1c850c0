//! Objects from their creation to their end, as transcripts.

use expect_test::{Expect, expect};

use crate::world::World;

async fn check(script: &str, expect: Expect) {
    let world = World::new().await;
    expect.assert_eq(&world.transcript(script).await);
}

#[tokio::test]
async fn a_config_map_lives_and_dies() {
    check(
        r#"
        POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"a"},"data":{"k":"v"}}
        POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"a"}}
        POST /api/v1/namespaces/default/configmaps {"metadata":{"generateName":"a-"}}
        POST /api/v1/namespaces/default/configmaps {"metadata":{}}
        POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"b","resourceVersion":"5"}}
        POST /api/v1/namespaces/nowhere/configmaps {"metadata":{"name":"b"}}
        POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"b","namespace":"kube-system"}}
        POST /api/v1/namespaces/default/configmaps {"kind":"Secret","apiVersion":"v1","metadata":{"name":"b"}}
        POST /api/v1/namespaces/default/configmaps {
        POST /api/v1/namespaces/default/configmaps?dryRun=All {"metadata":{"name":"dry"}}
        GET /api/v1/namespaces/default/configmaps/dry
        PUT /api/v1/namespaces/default/configmaps/a {"metadata":{"name":"a"},"data":{"k":"v"}}
        PUT /api/v1/namespaces/default/configmaps/a {"metadata":{"name":"a","resourceVersion":"1"},"data":{"k":"w"}}
        PUT /api/v1/namespaces/default/configmaps/a {"metadata":{"name":"b"}}
        PUT /api/v1/namespaces/default/configmaps/c {"metadata":{"name":"c"}}
        PATCH:merge /api/v1/namespaces/default/configmaps/a {"data":{"k":"x"},"metadata":{"finalizers":["example.com/wait"]}}
        PATCH:nonsense /api/v1/namespaces/default/configmaps/a {}
        DELETE /api/v1/namespaces/default/configmaps/a {"preconditions":{"uid":"other"}}
        DELETE /api/v1/namespaces/default/configmaps/a
        PATCH:merge /api/v1/namespaces/default/configmaps/a {"metadata":{"finalizers":null}}
        GET /api/v1/namespaces/default/configmaps/a
        DELETE /api/v1/namespaces/default/configmaps/a
        "#,
        expect![[r#"
            > POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"a"},"data":{"k":"v"}}
            201 {"data":{"k":"v"},"metadata":{"name":"a","namespace":"default","resourceVersion":"6"}}
            > POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"a"}}
            409 {"apiVersion":"v1","code":409,"details":{"kind":"configmaps","name":"a"},"kind":"Status","message":"configmaps \"a\" already exists","metadata":{},"reason":"AlreadyExists","status":"Failure"}
            > POST /api/v1/namespaces/default/configmaps {"metadata":{"generateName":"a-"}}
            201 {"metadata":{"generateName":"a-","name":"a-z4fst","namespace":"default","resourceVersion":"7"}}
            > POST /api/v1/namespaces/default/configmaps {"metadata":{}}
            422 {"apiVersion":"v1","code":422,"details":{"causes":[{"field":"metadata.name","message":"Required value: name or generateName is required","reason":"FieldValueRequired"}],"kind":"ConfigMap"},"kind":"Status","message":"ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required","metadata":{},"reason":"Invalid","status":"Failure"}
            > POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"b","resourceVersion":"5"}}
            500 {"apiVersion":"v1","code":500,"kind":"Status","message":"resourceVersion should not be set on objects to be created","metadata":{},"status":"Failure"}
            > POST /api/v1/namespaces/nowhere/configmaps {"metadata":{"name":"b"}}
            404 {"apiVersion":"v1","code":404,"details":{"kind":"namespaces","name":"nowhere"},"kind":"Status","message":"namespaces \"nowhere\" not found","metadata":{},"reason":"NotFound","status":"Failure"}
            > POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"b","namespace":"kube-system"}}
            400 {"apiVersion":"v1","code":400,"kind":"Status","message":"the namespace of the provided object does not match the namespace sent on the request","metadata":{},"reason":"BadRequest","status":"Failure"}
            > POST /api/v1/namespaces/default/configmaps {"kind":"Secret","apiVersion":"v1","metadata":{"name":"b"}}
            400 {"apiVersion":"v1","code":400,"kind":"Status","message":"Secret in version \"v1\" cannot be handled as a ConfigMap: the kind in the data (Secret) does not match the expected kind (ConfigMap)","metadata":{},"reason":"BadRequest","status":"Failure"}
            > POST /api/v1/namespaces/default/configmaps {
            400 {"apiVersion":"v1","code":400,"kind":"Status","message":"the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input","metadata":{},"reason":"BadRequest","status":"Failure"}
            > POST /api/v1/namespaces/default/configmaps?dryRun=All {"metadata":{"name":"dry"}}
            201 {"metadata":{"name":"dry","namespace":"default"}}
            > GET /api/v1/namespaces/default/configmaps/dry
            404 {"apiVersion":"v1","code":404,"details":{"kind":"configmaps","name":"dry"},"kind":"Status","message":"configmaps \"dry\" not found","metadata":{},"reason":"NotFound","status":"Failure"}
            > PUT /api/v1/namespaces/default/configmaps/a {"metadata":{"name":"a"},"data":{"k":"v"}}
            200 {"data":{"k":"v"},"metadata":{"name":"a","namespace":"default","resourceVersion":"6"}}
            > PUT /api/v1/namespaces/default/configmaps/a {"metadata":{"name":"a","resourceVersion":"1"},"data":{"k":"w"}}
            409 {"apiVersion":"v1","code":409,"details":{"kind":"configmaps","name":"a"},"kind":"Status","message":"Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again","metadata":{},"reason":"Conflict","status":"Failure"}
            > PUT /api/v1/namespaces/default/configmaps/a {"metadata":{"name":"b"}}
            400 {"apiVersion":"v1","code":400,"kind":"Status","message":"the name of the object (b) does not match the name on the URL (a)","metadata":{},"reason":"BadRequest","status":"Failure"}
            > PUT /api/v1/namespaces/default/configmaps/c {"metadata":{"name":"c"}}
            404 {"apiVersion":"v1","code":404,"details":{"kind":"configmaps","name":"c"},"kind":"Status","message":"configmaps \"c\" not found","metadata":{},"reason":"NotFound","status":"Failure"}
            > PATCH:merge /api/v1/namespaces/default/configmaps/a {"data":{"k":"x"},"metadata":{"finalizers":["example.com/wait"]}}
            200 {"data":{"k":"x"},"metadata":{"finalizers":["example.com/wait"],"name":"a","namespace":"default","resourceVersion":"8"}}
            > PATCH:nonsense /api/v1/namespaces/default/configmaps/a {}
            415 {"apiVersion":"v1","code":415,"kind":"Status","message":"the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml","metadata":{},"reason":"UnsupportedMediaType","status":"Failure"}
            > DELETE /api/v1/namespaces/default/configmaps/a {"preconditions":{"uid":"other"}}
            409 {"apiVersion":"v1","code":409,"details":{"kind":"configmaps","name":"a"},"kind":"Status","message":"Operation cannot be fulfilled on configmaps \"a\": Precondition failed: UID in precondition: other, UID in object meta: e8b385d9-1a46-41b5-b81f-511cd6580ba5","metadata":{},"reason":"Conflict","status":"Failure"}
            > DELETE /api/v1/namespaces/default/configmaps/a
            200 {"data":{"k":"x"},"metadata":{"deletionGracePeriodSeconds":0,"deletionTimestamp":"2026-01-01T00:00:00Z","finalizers":["example.com/wait"],"name":"a","namespace":"default","resourceVersion":"9"}}
            > PATCH:merge /api/v1/namespaces/default/configmaps/a {"metadata":{"finalizers":null}}
            200 {"data":{"k":"x"},"metadata":{"deletionGracePeriodSeconds":0,"deletionTimestamp":"2026-01-01T00:00:00Z","name":"a","namespace":"default","resourceVersion":"10"}}
            > GET /api/v1/namespaces/default/configmaps/a
            404 {"apiVersion":"v1","code":404,"details":{"kind":"configmaps","name":"a"},"kind":"Status","message":"configmaps \"a\" not found","metadata":{},"reason":"NotFound","status":"Failure"}
            > DELETE /api/v1/namespaces/default/configmaps/a
            404 {"apiVersion":"v1","code":404,"details":{"kind":"configmaps","name":"a"},"kind":"Status","message":"configmaps \"a\" not found","metadata":{},"reason":"NotFound","status":"Failure"}
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_pod_is_bound_and_deleted_gracefully() {
    check(
        r#"
        POST /api/v1/namespaces/default/serviceaccounts {"metadata":{"name":"default"},"automountServiceAccountToken":false}
        POST /api/v1/namespaces/default/pods {"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}
        POST /api/v1/namespaces/default/pods/p/binding {"metadata":{"name":"p"},"target":{"kind":"Node","name":"n1"}}
        POST /api/v1/namespaces/default/pods/p/binding {"metadata":{"name":"p"},"target":{"kind":"Node","name":"n2"}}
        GET /api/v1/pods?fieldSelector=spec.nodeName%3Dn2
        PATCH:merge /api/v1/namespaces/default/pods/p/status {"status":{"phase":"Running"},"spec":{"nodeName":"n3"}}
        DELETE /api/v1/namespaces/default/pods/p
        DELETE /api/v1/namespaces/default/pods/p {"gracePeriodSeconds":60}
        DELETE /api/v1/namespaces/default/pods/p {"gracePeriodSeconds":0}
        GET /api/v1/namespaces/default/pods/p
        POST /api/v1/namespaces/default/pods {"metadata":{"name":"q"},"spec":{"serviceAccountName":"default","containers":[{"name":"c","image":"i"}]}}
        POST /api/v1/namespaces/default/pods/q/eviction {"metadata":{"name":"q"}}
        GET /api/v1/namespaces/default/pods/q
        "#,
        expect![[r#"
            > POST /api/v1/namespaces/default/serviceaccounts {"metadata":{"name":"default"},"automountServiceAccountToken":false}
            201 {"automountServiceAccountToken":false,"metadata":{"name":"default","namespace":"default","resourceVersion":"6"}}
            > POST /api/v1/namespaces/default/pods {"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}
            201 {"metadata":{"generation":1,"name":"p","namespace":"default","resourceVersion":"7"},"spec":{"containers":[{"image":"i","imagePullPolicy":"Always","name":"c","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","enableServiceLinks":true,"preemptionPolicy":"PreemptLowerPriority","priority":0,"restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"serviceAccount":"default","serviceAccountName":"default","terminationGracePeriodSeconds":30,"tolerations":[{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","operator":"Exists","tolerationSeconds":300},{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","operator":"Exists","tolerationSeconds":300}]},"status":{"phase":"Pending","qosClass":"BestEffort"}}
            > POST /api/v1/namespaces/default/pods/p/binding {"metadata":{"name":"p"},"target":{"kind":"Node","name":"n1"}}
            201 {"apiVersion":"v1","code":201,"kind":"Status","metadata":{},"status":"Success"}
            > POST /api/v1/namespaces/default/pods/p/binding {"metadata":{"name":"p"},"target":{"kind":"Node","name":"n2"}}
            409 {"apiVersion":"v1","code":409,"details":{"kind":"pods/binding","name":"p"},"kind":"Status","message":"Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\"","metadata":{},"reason":"Conflict","status":"Failure"}
            > GET /api/v1/pods?fieldSelector=spec.nodeName%3Dn2
            200 {"items":[],"metadata":{"resourceVersion":"8"}}
            > PATCH:merge /api/v1/namespaces/default/pods/p/status {"status":{"phase":"Running"},"spec":{"nodeName":"n3"}}
            200 {"metadata":{"generation":1,"name":"p","namespace":"default","resourceVersion":"9"},"spec":{"containers":[{"image":"i","imagePullPolicy":"Always","name":"c","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","enableServiceLinks":true,"nodeName":"n1","preemptionPolicy":"PreemptLowerPriority","priority":0,"restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"serviceAccount":"default","serviceAccountName":"default","terminationGracePeriodSeconds":30,"tolerations":[{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","operator":"Exists","tolerationSeconds":300},{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","operator":"Exists","tolerationSeconds":300}]},"status":{"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","status":"True","type":"PodScheduled"}],"phase":"Running","qosClass":"BestEffort"}}
            > DELETE /api/v1/namespaces/default/pods/p
            200 {"metadata":{"deletionGracePeriodSeconds":30,"deletionTimestamp":"2026-01-01T00:00:30Z","generation":2,"name":"p","namespace":"default","resourceVersion":"10"},"spec":{"containers":[{"image":"i","imagePullPolicy":"Always","name":"c","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","enableServiceLinks":true,"nodeName":"n1","preemptionPolicy":"PreemptLowerPriority","priority":0,"restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"serviceAccount":"default","serviceAccountName":"default","terminationGracePeriodSeconds":30,"tolerations":[{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","operator":"Exists","tolerationSeconds":300},{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","operator":"Exists","tolerationSeconds":300}]},"status":{"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","status":"True","type":"PodScheduled"}],"phase":"Running","qosClass":"BestEffort"}}
            > DELETE /api/v1/namespaces/default/pods/p {"gracePeriodSeconds":60}
            200 {"metadata":{"deletionGracePeriodSeconds":30,"deletionTimestamp":"2026-01-01T00:00:30Z","generation":2,"name":"p","namespace":"default","resourceVersion":"10"},"spec":{"containers":[{"image":"i","imagePullPolicy":"Always","name":"c","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","enableServiceLinks":true,"nodeName":"n1","preemptionPolicy":"PreemptLowerPriority","priority":0,"restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"serviceAccount":"default","serviceAccountName":"default","terminationGracePeriodSeconds":30,"tolerations":[{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","operator":"Exists","tolerationSeconds":300},{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","operator":"Exists","tolerationSeconds":300}]},"status":{"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","status":"True","type":"PodScheduled"}],"phase":"Running","qosClass":"BestEffort"}}
            > DELETE /api/v1/namespaces/default/pods/p {"gracePeriodSeconds":0}
            200 {"metadata":{"deletionGracePeriodSeconds":30,"deletionTimestamp":"2026-01-01T00:00:30Z","generation":2,"name":"p","namespace":"default","resourceVersion":"11"},"spec":{"containers":[{"image":"i","imagePullPolicy":"Always","name":"c","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","enableServiceLinks":true,"nodeName":"n1","preemptionPolicy":"PreemptLowerPriority","priority":0,"restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"serviceAccount":"default","serviceAccountName":"default","terminationGracePeriodSeconds":30,"tolerations":[{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","operator":"Exists","tolerationSeconds":300},{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","operator":"Exists","tolerationSeconds":300}]},"status":{"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","status":"True","type":"PodScheduled"}],"phase":"Running","qosClass":"BestEffort"}}
            > GET /api/v1/namespaces/default/pods/p
            404 {"apiVersion":"v1","code":404,"details":{"kind":"pods","name":"p"},"kind":"Status","message":"pods \"p\" not found","metadata":{},"reason":"NotFound","status":"Failure"}
            > POST /api/v1/namespaces/default/pods {"metadata":{"name":"q"},"spec":{"serviceAccountName":"default","containers":[{"name":"c","image":"i"}]}}
            201 {"metadata":{"generation":1,"name":"q","namespace":"default","resourceVersion":"12"},"spec":{"containers":[{"image":"i","imagePullPolicy":"Always","name":"c","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","enableServiceLinks":true,"preemptionPolicy":"PreemptLowerPriority","priority":0,"restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"serviceAccount":"default","serviceAccountName":"default","terminationGracePeriodSeconds":30,"tolerations":[{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","operator":"Exists","tolerationSeconds":300},{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","operator":"Exists","tolerationSeconds":300}]},"status":{"phase":"Pending","qosClass":"BestEffort"}}
            > POST /api/v1/namespaces/default/pods/q/eviction {"metadata":{"name":"q"}}
            201 {"apiVersion":"v1","code":201,"kind":"Status","metadata":{},"status":"Success"}
            > GET /api/v1/namespaces/default/pods/q
            404 {"apiVersion":"v1","code":404,"details":{"kind":"pods","name":"q"},"kind":"Status","message":"pods \"q\" not found","metadata":{},"reason":"NotFound","status":"Failure"}
        "#]],
    )
    .await;
}

#[tokio::test]
async fn services_get_addresses_and_give_them_back() {
    check(
        r#"
        POST /api/v1/namespaces/default/services {"metadata":{"name":"a"},"spec":{"ports":[{"port":80}],"clusterIP":"10.43.0.10"}}
        POST /api/v1/namespaces/default/services {"metadata":{"name":"b"},"spec":{"ports":[{"port":80}],"clusterIP":"10.43.0.10"}}
        POST /api/v1/namespaces/default/services {"metadata":{"name":"b"},"spec":{"ports":[{"port":80}],"clusterIP":"10.99.0.10"}}
        POST /api/v1/namespaces/default/services {"metadata":{"name":"n"},"spec":{"type":"NodePort","ports":[{"port":53,"protocol":"UDP","name":"u"},{"port":53,"protocol":"TCP","name":"t"}]}}
        POST /api/v1/namespaces/default/services {"metadata":{"name":"h"},"spec":{"clusterIP":"None","selector":{"a":"b"}}}
        PATCH:merge /api/v1/namespaces/default/services/n {"spec":{"type":"ClusterIP"}}
        DELETE /api/v1/namespaces/default/services/a
        POST /api/v1/namespaces/default/services {"metadata":{"name":"b"},"spec":{"ports":[{"port":80}],"clusterIP":"10.43.0.10"}}
        GET /api/v1/namespaces/default/endpoints/kubernetes
        "#,
        expect![[r#"
            > POST /api/v1/namespaces/default/services {"metadata":{"name":"a"},"spec":{"ports":[{"port":80}],"clusterIP":"10.43.0.10"}}
            201 {"metadata":{"name":"a","namespace":"default","resourceVersion":"6"},"spec":{"clusterIP":"10.43.0.10","clusterIPs":["10.43.0.10"],"internalTrafficPolicy":"Cluster","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{"port":80,"protocol":"TCP","targetPort":80}],"sessionAffinity":"None","type":"ClusterIP"},"status":{"loadBalancer":{}}}
            > POST /api/v1/namespaces/default/services {"metadata":{"name":"b"},"spec":{"ports":[{"port":80}],"clusterIP":"10.43.0.10"}}
            422 {"apiVersion":"v1","code":422,"details":{"causes":[{"field":"spec.clusterIPs","message":"Invalid value: [\"10.43.0.10\"]: failed to allocate IP 10.43.0.10: provided IP is already allocated","reason":"FieldValueInvalid"}],"kind":"Service","name":"b"},"kind":"Status","message":"Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"10.43.0.10\"]: failed to allocate IP 10.43.0.10: provided IP is already allocated","metadata":{},"reason":"Invalid","status":"Failure"}
            > POST /api/v1/namespaces/default/services {"metadata":{"name":"b"},"spec":{"ports":[{"port":80}],"clusterIP":"10.99.0.10"}}
            422 {"apiVersion":"v1","code":422,"details":{"causes":[{"field":"spec.clusterIPs","message":"Invalid value: [\"10.99.0.10\"]: failed to allocate IP 10.99.0.10: the provided IP (10.99.0.10) is not in the valid range. The range of valid IPs is 10.43.0.0/24","reason":"FieldValueInvalid"}],"kind":"Service","name":"b"},"kind":"Status","message":"Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"10.99.0.10\"]: failed to allocate IP 10.99.0.10: the provided IP (10.99.0.10) is not in the valid range. The range of valid IPs is 10.43.0.0/24","metadata":{},"reason":"Invalid","status":"Failure"}
            > POST /api/v1/namespaces/default/services {"metadata":{"name":"n"},"spec":{"type":"NodePort","ports":[{"port":53,"protocol":"UDP","name":"u"},{"port":53,"protocol":"TCP","name":"t"}]}}
            201 {"metadata":{"name":"n","namespace":"default","resourceVersion":"7"},"spec":{"clusterIP":"10.43.0.240","clusterIPs":["10.43.0.240"],"externalTrafficPolicy":"Cluster","internalTrafficPolicy":"Cluster","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{"name":"u","nodePort":32178,"port":53,"protocol":"UDP","targetPort":53},{"name":"t","nodePort":32178,"port":53,"protocol":"TCP","targetPort":53}],"sessionAffinity":"None","type":"NodePort"},"status":{"loadBalancer":{}}}
            > POST /api/v1/namespaces/default/services {"metadata":{"name":"h"},"spec":{"clusterIP":"None","selector":{"a":"b"}}}
            201 {"metadata":{"name":"h","namespace":"default","resourceVersion":"8"},"spec":{"clusterIP":"None","clusterIPs":["None"],"internalTrafficPolicy":"Cluster","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","selector":{"a":"b"},"sessionAffinity":"None","type":"ClusterIP"},"status":{"loadBalancer":{}}}
            > PATCH:merge /api/v1/namespaces/default/services/n {"spec":{"type":"ClusterIP"}}
            200 {"metadata":{"name":"n","namespace":"default","resourceVersion":"9"},"spec":{"clusterIP":"10.43.0.240","clusterIPs":["10.43.0.240"],"internalTrafficPolicy":"Cluster","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{"name":"u","port":53,"protocol":"UDP","targetPort":53},{"name":"t","port":53,"protocol":"TCP","targetPort":53}],"sessionAffinity":"None","type":"ClusterIP"},"status":{"loadBalancer":{}}}
            > DELETE /api/v1/namespaces/default/services/a
            200 {"metadata":{"name":"a","namespace":"default","resourceVersion":"10"},"spec":{"clusterIP":"10.43.0.10","clusterIPs":["10.43.0.10"],"internalTrafficPolicy":"Cluster","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{"port":80,"protocol":"TCP","targetPort":80}],"sessionAffinity":"None","type":"ClusterIP"},"status":{"loadBalancer":{}}}
            > POST /api/v1/namespaces/default/services {"metadata":{"name":"b"},"spec":{"ports":[{"port":80}],"clusterIP":"10.43.0.10"}}
            201 {"metadata":{"name":"b","namespace":"default","resourceVersion":"11"},"spec":{"clusterIP":"10.43.0.10","clusterIPs":["10.43.0.10"],"internalTrafficPolicy":"Cluster","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{"port":80,"protocol":"TCP","targetPort":80}],"sessionAffinity":"None","type":"ClusterIP"},"status":{"loadBalancer":{}}}
            > GET /api/v1/namespaces/default/endpoints/kubernetes
            200 {"metadata":{"labels":{"endpointslice.kubernetes.io/skip-mirror":"true"},"name":"kubernetes","namespace":"default","resourceVersion":"4"},"subsets":[{"addresses":[{"ip":"10.42.0.1"}],"ports":[{"name":"https","port":PORT,"protocol":"TCP"}]}]}
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_namespace_ends_when_it_is_finalized() {
    check(
        r#"
        POST /api/v1/namespaces {"metadata":{"name":"a"}}
        DELETE /api/v1/namespaces/a
        POST /api/v1/namespaces/a/configmaps {"metadata":{"name":"x"}}
        PUT /api/v1/namespaces/a/finalize {"metadata":{"name":"a"},"spec":{"finalizers":[]}}
        GET /api/v1/namespaces/a
        DELETE /api/v1/namespaces/default
        "#,
        expect![[r#"
            > POST /api/v1/namespaces {"metadata":{"name":"a"}}
            201 {"metadata":{"labels":{"kubernetes.io/metadata.name":"a"},"name":"a","resourceVersion":"6"},"spec":{"finalizers":["kubernetes"]},"status":{"phase":"Active"}}
            > DELETE /api/v1/namespaces/a
            200 {"metadata":{"deletionGracePeriodSeconds":0,"deletionTimestamp":"2026-01-01T00:00:00Z","labels":{"kubernetes.io/metadata.name":"a"},"name":"a","resourceVersion":"7"},"spec":{"finalizers":["kubernetes"]},"status":{"phase":"Terminating"}}
            > POST /api/v1/namespaces/a/configmaps {"metadata":{"name":"x"}}
            403 {"apiVersion":"v1","code":403,"details":{"causes":[{"field":"metadata.namespace","message":"namespace a is being terminated","reason":"NamespaceTerminating"}],"kind":"configmaps","name":"x"},"kind":"Status","message":"configmaps \"x\" is forbidden: unable to create new content in namespace a because it is being terminated","metadata":{},"reason":"Forbidden","status":"Failure"}
            > PUT /api/v1/namespaces/a/finalize {"metadata":{"name":"a"},"spec":{"finalizers":[]}}
            200 {"metadata":{"deletionGracePeriodSeconds":0,"deletionTimestamp":"2026-01-01T00:00:00Z","labels":{"kubernetes.io/metadata.name":"a"},"name":"a","resourceVersion":"8"},"spec":{},"status":{"phase":"Terminating"}}
            > GET /api/v1/namespaces/a
            404 {"apiVersion":"v1","code":404,"details":{"kind":"namespaces","name":"a"},"kind":"Status","message":"namespaces \"a\" not found","metadata":{},"reason":"NotFound","status":"Failure"}
            > DELETE /api/v1/namespaces/default
            403 {"apiVersion":"v1","code":403,"details":{"kind":"namespaces","name":"default"},"kind":"Status","message":"namespaces \"default\" is forbidden: this namespace may not be deleted","metadata":{},"reason":"Forbidden","status":"Failure"}
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_deployment_is_scaled() {
    check(
        r#"
        POST /apis/apps/v1/namespaces/default/deployments {"metadata":{"name":"d"},"spec":{"replicas":2,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}
        GET /apis/apps/v1/namespaces/default/deployments/d/scale
        PATCH:merge /apis/apps/v1/namespaces/default/deployments/d/scale {"spec":{"replicas":5}}
        PUT /apis/apps/v1/namespaces/default/deployments/d/scale {"metadata":{"name":"d","resourceVersion":"1"},"spec":{"replicas":5}}
        PUT /apis/apps/v1/namespaces/default/deployments/d/scale {"metadata":{"name":"d"},"spec":{"replicas":-1}}
        PATCH:strategic-merge /apis/apps/v1/namespaces/default/deployments/d/status {"status":{"replicas":5},"spec":{"replicas":9}}
        DELETE /apis/apps/v1/namespaces/default/deployments/d {"propagationPolicy":"Foreground"}
        DELETE /apis/apps/v1/namespaces/default/deployments/d {"propagationPolicy":"Sideways"}
        "#,
        expect![[r#"
            > POST /apis/apps/v1/namespaces/default/deployments {"metadata":{"name":"d"},"spec":{"replicas":2,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}
            201 {"metadata":{"generation":1,"name":"d","namespace":"default","resourceVersion":"6"},"spec":{"progressDeadlineSeconds":600,"replicas":2,"revisionHistoryLimit":10,"selector":{"matchLabels":{"a":"b"}},"strategy":{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":"25%"},"type":"RollingUpdate"},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"image":"i","imagePullPolicy":"Always","name":"c","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}},"status":{}}
            > GET /apis/apps/v1/namespaces/default/deployments/d/scale
            200 {"metadata":{"name":"d","namespace":"default","resourceVersion":"6"},"spec":{"replicas":2},"status":{"replicas":0,"selector":"a=b"}}
            > PATCH:merge /apis/apps/v1/namespaces/default/deployments/d/scale {"spec":{"replicas":5}}
            200 {"metadata":{"name":"d","namespace":"default","resourceVersion":"7"},"spec":{"replicas":5},"status":{"replicas":0,"selector":"a=b"}}
            > PUT /apis/apps/v1/namespaces/default/deployments/d/scale {"metadata":{"name":"d","resourceVersion":"1"},"spec":{"replicas":5}}
            409 {"apiVersion":"v1","code":409,"details":{"group":"apps","kind":"deployments","name":"d"},"kind":"Status","message":"Operation cannot be fulfilled on deployments.apps \"d\": the object has been modified; please apply your changes to the latest version and try again","metadata":{},"reason":"Conflict","status":"Failure"}
            > PUT /apis/apps/v1/namespaces/default/deployments/d/scale {"metadata":{"name":"d"},"spec":{"replicas":-1}}
            422 {"apiVersion":"v1","code":422,"details":{"causes":[{"field":"spec.replicas","message":"Invalid value: -1: must be greater than or equal to 0","reason":"FieldValueInvalid"}],"group":"autoscaling","kind":"Scale","name":"d"},"kind":"Status","message":"Scale.autoscaling \"d\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0","metadata":{},"reason":"Invalid","status":"Failure"}
            > PATCH:strategic-merge /apis/apps/v1/namespaces/default/deployments/d/status {"status":{"replicas":5},"spec":{"replicas":9}}
            200 {"metadata":{"generation":2,"name":"d","namespace":"default","resourceVersion":"8"},"spec":{"progressDeadlineSeconds":600,"replicas":5,"revisionHistoryLimit":10,"selector":{"matchLabels":{"a":"b"}},"strategy":{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":"25%"},"type":"RollingUpdate"},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"image":"i","imagePullPolicy":"Always","name":"c","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}},"status":{"replicas":5}}
            > DELETE /apis/apps/v1/namespaces/default/deployments/d {"propagationPolicy":"Foreground"}
            200 {"metadata":{"deletionGracePeriodSeconds":0,"deletionTimestamp":"2026-01-01T00:00:00Z","finalizers":["foregroundDeletion"],"generation":3,"name":"d","namespace":"default","resourceVersion":"9"},"spec":{"progressDeadlineSeconds":600,"replicas":5,"revisionHistoryLimit":10,"selector":{"matchLabels":{"a":"b"}},"strategy":{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":"25%"},"type":"RollingUpdate"},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"image":"i","imagePullPolicy":"Always","name":"c","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}},"status":{"replicas":5}}
            > DELETE /apis/apps/v1/namespaces/default/deployments/d {"propagationPolicy":"Sideways"}
            422 {"apiVersion":"v1","code":422,"details":{"causes":[{"field":"propagationPolicy","message":"Unsupported value: \"Sideways\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"","reason":"FieldValueNotSupported"}],"group":"meta.k8s.io","kind":"DeleteOptions"},"kind":"Status","message":"DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"Sideways\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"","metadata":{},"reason":"Invalid","status":"Failure"}
        "#]],
    )
    .await;
}

#[tokio::test]
async fn what_is_applied_is_merged() {
    let world = World::new().await;
    let path = "/api/v1/namespaces/default/configmaps/a";
    let apply = async |manager: &str, more: &str, body: &str| {
        let (code, answer) =
            world.patch(&format!("{path}?fieldManager={manager}{more}"), "apply", body).await;
        (code, answer["message"].as_str().unwrap_or_default().to_owned(), answer["data"].to_string())
    };
    let config =
        |data: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata: {data}\n");
    let fine = |code, data: &str| (code, String::new(), data.to_owned());
    assert_eq!(apply("one", "", &config("{x: '1', y: '1'}")).await, fine(201, r#"{"x":"1","y":"1"}"#));
    assert_eq!(apply("two", "", &config("{z: '2'}")).await, fine(200, r#"{"x":"1","y":"1","z":"2"}"#));
    let (code, text, _) = apply("two", "", &config("{x: '2'}")).await;
    assert_eq!((code, text.as_str()), (409, r#"Apply failed with 1 conflict: conflict with "one": .data.x"#));
    assert_eq!(apply("two", "&force=true", &config("{x: '2'}")).await, fine(200, r#"{"x":"2","y":"1"}"#));
    assert_eq!(apply("one", "", &config("{y: '1'}")).await, fine(200, r#"{"x":"2","y":"1"}"#));
    let (code, text, _) = apply("", "", &config("{}")).await;
    assert!(
        code == 422 && text.contains("fieldManager: Required value: is required for apply patch"),
        "{code} {text}"
    );
    let (code, text, _) = apply("one", "", "apiVersion: v2\nkind: ConfigMap\n").await;
    assert!(code == 400 && text.contains("Incorrect version specified in apply patch"), "{code} {text}");
    let (code, text, _) = apply("one", "", "a: [").await;
    assert!(code == 400 && text.contains("error decoding YAML"), "{code} {text}");
    // Nothing changes, so no version passes.
    let version = async || world.ask("GET", path, "").await.1["metadata"]["resourceVersion"].clone();
    let before = version().await;
    assert_eq!(apply("one", "", &config("{y: '1'}")).await.0, 200);
    assert_eq!(version().await, before);
}

#[tokio::test]
async fn several_servers_over_one_store_are_all_listed() {
    let store = testkit::MemStore::shared();
    let first = World::over(store.clone(), "10.0.0.1", true).await;
    let second = World::over(store, "10.0.0.2", true).await;
    let addresses = |answer: serde_json::Value| {
        let subsets = answer["subsets"].as_array().unwrap().clone();
        let ips = subsets.iter().flat_map(|subset| subset["addresses"].as_array().unwrap().clone());
        let mut ips: Vec<_> = ips.map(|address| address["ip"].as_str().unwrap().to_owned()).collect();
        ips.sort_unstable();
        ips
    };
    // Each has a port of its own here, which a slice cannot say: it has those that are like the first.
    for world in [&first, &second] {
        let (code, answer) = world.ask("GET", "/api/v1/namespaces/default/endpoints/kubernetes", "").await;
        assert_eq!((code, addresses(answer)), (200, vec!["10.0.0.1".to_owned(), "10.0.0.2".to_owned()]));
        let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
        let (_, slice) = world.ask("GET", slices, "").await;
        assert_eq!(slice["endpoints"][0]["addresses"][0], "10.0.0.1");
        assert_eq!(slice["ports"][0]["port"], first.handle.addr().unwrap().port());
    }
    // What one has written the other lists at once.
    let made = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"by-the-first"}}"#;
    assert_eq!(first.ask("POST", "/api/v1/namespaces/default/configmaps", made).await.0, 201);
    let (_, list) = second.ask("GET", "/api/v1/namespaces/default/configmaps", "").await;
    assert!(list.to_string().contains("by-the-first"), "{list}");
}
