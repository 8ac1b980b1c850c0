//! Which kinds the API server serves.

use controllers::Kind;
use kube::Client;

/// A served kind and what may be done with it.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub kind: Kind,
    pub namespaced: bool,
    verbs: Vec<String>,
}

impl Served {
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|one| one == verb)
    }

    /// `deployments.apps`, as conditions name it.
    pub fn name(&self) -> String {
        match self.kind.api_version.split_once('/') {
            Some((group, _)) => format!("{}.{group}", self.kind.plural),
            None => format!("{}.", self.kind.plural),
        }
    }
}

/// Every kind in its group's preferred version, subresources excepted.
///
/// # Errors
/// When discovery cannot be read.
pub(crate) async fn served(client: &Client) -> Result<Vec<Served>, kube::Error> {
    let mut lists = vec![client.list_core_api_resources("v1").await?];
    for group in client.list_api_groups().await?.groups {
        let preferred = group.preferred_version.or_else(|| group.versions.first().cloned());
        if let Some(version) = preferred {
            lists.push(client.list_api_group_resources(&version.group_version).await?);
        }
    }
    let mut out = Vec::new();
    for list in lists {
        for resource in list.resources.into_iter().filter(|resource| !resource.name.contains('/')) {
            out.push(Served {
                kind: Kind {
                    api_version: list.group_version.clone().into(),
                    kind: resource.kind.into(),
                    plural: resource.name.into(),
                },
                namespaced: resource.namespaced,
                verbs: resource.verbs,
            });
        }
    }
    Ok(out)
}
