//! Admission: what is changed in, and what is refused of, a write that is allowed and well formed.
//!
//! ```text
//! NamespaceLifecycle ─ ServiceAccount ─ NodeRestriction ─ Priority ─ DefaultTolerationSeconds ─ RBAC escalation
//! ```
//! In upstream's order; each plugin looks at the kinds it is about and lets the rest pass.

mod escalation;
mod namespace;
mod node;
mod pod;
mod service_account;

use std::sync::Arc;

use identity::UserInfo;
use kube_types::registry::Resource;
use kube_types::status::Status;
use serde_json::Value;

use crate::handlers::pods;
use crate::server::Server;

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

/// A write before admission.
pub(crate) struct Admission<'a> {
    pub(crate) server: &'a Arc<Server>,
    pub(crate) user: &'a UserInfo,
    pub(crate) resource: &'a Resource,
    pub(crate) subresource: Option<&'a str>,
    pub(crate) operation: Operation,
    /// The object before; None on create.
    pub(crate) old: Option<&'a Value>,
}

impl Admission<'_> {
    /// Whether this writes the main resource of a core kind.
    fn is(&self, operation: Operation, kind: &str) -> bool {
        self.operation == operation
            && self.subresource.is_none()
            && self.resource.gvk.group.is_empty()
            && self.resource.gvk.kind == kind
    }

    /// 403 that names the object.
    fn forbidden(&self, name: &str, why: &str) -> Status {
        Status::forbidden(&self.resource.group_resource(), name, why)
    }
}

/// Runs all plugins. `object` is the new object, on delete the present one.
pub(crate) async fn admit(
    admission: &Admission<'_>,
    object: &mut Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    namespace::admit(admission, object).await?;
    node::admit(admission, object)?;
    if admission.is(Operation::Create, "Pod") {
        service_account::admit(admission, object).await?;
        pod::priority(admission, object).await?;
        pod::tolerations(object);
        warnings.extend(pods::warnings(object));
    }
    escalation::admit(admission, object).await
}
