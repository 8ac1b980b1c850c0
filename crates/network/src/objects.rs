//! The Services by which pods reach what the host serves: DNS and Kafka. Their endpoints are the gateway address.

use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::net::Ipv4Addr;

/// Where the host serves. A part without a port is off, and its Service is not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addrs {
    /// The node's address as pods see it.
    pub gateway: Ipv4Addr,
    /// The address `kube-dns` is to have.
    pub dns_ip: Ipv4Addr,
    /// Where DNS listens at the gateway address.
    pub dns_port: Option<u16>,
    /// Where the broker listens at the gateway address.
    pub kafka_port: Option<u16>,
}

/// The port of `kafka.ketch-system.svc`.
const KAFKA_PORT: u16 = 9092;

/// A Service without selector and its slice.
struct Wanted {
    namespace: &'static str,
    name: &'static str,
    cluster_ip: Option<Ipv4Addr>,
    /// (name, protocol, Service port, endpoint port)
    ports: Vec<(&'static str, &'static str, u16, u16)>,
}

/// Makes `kube-system/kube-dns` and `ketch-system/kafka` with their EndpointSlices, and brings the slices up to
/// date. May be repeated.
///
/// # Errors
/// Of the API server; the caller tries again.
pub async fn ensure_services(client: &Client, addrs: &Addrs) -> Result<(), kube::Error> {
    for wanted in wanted(addrs) {
        let labels = json!({"metadata": {"name": wanted.namespace}});
        create::<Namespace>(&Api::all(client.clone()), labels).await?;
        create::<Service>(&Api::namespaced(client.clone(), wanted.namespace), wanted.service()).await?;
        let slices = Api::<EndpointSlice>::namespaced(client.clone(), wanted.namespace);
        let slice = wanted.slice(addrs.gateway);
        if !create(&slices, slice.clone()).await? {
            let update = json!({"endpoints": slice["endpoints"], "ports": slice["ports"]});
            slices.patch(wanted.name, &PatchParams::default(), &Patch::Merge(update)).await?;
        }
    }
    Ok(())
}

fn wanted(addrs: &Addrs) -> Vec<Wanted> {
    let dns = addrs.dns_port.map(|port| Wanted {
        namespace: "kube-system",
        name: "kube-dns",
        cluster_ip: Some(addrs.dns_ip),
        ports: vec![("dns", "UDP", 53, port), ("dns-tcp", "TCP", 53, port)],
    });
    let kafka = addrs.kafka_port.map(|port| Wanted {
        namespace: "ketch-system",
        name: "kafka",
        cluster_ip: None,
        ports: vec![("kafka", "TCP", KAFKA_PORT, port)],
    });
    dns.into_iter().chain(kafka).collect()
}

impl Wanted {
    fn labels(&self) -> Value {
        json!({"app.kubernetes.io/managed-by": "ketch", "k8s-app": self.name})
    }

    fn service(&self) -> Value {
        let ports = self.ports.iter().map(|(name, protocol, port, target)| {
            json!({"name": name, "protocol": protocol, "port": port, "targetPort": target})
        });
        let mut service = json!({
            "metadata": {"namespace": self.namespace, "name": self.name, "labels": self.labels()},
            "spec": {"type": "ClusterIP", "ports": ports.collect::<Vec<_>>()},
        });
        if let Some(ip) = self.cluster_ip {
            service["spec"]["clusterIP"] = json!(ip);
        }
        service
    }

    fn slice(&self, gateway: Ipv4Addr) -> Value {
        let ports = self
            .ports
            .iter()
            .map(|(name, protocol, _, target)| json!({"name": name, "protocol": protocol, "port": target}));
        let mut labels = self.labels();
        labels["kubernetes.io/service-name"] = json!(self.name);
        labels["endpointslice.kubernetes.io/managed-by"] = json!("network.ketch");
        json!({
            "metadata": {"namespace": self.namespace, "name": self.name, "labels": labels},
            "addressType": "IPv4",
            "ports": ports.collect::<Vec<_>>(),
            "endpoints": [{"addresses": [gateway], "conditions": {"ready": true, "serving": true, "terminating": false}}],
        })
    }
}

/// Creates unless it is there: true when created.
async fn create<K>(api: &Api<K>, value: Value) -> Result<bool, kube::Error>
where
    K: Resource + Clone + Debug + DeserializeOwned + serde::Serialize,
{
    let object: K = serde_json::from_value(value).map_err(kube::Error::SerdeError)?;
    // Looked up first: creating a Service again whose address is given fails for the address, not for the name.
    if api.get_opt(&object.name_any()).await?.is_some() {
        return Ok(false);
    }
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => Ok(true),
        Err(error) if api_client::classify(&error) == api_client::Failure::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_are_off_have_no_service() {
        let addrs = Addrs {
            gateway: Ipv4Addr::new(10, 42, 0, 1),
            dns_ip: Ipv4Addr::new(10, 43, 0, 10),
            dns_port: Some(5353),
            kafka_port: None,
        };
        let all = wanted(&addrs);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].service()["spec"]["clusterIP"], "10.43.0.10");
        assert_eq!(all[0].slice(addrs.gateway)["endpoints"][0]["addresses"][0], "10.42.0.1");
        assert_eq!(all[0].slice(addrs.gateway)["ports"][1]["port"], 5353);
        serde_json::from_value::<Service>(all[0].service()).expect("a Service");
        serde_json::from_value::<EndpointSlice>(all[0].slice(addrs.gateway)).expect("a slice");
    }
}
