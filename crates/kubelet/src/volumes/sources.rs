//! The files of configMap, secret, downwardAPI and projected volumes, and the objects they come from.

use super::payload::{Payload, PayloadFile};
use api_client::{Informers, Key};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccount,
    ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use pod_core::fields::{self, NodeFacts};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Modes when a volume does not say (API default).
const MODE_DEFAULT: i32 = 0o644;
/// The name of the config map with the cluster's authority, which every pod mounts.
const ROOT_CA: &str = "kube-root-ca.crt";
/// Lifetime of a token whose projection does not say (API default).
const TOKEN_SECONDS_DEFAULT: i64 = 3600;

/// Pod uid, audience and path of a token.
type TokenKey = (String, String, String);

/// A service-account token and when to renew it.
#[derive(Debug, Clone)]
pub struct Token {
    text: String,
    renew_ms: i64,
}

/// Reads the objects that pods name, through the API.
#[derive(Clone)]
pub struct Objects {
    client: Client,
    informers: Informers,
    tokens: Arc<Mutex<BTreeMap<TokenKey, Token>>>,
}

impl Objects {
    /// Reads through `client`; what has a cache is read there.
    #[must_use]
    pub fn new(client: Client, informers: Informers) -> Self {
        Self { client, informers, tokens: Arc::default() }
    }

    /// A config map; None when there is none.
    ///
    /// # Errors
    /// The text of what went wrong.
    pub async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, String> {
        if name == ROOT_CA {
            let key = Key { namespace: namespace.to_owned(), name: name.to_owned() };
            if let Some(found) = self.informers.root_cas().get(&key) {
                return Ok(Some((*found).clone()));
            }
        }
        Api::<ConfigMap>::namespaced(self.client.clone(), namespace)
            .get_opt(name)
            .await
            .map_err(|e| e.to_string())
    }

    /// A secret; None when there is none.
    ///
    /// # Errors
    /// The text of what went wrong.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, String> {
        Api::<Secret>::namespaced(self.client.clone(), namespace)
            .get_opt(name)
            .await
            .map_err(|e| e.to_string())
    }

    /// A token bound to the pod, renewed after four fifths of its life.
    async fn token(&self, pod: &Pod, projection: &ServiceAccountTokenProjection) -> Result<String, String> {
        let audience = projection.audience.clone().unwrap_or_default();
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let key = (uid, audience.clone(), projection.path.clone());
        let now = k8s_openapi::jiff::Timestamp::now().as_millisecond();
        if let Some(token) = self.tokens.lock().get(&key).filter(|token| token.renew_ms > now) {
            return Ok(token.text.clone());
        }
        let token = self.request_token(pod, projection, audience, now).await?;
        let text = token.text.clone();
        self.tokens.lock().insert(key, token);
        Ok(text)
    }

    async fn request_token(
        &self,
        pod: &Pod,
        projection: &ServiceAccountTokenProjection,
        audience: String,
        now: i64,
    ) -> Result<Token, String> {
        let seconds = projection.expiration_seconds.unwrap_or(TOKEN_SECONDS_DEFAULT);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: (!audience.is_empty()).then(|| vec![audience]),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
                expiration_seconds: Some(seconds),
            }),
            ..TokenRequest::default()
        };
        let account = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.clone())
            .unwrap_or_else(|| "default".into());
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
        let answer = api
            .create_token_request(&account, &PostParams::default(), &request)
            .await
            .map_err(|error| format!("failed to fetch token: {error}"))?;
        let status = answer.status.ok_or("failed to fetch token: the answer holds none")?;
        let text = status.token.ok_or("failed to fetch token: the answer holds none")?;
        // A server that does not say grants what was asked for.
        let end = status.expiration_timestamp.map_or(now + seconds * 1000, |time| time.0.as_millisecond());
        Ok(Token { text, renew_ms: now + (end - now).max(0) / 5 * 4 })
    }

    /// When the first of the pod's tokens wants renewal, ms since 1970.
    #[must_use]
    pub fn next_renewal(&self, uid: &str) -> Option<i64> {
        self.tokens
            .lock()
            .iter()
            .filter(|((owner, _, _), _)| owner == uid)
            .map(|(_, token)| token.renew_ms)
            .min()
    }

    /// Forgets a pod's tokens.
    pub fn forget(&self, uid: &str) {
        self.tokens.lock().retain(|(owner, _, _), _| owner != uid);
    }
}

/// The config maps and secrets that a pod's volumes name: (config maps, secrets), without the cluster's authority.
pub fn named(pod: &Pod) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    for volume in super::volumes(pod) {
        maps.extend(volume.config_map.iter().map(|source| source.name.clone()));
        secrets.extend(volume.secret.iter().filter_map(|source| source.secret_name.clone()));
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            maps.extend(source.config_map.iter().map(|map| map.name.clone()));
            secrets.extend(source.secret.iter().map(|secret| secret.name.clone()));
        }
    }
    for list in [&mut maps, &mut secrets] {
        list.sort_unstable();
        list.dedup();
    }
    maps.retain(|name| name != ROOT_CA);
    (maps, secrets)
}

