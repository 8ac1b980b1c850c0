//! A container's environment and command line.
//!
//! Order as upstream makes it: service variables, then `envFrom`, then `env`, later entries replacing earlier ones;
//! `$(NAME)` refers to what stands before, `$$` is a dollar sign.

use crate::fields::{self, NodeFacts};
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, Pod, Secret, Service};
use std::collections::BTreeMap;

/// What the environment of a container is made from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The config maps of the pod's namespace that it names.
    pub config_maps: BTreeMap<String, ConfigMap>,
    /// The secrets it names.
    pub secrets: BTreeMap<String, Secret>,
    /// The services of its namespace, and `default/kubernetes`.
    pub services: Vec<Service>,
    /// What the node knows.
    pub facts: NodeFacts,
}

/// The names of the config maps and secrets that a container's environment needs.
#[must_use]
pub fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    for from in container.env_from.iter().flatten() {
        maps.extend(from.config_map_ref.iter().map(|r| r.name.clone()));
        secrets.extend(from.secret_ref.iter().map(|r| r.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|var| var.value_from.as_ref()) {
        maps.extend(source.config_map_key_ref.iter().map(|r| r.name.clone()));
        secrets.extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
    }
    (maps, secrets)
}

/// The environment in order, each name once.
///
/// # Errors
/// The text of a CreateContainerConfigError: what is missing.
pub fn environment(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
) -> Result<Vec<(String, String)>, String> {
    let mut env = Environment::default();
    for (name, value) in service_variables(pod, &sources.services) {
        env.set(name, value);
    }
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or("");
        for (key, value) in from_all(from, sources)? {
            env.set(format!("{prefix}{key}"), value);
        }
    }
    for var in container.env.iter().flatten() {
        if let Some(value) = value(pod, container, var, sources, &env)? {
            env.set(var.name.clone(), value);
        }
    }
    Ok(env.list)
}

#[derive(Default)]
struct Environment {
    list: Vec<(String, String)>,
}

impl Environment {
    fn get(&self, name: &str) -> Option<&str> {
        self.list.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: String, value: String) {
        match self.list.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => self.list.push((name, value)),
        }
    }
}

fn from_all(
    from: &k8s_openapi::api::core::v1::EnvFromSource,
    sources: &Sources,
) -> Result<Vec<(String, String)>, String> {
    if let Some(reference) = &from.config_map_ref {
        return match sources.config_maps.get(&reference.name) {
            Some(map) => Ok(map.data.clone().unwrap_or_default().into_iter().collect()),
            None if reference.optional == Some(true) => Ok(Vec::new()),
            None => Err(format!("configmap {:?} not found", reference.name)),
        };
    }
    let Some(reference) = &from.secret_ref else { return Ok(Vec::new()) };
    match sources.secrets.get(&reference.name) {
        Some(secret) => Ok(secret
            .data
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone(), String::from_utf8_lossy(&value.0).into_owned()))
            .collect()),
        None if reference.optional == Some(true) => Ok(Vec::new()),
        None => Err(format!("secret {:?} not found", reference.name)),
    }
}

fn value(
    pod: &Pod,
    container: &Container,
    var: &EnvVar,
    sources: &Sources,
    env: &Environment,
) -> Result<Option<String>, String> {
    let Some(source) = &var.value_from else {
        return Ok(Some(expand(var.value.as_deref().unwrap_or(""), |name| env.get(name).map(str::to_owned))));
    };
    if let Some(reference) = &source.field_ref {
        return fields::field(pod, &reference.field_path, &sources.facts).map(Some);
    }
    if let Some(reference) = &source.resource_field_ref {
        return fields::resource(pod, container, reference, &sources.facts).map(Some);
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional == Some(true);
        let Some(map) = sources.config_maps.get(&reference.name) else {
            return missing(optional, || format!("configmap {:?} not found", reference.name));
        };
        return match map.data.as_ref().and_then(|data| data.get(&reference.key)) {
            Some(value) => Ok(Some(value.clone())),
            None => missing(optional, || {
                format!("couldn't find key {} in ConfigMap {namespace}/{}", reference.key, reference.name)
            }),
        };
    }
    let Some(reference) = &source.secret_key_ref else { return Ok(None) };
    let optional = reference.optional == Some(true);
    let Some(secret) = sources.secrets.get(&reference.name) else {
        return missing(optional, || format!("secret {:?} not found", reference.name));
    };
    match secret.data.as_ref().and_then(|data| data.get(&reference.key)) {
        Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
        None => missing(optional, || {
            format!("couldn't find key {} in Secret {namespace}/{}", reference.key, reference.name)
        }),
    }
}

fn missing(optional: bool, text: impl FnOnce() -> String) -> Result<Option<String>, String> {
    if optional { Ok(None) } else { Err(text()) }
}

/// Replaces `$(NAME)` by what `lookup` knows; unknown references stay, `$$(NAME)` escapes.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// The program and its arguments: `command` and `args` over the image's entrypoint and command.
#[must_use]
pub fn command_line(
    container: &Container,
    entrypoint: &[String],
    cmd: &[String],
    env: &[(String, String)],
) -> Vec<String> {
    let lookup = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let expanded = |list: &[String]| list.iter().map(|text| expand(text, lookup)).collect::<Vec<_>>();
    let command = container.command.as_deref().filter(|list| !list.is_empty());
    let args = container.args.as_deref().filter(|list| !list.is_empty());
    let mut line = command.map_or_else(|| entrypoint.to_vec(), expanded);
    match (command, args) {
        (_, Some(args)) => line.extend(expanded(args)),
        (None, None) => line.extend_from_slice(cmd),
        (Some(_), None) => {}
    }
    line
}

