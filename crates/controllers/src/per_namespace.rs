//! What every namespace gets: the ServiceAccount `default` and the ConfigMap `kube-root-ca.crt`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::action::Action;
use crate::meta;

/// The account pods run as when they name none.
pub const DEFAULT_ACCOUNT: &str = "default";
/// The ConfigMap that pods mount to know the API server.
pub const ROOT_CA: &str = "kube-root-ca.crt";
const ROOT_CA_KEY: &str = "ca.crt";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
distributions of Kubernetes clusters.";

fn is_live(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    !meta::is_deleting(&namespace.metadata) && phase != Some("Terminating")
}

/// Makes the ServiceAccount `default` where it is missing.
#[must_use]
pub fn service_account(namespace: &Namespace, account: Option<&ServiceAccount>) -> Vec<Action> {
    if account.is_some() || !is_live(namespace) {
        return Vec::new();
    }
    vec![Action::create(&ServiceAccount {
        metadata: ObjectMeta {
            name: Some(DEFAULT_ACCOUNT.to_owned()),
            namespace: namespace.metadata.name.clone(),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    })]
}

/// Makes the ConfigMap with the cluster's CA, or corrects it.
#[must_use]
pub fn root_ca(namespace: &Namespace, map: Option<&ConfigMap>, ca_pem: &str) -> Vec<Action> {
    if !is_live(namespace) {
        return Vec::new();
    }
    let data = BTreeMap::from([(ROOT_CA_KEY.to_owned(), ca_pem.to_owned())]);
    match map {
        Some(map) if map.data.as_ref() == Some(&data) => Vec::new(),
        Some(map) => vec![Action::update(&ConfigMap { data: Some(data), ..map.clone() })],
        None => vec![Action::create(&ConfigMap {
            metadata: ObjectMeta {
                name: Some(ROOT_CA.to_owned()),
                namespace: namespace.metadata.name.clone(),
                annotations: Some(BTreeMap::from([(
                    "kubernetes.io/description".to_owned(),
                    DESCRIPTION.to_owned(),
                )])),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..ConfigMap::default()
        })],
    }
}
