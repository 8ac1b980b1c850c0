//! DescribeClientQuotas and AlterClientQuotas (KIP-546).

use std::collections::BTreeMap;

use kafka_wire::ErrorCode;
use kafka_wire::messages::alter_client_quotas_request::EntryData as Asked;
use kafka_wire::messages::alter_client_quotas_response as altered;
use kafka_wire::messages::describe_client_quotas_response as described;
use kafka_wire::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
};

use super::Connection;
use crate::catalog::Refusal;
use crate::quotas::Entity;

/// Match types of DescribeClientQuotas.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const ANY: i8 = 2;
const TYPES: [&str; 3] = ["client-id", "ip", "user"];

/// Answers AlterClientQuotas: what is altered is in force when answered.
pub(crate) async fn alter(c: &Connection, request: AlterClientQuotasRequest) -> AlterClientQuotasResponse {
    let mut response = AlterClientQuotasResponse::default();
    let mut seen: Vec<Entity> = Vec::new();
    for entry in request.entries {
        let entity: Entity =
            entry.entity.iter().map(|part| (part.entity_type.clone(), part.entity_name.clone())).collect();
        let done = match seen.contains(&entity) {
            true => invalid(format!("Ignoring duplicate entity {}", shown(&entity))),
            false => alter_one(c, &entity, &entry, request.validate_only).await,
        };
        let told = |part: kafka_wire::messages::alter_client_quotas_request::EntityData| {
            altered::EntityData { entity_type: part.entity_type, entity_name: part.entity_name }
        };
        response.entries.push(altered::EntryData {
            error_code: done.as_ref().err().map_or(0, |refusal| refusal.code.code()),
            error_message: done.err().and_then(Refusal::told),
            entity: entry.entity.into_iter().map(told).collect(),
        });
        seen.push(entity);
    }
    response
}

async fn alter_one(
    c: &Connection,
    entity: &Entity,
    entry: &Asked,
    validate_only: bool,
) -> Result<(), Refusal> {
    let mut changes = BTreeMap::new();
    for op in &entry.ops {
        if changes.insert(op.key.clone(), (!op.remove).then_some(op.value)).is_some() {
            let (key, entity) = (&op.key, shown(entity));
            return invalid(format!("Duplicate quota key {key} not updating quota for this entity {entity}"));
        }
    }
    c.broker.quotas.alter(entity, &changes, validate_only).await
}

/// As `ClientQuotaEntity.toString` shows it.
fn shown(entity: &Entity) -> String {
    let parts = entity.iter().map(|(kind, name)| format!("{kind}={}", name.as_deref().unwrap_or("null")));
    format!("ClientQuotaEntity(entries={{{}}})", parts.collect::<Vec<_>>().join(", "))
}

fn invalid<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(ErrorCode::InvalidRequest, text))
}

/// Answers DescribeClientQuotas, in order of the entities.
pub(crate) fn describe(
    c: &Connection,
    request: &DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    let filter = match Filter::read(request) {
        Ok(filter) => filter,
        Err(refusal) => {
            return DescribeClientQuotasResponse {
                error_code: refusal.code.code(),
                error_message: Some(refusal.text),
                ..Default::default()
            };
        }
    };
    let found = c.broker.quotas.all().into_iter().filter(|(entity, _)| filter.takes(entity));
    let entry = |(entity, limits): (Entity, std::sync::Arc<crate::quotas::Limits>)| {
        let part = |(entity_type, entity_name)| described::EntityData { entity_type, entity_name };
        let value = |(key, value): (&String, &f64)| described::ValueData { key: key.clone(), value: *value };
        described::EntryData {
            entity: entity.into_iter().map(part).collect(),
            values: limits.iter().map(value).collect(),
        }
    };
    DescribeClientQuotasResponse { entries: Some(found.map(entry).collect()), ..Default::default() }
}

/// What is asked for.
struct Filter {
    /// By type: the name (none: the default's), or any.
    wanted: BTreeMap<String, Option<Option<String>>>,
    /// Entities have no other types.
    strict: bool,
}

impl Filter {
    /// Reads and checks (`ClientQuotasImage.describe`).
    fn read(request: &DescribeClientQuotasRequest) -> Result<Self, Refusal> {
        let mut wanted = BTreeMap::new();
        for part in &request.components {
            let kind = &part.entity_type;
            if kind.is_empty() {
                return invalid("Invalid empty entity type.");
            }
            if wanted.contains_key(kind) {
                return invalid(format!("Entity type {kind} cannot appear more than once in the filter."));
            }
            if !TYPES.contains(&kind.as_str()) {
                let text = format!("Unsupported entity type {kind}");
                return Err(Refusal::new(ErrorCode::UnsupportedVersion, text));
            }
            let name = match (part.match_type, &part.match_) {
                (EXACT, Some(name)) => Some(Some(name.clone())),
                (DEFAULT, None) => Some(None),
                (ANY, None) => None,
                (EXACT, None) => {
                    return invalid("Request specified MATCH_TYPE_EXACT, but set match string to null.");
                }
                (DEFAULT, Some(_)) => {
                    let text = "Request specified MATCH_TYPE_DEFAULT, but also specified a match string.";
                    return invalid(text);
                }
                (ANY, Some(_)) => {
                    let text = "Request specified MATCH_TYPE_SPECIFIED, but also specified a match string.";
                    return invalid(text);
                }
                (other, _) => return invalid(format!("Unknown match type {other}")),
            };
            wanted.insert(kind.clone(), name);
        }
        if wanted.contains_key("ip") && wanted.len() > 1 {
            return invalid(
                "Invalid entity filter component combination. IP filter component should not be used with user or \
                 clientId filter component.",
            );
        }
        Ok(Self { wanted, strict: request.strict })
    }

    fn takes(&self, entity: &Entity) -> bool {
        let has = |(kind, name): (&String, &Option<Option<String>>)| match (entity.get(kind), name) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(own), Some(name)) => own == name,
        };
        // A strict filter without parts finds nothing, since there is no entity without parts.
        self.wanted.iter().all(has) && (!self.strict || entity.len() == self.wanted.len())
    }
}