/// Docker-link style variables of services; those of `default/kubernetes` also without `enableServiceLinks`.
fn service_variables(pod: &Pod, services: &[Service]) -> Vec<(String, String)> {
    let namespace = pod.metadata.namespace.as_deref();
    let links = pod.spec.as_ref().is_none_or(|spec| spec.enable_service_links != Some(false));
    let mut sorted: Vec<&Service> = services
        .iter()
        .filter(|service| is_master(service) || (links && service.metadata.namespace.as_deref() == namespace))
        .collect();
    sorted.sort_by_key(|service| (!is_master(service), service.metadata.name.clone()));
    sorted.into_iter().flat_map(variables_of).collect()
}

fn is_master(service: &Service) -> bool {
    service.metadata.namespace.as_deref() == Some("default")
        && service.metadata.name.as_deref() == Some("kubernetes")
}

fn variables_of(service: &Service) -> Vec<(String, String)> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else {
        return Vec::new();
    };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return Vec::new() };
    let name = service.metadata.name.as_deref().unwrap_or("").to_uppercase().replace('-', "_");
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let mut out = vec![
        (format!("{name}_SERVICE_HOST"), ip.to_owned()),
        (format!("{name}_SERVICE_PORT"), first.port.to_string()),
    ];
    for port in ports {
        if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let port_name = port_name.to_uppercase().replace('-', "_");
            out.push((format!("{name}_SERVICE_PORT_{port_name}"), port.port.to_string()));
        }
    }
    let protocol = |port: &k8s_openapi::api::core::v1::ServicePort| {
        port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())
    };
    out.push((format!("{name}_PORT"), format!("{}://{host}:{}", protocol(first).to_lowercase(), first.port)));
    for port in ports {
        let upper = protocol(port);
        let prefix = format!("{name}_PORT_{}_{upper}", port.port);
        out.push((prefix.clone(), format!("{}://{host}:{}", upper.to_lowercase(), port.port)));
        out.push((format!("{prefix}_PROTO"), upper.to_lowercase()));
        out.push((format!("{prefix}_PORT"), port.port.to_string()));
        out.push((format!("{prefix}_ADDR"), ip.to_owned()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn references_are_expanded() {
        let check = |text: &str, expect: &str| {
            assert_eq!(expand(text, |name| (name == "A").then(|| "1".to_owned())), expect);
        };
        check("$(A)-$(B)", "1-$(B)");
        check("$$(A) $A $", "$(A) $A $");
        check("$(A", "$(A");
    }

    #[test]
    fn an_environment_in_full() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "labels": {"app": "x"}},
            "spec": {"enableServiceLinks": false, "containers": [{"name": "c",
                "resources": {"limits": {"memory": "64Mi"}},
                "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}],
                "env": [{"name": "A", "value": "a"}, {"name": "B", "value": "$(A)$(P_k)"},
                    {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                    {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                    {"name": "N", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "no", "optional": true}}},
                    {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "p"}}}]}]}}))
        .unwrap();
        let service = |namespace: &str, name: &str| -> Service {
            serde_json::from_value(json!({"metadata": {"name": name, "namespace": namespace},
                "spec": {"clusterIP": "10.43.0.1", "ports": [{"name": "https", "port": 443}]}}))
            .unwrap()
        };
        let mut sources = Sources {
            services: vec![service("ns", "web"), service("default", "kubernetes")],
            ..Default::default()
        };
        sources.config_maps.insert("cm".into(), serde_json::from_value(json!({"data": {"k": "v"}})).unwrap());
        let container = &pod.spec.as_ref().unwrap().containers[0];
        assert_eq!(environment(&pod, container, &sources).unwrap_err(), "secret \"s\" not found");
        sources.secrets.insert("s".into(), serde_json::from_value(json!({"data": {"p": "cHc="}})).unwrap());
        let lines: Vec<_> = environment(&pod, container, &sources)
            .unwrap()
            .into_iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        expect![[r#"
            KUBERNETES_SERVICE_HOST=10.43.0.1
            KUBERNETES_SERVICE_PORT=443
            KUBERNETES_SERVICE_PORT_HTTPS=443
            KUBERNETES_PORT=tcp://10.43.0.1:443
            KUBERNETES_PORT_443_TCP=tcp://10.43.0.1:443
            KUBERNETES_PORT_443_TCP_PROTO=tcp
            KUBERNETES_PORT_443_TCP_PORT=443
            KUBERNETES_PORT_443_TCP_ADDR=10.43.0.1
            P_k=v
            A=a
            B=av
            L=x
            M=64
            S=pw"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn command_and_args_replace_the_images() {
        let check = |command: &[&str], args: &[&str], expect: &str| {
            let container: Container =
                serde_json::from_value(json!({"name": "c", "command": command, "args": args})).unwrap();
            let line =
                command_line(&container, &["entry".into()], &["cmd".into()], &[("A".into(), "1".into())]);
            assert_eq!(line.join(" "), expect);
        };
        check(&[], &[], "entry cmd");
        check(&["c"], &[], "c");
        check(&[], &["a", "$(A)"], "entry a 1");
        check(&["c"], &["a"], "c a");
    }
}
