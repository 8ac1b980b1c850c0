//! A pod's /etc/hosts, /etc/hostname and /etc/resolv.conf.

use k8s_openapi::api::core::v1::{HostAlias, Pod, PodSpec};
use pod_core::DnsConfig;
use std::fs;
use std::io;
use std::path::Path;

/// The kernel's limit for a host name (HOST_NAME_MAX - 1).
const HOSTNAME_MAX: usize = 63;
/// glibc looks at three name servers.
const NAMESERVERS_MAX: usize = 3;

/// The pod's host name and, with a subdomain, its full name.
#[must_use]
pub fn hostname(pod: &Pod, cluster_domain: &str) -> (String, Option<String>) {
    let spec = pod.spec.as_ref();
    let name = spec.and_then(|spec| spec.hostname.clone()).filter(|name| !name.is_empty());
    let mut host = name.or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    host.truncate(HOSTNAME_MAX);
    let host = host.trim_end_matches(['-', '.']).to_owned();
    let subdomain = spec.and_then(|spec| spec.subdomain.clone()).filter(|name| !name.is_empty());
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
    let full = subdomain.map(|sub| format!("{host}.{sub}.{namespace}.svc.{cluster_domain}"));
    (host, full)
}

/// Writes the three files into `dir`.
pub fn write(dir: &Path, pod: &Pod, ip: &str, cluster: &DnsConfig, cluster_domain: &str) -> io::Result<()> {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let (host, full) = hostname(pod, cluster_domain);
    let aliases = spec.host_aliases.as_deref().unwrap_or_default();
    let hosts = if spec.host_network == Some(true) {
        format!(
            "# Kubernetes-managed hosts file (host network).\n{}{}",
            read("/etc/hosts"),
            alias_text(aliases)
        )
    } else {
        hosts_text(ip, &host, full.as_deref(), aliases)
    };
    fs::create_dir_all(dir)?;
    let resolv = resolv_text(spec, cluster, &read("/etc/resolv.conf"));
    for (name, text) in [("hosts", hosts), ("hostname", format!("{host}\n")), ("resolv.conf", resolv)] {
        let path = dir.join(name);
        fs::write(&path, text)?;
        // Whatever the agent's umask: programs of any user read these.
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    }
    Ok(())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn hosts_text(ip: &str, host: &str, full: Option<&str>, aliases: &[HostAlias]) -> String {
    let names = full.map_or_else(|| host.to_owned(), |full| format!("{full}\t{host}"));
    format!(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n\
         {ip}\t{names}\n{}",
        alias_text(aliases)
    )
}

fn alias_text(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let lines: Vec<String> = aliases
        .iter()
        .map(|alias| format!("{}\t{}\n", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t")))
        .collect();
    format!("\n# Entries added by HostAliases.\n{}", lines.concat())
}

fn resolv_text(spec: &PodSpec, cluster: &DnsConfig, host: &str) -> String {
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let own = match policy {
        "None" => DnsLines::default(),
        "Default" => DnsLines::parse(host),
        "ClusterFirst" if spec.host_network == Some(true) => DnsLines::parse(host),
        _ => DnsLines::of(cluster, host),
    };
    own.merged(spec).text()
}

#[derive(Default)]
struct DnsLines {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl DnsLines {
    fn parse(text: &str) -> Self {
        let mut out = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => out.nameservers.extend(words.next().map(str::to_owned)),
                Some("search") => out.searches = words.map(str::to_owned).collect(),
                Some("options") => out.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        out
    }

    /// The cluster's, then the host's own search domains.
    fn of(cluster: &DnsConfig, host: &str) -> Self {
        let mut searches = cluster.searches.clone();
        searches.extend(Self::parse(host).searches);
        Self {
            nameservers: cluster.nameservers.iter().map(ToString::to_string).collect(),
            searches,
            options: cluster.options.clone(),
        }
    }

    fn merged(mut self, spec: &PodSpec) -> Self {
        let Some(config) = &spec.dns_config else { return self };
        self.nameservers.extend(config.nameservers.iter().flatten().cloned());
        self.searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            self.options.retain(|known| known.split(':').next() != Some(name.as_str()));
            self.options
                .push(option.value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}:{value}")));
        }
        self
    }

    fn text(self) -> String {
        let unique = |list: Vec<String>| {
            let mut out: Vec<String> = Vec::new();
            for item in list {
                if !out.contains(&item) {
                    out.push(item);
                }
            }
            out
        };
        let mut out = String::new();
        let searches = unique(self.searches);
        if !searches.is_empty() {
            out.push_str(&format!("search {}\n", searches.join(" ")));
        }
        for server in unique(self.nameservers).iter().take(NAMESERVERS_MAX) {
            out.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            out.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn files_of_a_pod() {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {"containers": [],
            "subdomain": "sub", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}],
            "dnsConfig": {"options": [{"name": "ndots", "value": "2"}], "searches": ["own"]}}}),
        )
        .unwrap();
        let cluster = DnsConfig {
            nameservers: vec!["10.43.0.10".parse().unwrap()],
            searches: vec!["ns.svc.cluster.local".into()],
            options: vec!["ndots:5".into()],
        };
        let (host, full) = hostname(&pod, "cluster.local");
        let hosts = hosts_text(
            "10.42.0.5",
            &host,
            full.as_deref(),
            pod.spec.as_ref().unwrap().host_aliases.as_ref().unwrap(),
        );
        let resolv = resolv_text(pod.spec.as_ref().unwrap(), &cluster, "search home\nnameserver 9.9.9.9\n");
        expect![[r#"
            # Kubernetes-managed hosts file.
            127.0.0.1	localhost
            ::1	localhost ip6-localhost ip6-loopback
            fe00::0	ip6-localnet
            fe00::0	ip6-mcastprefix
            fe00::1	ip6-allnodes
            fe00::2	ip6-allrouters
            10.42.0.5	p.sub.ns.svc.cluster.local	p

            # Entries added by HostAliases.
            1.2.3.4	a	b
            ---
            search ns.svc.cluster.local home own
            nameserver 10.43.0.10
            options ndots:2
        "#]]
        .assert_eq(&format!("{hosts}---\n{resolv}"));
    }
}