/// The files of one volume.
pub async fn payload(
    volume: &Volume,
    pod: &Pod,
    objects: &Objects,
    facts: &NodeFacts,
) -> Result<Payload, String> {
    let mut out = Payload::new();
    if let Some(source) = &volume.config_map {
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        add_config_map(&mut out, pod, objects, &source.name, source.items.as_deref(), source.optional, mode)
            .await?;
    } else if let Some(source) = &volume.secret {
        let (name, mode) =
            (source.secret_name.as_deref().unwrap_or(""), source.default_mode.unwrap_or(MODE_DEFAULT));
        add_secret(&mut out, pod, objects, name, source.items.as_deref(), source.optional, mode).await?;
    } else if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        add_downward(&mut out, pod, facts, source.items.as_deref().unwrap_or_default(), mode)?;
    } else if let Some(source) = &volume.projected {
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        for one in source.sources.iter().flatten() {
            add_projection(&mut out, pod, objects, facts, one, mode).await?;
        }
    } else {
        return Err("this node does not support volumes of this type".to_owned());
    }
    Ok(out)
}

async fn add_projection(
    out: &mut Payload,
    pod: &Pod,
    objects: &Objects,
    facts: &NodeFacts,
    source: &VolumeProjection,
    mode: i32,
) -> Result<(), String> {
    if let Some(map) = &source.config_map {
        return add_config_map(out, pod, objects, &map.name, map.items.as_deref(), map.optional, mode).await;
    }
    if let Some(secret) = &source.secret {
        return add_secret(out, pod, objects, &secret.name, secret.items.as_deref(), secret.optional, mode)
            .await;
    }
    if let Some(downward) = &source.downward_api {
        return add_downward(out, pod, facts, downward.items.as_deref().unwrap_or_default(), mode);
    }
    if let Some(token) = &source.service_account_token {
        let text = objects.token(pod, token).await?;
        out.insert(token.path.clone(), PayloadFile { data: text.into_bytes(), mode: bits(mode) });
        return Ok(());
    }
    Err("this node does not support projections of this type".to_owned())
}

async fn add_config_map(
    out: &mut Payload,
    pod: &Pod,
    objects: &Objects,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: i32,
) -> Result<(), String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
    let optional = optional == Some(true);
    let data = match objects.config_map(namespace, name).await? {
        Some(map) => {
            let text = map.data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
            text.chain(map.binary_data.into_iter().flatten().map(|(key, value)| (key, value.0))).collect()
        }
        None if optional => BTreeMap::new(),
        None => return Err(format!("configmap {name:?} not found")),
    };
    add_items(out, &data, items, optional, mode)
}

async fn add_secret(
    out: &mut Payload,
    pod: &Pod,
    objects: &Objects,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: i32,
) -> Result<(), String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
    let optional = optional == Some(true);
    let data = match objects.secret(namespace, name).await? {
        Some(secret) => secret.data.into_iter().flatten().map(|(key, value)| (key, value.0)).collect(),
        None if optional => BTreeMap::new(),
        None => return Err(format!("secret {name:?} not found")),
    };
    add_items(out, &data, items, optional, mode)
}

fn add_items(
    out: &mut Payload,
    data: &BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    optional: bool,
    mode: i32,
) -> Result<(), String> {
    let Some(items) = items else {
        out.extend(
            data.iter()
                .map(|(key, data)| (key.clone(), PayloadFile { data: data.clone(), mode: bits(mode) })),
        );
        return Ok(());
    };
    for item in items {
        match data.get(&item.key) {
            Some(data) => {
                let file = PayloadFile { data: data.clone(), mode: bits(item.mode.unwrap_or(mode)) };
                out.insert(item.path.clone(), file);
            }
            None if optional => {}
            None => return Err(format!("references non-existent config key: {}", item.key)),
        }
    }
    Ok(())
}

fn add_downward(
    out: &mut Payload,
    pod: &Pod,
    facts: &NodeFacts,
    items: &[DownwardAPIVolumeFile],
    mode: i32,
) -> Result<(), String> {
    for item in items {
        let text = if let Some(reference) = &item.field_ref {
            fields::field(pod, &reference.field_path, facts)?
        } else if let Some(reference) = &item.resource_field_ref {
            fields::resource(pod, &Container::default(), reference, facts)?
        } else {
            continue;
        };
        out.insert(
            item.path.clone(),
            PayloadFile { data: text.into_bytes(), mode: bits(item.mode.unwrap_or(mode)) },
        );
    }
    Ok(())
}

fn bits(mode: i32) -> u32 {
    u32::try_from(mode).unwrap_or(0o644) & 0o777
}
