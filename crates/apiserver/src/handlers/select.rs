//! Label and field selectors of a list, watch or deletecollection.

use kube_types::registry::Resource;
use kube_types::selector::{FieldSelector, LabelSelector};
use kube_types::status::Status;

use crate::cache::Item;
use crate::http::query::Query;

/// Which objects are wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    /// Reads `labelSelector` and `fieldSelector`; a name on the (deprecated watch) path selects it.
    pub(crate) fn parse(resource: &Resource, query: &Query, name: &str) -> Result<Self, Status> {
        let labels = query.text("labelSelector").map(LabelSelector::parse).transpose();
        let labels = labels.map_err(Status::bad_request)?;
        let mut text = query.text("fieldSelector").unwrap_or_default().to_owned();
        if !name.is_empty() {
            let separator = if text.is_empty() { "" } else { "," };
            text = format!("{text}{separator}metadata.name={name}");
        }
        let fields = FieldSelector::parse(resource, &text)?;
        Ok(Self { labels: labels.unwrap_or_default(), fields })
    }

    /// Whether everything is wanted.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, item: &Item) -> bool {
        let value = |label: &str| match label {
            "metadata.name" => &*item.name,
            "metadata.namespace" => &*item.namespace,
            other => item.fields.iter().find(|(l, _)| *l == other).map_or("", |(_, v)| v),
        };
        self.labels.matches_with(|label| item.labels.get(label).map(String::as_str))
            && self.fields.terms.iter().all(|term| (value(&term.field) == term.value) != term.negated)
    }
}
